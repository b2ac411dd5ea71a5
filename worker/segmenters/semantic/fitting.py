"""Brings pictures and volumes to a size that a network takes, and its answer back."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray

from dicom_core.errors import UnsupportedSourceError
from worker.segmenters.semantic.settings import Size

Numbers = NDArray[np.float32]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Fit:
    """How one shape becomes another, with two axes or three.

    Attributes:
        source: What it is at first.
        scaled: After it was resampled.
        padded: After a border was added at the far ends.
        window: What the network sees at a time.
        pad_value: Of the border.
    """

    source: Shape
    scaled: Shape
    padded: Shape
    window: Shape
    pad_value: float = 0.0

    @property
    def is_whole(self) -> bool:
        """Whether the network sees everything at once."""
        return self.window == self.padded

    def forth(self, image: Numbers) -> Numbers:
        """``(channels, *source)`` to ``(channels, *padded)``."""
        scaled = resampled(image, self.scaled)
        border = [(0, 0), *((0, whole - part) for part, whole in zip(self.scaled, self.padded, strict=True))]
        return np.pad(scaled, border, constant_values=self.pad_value) if self.padded != self.scaled else scaled

    def back(self, answer: NDArray[np.floating]) -> Numbers:
        """``(channels, *padded)`` to ``(channels, *source)``."""
        inner = (slice(None), *(slice(length) for length in self.scaled))
        return resampled(np.asarray(answer[inner], np.float32), self.source)


def fit_of(shape: Shape, spacing: tuple[float, ...] | None, target: tuple[float, ...], size: Size) -> Fit:
    """How a shape is to be fitted.

    Args:
        shape: Of the picture or volume.
        spacing: In millimetres along each axis, None where it is unknown.
        target: The spacing at which the network looks; empty for any.
        size: What the network takes.

    Raises:
        UnsupportedSourceError: It is larger than a network takes that cannot look through windows.
    """
    scaled = shape
    if spacing is not None and target:
        scaled = tuple(max(1, round(n * have / want)) for n, have, want in zip(shape, spacing, target, strict=True))
    if size.fit == "windows":
        padded = tuple(max(have, least) for have, least in zip(scaled, size.size, strict=True))
        return Fit(shape, scaled, padded, size.size, size.pad_value)
    if size.fit == "resize":
        scaled = _resized(scaled, size)
    padded = size.size or tuple(-(-length // size.multiple_of) * size.multiple_of for length in scaled)
    if any(have > most for have, most in zip(scaled, padded, strict=True)):
        raise UnsupportedSourceError(
            f"The pictures are larger ({_words(scaled)}) than the network takes ({_words(padded)}); write "
            'size.fit = "resize" or "windows" in its manifest'
        )
    return Fit(shape, scaled, padded, padded, size.pad_value)


def _resized(shape: Shape, size: Size) -> Shape:
    if size.size and not size.keep_aspect:
        return size.size
    factor = 1.0
    if size.size:
        factor = min(most / have for have, most in zip(shape, size.size, strict=True))
        return tuple(max(1, min(most, round(n * factor))) for n, most in zip(shape, size.size, strict=True))
    if size.shorter_side:
        factor = size.shorter_side / min(shape)
    step = size.multiple_of
    return tuple(max(step, round(length * factor / step) * step) for length in shape)


def _words(shape: Shape) -> str:
    return " x ".join(str(length) for length in shape)


def resampled(image: Numbers, shape: Shape) -> Numbers:
    """``(channels, *spatial)`` at another size: linear, without aliasing; corners of the whole stay where they are."""
    if tuple(image.shape[1:]) == shape:
        return image
    values = torch.from_numpy(np.ascontiguousarray(image))
    if len(shape) == 3:
        values = _plane_by_plane(values, shape[1:])
        channels, depth = values.shape[:2]
        long = _interpolated(values.reshape(1, channels, depth, -1), (shape[0], shape[1] * shape[2]))
        return np.asarray(long.reshape(channels, *shape).numpy())
    return np.asarray(_interpolated(values[None], shape)[0].numpy())


def _plane_by_plane(volume: torch.Tensor, shape: Shape) -> torch.Tensor:
    if tuple(volume.shape[2:]) == shape:
        return volume
    return torch.stack([_interpolated(volume[None, :, index], shape)[0] for index in range(volume.shape[1])], dim=1)


def _interpolated(images: torch.Tensor, shape: Shape) -> torch.Tensor:
    return F.interpolate(images, size=shape, mode="bilinear", align_corners=False, antialias=True)
