"""Frames as a reader sees them on a screen: through a window, 8 bit a channel, red, green and blue."""

import numpy as np
from numpy.typing import NDArray

from worker.image_stack import ImageStack, Imaging

Picture = NDArray[np.uint8]
"""``(rows, columns, 3)`` sRGB, 0 to 255."""

_PERCENTILES = (0.5, 99.5)
_CT_ANGIOGRAPHY = (-100.0, 500.0)
"""Hounsfield units; for CT without a window of its own, where percentiles would end in air and metal."""
_SAMPLES = 200_000


def display_limits(stack: ImageStack) -> tuple[float, float]:
    """What is black and what is white in all frames of a grey stack, so that a run does not flicker.

    The source's own VOI window where it has one, the usual one of CT angiography for other CT, else robust percentiles.

    Returns:
        ``(black, white)`` in the units of ``stack.pixels``, white at least a little larger.
    """
    if stack.display_range is not None:
        low, high = stack.display_range
    elif stack.imaging is Imaging.CT:
        low, high = _CT_ANGIOGRAPHY
    else:
        low, high = _percentiles(stack.pixels)
    return low, max(high, low + 1e-6)


def _percentiles(pixels: NDArray[np.float32] | NDArray[np.uint8]) -> tuple[float, float]:
    """Percentiles of a regular sample: sorting a whole volume would take longer than drawing it."""
    frames = max(1, len(pixels) // 16)
    step = max(1, round((pixels[::frames].size / _SAMPLES) ** 0.5))
    sample = pixels[::frames, ::step, ::step]
    finite = sample[np.isfinite(sample)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, _PERCENTILES)
    return float(low), float(high)


def display_frame(stack: ImageStack, index: int, limits: tuple[float, float] | None = None) -> Picture:
    """One frame as a picture of its own size.

    Args:
        stack: Grey or colour.
        index: Of the frame.
        limits: Result of ``display_limits``, if it is at hand already; colour needs none.
    """
    frame = stack.pixels[index]
    picture: Picture = np.empty((*frame.shape[:2], 3), np.uint8)
    picture[:] = frame if stack.is_colour else display_grey(frame, limits or display_limits(stack))[..., None]
    return picture


def display_grey(values: NDArray[np.float32] | NDArray[np.uint8], limits: tuple[float, float]) -> NDArray[np.uint8]:
    """Grey values of any shape through a window, 0 to 255; what is no number is black."""
    low, high = limits
    scaled: NDArray[np.float32] = values.astype(np.float32)
    scaled -= np.float32(low)
    scaled *= np.float32(255 / (high - low))
    np.fmax(scaled, 0, out=scaled)  # takes care of what is no number, too
    np.fmin(scaled, 255, out=scaled)
    scaled += np.float32(0.5)
    return scaled.astype(np.uint8)
