"""How fast the frames of a run follow each other, as its header tells (PS3.3 C.7.6.5)."""

import math

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

_USUAL_MS = 1000 / 15


def frame_times(header: Dataset) -> list[float] | None:
    """FrameTimeVector in milliseconds: one increment a frame, the first 0; None where it is absent or unreadable."""
    values = _numbers(header, "FrameTimeVector")
    return values if values and len(values) == int(header.get("NumberOfFrames") or 1) else None


def frame_time(header: Dataset) -> float | None:
    """Milliseconds from frame to frame: FrameTime, else the rate of the cine module; None where nothing tells."""
    single = _numbers(header, "FrameTime")
    if single and single[0] > 0:
        return single[0]
    for keyword in ("CineRate", "RecommendedDisplayFrameRate"):
        rate = _numbers(header, keyword)
        if rate and rate[0] > 0:
            return 1000 / rate[0]
    return None


def display_time(header: Dataset) -> float:
    """Milliseconds for which a page shows each frame: as above, the mean of the vector, else 15 frames a second."""
    vector = frame_times(header)
    told = frame_time(header)
    if told is None and vector and len(vector) > 1:
        told = sum(vector[1:]) / (len(vector) - 1)
    return told or _USUAL_MS


def _numbers(header: Dataset, keyword: str) -> list[float]:
    """The values of an attribute as finite numbers of at least 0, empty where they are not."""
    try:
        value = header.get(keyword)
        found = [float(one) for one in (value if isinstance(value, MultiValue) else [value])]
    except (TypeError, ValueError):
        return []
    return found if all(math.isfinite(one) and one >= 0 for one in found) else []
