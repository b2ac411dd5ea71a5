"""What the segmenters of the SAM family do alike: settings, and asking about pictures one by one."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ValidationError

from dicom_core.errors import ConfigurationError
from dicom_core.prompt import PromptKind
from worker.image_stack import ImageStack
from worker.model_folder.opening import ModelFolder, open_folder
from worker.pictures.display import display_frame, display_limits
from worker.segmenters.folder_info import info_of
from worker.segmenters.interface import ProgressCallback, Prompt, Segmentation, SegmenterInfo
from worker.segmenters.number_types import chosen_number_type

if TYPE_CHECKING:
    from worker.segmenters.promptable.account import Account
    from worker.segmenters.promptable.automatic import AutomaticSettings
    from worker.segmenters.promptable.drawing import Features, PromptableNetwork
    from worker.segmenters.promptable.preparing import Preparation
    from worker.segmenters.promptable.targets import Target

_ASKED = frozenset({PromptKind.POINTS, PromptKind.BOXES, PromptKind.MASK})
PROMPTS = _ASKED | {PromptKind.NONE}
"""Every way of asking; nothing at all only where the setting ``automatic`` is on."""


class PromptableSegmenter:
    """Base of the segmenters that are asked by points, boxes and masks.

    Args:
        folder: Weights as Hugging Face has them, with a manifest (``vesselq-model.json``).
        accept_license: The licence of the folder, where it is not permissive.
        device: Where torch works: ``"cpu"``, ``"cuda:0"``.
        dtype: Numbers of the image encoder: ``float32``, ``float16``, ``bfloat16``; ``auto`` is float32 on a CPU and
            float16 (sam) or bfloat16 (sam2) on a GPU. All else computes in float32: places need it.
        threshold: Least probability of a pixel of the mask.
        batch: Frames that the encoder looks at together.
        prompts_at_once: Targets of a frame that are drawn together.
        show_masks: Whether a mask in the prompt is shown along with boxes and points (MedSAM learnt from boxes alone).
        automatic: Without a prompt cut out everything there is; true, or a table of ``points_per_side`` (32),
            ``least_iou`` (0.88), ``least_stability`` (0.95), ``largest_overlap`` (0.7) and ``largest_share`` (0.25).

    Raises:
        ConfigurationError: A setting is out of range, or the folder holds no such network.
    """

    info: SegmenterInfo
    _on_gpu: ClassVar[str] = "float16"

    def __init__(
        self,
        *,
        folder: str | ModelFolder,
        accept_license: str = "",
        device: str = "cpu",
        dtype: str = "auto",
        threshold: float = 0.5,
        batch: int = 1,
        prompts_at_once: int = 16,
        show_masks: bool = True,
        automatic: bool | Mapping[str, Any] = False,
    ) -> None:
        _check_number("threshold", threshold, 0.0, 1.0)
        _check_number("batch", batch, 1, 1024, whole=True)
        _check_number("prompts_at_once", prompts_at_once, 1, 4096, whole=True)
        if not isinstance(show_masks, bool):
            raise ConfigurationError("The setting `show_masks` must be true or false")
        self._automatic = _automatic_settings(automatic)
        self._dtype = chosen_number_type(dtype, device, self._on_gpu)
        self._threshold, self._batch, self._at_once = float(threshold), batch, prompts_at_once
        self._show_masks = show_masks
        system = type(self).info
        model = open_folder(folder, system.name, accept_license=accept_license)
        self._network, self._preparation = self._open(model, device)
        self.info = replace(info_of(model, system), prompts=_ASKED if self._automatic is None else PROMPTS)

    def _open(self, model: ModelFolder, device: str) -> "tuple[PromptableNetwork, Preparation]":
        """Load the network and read how it wants its pictures."""
        raise NotImplementedError

    def warm_up(self) -> None:
        """Look at a black picture, so that the kernels are chosen."""
        import torch

        from worker.segmenters.promptable.drawing import Asked

        side = self._network.size
        features = self._network.encode(torch.zeros(1, 3, side, side))[0]
        self._network.decode(features, Asked(boxes=torch.tensor([[1.0, 1.0, side / 2, side / 2]]).to(features[0])))

    def segment(self, stack: ImageStack, prompt: Prompt, progress: ProgressCallback) -> Segmentation:
        """Draw what the prompt shows.

        Args:
            stack: Of any kind.
            prompt: Points, boxes, a mask; nothing only where ``automatic`` is on. Frames on which it shows nothing
                are not looked at.
            progress: Called after each batch of frames.

        Returns:
            One class. ``scores`` are predicted IoU; ``extras["automatic_masks"]`` holds the single masks that were cut
            out unasked.

        Raises:
            InvalidPromptError: The prompt does not fit, or there is none.
        """
        self.info.check_prompt(prompt)
        from worker.segmenters.promptable.account import Account
        from worker.segmenters.promptable.targets import targets_of

        unasked = PromptKind.NONE in prompt.kinds
        asked: Mapping[int, tuple[Target, ...]] = (
            dict.fromkeys(range(len(stack.frames)), ())
            if unasked
            else targets_of(stack, prompt, show_masks=self._show_masks)
        )
        account = Account.empty(stack, unasked=unasked)
        account.parameters.update(self._parameters(asked, unasked=unasked))
        self._look(stack, asked, account, progress)
        progress(1.0)
        return account.segmentation(self._threshold, self.info.classes)

    def _look(
        self,
        stack: ImageStack,
        asked: "Mapping[int, tuple[Target, ...]]",
        account: "Account",
        progress: ProgressCallback,
    ) -> None:
        """Look at the frames that are asked about, each by itself."""
        from worker.segmenters.device_memory import in_batches

        frames = sorted(asked)
        limits = display_limits(stack)
        seconds = {"encode": 0.0, "draw": 0.0}

        def work(part: slice) -> None:
            started = time.perf_counter()
            chosen = frames[part]
            pictures = [display_frame(stack, index, limits) for index in chosen]
            features = self._network.encode(self._preparation.pixels(pictures))
            encoded = time.perf_counter()
            for index, of_frame in zip(chosen, features, strict=True):
                self._draw(index, asked[index], of_frame, account)
            seconds["encode"] += encoded - started
            seconds["draw"] += time.perf_counter() - encoded

        portions = in_batches(len(frames), self._batch, work, progress)
        account.warnings += portions.warnings()
        account.seconds.update(seconds)

    def _draw(self, index: int, targets: "Sequence[Target]", features: "Features", account: "Account") -> None:
        """Draw the targets of a frame, or cut it out where there are none."""
        from worker.segmenters.promptable.automatic import AutomaticSettings, cut_out
        from worker.segmenters.promptable.drawing import draw

        shape = (account.probability.shape[1], account.probability.shape[2])
        if account.labels is None:
            drawn = draw(self._network, features, targets, self._preparation, shape, self._at_once)
        else:
            settings = self._automatic or AutomaticSettings()
            cut = cut_out(self._network, features, settings, self._preparation, shape, self._at_once)
            account.labels[index], drawn = cut.labels, cut.drawn
        account.note(index, drawn.probability, drawn.predicted_iou)

    def _parameters(self, asked: "Mapping[int, tuple[Target, ...]]", *, unasked: bool) -> dict[str, str]:
        told = {"threshold": f"{self._threshold:g}", "dtype": self._dtype, "input": self._preparation.in_words()}
        if unasked and self._automatic is not None:
            return {**told, "automatic": self._automatic.in_words()}
        count = sum(len(targets) for targets in asked.values())
        shown = any(target.mask is not None for targets in asked.values() for target in targets)
        return {**told, "targets": f"{count} on {len(asked)} frames", "masks_shown": "yes" if shown else "no"}


def _automatic_settings(said: bool | Mapping[str, Any]) -> "AutomaticSettings | None":
    from worker.segmenters.promptable.automatic import AutomaticSettings

    if isinstance(said, bool):
        return AutomaticSettings() if said else None
    try:
        return AutomaticSettings.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        allowed = ", ".join(AutomaticSettings.model_fields)
        raise ConfigurationError(
            f"The setting `automatic` is wrong at {place or 'its top'}: {first['msg']}; "
            f"it must be true, false or a table of {allowed}"
        ) from None


def _check_number(name: str, value: object, low: float, high: float, *, whole: bool = False) -> None:
    right = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, right) or not low <= value <= high:
        kind = "whole number" if whole else "number"
        raise ConfigurationError(f"The setting `{name}` must be a {kind} from {low:g} to {high:g}")
