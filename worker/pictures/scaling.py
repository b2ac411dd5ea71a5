"""Larger and smaller pictures and masks."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.pictures.display import Picture


def scale_for(rows: int, columns: int, *, least: int, most: int) -> float:
    """Factor that brings the longer side to at least ``least`` (whole factors only) and at most ``most`` pixels."""
    longer = max(rows, columns)
    if longer > most:
        return most / longer
    return float(min(max(1, -(-least // longer)), max(1, most // longer)))


def scaled_shape(rows: int, columns: int, scale: float) -> tuple[int, int]:
    """Rows and columns after scaling, at least one of each."""
    return max(1, round(rows * scale)), max(1, round(columns * scale))


def resized_picture(picture: Picture, shape: tuple[int, int]) -> Picture:
    """The picture with ``shape`` rows and columns."""
    if picture.shape[:2] == shape:
        return picture
    image = Image.fromarray(picture).resize(shape[::-1], Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(image)


def resized_mask(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask ``(rows, columns)`` in another ``shape``; smooth when larger, thin lines kept when smaller."""
    if mask.shape == shape:
        return mask
    shrink = max(mask.shape[0] / shape[0], mask.shape[1] / shape[1])
    filtering = Image.Resampling.BILINEAR if shrink <= 1 else Image.Resampling.BOX
    covered = np.asarray(Image.fromarray(mask.astype(np.float32)).resize(shape[::-1], filtering), np.float32)
    # a line one pixel wide covers 1/shrink of a pixel, or half of that in each of two neighbours
    return covered > (0.5 if shrink <= 1 else 0.499 / shrink)
