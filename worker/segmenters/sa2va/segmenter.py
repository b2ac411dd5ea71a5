"""The sa2va segmenter: asked in words, for pictures and for runs, from weights that the site brings."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from dicom_core.prompt import PromptKind, Question
from worker.image_stack import Arrangement, FrameIdentity, ImageStack, Imaging
from worker.model_folder.opening import ModelFolder, open_folder
from worker.segmenters.folder_info import info_of
from worker.segmenters.interface import (
    BLOOD_VESSEL,
    ProgressCallback,
    Prompt,
    Segmentation,
    SegmentClass,
    SegmenterInfo,
)
from worker.segmenters.number_types import chosen_number_type
from worker.segmenters.sa2va.found import Found
from worker.segmenters.sa2va.settings import Sa2vaSettings

if TYPE_CHECKING:
    from worker.segmenters.sa2va.model import Sa2vaModel

_DEFAULT_QUESTION = "Please segment the blood vessel."
_LONGEST_LABEL = 64


class Sa2vaSegmenter:
    """Sa2VA without remote code; see docs/reference/models/sa2va.md.

    Args:
        folder: A folder made by ``vesselq models convert``.
        accept_license: Its licence, where that is not permissive.
        device: Where torch works: ``"cpu"``, ``"cuda:0"``.
        answer: ``"generate"`` lets the model speak, as published, and it may say that there is nothing;
            ``"forced"`` puts the usual answer into its mouth, which is several times faster.
        threshold: Probability above which a pixel belongs to the mask.
        object_score_gate: Masks with an object score below this are left empty; 0 is no gate.
        max_tiles: Tiles that a picture is cut into at most; 0 is what the model was trained with.
        batch: Frames at a time.
        dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``; ``"auto"`` is bfloat16 on a GPU and float32 on a CPU.
        video: ``"auto"`` follows vessels through runs and volumes, ``"never"`` looks at each frame by itself.
        conditioning: Frames of a run that the language model sees: ``"first"`` five as published, ``"evenly"``
            spread, or those with most ``"contrast"``; ``"auto"`` is contrast for runs and evenly for volumes.

    Raises:
        ConfigurationError: A setting is out of range, or the folder is not one that can be used.
    """

    info = SegmenterInfo(
        name="sa2va",
        version="1",
        summary="Sa2VA: a language model that is asked in words and SAM 2 that draws; pictures and runs",
        imagings=frozenset({Imaging.XRAY_ANGIOGRAPHY}),
        arrangements=frozenset(Arrangement),
        prompts=frozenset({PromptKind.NONE, PromptKind.TEXT}),
        needs_folder=True,
    )

    def __init__(
        self,
        *,
        folder: str | ModelFolder,
        accept_license: str = "",
        device: str = "cpu",
        answer: str = "generate",
        threshold: float = 0.5,
        object_score_gate: float = 0.0,
        max_tiles: int = 0,
        batch: int = 4,
        dtype: str = "auto",
        video: str = "auto",
        conditioning: str = "auto",
    ) -> None:
        dtype = chosen_number_type(dtype, device)
        settings = Sa2vaSettings(answer, threshold, object_score_gate, max_tiles, batch, dtype, video, conditioning)
        opened = open_folder(folder, "sa2va", accept_license=accept_license)
        import torch

        from worker.segmenters.sa2va.model import Sa2vaModel

        model = Sa2vaModel.open(opened, device, getattr(torch, dtype))
        question = str(opened.manifest.settings.get("question", _DEFAULT_QUESTION))
        self._take(model, info_of(opened, type(self).info), settings, question)

    @classmethod
    def around(cls, model: "Sa2vaModel", settings: Sa2vaSettings) -> "Sa2vaSegmenter":
        """Make a segmenter of a network that comes from no folder."""
        made = cls.__new__(cls)
        made._take(model, cls.info, settings, _DEFAULT_QUESTION)  # noqa: SLF001  # its own
        return made

    def _take(self, model: "Sa2vaModel", info: SegmenterInfo, settings: Sa2vaSettings, question: str) -> None:
        self.model, self.info = model, info
        self._settings, self._question = settings, question

    def segment(self, stack: ImageStack, prompt: Prompt, progress: ProgressCallback) -> Segmentation:
        """Find what is asked for in one series.

        Args:
            stack: Of any kind; of one that the model was not made for with a warning.
            prompt: Questions, of which each becomes a class; none asks for blood vessels.
            progress: Called after each batch.

        Raises:
            InvalidPromptError: The prompt is not in words, or holds words that are the program's own.
            RunnerBusyError: The device has no memory for a single frame.
        """
        import torch

        from worker.segmenters.sa2va.stack_work import StackWork

        self.info.check_prompt(prompt)
        questions = [question.text for question in prompt.questions] or [self._question]
        classes = _classes_of(prompt.questions) or self.info.classes[:1]
        settings = self._settings
        found = Found.empty(classes, stack.pixels.shape, threshold=settings.threshold, gate=settings.object_score_gate)
        work = StackWork(self.model, settings, stack, questions, found, progress)
        tracked = stack.arrangement is not Arrangement.FRAMES and settings.video == "auto" and len(stack.frames) > 1
        with torch.inference_mode():
            (work.follow if tracked else work.look)()
        progress(1.0)
        parameters = {
            "answer": settings.answer,
            "threshold": f"{settings.threshold:g}",
            "object_score_gate": f"{settings.object_score_gate:g}",
            "dtype": settings.dtype,
            **work.parameters,
        }
        return found.segmentation(parameters, work.seconds, [*self._doubts(stack), *work.warnings])

    def warm_up(self) -> None:
        """Look once at an empty picture: kernels are chosen and memory is taken."""
        size = self.model.sizes.tile
        pixels = np.zeros((1, size, size, 3), np.uint8)
        stack = ImageStack(pixels, Arrangement.FRAMES, Imaging.OTHER, (FrameIdentity("2.25.1", 1),))
        self.segment(stack, Prompt(), lambda _share: None)

    def _doubts(self, stack: ImageStack) -> tuple[str, ...]:
        if stack.imaging in self.info.imagings:
            return ()
        return (f"The model {self.info.name} was not made for this kind of picture ({stack.imaging}): look closely",)


def _classes_of(questions: Sequence[Question]) -> tuple[SegmentClass, ...]:
    """A class for each question; where several would read alike, a reader tells them apart by what was asked."""
    classes = [_class_of(question) for question in questions]
    alike = Counter(one.label for one in classes)
    return tuple(
        one if alike[one.label] == 1 else replace(one, label=question.text[:_LONGEST_LABEL])
        for one, question in zip(classes, questions, strict=True)
    )


def _class_of(question: Question) -> SegmentClass:
    if question.segment == BLOOD_VESSEL.key and not question.label:
        return BLOOD_VESSEL
    label = question.label or question.segment.replace("_", " ").capitalize()
    return SegmentClass(question.segment, label[:_LONGEST_LABEL])
