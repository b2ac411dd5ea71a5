"""Frames as numbers that a network has learnt from: channels, units, scale, mean and deviation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.image_stack import ImageStack
from worker.pictures.display import display_grey, display_limits
from worker.segmenters.semantic.settings import Normalisation, SemanticSettings

_LUMINANCE = (0.299, 0.587, 0.114)
_SAMPLES = 1_000_000
"""About how many numbers percentiles are taken of: all those of a volume would take longer than the network."""
Numbers = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Scale:
    """``(value + offset) * factor``."""

    offset: float
    factor: float


class Normaliser:
    """Makes the frames of one stack what the network takes.

    Args:
        stack: Grey or colour.
        settings: Of the network.
    """

    def __init__(self, stack: ImageStack, settings: SemanticSettings) -> None:
        self._stack, self._settings, self._how = stack, settings, settings.normalisation
        self._limits = None if stack.is_colour else display_limits(stack)
        self._of_stack: _Scale | None = None
        if settings.layout == "NCDHW" or self._how.per == "stack":
            step = max(1, len(stack.pixels) // 64)
            self._of_stack = _scale_of(self._values(slice(None, None, step)), self._how)

    def frame(self, index: int) -> Numbers:
        """One frame, ``(channels, rows, columns)`` float32."""
        values = self._values(slice(index, index + 1))
        return self._normalised(values, self._of_stack or _scale_of(values, self._how))[:, 0]

    def volume(self) -> Numbers:
        """All frames, ``(1, slices, rows, columns)`` float32; frame by frame, for the sake of memory."""
        made = np.empty((1, *self._stack.pixels.shape[:3]), np.float32)
        for index in range(len(self._stack.pixels)):
            made[:, index] = self.frame(index)
        return made

    def _values(self, frames: slice) -> Numbers:
        """``(channels, frames, rows, columns)`` in the units that the settings name."""
        pixels = self._stack.pixels[frames]
        displayed = self._how.values == "display"
        if self._stack.is_colour:
            values = _channels(np.moveaxis(pixels, -1, 0).astype(np.float32), self._settings)
            return np.asarray(values / np.float32(255) if displayed else values, np.float32)
        if displayed:
            assert self._limits is not None  # noqa: S101 - a grey stack always has some
            values = np.asarray(display_grey(pixels, self._limits)[None] / np.float32(255), np.float32)
        else:
            values = np.nan_to_num(pixels.astype(np.float32), posinf=0.0, neginf=0.0)[None]
        return np.repeat(values, self._settings.channels, axis=0)

    def _normalised(self, values: Numbers, scale: _Scale) -> Numbers:
        scaled = (values + np.float32(scale.offset)) * np.float32(scale.factor)
        if self._how.scale not in ("none", "z_score"):
            low, high = self._how.to
            scaled = np.clip(scaled, 0, 1) * np.float32(high - low) + np.float32(low)
        if self._how.mean:
            mean, std = (
                np.array(numbers, np.float32)[:, None, None, None] for numbers in (self._how.mean, self._how.std)
            )
            scaled = (scaled - mean) / std
        return np.asarray(scaled, np.float32)


def _channels(colours: Numbers, settings: SemanticSettings) -> Numbers:
    """From red, green and blue along axis 0 to what the network takes."""
    if settings.channels == 3:
        return colours[::-1] if settings.colour == "BGR" else colours
    if settings.colour == "green":
        return colours[1:2]
    return np.tensordot(np.array([_LUMINANCE], np.float32), colours, axes=1)


def _scale_of(values: Numbers, how: Normalisation) -> _Scale:
    """What brings values to 0..1 (or to mean 0 and deviation 1); an even grey becomes 0."""
    if how.scale == "none":
        return _Scale(0.0, 1.0)
    if how.scale == "window":
        low, high = how.limits
        return _Scale(-low, 1.0 / (high - low))
    if how.scale == "z_score":
        deviation = float(values.std(dtype=np.float64))
        return _Scale(-float(values.mean(dtype=np.float64)), 1.0 / deviation if deviation > 0 else 0.0)
    if how.scale == "min_max":
        low, high = float(values.min()), float(values.max())
    else:
        step = max(1, values.size // _SAMPLES)
        low, high = (float(value) for value in np.percentile(values.reshape(-1)[::step], how.limits))
    return _Scale(-low, 1.0 / (high - low) if high > low else 0.0)
