"""The yoloe segmenter: finds by words whose embeddings lie in a file, by an example, or by itself."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dicom_core.errors import InvalidPromptError
from dicom_core.prompt import PromptKind
from worker.image_stack import Arrangement, ImageStack, Imaging
from worker.model_folder.opening import ModelFolder, open_folder
from worker.segmenters.folder_info import info_of
from worker.segmenters.interface import ProgressCallback, Prompt, Segmentation, SegmentClass, SegmenterInfo

if TYPE_CHECKING:
    from vesselq_yoloe.network import Found

_PROMPTS = {
    "text": frozenset({PromptKind.NONE, PromptKind.TEXT}),
    "visual": frozenset({PromptKind.EXAMPLE}),
    "prompt_free": frozenset({PromptKind.NONE}),
}


class YoloeSegmenter:
    """YOLOE by ultralytics; see the module.

    Args:
        folder: With a manifest; see README.md.
        accept_license: Must be the manifest's, AGPL-3.0.
        device: ``"cpu"``, ``"cuda:0"``.

    Raises:
        ConfigurationError: The folder cannot be used, or ultralytics is not installed.
    """

    info = SegmenterInfo(
        name="yoloe",
        version="1",
        summary="YOLOE by ultralytics (AGPL-3.0): by words, by an example, or by itself",
        imagings=frozenset(Imaging),
        arrangements=frozenset(Arrangement),
        license="AGPL-3.0",
        prompts=frozenset({PromptKind.NONE, PromptKind.TEXT, PromptKind.EXAMPLE}),
        needs_folder=True,
    )

    def __init__(self, *, folder: str | ModelFolder, accept_license: str = "", device: str = "cpu") -> None:
        from vesselq_yoloe.configuration import YoloeSettings
        from worker.segmenters.semantic.settings import checked

        opened = open_folder(folder, "yoloe", accept_license=accept_license)
        self._settings = checked(YoloeSettings, opened.manifest.settings, opened.manifest.name)
        self.info = replace(info_of(opened, type(self).info), prompts=_PROMPTS[self._settings.mode])
        self._words = self._settings.words_of(len(self.info.classes))
        from vesselq_yoloe.network import YoloeNetwork

        self._network = YoloeNetwork(opened, self._settings, device)

    def segment(self, stack: ImageStack, prompt: Prompt, progress: ProgressCallback) -> Segmentation:
        """Find the classes, or what is asked for, in each frame.

        Args:
            stack: Of a kind that ``info`` names.
            prompt: Words among those of the manifest, or an example, as the mode is.
            progress: Called after each frame.

        Raises:
            InvalidPromptError: The prompt does not fit.
            UnsupportedSourceError: The series is of another kind.
        """
        from worker.pictures.display import display_frame, display_limits
        from worker.segmenters.semantic.outcome import refuse_foreign, segmentation_of

        self.info.check_prompt(prompt)
        refuse_foreign(stack, self.info)
        groups, classes = self._asked(prompt)
        started = time.perf_counter()
        probability = np.zeros((len(groups), *stack.pixels.shape[:3]), np.float16)
        limits = None if stack.is_colour else display_limits(stack)
        scores = []
        for index in range(len(stack.pixels)):
            found = self._network.look(display_frame(stack, index, limits), prompt.example)
            scores.append(_note(found, groups, probability[:, index]))
            progress((index + 1) / len(stack.pixels))
        return segmentation_of(
            probability > 0,
            probability,
            replace(self.info, classes=classes),
            parameters={
                "mode": self._settings.mode,
                "confidence": f"{self._settings.confidence:g}",
                "overlap": f"{self._settings.overlap:g}",
                "size": str(self._settings.size),
            },
            seconds={"network": time.perf_counter() - started},
            scores=tuple(scores),
        )

    def _asked(self, prompt: Prompt) -> tuple[tuple[tuple[int, ...], ...], tuple[SegmentClass, ...]]:
        """The words of each class of the result, and the classes."""
        if not prompt.questions:
            return self._words, self.info.classes
        names = {name.casefold(): number for number, name in enumerate(self._settings.names)}
        unknown = [question.text for question in prompt.questions if question.text.casefold() not in names]
        if unknown:
            raise InvalidPromptError(
                f"{self.info.name} knows these words: {', '.join(self._settings.names)}; others need embeddings "
                "made for them on a connected machine"
            )
        groups = tuple((names[question.text.casefold()],) for question in prompt.questions)
        classes = tuple(
            SegmentClass(question.segment, question.label or question.text[:64]) for question in prompt.questions
        )
        return groups, classes


def _note(found: "Found", groups: tuple[tuple[int, ...], ...], probability: NDArray[np.float16]) -> float:
    """Write into ``(classes, rows, columns)`` where masks of each class lie, as their score, and return the best."""
    best = 0.0
    for row, words in enumerate(groups):
        chosen = np.isin(found.words, words)
        if chosen.any():
            probability[row] = (found.masks[chosen] * found.scores[chosen, None, None]).max(axis=0)
            best = max(best, float(found.scores[chosen].max()))
    return best
