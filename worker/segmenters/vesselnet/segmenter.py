"""The vesselnet segmenter: the network that comes with vesselq, for X-ray angiograms, fundus pictures and OCTA."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_core.errors import ConfigurationError, UnsupportedSourceError
from worker.image_stack import Arrangement, ImageStack, Imaging
from worker.postprocessing import clean
from worker.segmenters.interface import ProgressCallback, Prompt, Segmentation, SegmenterInfo, Status
from worker.segmenters.number_types import chosen_number_type
from worker.segmenters.vesselnet.gate import BLANK, known_frames
from worker.segmenters.vesselnet.weights import SHIPPED, KindFit, load_network, read_card

_POLARITIES = ("auto", "dark", "bright")
_SECOND_LOOK = 1.0
"""What the gate asks for more where vessels are looked for the other way round: who looks twice errs twice."""
_CARD = read_card()


class VesselnetSegmenter:
    """The shipped network; see the module.

    Args:
        device: Where torch works: ``"cpu"``, ``"cuda:0"``.
        threshold: Least probability of a vessel pixel, between 0 and 1; 0 takes what was fitted for the kind.
        flips: Look at each frame four times, flipped, and average: a little better, four times slower.
        polarity: Of X-ray angiograms: ``"dark"`` or ``"bright"`` vessels; ``"auto"`` looks for dark ones, then for
            bright ones where the picture is none with dark ones.
        gate: Whether pictures of other kinds end as out of domain.
        detail: Size at which the network looks, as a multiple of the usual; above 1 finds thinner vessels, slower.
        dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``; ``"auto"`` is bfloat16 on a GPU and float32 on a CPU.
        memory_mib: About how much memory the network may use at a time.
        weights: A folder made by ``training.export``; "" takes the shipped weights.

    Raises:
        ConfigurationError: A setting is out of range, or the weights are not those that their card describes.
    """

    info = SegmenterInfo(
        name="vesselnet",
        version=_CARD.version,
        summary="Small network for X-ray angiograms, fundus pictures and OCT angiograms; its weights come with vesselq",
        imagings=frozenset(_CARD.fits),
        arrangements=frozenset({Arrangement.FRAMES, Arrangement.RUN}),
        weights_sha256=_CARD.sha256,
    )

    def __init__(
        self,
        *,
        device: str = "cpu",
        threshold: float = 0.0,
        flips: bool = False,
        polarity: str = "auto",
        gate: bool = True,
        detail: float = 1.0,
        dtype: str = "auto",
        memory_mib: int = 1024,
        weights: str = "",
    ) -> None:
        if not isinstance(threshold, int | float) or not 0 <= threshold < 1:
            raise ConfigurationError("The vesselnet segmenter's `threshold` must be a number from 0 up to 1")
        if polarity not in _POLARITIES:
            raise ConfigurationError("The vesselnet segmenter's `polarity` must be auto, dark or bright")
        if not isinstance(detail, int | float) or not 0.25 <= detail <= 4:
            raise ConfigurationError("The vesselnet segmenter's `detail` must be a number between 0.25 and 4")
        dtype = chosen_number_type(dtype, device)
        if not isinstance(memory_mib, int) or memory_mib < 1:
            raise ConfigurationError("The vesselnet segmenter's `memory_mib` must be a whole number above 0")
        if not isinstance(flips, bool) or not isinstance(gate, bool):
            raise ConfigurationError("The vesselnet segmenter's `flips` and `gate` must be true or false")
        import torch

        from worker.segmenters.vesselnet.looking import Eye

        folder = Path(weights) if weights else SHIPPED
        self._card = read_card(folder)
        self._threshold, self._polarity, self._gate = float(threshold), polarity, gate
        where = torch.device(device)
        self._eye = Eye(load_network(folder, device), where, dtype, memory_mib * 2**20, float(detail), flips)

    def segment(self, stack: ImageStack, prompt: Prompt, progress: ProgressCallback) -> Segmentation:
        """Find the vessels in one series.

        Args:
            stack: Pictures or runs of a kind that ``info`` names.
            prompt: Must be empty: the network does not read.
            progress: Called after each chunk of frames.

        Raises:
            InvalidPromptError: The prompt asks for something.
            UnsupportedSourceError: The stack is of another kind, or a volume.
        """
        self.info.check_prompt(prompt)
        if stack.imaging not in self._card.fits or stack.arrangement not in self.info.arrangements:
            raise UnsupportedSourceError(
                f"The vesselnet segmenter does not know this kind of picture ({stack.imaging}, {stack.arrangement}); "
                "choose another segmenter in the rule"
            )
        fit = self._card.fits[stack.imaging]
        threshold = self._threshold or fit.threshold
        found = _Found.empty(stack)
        started = time.perf_counter()
        for group in _groups(stack):
            self._find(stack, group, fit, found, progress)
        looked = time.perf_counter()
        for group, least in zip(_groups(stack), found.minimum_sizes, strict=True):
            found.mask[group] = clean(
                found.probability[group],
                arrangement=stack.arrangement,
                threshold=threshold,
                seed=max(fit.seed, threshold),
                minimum_size=least,
            )
        progress(1.0)
        return Segmentation(
            status=found.status(),
            mask=found.mask[None],
            probability=found.probability[None],
            classes=self.info.classes,
            scores=found.scores(),
            parameters=self._parameters(stack.imaging, fit, threshold, found),
            seconds={"network": looked - started, "clean": time.perf_counter() - looked},
            warnings=found.warnings(),
        )

    def _find(self, stack: ImageStack, group: slice, fit: KindFit, found: "_Found", progress: ProgressCallback) -> None:
        """Look at frames that belong together, with each brightness of vessels until they are of the kind."""
        attempts = self._brightness(stack.imaging)
        share = (group.stop - group.start) / len(stack.pixels) / len(attempts)
        for attempt, bright in enumerate(attempts):
            start = group.start / len(stack.pixels) + attempt * share

            def report(done: float, start: float = start) -> None:
                progress(start + share * done)

            looked = self._eye.look(stack.pixels[group], stack.imaging, fit, bright=bright, progress=report)
            least = fit.gate + attempt * _SECOND_LOOK if self._gate else BLANK
            known = known_frames(looked.known, least, stack.arrangement)
            if known.any():
                found.polarities.add("bright" if bright else "dark")
                break
        found.known[group] = known
        found.probability[group] = looked.probability * known[:, None, None]
        found.minimum_sizes.append(max(1, round((fit.minimum_extent * looked.diameter) ** 2)))

    def _brightness(self, imaging: Imaging) -> tuple[bool, ...]:
        """Return whether vessels are bright, in the order in which to try."""
        if imaging is Imaging.XRAY_ANGIOGRAPHY:
            return {"auto": (False, True), "dark": (False,), "bright": (True,)}[self._polarity]
        return (imaging is Imaging.OCT_ANGIOGRAPHY,)

    def _parameters(self, imaging: Imaging, fit: KindFit, threshold: float, found: "_Found") -> Mapping[str, str]:
        return {
            "threshold": f"{threshold:g}",
            "seed_threshold": f"{max(fit.seed, threshold):g}",
            "minimum_size": str(min(found.minimum_sizes, default=1)),
            "polarity": " ".join(sorted(found.polarities)) or "none",
            "flips": "4" if self._eye.flips else "1",
            "working_size": f"{self._eye.working_size(imaging):g}",
            "gate": f"{fit.gate:g}" if self._gate else "off",
        }


def _groups(stack: ImageStack) -> Iterator[slice]:
    """Yield frames that belong together: each alone, or all of a run."""
    if stack.arrangement is Arrangement.FRAMES:
        yield from (slice(index, index + 1) for index in range(len(stack.pixels)))
    else:
        yield slice(0, len(stack.pixels))


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found so far; arrays are those of :class:`Segmentation` without the axis of classes."""

    probability: NDArray[np.float16]
    mask: NDArray[np.bool_]
    known: NDArray[np.bool_]
    polarities: set[str] = field(default_factory=set)
    minimum_sizes: list[int] = field(default_factory=list)

    @classmethod
    def empty(cls, stack: ImageStack) -> "_Found":
        shape = stack.pixels.shape[:3]
        return cls(np.zeros(shape, np.float16), np.zeros(shape, bool), np.zeros(shape[0], bool))

    def status(self) -> Status:
        if not self.known.any():
            return Status.OUT_OF_DOMAIN
        return Status.OK if self.mask.any() else Status.NO_MASK

    def scores(self) -> tuple[float, ...]:
        return tuple(
            float(p[m].mean(dtype=np.float64)) if m.any() else 0.0
            for p, m in zip(self.probability, self.mask, strict=True)
        )

    def warnings(self) -> tuple[str, ...]:
        unknown = int(np.count_nonzero(~self.known))
        if not unknown:
            return ()
        return (f"{unknown} of {len(self.known)} frames are blank or not of the expected kind and were left empty",)
