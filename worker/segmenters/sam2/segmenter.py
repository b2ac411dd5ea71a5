"""The sam2 segmenter: SAM 2 and 2.1 of every size, from folders of weights that the site brings."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dicom_core.errors import ConfigurationError, RunnerBusyError
from worker.image_stack import Arrangement, ImageStack, Imaging
from worker.model_folder.opening import ModelFolder
from worker.pictures.display import display_frame, display_limits
from worker.segmenters.interface import ProgressCallback, SegmenterInfo
from worker.segmenters.promptable.segmenter import PROMPTS, PromptableSegmenter

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from worker.segmenters.promptable.account import Account
    from worker.segmenters.promptable.drawing import PromptableNetwork
    from worker.segmenters.promptable.preparing import Preparation
    from worker.segmenters.promptable.targets import Target
    from worker.segmenters.sam2.network import Sam2Network


class Sam2Segmenter(PromptableSegmenter):
    """SAM 2: pictures, and what is shown on some frames of a run or volume followed through the others.

    Args:
        follow: Whether frames on which the prompt shows nothing are searched for what it shows on others. In a chain
            it makes no difference: a refiner sees only the frames that it is asked about.
    """

    info = SegmenterInfo(
        name="sam2",
        version="1",
        summary="SAM 2: draws what points, boxes and masks show, and follows it through the frames of a run or volume",
        imagings=frozenset(Imaging),
        arrangements=frozenset(Arrangement),
        prompts=PROMPTS,
        needs_folder=True,
    )
    _on_gpu = "bfloat16"
    _video: "Sam2Network"

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
        follow: bool = True,
    ) -> None:
        if not isinstance(follow, bool):
            raise ConfigurationError("The setting `follow` must be true or false")
        self._follow = follow
        super().__init__(
            folder=folder,
            accept_license=accept_license,
            device=device,
            dtype=dtype,
            threshold=threshold,
            batch=batch,
            prompts_at_once=prompts_at_once,
            show_masks=show_masks,
            automatic=automatic,
        )

    def _open(self, model: ModelFolder, device: str) -> "tuple[PromptableNetwork, Preparation]":
        from worker.segmenters.promptable.preparing import Preparation
        from worker.segmenters.sam2.network import Sam2Network, load_model

        self._video = Sam2Network(load_model(model), device, self._dtype)
        return self._video, Preparation.of_folder(model, self._video.size, stretch=True, pillow=False)

    def _look(
        self,
        stack: ImageStack,
        asked: "Mapping[int, tuple[Target, ...]]",
        account: "Account",
        progress: ProgressCallback,
    ) -> None:
        """Look at the frames that are asked about, then follow what is there through the others."""
        others = len(stack.frames) - len(asked)
        if not others or not self._follow or stack.arrangement is Arrangement.FRAMES:
            super()._look(stack, asked, account, progress)
            return
        if not self._video.follows:
            super()._look(stack, asked, account, progress)
            account.warnings.append(
                f"{others} frames without a prompt were left empty: this model knows only single pictures"
            )
            return
        share = len(asked) / len(stack.frames)
        super()._look(stack, asked, account, lambda done: progress(done * share))
        masks = account.masks(self._threshold)
        shown = {index: masks[index] for index in asked if masks[index].any()}
        if shown:
            started = time.perf_counter()
            self._follow_from(stack, shown, account, progress)
            account.seconds["follow"] = time.perf_counter() - started
            account.parameters["followed_from"] = _in_words(sorted(shown))

    def _follow_from(
        self,
        stack: ImageStack,
        shown: "Mapping[int, NDArray[np.bool_]]",
        account: "Account",
        progress: ProgressCallback,
    ) -> None:
        import torch

        from worker.segmenters.device_memory import fits
        from worker.segmenters.sam2.following import follow

        limits, preparation = display_limits(stack), self._preparation
        shape = (stack.pixels.shape[1], stack.pixels.shape[2])

        def pixels(index: int) -> "torch.Tensor":
            return preparation.pixels([display_frame(stack, index, limits)])

        def work() -> None:
            done = len(shown)
            for index, logits, there in follow(self._video, len(stack.frames), pixels, shown):
                probability = torch.sigmoid(preparation.to_frame(logits.float(), shape))[0]
                account.note(index, probability.cpu().numpy(), there)
                done += 1
                progress(min(1.0, done / len(stack.frames)))

        if not fits(work):
            raise RunnerBusyError(
                "The device has no memory left to follow a mask through frames; free it or choose a smaller model"
            )


def _in_words(indices: list[int]) -> str:
    """Numbers of frames from 1, the first few of many."""
    numbers = [str(index + 1) for index in indices]
    return f"frames {', '.join(numbers[:8])}" + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")
