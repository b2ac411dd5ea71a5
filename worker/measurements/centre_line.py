"""The centre line of a mask, one pixel thin, with the mask's topology."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_PADDING = 1
"""Thinning reads the neighbours of every pixel; a mask at the border of the array needs empty ones."""


def skeleton(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Thin a mask to its centre line.

    By the method of Lee, which scikit-image has for pictures and volumes alike; that of Zhang and Suen eats diagonal
    lines of even width. Pieces keep their number, holes and tunnels; ends become up to one radius shorter.

    Args:
        mask: ``(rows, columns)`` or ``(slices, rows, columns)`` bool. A volume of one slice is thinned as a picture.

    Returns:
        The same shape, bool, a subset of ``mask``; empty where the mask is.
    """
    from skimage.morphology import skeletonize  # slow to import, and not needed by every process

    thin = np.zeros(mask.shape, np.bool_)
    box = bounding_box(mask)
    if box is None:
        return thin
    inside = mask[box]
    flat = tuple(axis for axis, size in enumerate(inside.shape) if size == 1 and inside.ndim == 3)[:1]
    padded = np.pad(np.squeeze(inside, flat), _PADDING)
    core = (slice(_PADDING, -_PADDING),) * padded.ndim
    thin[box] = np.expand_dims(skeletonize(padded, method="lee")[core].astype(np.bool_), flat) & inside
    return thin


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """The smallest box that holds all of the mask, None for an empty one."""
    boxes = ndimage.find_objects(mask.view(np.uint8))
    return boxes[0] if boxes else None
