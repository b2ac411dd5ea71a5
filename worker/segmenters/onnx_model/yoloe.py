"""An exported YOLOE, decoded by code of our own: no line of ultralytics (AGPL-3.0) is needed or used.

The file takes ``(1, 3, rows, columns)`` and gives ``(1, 4 + words + coefficients, anchors)``: centre, width and height
of a box in pixels, a score for each word, and how much of each of the masks ``(1, coefficients, rows/4, columns/4)``
of its second output makes the mask of this instance.
"""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from dicom_core.errors import ConfigurationError
from worker.image_stack import ImageStack
from worker.pictures.display import display_frame, display_limits
from worker.segmenters.interface import ProgressCallback, Prompt, Segmentation, SegmenterInfo
from worker.segmenters.onnx_model.kinds import YoloeSettings
from worker.segmenters.onnx_model.session import OnnxSession
from worker.segmenters.semantic.fitting import resampled
from worker.segmenters.semantic.outcome import refuse_foreign, segmentation_of

_BORDER = 114 / 255
"""Grey of the border that the network was taught with."""
_STRIDE = 32
Numbers = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Letterbox:
    """A picture in the middle of a border, its form kept.

    Attributes:
        shape: Rows and columns of the picture.
        scaled: Of the picture inside the border.
        size: Of the whole.
    """

    shape: tuple[int, int]
    scaled: tuple[int, int]
    size: tuple[int, int]

    @classmethod
    def of(cls, shape: tuple[int, int], size: tuple[int, int]) -> "Letterbox":
        """Fit a picture into a size."""
        factor = min(size[0] / shape[0], size[1] / shape[1])
        scaled = (max(1, min(size[0], round(shape[0] * factor))), max(1, min(size[1], round(shape[1] * factor))))
        return cls(shape, scaled, size)

    @property
    def corner(self) -> tuple[int, int]:
        """Row and column of the picture's top left corner."""
        return (self.size[0] - self.scaled[0]) // 2, (self.size[1] - self.scaled[1]) // 2

    def forth(self, picture: Numbers) -> Numbers:
        """``(channels, *shape)`` to ``(channels, *size)``."""
        made = np.full((len(picture), *self.size), _BORDER, np.float32)
        top, left = self.corner
        made[:, top : top + self.scaled[0], left : left + self.scaled[1]] = resampled(picture, self.scaled)
        return made

    def back(self, masks: Numbers) -> Numbers:
        """``(masks, *size)`` to ``(masks, *shape)``."""
        top, left = self.corner
        return resampled(masks[:, top : top + self.scaled[0], left : left + self.scaled[1]], self.shape)

    def boxes_back(self, boxes: Numbers) -> Numbers:
        """``(boxes, 4)`` left, top, right, bottom in the whole to those in the picture."""
        top, left = self.corner
        scale = np.array([self.shape[1] / self.scaled[1], self.shape[0] / self.scaled[0]] * 2, np.float32)
        return np.asarray((boxes - np.array([left, top, left, top], np.float32)) * scale, np.float32)


@dataclass(frozen=True, slots=True)
class Instances:
    """What was found in one picture, the surest first.

    Attributes:
        boxes: ``(instances, 4)`` left, top, right, bottom in pixels of the whole.
        scores: ``(instances,)`` in [0, 1].
        words: ``(instances,)`` index of the word.
        coefficients: ``(instances, coefficients)``.
    """

    boxes: Numbers
    scores: Numbers
    words: NDArray[np.intp]
    coefficients: Numbers


class ExportedYoloe:
    """See the module.

    Args:
        session: One input, two outputs.
        settings: From the manifest.
        info: Of the segmenter with this model.
        warnings: For every result.

    Raises:
        ConfigurationError: The file is no exported YOLOE, or words and classes do not fit.
    """

    def __init__(
        self, session: OnnxSession, settings: YoloeSettings, info: SegmenterInfo, warnings: tuple[str, ...]
    ) -> None:
        if len(session.inputs) != 1 or len(session.outputs) != 2:
            raise ConfigurationError(f"{session.name} is no exported YOLOE for masks: it has one input and two outputs")
        self.info, self.warnings = info, warnings
        self._session, self._settings = session, settings
        self._words = settings.words_of(len(info.classes))
        ((self._input, shape),) = session.inputs.items()
        self._size = (shape[2] or settings.size[0], shape[3] or settings.size[1])
        if any(length % _STRIDE for length in self._size):
            raise ConfigurationError(f"settings.size must be two multiples of {_STRIDE}")

    def segment(self, stack: ImageStack, _prompt: Prompt, progress: ProgressCallback) -> Segmentation:
        """Find the classes in each frame."""
        refuse_foreign(stack, self.info)
        started = time.perf_counter()
        probability = np.zeros((len(self._words), *stack.pixels.shape[:3]), np.float16)
        scores, count = [], 0
        limits = None if stack.is_colour else display_limits(stack)
        letterbox = Letterbox.of((stack.pixels.shape[1], stack.pixels.shape[2]), self._size)
        for index in range(len(stack.pixels)):
            found, masks = self._look(display_frame(stack, index, limits), letterbox)
            for row, words in enumerate(self._words):
                chosen = np.isin(found.words, words)
                if chosen.any():
                    probability[row, index] = masks[chosen].max(axis=0)
            named = np.isin(found.words, [word for words in self._words for word in words])
            scores.append(float(found.scores[named].max(initial=0.0)))
            count += int(named.sum())
            progress((index + 1) / len(stack.pixels))
        return segmentation_of(
            probability >= self._settings.threshold,
            probability,
            self.info,
            parameters={
                "threshold": f"{self._settings.threshold:g}",
                "confidence": f"{self._settings.confidence:g}",
                "overlap": f"{self._settings.overlap:g}",
                "size": f"{self._size[0]}x{self._size[1]}",
                "provider": self._session.provider,
                "instances": str(count),
            },
            seconds={"network": time.perf_counter() - started},
            scores=tuple(scores),
        )

    def _look(self, picture: NDArray[np.uint8], letterbox: Letterbox) -> tuple[Instances, Numbers]:
        """Instances and their masks ``(instances, rows, columns)`` as probabilities, 0 outside their boxes."""
        shown = letterbox.forth(np.asarray(np.moveaxis(picture, -1, 0) / np.float32(255), np.float32))
        first, second = self._session.run({self._input: shown[None]})
        # An exporter may write either output first; the masks have one axis more.
        answer, prototypes = (second, first) if first.ndim > second.ndim else (first, second)
        words, coefficients = len(self._settings.names), prototypes.shape[1]
        if answer.ndim != 3 or prototypes.ndim != 4 or answer.shape[1] != 4 + words + coefficients:
            raise ConfigurationError(
                f"{self._session.name} does not know {words} words: name in its manifest those it was exported with"
            )
        found = instances(answer[0].T, words, self._settings)
        return found, _masks(found, prototypes[0], letterbox)


def instances(rows: Numbers, words: int, settings: YoloeSettings) -> Instances:
    """Choose instances.

    Args:
        rows: ``(anchors, 4 + words + coefficients)``.
        words: How many.
        settings: Say which are good enough and which are doubles.
    """
    scores = rows[:, 4 : 4 + words].max(axis=1)
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= settings.confidence]
    rows, scores = rows[order], scores[order]
    best = rows[:, 4 : 4 + words].argmax(axis=1)
    centre, half = rows[:, :2], rows[:, 2:4] / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    keep = _without_doubles(boxes, best, settings.overlap, settings.most)
    return Instances(boxes[keep], scores[keep], best[keep], rows[keep, 4 + words :])


def _without_doubles(boxes: Numbers, words: NDArray[np.intp], overlap: float, most: int) -> list[int]:
    """Indices of boxes, the surest first, of which no two of one word have more than ``overlap`` in common."""
    kept: list[int] = []
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    for index in range(len(boxes)):
        if len(kept) == most:
            break
        others = np.array([one for one in kept if words[one] == words[index]], int)
        sides = np.minimum(boxes[others, 2:], boxes[index, 2:]) - np.maximum(boxes[others, :2], boxes[index, :2])
        common = np.prod(np.maximum(sides, 0), axis=1)
        union = areas[others] + areas[index] - common
        if not (common > overlap * union).any():
            kept.append(index)
    return kept


def _masks(found: Instances, prototypes: Numbers, letterbox: Letterbox) -> Numbers:
    """``(instances, rows, columns)``: mixed at a quarter of the size, made larger, and cut off at the box."""
    rows, columns = letterbox.shape
    made = np.zeros((len(found.scores), rows, columns), np.float32)
    across, down = np.arange(columns) + 0.5, np.arange(rows) + 0.5
    for index, (left, top, right, bottom) in enumerate(letterbox.boxes_back(found.boxes)):
        small = np.tensordot(found.coefficients[index], prototypes, axes=1)[None]
        logits = letterbox.back(resampled(np.asarray(small, np.float32), letterbox.size))[0]
        inside = ((down >= top) & (down <= bottom))[:, None] & ((across >= left) & (across <= right))
        made[index] = expit(logits) * inside
    return made
