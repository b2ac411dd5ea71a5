"""Collects what is found frame by frame, and makes the segmentation of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from worker.image_stack import ImageStack
from worker.segmenters.interface import Segmentation, SegmentClass, Status


@dataclass(slots=True)
class Account:
    """What was found so far.

    Attributes:
        probability: ``(frames, rows, columns)`` float16; 0 on frames that nobody asked about.
        scores: One a frame, in [0, 1]; what is too unlikely for the mask makes it 0 in the end.
        labels: ``(frames, rows, columns)`` uint16, the single masks that were cut out unasked; None where asked.
        parameters: As in ``Segmentation``.
        seconds: As in ``Segmentation``.
        warnings: As in ``Segmentation``.
    """

    probability: NDArray[np.float16]
    scores: list[float]
    labels: NDArray[np.uint16] | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def empty(cls, stack: ImageStack, *, unasked: bool) -> "Account":
        """Nothing found yet."""
        shape = stack.pixels.shape[:3]
        labels = np.zeros(shape, np.uint16) if unasked else None
        return cls(np.zeros(shape, np.float16), [0.0] * len(stack.frames), labels)

    def note(self, index: int, probability: NDArray[np.float32], score: float) -> None:
        """Note what was found on a frame, ``(rows, columns)``."""
        self.probability[index] = probability
        self.scores[index] = min(max(score, 0.0), 1.0)

    def masks(self, threshold: float) -> NDArray[np.bool_]:
        """``(frames, rows, columns)`` bool: at least as likely as the threshold."""
        return np.asarray(self.probability >= np.float16(threshold))

    def segmentation(self, threshold: float, classes: tuple[SegmentClass, ...]) -> Segmentation:
        """The result; of several classes the first is the one that is found."""
        mask = self.masks(threshold)[None]
        extras: Mapping[str, NDArray[np.generic]] = {} if self.labels is None else {"automatic_masks": self.labels}
        return Segmentation(
            status=Status.OK if mask.any() else Status.NO_MASK,
            mask=mask,
            probability=self.probability[None],
            classes=classes[:1],
            scores=tuple(score if one.any() else 0.0 for score, one in zip(self.scores, mask[0], strict=True)),
            parameters=self.parameters,
            seconds=self.seconds,
            warnings=tuple(self.warnings),
            extras=extras,
        )
