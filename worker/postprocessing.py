"""From probabilities to a mask: hysteresis threshold and removal of small pieces, for every segmenter alike."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from worker.image_stack import Arrangement


def clean(
    probability: NDArray[np.floating],
    *,
    arrangement: Arrangement,
    threshold: float = 0.5,
    seed: float = 0.5,
    minimum_size: int = 1,
) -> NDArray[np.bool_]:
    """Decide which pixels are vessel.

    A connected piece of pixels that reach ``threshold`` is kept when it reaches ``seed`` somewhere and is large enough.

    Args:
        probability: ``(frames, rows, columns)`` in [0, 1].
        arrangement: Pieces are joined through all three axes in a volume (26 neighbours), within each frame else (8).
        threshold: Least probability of a pixel in the mask.
        seed: Least probability that each piece must reach somewhere; no effect at or below ``threshold``.
        minimum_size: Least number of pixels or voxels of a piece.

    Returns:
        ``(frames, rows, columns)`` bool.
    """
    candidates = probability >= threshold
    labels, pieces = ndimage.label(candidates, structure=_neighbourhood(arrangement))
    if pieces == 0:
        return np.zeros(probability.shape, bool)
    inside = labels[candidates]
    keep = np.bincount(inside, minlength=pieces + 1) >= minimum_size
    keep &= np.bincount(inside, weights=probability[candidates] >= seed, minlength=pieces + 1) > 0
    keep[0] = False
    return np.asarray(keep[labels])


def remove_small(mask: NDArray[np.bool_], minimum_size: int, *, arrangement: Arrangement) -> NDArray[np.bool_]:
    """Return ``mask`` without connected pieces of fewer than ``minimum_size`` pixels or voxels.

    Args:
        mask: ``(frames, rows, columns)`` bool.
        minimum_size: Least number of pixels or voxels.
        arrangement: As for :func:`clean`.
    """
    return clean(mask.astype(np.float32), arrangement=arrangement, minimum_size=minimum_size)


def _neighbourhood(arrangement: Arrangement) -> NDArray[np.bool_]:
    neighbourhood = np.ones((3, 3, 3), bool)
    if arrangement is not Arrangement.VOLUME:
        neighbourhood[[0, 2]] = False
    return neighbourhood
