"""Many slices of a volume on one picture, from the first that shows a vessel to the last."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from worker.image_stack import ImageStack
from worker.pictures.caption import BACKGROUND, write_words
from worker.pictures.choice import evenly_spaced, vessel_extent
from worker.pictures.display import Picture, display_frame, display_limits
from worker.pictures.overlay import FILLED, RGB, Style, lay_over
from worker.pictures.scaling import resized_mask, resized_picture

_TILES_ACROSS, _MOST_TILES = 5, 20
_TILE = 300
_GAP = 4


def montage(
    stack: ImageStack, mask: NDArray[np.bool_], colours: Sequence[RGB], style: Style = FILLED
) -> tuple[Picture, list[int]]:
    """At most 20 evenly chosen slices in reading order, each with its number, and the indices of these slices.

    Args:
        stack: A volume.
        mask: ``(classes, frames, rows, columns)`` bool; without any vessel the slices are chosen from all.
        colours: One a class.
        style: How the vessels are drawn.
    """
    chosen = evenly_spaced(*vessel_extent(mask), _MOST_TILES)
    shape = _tile_shape(stack)
    limits = display_limits(stack)
    tiles = []
    for index in chosen:
        tile = resized_picture(display_frame(stack, index, limits), shape)
        tile = lay_over(tile, [resized_mask(one[index], shape) for one in mask], colours, style)
        tiles.append(write_words(tile, f"{index + 1}/{len(stack.pixels)}", (0.02, 0.015)))
    return _grid(tiles), chosen


def _tile_shape(stack: ImageStack) -> tuple[int, int]:
    """Rows and columns of a tile: true proportions, the longer side ``_TILE`` pixels."""
    _, down, across = stack.spacing_mm or (1.0, 1.0, 1.0)
    height, width = stack.pixels.shape[1] * down, stack.pixels.shape[2] * across
    scale = _TILE / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _grid(tiles: Sequence[Picture]) -> Picture:
    across = min(_TILES_ACROSS, len(tiles))
    down = -(-len(tiles) // across)
    rows, columns = tiles[0].shape[:2]
    grid = np.full((down * (rows + _GAP) - _GAP, across * (columns + _GAP) - _GAP, 3), BACKGROUND, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // across * (rows + _GAP), number % across * (columns + _GAP)
        grid[top : top + rows, left : left + columns] = tile
    return grid
