"""Collects what is found, frame by frame, and makes a segmentation of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.segmenters.interface import Segmentation, SegmentClass, Status

_MOST_EXACT = 2**24
"""Pixels up to which probabilities are kept in full precision, too."""


@dataclass(frozen=True, slots=True)
class DrawnMask:
    """What was drawn for one [SEG] of an answer on one frame.

    Attributes:
        question: Number of the question, which is that of the class.
        frame: Number in the stack.
        probability: ``(rows, columns)`` float32.
        predicted_iou: 0 to 1.
        object_score: 0 to 1.
    """

    question: int
    frame: int
    probability: NDArray[np.float32]
    predicted_iou: float
    object_score: float


@dataclass(frozen=True, slots=True)
class SpokenAnswer:
    """What was said.

    Attributes:
        frame: The frame, or the first of the run, that it is about.
        hidden: ``([SEG]s, width)`` float32.
        vectors: ``([SEG]s, prompt width)`` float32.
    """

    question: int
    frame: int
    text: str
    hidden: NDArray[np.float32]
    vectors: NDArray[np.float32]


@dataclass(slots=True)
class Found:
    """What was found so far.

    Attributes:
        classes: One for each question.
        threshold: Probability above which a pixel belongs to a mask.
        gate: Object score below which a frame's mask is left empty.
        probability: ``(classes, frames, rows, columns)`` float16.
        mask: The same axes.
        exact: The probability in float32 where it is not too much.
        predicted_iou: ``(classes, frames)`` float32, 0 where nothing was drawn.
        object_score: The same.
    """

    classes: tuple[SegmentClass, ...]
    threshold: float
    gate: float
    probability: NDArray[np.float16]
    mask: NDArray[np.bool_]
    exact: NDArray[np.float32] | None
    predicted_iou: NDArray[np.float32]
    object_score: NDArray[np.float32]
    answers: dict[tuple[int, int], SpokenAnswer] = field(default_factory=dict)

    @classmethod
    def empty(
        cls, classes: tuple[SegmentClass, ...], shape: Sequence[int], *, threshold: float, gate: float
    ) -> "Found":
        """Nothing found yet in a stack of ``(frames, rows, columns)``."""
        of_all = (len(classes), *shape[:3])
        exact = np.zeros(of_all, np.float32) if np.prod(of_all) <= _MOST_EXACT else None
        ious, scores = np.zeros(of_all[:2], np.float32), np.zeros(of_all[:2], np.float32)
        probability, mask = np.zeros(of_all, np.float16), np.zeros(of_all, np.bool_)
        return cls(classes, threshold, gate, probability, mask, exact, ious, scores)

    def hear(self, answers: Sequence[SpokenAnswer]) -> None:
        """Keep answers; those to the same question about the same frame replace earlier ones."""
        self.answers |= {(answer.question, answer.frame): answer for answer in answers}

    def see(self, masks: Sequence[DrawnMask]) -> None:
        """Keep all masks of the frames that they are on; an answer with several [SEG] means all of them."""
        for question, frame in {(mask.question, mask.frame) for mask in masks}:
            here = [mask for mask in masks if (mask.question, mask.frame) == (question, frame)]
            probability = np.max([mask.probability for mask in here], axis=0)
            score = max(mask.object_score for mask in here)
            self.probability[question, frame] = probability
            if self.exact is not None:
                self.exact[question, frame] = probability
            self.mask[question, frame] = (probability > self.threshold) & (score >= self.gate)
            self.predicted_iou[question, frame] = max(mask.predicted_iou for mask in here)
            self.object_score[question, frame] = score

    def segmentation(
        self, parameters: Mapping[str, str], seconds: Mapping[str, float], warnings: Sequence[str]
    ) -> Segmentation:
        """Make the result; without a single pixel its status is that there is no mask."""
        drawn = self.predicted_iou[self.predicted_iou > 0]
        told = {"predicted_iou": f"{drawn.mean():.3f}"} if drawn.size else {}
        return Segmentation(
            status=Status.OK if self.mask.any() else Status.NO_MASK,
            mask=self.mask,
            probability=self.probability,
            classes=self.classes,
            scores=tuple(float(score) for score in self.object_score.max(axis=0)),
            parameters={**parameters, **told},
            answer="\n".join(dict.fromkeys(answer.text for _, answer in sorted(self.answers.items()))),
            seconds=dict(seconds),
            warnings=(*warnings, *self._warnings()),
            extras=self._extras(),
        )

    def _warnings(self) -> list[str]:
        silent = sum(not len(answer.vectors) for answer in self.answers.values())
        gated = int(np.count_nonzero((self.object_score > 0) & (self.object_score < self.gate)))
        warnings = []
        if silent:
            warnings.append(f"The model found nothing to draw in {silent} of {len(self.answers)} answers")
        if gated:
            warnings.append(f"{gated} masks were left empty because their object score is below {self.gate:g}")
        return warnings

    def _extras(self) -> dict[str, NDArray[Any]]:
        """For an engineer; the vectors by question, then frame, then their order in the answer."""
        extras: dict[str, NDArray[Any]] = {"predicted_iou": self.predicted_iou, "object_score": self.object_score}
        answers = [answer for _, answer in sorted(self.answers.items())]
        if answers:
            extras["seg_hidden_state"] = np.concatenate([answer.hidden for answer in answers])
            extras["seg_vector"] = np.concatenate([answer.vectors for answer in answers])
        if self.exact is not None:
            extras["probability"] = self.exact
        return extras
