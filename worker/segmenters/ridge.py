"""The ridge segmenter: a multi-scale ridge filter without weights; the baseline, and what runs where no model is.

Pictures and runs go through elongated second derivatives (``ridge_pictures``), volumes through the eigenvalues of the
Hessian in millimetres (``ridge_volume``). Everything is fixed for each kind of picture (``ridge_settings``).
"""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from dicom_core.errors import ConfigurationError
from worker.image_stack import Arrangement, ImageStack, Imaging
from worker.postprocessing import clean
from worker.segmenters.interface import ProgressCallback, Prompt, Segmentation, SegmenterInfo, Status
from worker.segmenters.ridge_settings import PICTURES, VOLUMES, Polarity

if TYPE_CHECKING:
    from worker.segmenters.ridge_pictures import Found

_MEASURED = frozenset({Imaging.XRAY_ANGIOGRAPHY, Imaging.FUNDUS, Imaging.OCT_ANGIOGRAPHY, Imaging.CT, Imaging.MR})


class RidgeSegmenter:
    """A multi-scale ridge filter; see the module.

    Args:
        device: Where torch works: ``"cpu"``, ``"cuda:0"``.
        threshold: Least probability of a vessel pixel, between 0 and 1.
        polarity: ``"dark"``, ``"bright"`` or ``"auto"`` for pictures and runs; "" takes what fits the kind of picture.
        memory_mib: About how much memory the filter may use at a time.

    Raises:
        ConfigurationError: A setting is out of range.
    """

    info = SegmenterInfo(
        name="ridge",
        version="1",
        summary="Multi-scale ridge filter (Sato, Frangi) for pictures, runs and volumes; needs no weights",
        imagings=_MEASURED,
        arrangements=frozenset(Arrangement),
    )

    def __init__(
        self, *, device: str = "cpu", threshold: float = 0.5, polarity: str = "", memory_mib: int = 2048
    ) -> None:
        if not isinstance(threshold, int | float) or not 0 < threshold < 1:
            raise ConfigurationError("The ridge segmenter's `threshold` must be a number between 0 and 1")
        if polarity not in ("", *Polarity):
            raise ConfigurationError("The ridge segmenter's `polarity` must be dark, bright, auto or empty")
        if not isinstance(memory_mib, int) or memory_mib < 1:
            raise ConfigurationError("The ridge segmenter's `memory_mib` must be a whole number above 0")
        self._device = device
        self._threshold = float(threshold)
        self._polarity = Polarity(polarity) if polarity else None
        self._memory_bytes = memory_mib * 2**20

    def segment(self, stack: ImageStack, prompt: Prompt, progress: ProgressCallback) -> Segmentation:
        """Find the vessels in one series.

        Args:
            stack: Any arrangement and kind of picture.
            prompt: Must be empty: a filter does not read.
            progress: Called after each chunk of frames.

        Raises:
            InvalidPromptError: The prompt asks for something.
        """
        self.info.check_prompt(prompt)
        started = time.perf_counter()
        found, seed, warnings = self._find(stack, progress)
        filtered = time.perf_counter()
        mask = clean(
            found.probability,
            arrangement=stack.arrangement,
            threshold=self._threshold,
            seed=max(seed, self._threshold),
            minimum_size=found.minimum_size,
        )
        scores = tuple(
            float(p[m].mean(dtype=np.float64)) if m.any() else 0.0 for p, m in zip(found.probability, mask, strict=True)
        )
        progress(1.0)
        return Segmentation(
            status=Status.OK if mask.any() else Status.NO_MASK,
            mask=mask[None],
            probability=found.probability[None],
            classes=self.info.classes,
            scores=scores,
            parameters=self._parameters(stack, found, seed),
            seconds={"filter": filtered - started, "clean": time.perf_counter() - filtered},
            warnings=warnings,
        )

    def _find(self, stack: ImageStack, progress: ProgressCallback) -> tuple["Found", float, tuple[str, ...]]:
        """Return what the filter found, the seed probability and warnings."""
        warnings = []
        if stack.imaging not in _MEASURED:
            warnings.append(f"The ridge filter was never measured on this kind of picture ({stack.imaging})")
        if is_volume(stack):
            from worker.segmenters.ridge_volume import find_in_volume

            if stack.spacing_mm is None:
                warnings.append("The spacing of the slices is unknown; 1 mm was assumed in all directions")
            volume = find_in_volume(stack, self._device, self._memory_bytes, progress)
            return volume, VOLUMES[stack.imaging].seed_probability, tuple(warnings)
        from worker.segmenters.ridge_pictures import find_in_pictures

        pictures = find_in_pictures(stack, self._polarity, self._device, self._memory_bytes, progress)
        return pictures, PICTURES[stack.imaging].seed_probability, tuple(warnings)

    def _parameters(self, stack: ImageStack, found: "Found", seed: float) -> Mapping[str, str]:
        scales = (
            " ".join(f"{s:g} mm" for s in VOLUMES[stack.imaging].scales_mm)
            if is_volume(stack)
            else " ".join(f"{s:g}" for s in PICTURES[stack.imaging].scales) + " of the field of view"
        )
        return {
            "threshold": f"{self._threshold:g}",
            "seed_threshold": f"{max(seed, self._threshold):g}",
            "minimum_size": str(found.minimum_size),
            "polarity": found.polarity.value,
            "scales": scales,
        }


def is_volume(stack: ImageStack) -> bool:
    """Whether a stack is searched in three dimensions: slices of CT or MR, three at least."""
    return stack.arrangement is Arrangement.VOLUME and stack.imaging in VOLUMES and len(stack.pixels) >= 3
