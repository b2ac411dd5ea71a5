"""Which frames are worth showing."""

import numpy as np
from numpy.typing import NDArray


def vessel_counts(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Voxels of all classes by frame, for a mask ``(classes, frames, rows, columns)``."""
    counts: NDArray[np.int64] = np.count_nonzero(mask, axis=(0, 2, 3)).astype(np.int64)
    return counts


def most_vessel(mask: NDArray[np.bool_]) -> int:
    """Index of the frame with most voxels over all classes, the middle one when there are none.

    Args:
        mask: ``(classes, frames, rows, columns)`` bool.
    """
    counts = vessel_counts(mask)
    return int(counts.argmax()) if counts.any() else len(counts) // 2


def vessel_extent(mask: NDArray[np.bool_], margin: int = 0) -> tuple[int, int]:
    """First frame with a vessel and the one behind the last, widened by ``margin``; all frames when there is none."""
    counts = vessel_counts(mask)
    shown = np.flatnonzero(counts)
    if not shown.size:
        return 0, len(counts)
    return max(0, int(shown[0]) - margin), min(len(counts), int(shown[-1]) + 1 + margin)


def evenly_spaced(begin: int, end: int, most: int) -> list[int]:
    """At most ``most`` different indices of ``range(begin, end)``, evenly apart, both ends among them."""
    count = min(most, end - begin)
    return [int(index) for index in np.rint(np.linspace(begin, end - 1, count))] if count > 1 else [(begin + end) // 2]
