"""Which frames of a run the language model sees; SAM 2 follows what it meant there through all others."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FRAMES = 5
"""As many as the published model was trained to see."""
_WORKING_SIZE = 256
_FINE, _COARSE = 1.0, 5.0
"""Standard deviations of the Gaussian filters, in pixels at the working size, between which vessels lie."""
_FILLED = 0.7
"""How far from the emptiest to the fullest frame a frame must be to count as filled."""


def chosen_frames(how: str, frames: int, picture: Callable[[int], NDArray[np.uint8]]) -> tuple[int, ...]:
    """Choose frames, in ascending order; all of them where there are no more than five.

    Args:
        how: ``"first"``, as published; ``"evenly"`` over the run; ``"contrast"``, where contrast medium fills vessels.
        frames: Of the run.
        picture: Gives a frame as ``(rows, columns, 3)`` uint8.
    """
    count = min(FRAMES, frames)
    if how == "evenly":
        return spread(np.arange(frames), count)
    if how == "contrast" and frames > FRAMES:
        return filled_frames(np.array([vessel_contrast(picture(frame)) for frame in range(frames)]), count)
    return tuple(range(count))


def spread(numbers: NDArray[np.intp], count: int) -> tuple[int, ...]:
    """Take some of ascending numbers, evenly, the first and the last included."""
    return tuple(int(numbers[place]) for place in np.linspace(0, len(numbers) - 1, count).round().astype(int))


def filled_frames(contrast: NDArray[np.float64], count: int) -> tuple[int, ...]:
    """Take frames evenly out of those in which the vessels are filled.

    Args:
        contrast: Of each frame. A single frame that sticks out of its neighbours, a flash, is not believed.
        count: How many.
    """
    steady = ndimage.median_filter(contrast, size=3, mode="nearest")
    low, high = steady.min(), steady.max()
    filled = np.flatnonzero(steady >= low + _FILLED * (high - low))
    if len(filled) < count:
        filled = np.sort(np.argsort(-steady, kind="stable")[:count])
    return spread(filled, count)


def vessel_contrast(picture: NDArray[np.uint8]) -> float:
    """How much a picture varies at the width of vessels, dark or bright; only comparable within a run."""
    grey = picture.mean(axis=-1, dtype=np.float32)
    step = max(1, round(max(grey.shape) / _WORKING_SIZE))
    rows, columns = (size // step * step for size in grey.shape)
    small = grey[:rows, :columns].reshape(rows // step, step, columns // step, step).mean(axis=(1, 3))
    band = ndimage.gaussian_filter(small, _FINE) - ndimage.gaussian_filter(small, _COARSE)
    return float(band.std(dtype=np.float64))
