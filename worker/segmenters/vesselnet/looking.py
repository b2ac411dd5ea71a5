"""From frames to probabilities: prepare, show to the network, and bring its answer back to the size of the frames."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray

from worker.image_stack import Imaging
from worker.segmenters.vesselnet.gate import BLANK, is_blank
from worker.segmenters.vesselnet.network import KINDS, VesselNetwork
from worker.segmenters.vesselnet.preparing import (
    WORKING_SIZES,
    channels,
    field_of,
    intensity_of,
    resized,
    working_shape,
)
from worker.segmenters.vesselnet.weights import KindFit
from worker.segmenters.vesselnet.windows import WINDOW, look

_BYTES_PER_PIXEL = 700
"""Peak memory of the network for each pixel of the pictures that it looks at together, in float32."""
_EVERYTHING = (slice(None), slice(None))
_FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))


@dataclass(frozen=True, slots=True)
class Looked:
    """What the network says of frames that share a field of view.

    Attributes:
        probability: ``(frames, rows, columns)`` float16 in [0, 1], 0 outside the field of view.
        known: ``(frames,)`` logits of being of the kind.
        diameter: Of the field of view in pixels of the frames.
    """

    probability: NDArray[np.float16]
    known: NDArray[np.float64]
    diameter: float


@dataclass(frozen=True, slots=True)
class Eye:
    """A network and how it is used.

    Attributes:
        network: In evaluation mode, on its device.
        device: Where torch works.
        dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        memory_bytes: About how much memory to use at a time; one window is always looked at.
        detail: Multiple of the usual working size.
        flips: Whether to average over four flips.
    """

    network: VesselNetwork
    device: torch.device
    dtype: str
    memory_bytes: int
    detail: float
    flips: bool

    def working_size(self, imaging: Imaging) -> float:
        """Return the width in pixels at which a field of view is looked at."""
        return WORKING_SIZES[imaging] * self.detail

    def look(
        self,
        pixels: NDArray[np.float32] | NDArray[np.uint8],
        imaging: Imaging,
        fit: KindFit,
        *,
        bright: bool,
        progress: Callable[[float], None],
    ) -> Looked:
        """Look at frames that share a field of view.

        Args:
            pixels: As those of an ``ImageStack``.
            imaging: One of ``KINDS``.
            fit: What makes the network's logits probabilities.
            bright: Whether vessels are brighter than their surroundings.
            progress: Called after each chunk with the finished share.
        """
        intensity = intensity_of(pixels, imaging)
        shown, diameter = field_of(intensity, imaging)
        if bright and imaging is Imaging.XRAY_ANGIOGRAPHY:
            # A display turned over shows the leaves of the collimator white.
            shown = shown & field_of(1 - intensity, imaging)[0]
        probability = np.zeros(intensity.shape, np.float16)
        known = np.full(len(intensity), BLANK)
        size = self.working_size(imaging)
        # as in training the network sees what surrounds the field of view, but not for the price of further pieces
        box = _EVERYTHING if max(working_shape(shown.shape, diameter, size)) <= WINDOW else _box(shown)
        inside, intensity, shown = probability[:, *box], intensity[:, *box], shown[box]
        shape = working_shape(shown.shape, diameter, size)
        seeing = [n for n, frame in enumerate(intensity) if not is_blank(frame, shown)]
        # One by one the pictures stay in a CPU's caches; a GPU wants many.
        most = max(1, self.memory_bytes // (min(shape[0] * shape[1], WINDOW**2) * _BYTES_PER_PIXEL))
        step = 1 if self.device.type == "cpu" else most
        for start in range(0, len(seeing), step):
            frames = seeing[start : start + step]
            found, sure = self._look(intensity[frames], shown, shape, KINDS.index(imaging), fit, bright=bright)
            inside[frames] = found * shown
            known[frames] = sure
            progress(min(1.0, (start + step) / len(seeing)))
        return Looked(probability, known, diameter)

    @torch.inference_mode()
    def _look(
        self,
        intensity: NDArray[np.float32],
        shown: NDArray[np.bool_],
        shape: tuple[int, int],
        kind: int,
        fit: KindFit,
        *,
        bright: bool,
    ) -> tuple[NDArray[np.float16], NDArray[np.float64]]:
        field = torch.from_numpy(shown)[None, None].to(self.device, torch.float32)
        seen = (resized(field, shape) > 0.5).float().expand(len(intensity), -1, -1, -1)
        images = torch.from_numpy(intensity)[:, None].to(self.device)
        pictures = channels(resized(images, shape), seen, bright=bright)
        dtype = getattr(torch, self.dtype)
        logits, known = torch.zeros_like(seen), torch.zeros(len(intensity), device=self.device)
        flips = _FLIPS if self.flips else _FLIPS[:1]
        with torch.autocast(self.device.type, dtype, enabled=dtype is not torch.float32):
            for axes in flips:
                found, sure = look(self.network, pictures.flip(axes), kind)
                logits = logits + found.flip(axes) / len(flips)
                known = known + sure / len(flips)
        size = intensity.shape[-2:]
        full = F.interpolate(fit.slope * logits + fit.offset, size=size, mode="bilinear", align_corners=False)
        return torch.sigmoid(full)[:, 0].half().cpu().numpy(), known.double().cpu().numpy()


def _box(shown: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return rows and columns around the field of view."""
    if not shown.any():
        return _EVERYTHING
    rows, columns = (np.flatnonzero(shown.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
