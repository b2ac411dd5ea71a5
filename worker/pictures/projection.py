"""Maximum intensity projections of the vessels alone, from the front, the left and the feet, shaded by depth.

The image is projected inside the mask only, so that neither bone nor table hides a vessel; a faint mean of the whole
volume behind it shows where in the body they lie. One pass over the slices gives all three views.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.image_stack import ImageStack
from worker.pictures.caption import BACKGROUND, write_words
from worker.pictures.display import Picture, display_grey, display_limits
from worker.pictures.overlay import RGB
from worker.pictures.patient_axes import View

_HEIGHT, _WIDTH = 900, 1600
"""The picture is at most this large."""
_CONTEXT = 0.34
"""Brightness of the whitest place of the background."""
_FARTHEST = 0.5
"""Brightness of a vessel at the far side of the volume, where the nearest has 1."""
_LIGHT = np.array([-0.45, -0.55, 0.70], np.float32)
"""From where light falls on vessels: left, above and in front."""
_GAP = 8
_ROOM_FOR_LETTERS = 110
"""Rows of a view below which only its name and its left and right side are written on it."""
_MISSED = 2.0
_SMOOTH = 0.8
"""Standard deviation in voxels of the filter that takes the steps off a surface."""
_Number = TypeVar("_Number", bound=np.generic)


@dataclass(frozen=True, slots=True)
class _Rays:
    """What one view sees, before it is drawn; rows and columns are those of the volume, turned for the view.

    Attributes:
        depth: ``(classes, rows, columns)`` where the first vessel voxel is: 0 near the viewer, 1 at the far end, or
            ``_MISSED``.
        brightest: ``(classes, rows, columns)`` uint8, the largest value inside the mask, through the window.
        mean: ``(rows, columns)``, of all voxels through the window.
    """

    depth: NDArray[np.float32]
    brightest: NDArray[np.uint8]
    mean: NDArray[np.float32]


def vessel_projections(
    stack: ImageStack, mask: NDArray[np.bool_], colours: Sequence[RGB], chosen: Sequence[View]
) -> Picture:
    """The views of a grey volume together, each in true proportions and all in one scale.

    Args:
        stack: A volume; without spacing its voxels count as cubes.
        mask: ``(classes, frames, rows, columns)`` bool.
        colours: One a class.
        chosen: From ``views``, in the order from left to right.
    """
    spacing = stack.spacing_mm or (1.0, 1.0, 1.0)
    sizes = [length * step for length, step in zip(stack.pixels.shape[:3], spacing, strict=True)]
    columns, pixels_per_mm = _arranged(chosen, sizes)
    tiles = {}
    for view, rays in zip(chosen, _cast(stack, mask, chosen), strict=True):
        shape = (round(sizes[view.vertical] * pixels_per_mm) or 1, round(sizes[view.horizontal] * pixels_per_mm) or 1)
        tiles[view] = _lettered(_drawn(rays, colours, shape, sizes[view.along] * pixels_per_mm), view)
    return _joined([_joined([tiles[view] for view in column], axis=0) for column in columns], axis=1)


def _arranged(chosen: Sequence[View], sizes: Sequence[float]) -> tuple[list[list[View]], float]:
    """The views in a row, or the first two above each other where the volume is flat: whatever shows more.

    Returns:
        The views by column, and the pixels of the picture for a millimetre.
    """
    found = []
    for columns in ([[view] for view in chosen], [list(chosen[:2]), *([view] for view in chosen[2:])]):
        height = max(sum(sizes[view.vertical] for view in column) for column in columns)
        width = sum(max(sizes[view.horizontal] for view in column) for column in columns)
        found.append((columns, min(_HEIGHT / height, _WIDTH / width)))
    return max(found, key=lambda one: one[1])


def _joined(tiles: Sequence[Picture], axis: int) -> Picture:
    """The tiles beside (axis 1) or above (axis 0) each other, centred, with a gap between them."""
    longest = max(tile.shape[1 - axis] for tile in tiles)
    pieces = []
    for tile in tiles:
        margin = longest - tile.shape[1 - axis]
        sides = [(0, 0), (0, 0), (0, 0)]
        sides[1 - axis] = (margin // 2, margin - margin // 2)
        sides[axis] = (0, _GAP if tile is not tiles[-1] else 0)
        pieces.append(np.stack([np.pad(tile[..., c], sides[:2], constant_values=BACKGROUND[c]) for c in range(3)], -1))
    return np.concatenate(pieces, axis=axis)


# --- casting ----------------------------------------------------------------------------------------------------------


def _cast(stack: ImageStack, mask: NDArray[np.bool_], chosen: Sequence[View]) -> list[_Rays]:
    """Look along each axis of the volume; the pictures are turned as the views want them."""
    bright, means = _project(stack, mask)
    return [
        _Rays(
            _turned(_first_hit(mask, view), view), _turned(bright[view.along], view), _turned(means[view.along], view)
        )
        for view in chosen
    ]


def _project(stack: ImageStack, mask: NDArray[np.bool_]) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.float32]]]:
    """Brightest value in the mask and mean of everything, along each axis of the volume, slice by slice."""
    frames, rows, columns = stack.pixels.shape[:3]
    limits = display_limits(stack)
    shapes = ((rows, columns), (frames, columns), (frames, rows))
    bright = [np.zeros((len(mask), *shape), np.uint8) for shape in shapes]
    means = [np.zeros(shape, np.float32) for shape in shapes]
    for index in range(frames):
        grey = display_grey(_luminance(stack.pixels[index]), limits)
        means[0] += grey
        means[1][index], means[2][index] = grey.mean(axis=0), grey.mean(axis=1)
        for number in np.flatnonzero(mask[:, index].any(axis=(1, 2))):
            inside = np.maximum(grey, 1) * mask[number, index]
            np.maximum(bright[0][number], inside, out=bright[0][number])
            bright[1][number, index], bright[2][number, index] = inside.max(axis=0), inside.max(axis=1)
    means[0] /= frames
    return bright, means


def _luminance(frame: NDArray[np.float32] | NDArray[np.uint8]) -> NDArray[np.float32]:
    return frame.mean(axis=-1, dtype=np.float32) if frame.ndim == 3 else frame.astype(np.float32, copy=False)


def _first_hit(mask: NDArray[np.bool_], view: View) -> NDArray[np.float32]:
    """Where each ray meets the first vessel voxel, ``(classes, rows, columns)``: a share of the way, or ``_MISSED``."""
    seen = np.flip(mask, view.along + 1) if view.from_the_end else mask
    share: NDArray[np.float32] = seen.argmax(axis=view.along + 1).astype(np.float32) / max(
        1, mask.shape[view.along + 1] - 1
    )
    share[~seen.any(axis=view.along + 1)] = _MISSED
    return share


def _turned(array: NDArray[_Number], view: View) -> NDArray[_Number]:
    """The last two axes of ``array``, which are in the order of the volume, as the view wants them."""
    if view.vertical > view.horizontal:
        array = array.swapaxes(-1, -2)
    if view.flip_vertical:
        array = np.flip(array, -2)
    return np.flip(array, -1) if view.flip_horizontal else array


# --- drawing ----------------------------------------------------------------------------------------------------------


def _drawn(rays: _Rays, colours: Sequence[RGB], shape: tuple[int, int], depth_pixels: float) -> Picture:
    """The vessels of one view over the faint body, the nearest class in front.

    Args:
        rays: What the view sees.
        colours: One a class.
        shape: Rows and columns of the picture.
        depth_pixels: How deep the volume is, in pixels of the picture.
    """
    picture = _background(rays.mean, shape)
    nearest = np.full(shape, _MISSED, np.float32)
    for number in sorted(range(len(colours)), key=lambda number: -float(rays.depth[number].min())):
        found = rays.depth[number] < _MISSED
        if not found.any():
            continue
        cover = _smooth_coverage(found, shape)
        depth = _spread(rays.depth[number], found, shape)
        bright = _resized(rays.brightest[number].astype(np.float32), shape) / 255
        light = _shading(depth, depth_pixels) * (0.75 + 0.35 * bright)
        colour = np.clip(np.multiply.outer(light, np.array(colours[number], np.float32)), 0, 255)
        picture += (cover * (depth <= nearest))[..., None] * (colour - picture)
        nearest = np.where(cover > 0.5, np.minimum(nearest, depth), nearest)
    return np.rint(np.clip(picture, 0, 255)).astype(np.uint8)


def _background(mean: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """The mean projection, stretched to its own range and dimmed, on the colour of the caption strip."""
    low, high = np.percentile(mean, (1, 99.5))
    grey = np.clip((_resized(mean, shape) - low) / max(1.0, high - low), 0, 1) * _CONTEXT
    dark = np.array(BACKGROUND, np.float32)
    picture: NDArray[np.float32] = dark + grey[..., None] * (np.float32(255) - dark)
    return picture.astype(np.float32)


def _smooth_coverage(found: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.float32]:
    """How much of each pixel is vessel, without the steps of the voxels."""
    from scipy import ndimage  # a third of the start of the child, and only volumes need it

    smooth = _resized(ndimage.gaussian_filter(found.astype(np.float32), _SMOOTH), shape)
    cover: NDArray[np.float32] = np.clip((smooth - np.float32(0.2)) * np.float32(2.5), 0, 1)
    return cover


def _spread(depth: NDArray[np.float32], found: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Depth in the size of the picture; beside the vessel it goes on as it is at the nearest place of the vessel."""
    from scipy import ndimage

    nearest = ndimage.distance_transform_edt(~found, return_distances=False, return_indices=True)
    return _resized(ndimage.gaussian_filter(depth[tuple(nearest)], _SMOOTH), shape)


def _shading(depth: NDArray[np.float32], depth_pixels: float) -> NDArray[np.float32]:
    """Brightness of a matt surface at this depth (share of the way through), less the farther away it is."""
    down, right = np.gradient(depth * np.float32(depth_pixels))
    slope = np.sqrt(1 + down**2 + right**2)
    lambert = np.clip((_LIGHT[0] * right + _LIGHT[1] * down + _LIGHT[2]) / slope, 0, 1)
    near = 1 - (1 - _FARTHEST) * np.clip(depth, 0, 1)
    brightness: NDArray[np.float32] = near * (0.45 + 0.85 * lambert)
    return brightness.astype(np.float32)


def _resized(array: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(array).resize(shape[::-1], Image.Resampling.BICUBIC), np.float32)


def _lettered(tile: Picture, view: View) -> Picture:
    """The name of the view and the sides of the patient at its edges."""
    left, right, top, bottom = view.letters
    words = [(view.name, (0.015, 0.01), "la")]
    if tile.shape[0] >= _ROOM_FOR_LETTERS:
        words += [(left, (0.015, 0.5), "lm"), (right, (0.985, 0.5), "rm")]
        words += [(top, (0.5, 0.01), "ma"), (bottom, (0.5, 0.99), "md")]
    else:
        words += [(left, (0.015, 0.97), "ld"), (right, (0.985, 0.97), "rd")]
    for text, place, anchor in words:
        if text:
            tile = write_words(tile, text, place, anchor)
    return tile
