"""What lenses, detectors and file formats do to a picture; all of it on float32 ``(rows, columns[, 3])``, 0 to 255."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from training.synthetic.fields import chance, softened
from training.synthetic.picture import Plane


def motion_blurred(plane: Plane, length: float, angle: float) -> Plane:
    """Smear along a line of ``length`` pixels."""
    half = int(np.ceil(length / 2))
    if half < 1:
        return plane
    away = np.arange(-half, half + 1)
    rows, columns = np.rint(away * np.sin(angle)).astype(int), np.rint(away * np.cos(angle)).astype(int)
    padded = np.pad(plane, [(half, half)] * 2 + [(0, 0)] * (plane.ndim - 2), mode="edge")
    size = plane.shape[0]
    total = np.zeros_like(plane)
    for row, column in zip((half + rows).tolist(), (half + columns).tolist(), strict=True):
        total += padded[row : row + size, column : column + plane.shape[1]]
    return total / np.float32(len(away))


def sharpened(plane: Plane, width: float, amount: float) -> Plane:
    """Unsharp masking, with the halos that it leaves."""
    return plane + np.float32(amount) * (plane - softened(plane, width))


def noisy(plane: Plane, amount: float, grain: float, shot: float, rng: np.random.Generator) -> Plane:
    """Add noise of ``amount`` grey levels.

    Args:
        plane: The picture.
        amount: Standard deviation.
        grain: Size of the grain in pixels.
        shot: 0 for noise that is the same everywhere, 1 for noise that grows with the root of brightness.
        rng: The source of chance.
    """
    noise = rng.standard_normal(plane.shape, np.float32)
    if grain > 0.3:
        noise = softened(noise, grain)
        noise /= max(float(noise.std()), 1e-3)
    if shot > 0:
        noise *= 1 - shot + shot * np.sqrt(np.clip(plane, 1, 255) / 128)
    return plane + np.float32(amount) * noise


def levels(plane: Plane, low: float, high: float, gamma: float = 1.0) -> Plane:
    """Grey levels with ``low`` as black (0) and ``high`` as white (255), bent by ``gamma``."""
    share = np.clip((plane - low) / max(high - low, 1e-6), 0, 1)
    bent: Plane = (255 * share**gamma).astype(np.float32)
    return bent


def compressed(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """The picture after JPEG compression."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer), np.uint8)


def resampled(pixels: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """The picture after a journey through a coarser grid of ``share`` of its size."""
    picture = Image.fromarray(pixels)
    small = picture.resize((max(int(picture.width * share), 8), max(int(picture.height * share), 8)))
    return np.asarray(small.resize(picture.size, Image.Resampling.BILINEAR), np.uint8)


def filed(plane: Plane, rng: np.random.Generator, blocks: float = 0.35) -> NDArray[np.uint8]:
    """8 bits, in some pictures with JPEG blocks, and with less resolution in a few."""
    pixels: NDArray[np.uint8] = np.clip(np.rint(plane), 0, 255).astype(np.uint8)
    if chance(rng, 0.12):
        pixels = resampled(pixels, rng.uniform(0.5, 0.95))
    if chance(rng, blocks):
        pixels = compressed(pixels, int(rng.integers(25, 95)))
    return pixels


def shifted_rows(plane: NDArray[np.generic], shifts: NDArray[np.int64]) -> NDArray[np.generic]:
    """Every row moved sideways by its own number of pixels; the border pixels fill up."""
    columns = np.clip(np.arange(plane.shape[1])[np.newaxis, :] - shifts[:, np.newaxis], 0, plane.shape[1] - 1)
    moved: NDArray[np.generic] = np.take_along_axis(plane, columns, axis=1)
    return moved


def banded(size: int, strength: float, width: float, rng: np.random.Generator) -> Plane:
    """A gain for each row, ``(rows, 1)``, around 1."""
    gain = ndimage.gaussian_filter1d(rng.standard_normal(size + 40).astype(np.float32), width)[20:-20]
    gain *= strength / max(float(gain.std()), 1e-3)
    rows: Plane = np.exp(gain)[:, np.newaxis].astype(np.float32)
    return rows
