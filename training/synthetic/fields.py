"""Soft fields, shapes and spots from which backgrounds are made."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy import ndimage

from training.synthetic.picture import Plane

Grid = tuple[Plane, Plane]
"""Row ``(size, 1)`` and column ``(1, size)`` of each pixel, from 0 to 1 over the picture."""


def grid(size: int) -> Grid:
    """The coordinates of a square picture."""
    line = ((np.arange(size, dtype=np.float32) + 0.5) / size).astype(np.float32)
    return line[:, np.newaxis], line[np.newaxis, :]


def resized(plane: Plane, size: int) -> Plane:
    """The plane enlarged or reduced to ``(size, size)`` by cubic interpolation."""
    picture = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC), np.float32)


def blobs(size: int, cells: float, rng: np.random.Generator, stretch: float = 1.0) -> Plane:
    """Smooth noise of mean 0 and standard deviation about 1.

    Args:
        size: Rows and columns.
        cells: Blobs along a side of the picture.
        rng: The source of chance.
        stretch: How much longer than high the blobs are.
    """
    rows, columns = max(int(np.ceil(cells)), 2), max(int(np.ceil(cells / stretch)), 2)
    noise = rng.standard_normal((rows + 2, columns + 2), np.float32)
    high, wide = size * (rows + 2) // rows, size * (columns + 2) // columns
    large = np.asarray(Image.fromarray(noise).resize((wide, high), Image.Resampling.BICUBIC), np.float32)
    top, left = (high - size) // 2, (wide - size) // 2
    plane: Plane = large[top : top + size, left : left + size] * np.float32(1.35)
    return plane


def clouds(size: int, coarse: float, rng: np.random.Generator, octaves: int = 4, fall: float = 0.55) -> Plane:
    """Noise of several scales, each twice as fine and ``fall`` as strong as the one before; about -2 to 2."""
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        cells = coarse * 2**octave
        if cells > size / 2:
            break
        total += np.float32(fall**octave) * blobs(size, cells, rng)
    return total


def step(distance: NDArray[np.floating], width: float) -> Plane:
    """0 far below zero, 1 far above, and a smooth edge of about ``width`` between."""
    share = np.clip(distance / (2 * width) + 0.5, 0, 1)
    edge: Plane = (share * share * (3 - 2 * share)).astype(np.float32)
    return edge


def softened(plane: NDArray[np.floating], width: float) -> Plane:
    """Gaussian blur by ``width`` pixels along rows and columns; wide blurs are made on a coarser grid."""
    if width < 0.2:
        return plane.astype(np.float32)
    sigma = (width, width) + (0,) * (plane.ndim - 2)
    blurred: Plane = ndimage.gaussian_filter(plane.astype(np.float32), sigma, mode="nearest", truncate=2.5)
    return blurred


def spot(canvas: Plane, centre: ArrayLike, radii: ArrayLike, angle: float, height: float, edge: float) -> None:
    """Raise ``canvas`` to at least ``height`` within an ellipse; works in place and on the pixels around it only.

    Args:
        canvas: ``(rows, columns)``.
        centre: Row and column in pixels.
        radii: Half axes in pixels.
        angle: Of the first axis against the rows, in radians.
        height: In the middle; may be negative, then the canvas is lowered.
        edge: Width of the soft edge as a share of the radius.
    """
    middle, halves = np.asarray(centre, np.float32), np.asarray(radii, np.float32)
    reach = halves.max() * (1 + edge) + 2
    low = np.maximum(np.floor(middle - reach), 0).astype(int)
    high = np.minimum(np.ceil(middle + reach) + 1, canvas.shape).astype(int)
    if (low >= high).any():
        return
    rows = np.arange(low[0], high[0], dtype=np.float32)[:, np.newaxis] - middle[0]
    columns = np.arange(low[1], high[1], dtype=np.float32)[np.newaxis, :] - middle[1]
    along, across = columns * np.cos(angle) + rows * np.sin(angle), rows * np.cos(angle) - columns * np.sin(angle)
    inside = step(1 - np.hypot(along / halves[0], across / halves[1]), edge)
    part = canvas[low[0] : high[0], low[1] : high[1]]
    np.copyto(part, np.maximum(part, height * inside) if height > 0 else np.minimum(part, height * inside))


def chance(rng: np.random.Generator, probability: float) -> bool:
    """Whether something happens."""
    return bool(rng.random() < probability)
