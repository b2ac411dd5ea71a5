"""Decides which frames are of the kind that they are said to be; no vessel is looked for in the others."""

import numpy as np
from numpy.typing import NDArray

from worker.image_stack import Arrangement

BLANK = -1e4
"""Logit of a frame that shows nothing at all."""
_LEAST_RANGE = 0.012
"""Share of the full range between the darkest and the brightest below which a frame is blank: three grey levels."""


def is_blank(intensity: NDArray[np.float32], shown: NDArray[np.bool_]) -> bool:
    """Whether a frame holds nothing but an even grey.

    Args:
        intensity: ``(rows, columns)`` in [0, 1].
        shown: ``(rows, columns)`` bool, the field of view.
    """
    inside = intensity[shown]
    if inside.size == 0:
        return True
    low, high = np.percentile(inside[:: max(1, inside.size // 20_000)], (1.0, 99.0))
    return bool(high - low < _LEAST_RANGE)


def known_frames(logits: NDArray[np.float64], least: float, arrangement: Arrangement) -> NDArray[np.bool_]:
    """Return which frames to trust.

    Independent pictures are judged one by one. A run is of one kind: the better half of its frames speaks for all,
    since a frame before the contrast medium arrives looks like little.

    Args:
        logits: ``(frames,)`` of being of the kind; :data:`BLANK` for blank frames.
        least: Smallest logit of a known frame.
        arrangement: How the frames relate.

    Returns:
        ``(frames,)`` bool.
    """
    if arrangement is Arrangement.FRAMES or len(logits) == 0:
        return np.asarray(logits >= least)
    better = np.sort(logits)[len(logits) // 2 :]
    whole = bool(better.mean() >= least)
    return np.asarray(np.full(len(logits), whole) & (logits > BLANK))
