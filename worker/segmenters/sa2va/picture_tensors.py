"""Pictures as the two halves of Sa2VA want them: tiles for the language model, one square for SAM 2."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Picture = NDArray[np.uint8]
"""``(rows, columns, 3)`` RGB."""

SAM2_SIZE = 1024
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def tile_grid(rows: int, columns: int, *, tile: int, most: int) -> tuple[int, int]:
    """Choose into how many tiles a picture is cut: the grid whose shape is nearest to the picture's.

    At equal distance the larger grid is taken where the picture is large enough to fill more than half of it.

    Args:
        rows: Of the picture.
        columns: Of the picture.
        tile: Rows and columns of a tile.
        most: Tiles at most.

    Returns:
        Tiles across and tiles down.
    """
    grids = sorted(
        ((across, down) for across in range(1, most + 1) for down in range(1, most // across + 1)),
        key=lambda grid: (grid[0] * grid[1], grid),
    )
    aspect = columns / rows
    best, distance = (1, 1), float("inf")
    for across, down in grids:
        off = abs(aspect - across / down)
        fills = rows * columns > 0.5 * tile * tile * across * down
        if off < distance or (off == distance and fills):
            best, distance = (across, down), off
    return best


def cut_tiles(picture: Picture, *, tile: int, most: int, thumbnail: bool = True) -> NDArray[np.uint8]:
    """Cut a picture into tiles, row by row, and add the whole picture in small where there are several.

    Args:
        picture: ``(rows, columns, 3)`` uint8.
        tile: Rows and columns of a tile.
        most: Tiles at most, besides the small picture.
        thumbnail: Whether to add it.

    Returns:
        ``(tiles, tile, tile, 3)`` uint8.
    """
    across, down = tile_grid(*picture.shape[:2], tile=tile, most=most)
    image = Image.fromarray(picture)
    large = np.asarray(image.resize((across * tile, down * tile), Image.Resampling.BICUBIC))
    tiles = large.reshape(down, tile, across, tile, 3).swapaxes(1, 2).reshape(-1, tile, tile, 3)
    if thumbnail and len(tiles) > 1:
        small = np.asarray(image.resize((tile, tile), Image.Resampling.BICUBIC))
        tiles = np.concatenate([tiles, small[None]])
    return np.array(tiles)


def for_language_model(tiles: NDArray[np.uint8], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Normalise tiles: ``(tiles, tile, tile, 3)`` uint8 to ``(tiles, 3, tile, tile)``."""
    return _normalised(torch.from_numpy(tiles).to(device), torch.float32).to(dtype)


def for_sam2(pictures: list[Picture], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Stretch pictures to SAM 2's square and normalise them: ``(pictures, 3, 1024, 1024)``."""
    size = (SAM2_SIZE, SAM2_SIZE)
    squares = [np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BICUBIC)) for one in pictures]
    # The published weights were trained with a mean and deviation that had been rounded to bfloat16.
    return _normalised(torch.from_numpy(np.stack(squares)).to(device), torch.bfloat16).to(dtype)


def _normalised(pictures: Tensor, constants: torch.dtype) -> Tensor:
    mean = torch.tensor(_MEAN, dtype=constants, device=pictures.device).float()[:, None, None]
    std = torch.tensor(_STD, dtype=constants, device=pictures.device).float()[:, None, None]
    return (pictures.permute(0, 3, 1, 2).float() / 255 - mean) / std
