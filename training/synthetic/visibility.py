"""Where the drawn vessels cannot be seen: truth that no observer could draw."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.synthetic.fields import softened
from training.synthetic.picture import Bits, Plane

_LEAST_CONTRAST = 0.3
"""Difference between a vessel and its surroundings in standard deviations of the surroundings."""


def hidden(image: NDArray[np.uint8], mask: Bits, field: Bits) -> Bits:
    """The part of ``mask`` that does not differ from its surroundings, drowned in noise, haze or black.

    Args:
        image: ``(rows, columns[, 3])``.
        mask: ``(rows, columns)`` the vessels.
        field: ``(rows, columns)`` where the camera saw anything.
    """
    grey = softened((image if image.ndim == 2 else image[..., 1]).astype(np.float32), 0.7)
    window = max(len(mask) // 16, 9)
    beside = ndimage.binary_dilation(mask, iterations=5) & ~ndimage.binary_dilation(mask, iterations=2) & field
    inner = _local_mean(grey, mask, window)
    outer = _local_mean(grey, beside, window)
    # The running sums of the filter may leave a little less than nothing.
    spread = np.sqrt(np.maximum(_local_mean(np.square(grey - outer), beside, window), 0))
    return np.asarray(mask & (np.abs(inner - outer) < _LEAST_CONTRAST * spread + 1.0))


def _local_mean(plane: Plane, where: Bits, window: int) -> Plane:
    """Mean of the marked pixels in a square around each pixel, 0 where there are none."""
    weight = ndimage.uniform_filter(where.astype(np.float32), window, mode="constant")
    total = ndimage.uniform_filter(np.where(where, plane, np.float32(0)), window, mode="constant")
    return np.asarray(total / np.maximum(weight, 1e-4), np.float32)
