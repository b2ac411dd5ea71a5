"""SAM in two ONNX files: the encoder sees each frame once, the decoder answers its points and boxes.

The decoder has the inputs that the makers of SAM gave theirs: ``image_embeddings``, ``point_coords`` and
``point_labels`` (0 outside, 1 inside, 2 and 3 the corners of a box, -1 nothing), and perhaps ``mask_input``,
``has_mask_input`` and ``orig_im_size``; of its outputs ``low_res_masks`` and ``iou_predictions`` are read. Of four
masks the first is for what is clear and the others for a lone point, which may mean a part or the whole.
"""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from dicom_core.errors import ConfigurationError, InvalidPromptError
from dicom_core.prompt import Box, Point
from worker.image_stack import ImageStack
from worker.pictures.display import display_frame, display_limits
from worker.segmenters.interface import ProgressCallback, Prompt, Segmentation, SegmenterInfo
from worker.segmenters.onnx_model.kinds import SamSettings
from worker.segmenters.onnx_model.session import OnnxSession
from worker.segmenters.semantic.fitting import Fit, fit_of
from worker.segmenters.semantic.outcome import refuse_foreign, segmentation_of
from worker.segmenters.semantic.settings import Size

_DEFAULT_SIZE = 1024
_NEEDED = {"image_embeddings", "point_coords", "point_labels"}
_GIVEN = {"low_res_masks", "iou_predictions"}
_MASKS = 4
_NOTHING, _CORNERS = -1.0, (2.0, 3.0)
Numbers = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Asked:
    """One thing to be found: ``(points, 2)`` column and row in the frame, and ``(points,)`` labels."""

    places: Numbers
    labels: Numbers

    @property
    def is_ambiguous(self) -> bool:
        """Whether it is a lone point."""
        return int((self.labels != _NOTHING).sum()) == 1


class SamPair:
    """Encoder and decoder; see the module.

    Args:
        encoder: One input, ``(1, 3, size, size)``; one output.
        decoder: See the module.
        settings: From the manifest.
        info: Of the segmenter with this model.
        warnings: For every result.

    Raises:
        ConfigurationError: The files are no such pair.
    """

    def __init__(
        self,
        encoder: OnnxSession,
        decoder: OnnxSession,
        settings: SamSettings,
        info: SegmenterInfo,
        warnings: tuple[str, ...],
    ) -> None:
        if len(encoder.inputs) != 1 or not set(decoder.inputs) >= _NEEDED or not set(decoder.outputs) >= _GIVEN:
            raise ConfigurationError(
                f"{encoder.name} and {decoder.name} are no pair of SAM: the decoder takes {', '.join(sorted(_NEEDED))} "
                f"and gives {', '.join(sorted(_GIVEN))}"
            )
        if len(info.classes) != 1:
            raise ConfigurationError("A pair of SAM finds one class; name one in its manifest")
        self.info, self.warnings = info, warnings
        self._encoder, self._decoder, self._settings = encoder, decoder, settings
        ((self._input, shape),) = encoder.inputs.items()
        self._side = shape[-1] or _DEFAULT_SIZE

    def segment(self, stack: ImageStack, prompt: Prompt, progress: ProgressCallback) -> Segmentation:
        """Find what the points and boxes of each frame are about; frames without any stay empty."""
        refuse_foreign(stack, self.info)
        asked = [asked_of(*prompt.on_frame(frame)) for frame in stack.frames]
        if not any(asked):
            raise InvalidPromptError("No point inside and no box lies on a frame of this series; give one that does")
        probability = np.zeros((1, *stack.pixels.shape[:3]), np.float16)
        scores, seconds = [0.0] * len(stack.pixels), {"encoder": 0.0, "decoder": 0.0}
        limits = None if stack.is_colour else display_limits(stack)
        fit = self._fit(stack.pixels.shape[1:3])
        for index, things in enumerate(asked):
            if things:
                started = time.perf_counter()
                embedding = self._embedding(display_frame(stack, index, limits), fit)
                seconds["encoder"] += time.perf_counter() - started
                started = time.perf_counter()
                found = [self._decoded(embedding, thing, fit) for thing in things]
                probability[0, index] = np.max([one for one, _ in found], axis=0)
                scores[index] = float(np.clip(max(score for _, score in found), 0, 1))
                seconds["decoder"] += time.perf_counter() - started
            progress((index + 1) / len(asked))
        return segmentation_of(
            probability >= self._settings.threshold,
            probability,
            self.info,
            parameters={
                "threshold": f"{self._settings.threshold:g}",
                "size": str(self._side),
                "fit": self._settings.fit,
                "provider": self._encoder.provider,
                "frames_asked": str(sum(bool(things) for things in asked)),
            },
            seconds=seconds,
            scores=tuple(scores),
        )

    def _fit(self, shape: tuple[int, ...]) -> Fit:
        size = Size(fit="resize", size=(self._side, self._side), keep_aspect=self._settings.fit == "longest_side")
        return fit_of(shape, None, (), size)

    def _embedding(self, picture: NDArray[np.uint8], fit: Fit) -> Numbers:
        values = np.asarray(np.moveaxis(picture, -1, 0) / np.float32(255), np.float32)
        if self._settings.min_max:
            low, high = float(values.min()), float(values.max())
            values = np.asarray((values - low) / max(high - low, 1e-8), np.float32)
        mean, std = (np.array(n, np.float32)[:, None, None] for n in (self._settings.mean, self._settings.std))
        return self._encoder.run({self._input: fit.forth((values - mean) / std)[None]})[0]

    def _decoded(self, embedding: Numbers, asked: Asked, fit: Fit) -> tuple[Numbers, float]:
        """Probability ``(rows, columns)`` and predicted overlap of the best answer to one thing asked."""
        scale = np.array([n / have for n, have in zip(fit.scaled[::-1], fit.source[::-1], strict=True)], np.float32)
        feeds = {
            "image_embeddings": embedding,
            "point_coords": (asked.places * scale)[None],
            "point_labels": asked.labels[None],
            "mask_input": np.zeros((1, 1, embedding.shape[-2] * 4, embedding.shape[-1] * 4), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
            "orig_im_size": np.array(fit.source, np.float32),
        }
        wanted = {name: value for name, value in feeds.items() if name in self._decoder.inputs}
        logits, sure = self._decoder.run(wanted, ["low_res_masks", "iou_predictions"])
        best = _chosen(sure.reshape(-1), asked)
        low = logits.reshape(-1, *logits.shape[-2:])[best : best + 1]
        answer = fit_of(low.shape[1:], None, (), Size(fit="resize", size=fit.padded)).forth(low)
        return expit(fit.back(answer)[0]), float(sure.reshape(-1)[best])


def _chosen(sure: Numbers, asked: Asked) -> int:
    """Which of the masks answers, by their predicted overlaps."""
    if len(sure) != _MASKS:
        return int(sure.argmax())
    return 1 + int(sure[1:].argmax()) if asked.is_ambiguous else 0


def asked_of(points: tuple[Point, ...], boxes: tuple[Box, ...]) -> tuple[Asked, ...]:
    """What is to be found in a frame: one thing in each box, with the points that lie in it, and one at other points.

    Points outside all boxes are one thing if at least one of them is inside of it.
    """
    things = []
    left = list(points)
    for box in boxes:
        within = [one for one in points if box.left <= one.x <= box.right and box.top <= one.y <= box.bottom]
        left = [one for one in left if one not in within]
        corners = [(box.left, box.top), (box.right, box.bottom)]
        things.append(_asked([*corners, *_places(within)], [*_CORNERS, *_labels(within)]))
    if any(point.inside for point in left):
        # Where there is no box, SAM was taught with one more point that is none.
        things.append(_asked([*_places(left), (0.0, 0.0)], [*_labels(left), _NOTHING]))
    return tuple(things)


def _places(points: list[Point]) -> list[tuple[float, float]]:
    return [(point.x, point.y) for point in points]


def _labels(points: list[Point]) -> list[float]:
    return [float(point.inside) for point in points]


def _asked(places: list[tuple[float, float]], labels: list[float]) -> Asked:
    return Asked(np.array(places, np.float32), np.array(labels, np.float32))
