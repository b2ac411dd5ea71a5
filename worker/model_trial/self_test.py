"""Shows a loaded model a generated picture and looks whether what comes back can be used at all."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dicom_core.errors import SegmentationError
from worker.model_trial.asking import any_prompt
from worker.model_trial.generated import generated_picture, generated_stack
from worker.segmenters.interface import Segmentation, Segmenter

_SIZE = 256


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What a model said of the generated picture.

    Attributes:
        status: How it ended.
        seconds: For the one picture, the first that the model saw.
        share: Of the picture that is in the mask, 0 to 1.
        answer: Of a language model.
        stages: Seconds by stage, as the segmenter tells them.
    """

    status: str
    seconds: float
    share: float
    answer: str
    stages: Mapping[str, float]

    def in_words(self) -> str:
        """For a person."""
        said = f", answer {self.answer!r}" if self.answer else ""
        return f"{self.status}, {self.share:.1%} of a generated picture{said}, {self.seconds:.2f} s"


def self_test(segmenter: Segmenter) -> SelfTest:
    """Segment one generated picture of 256 x 256.

    Raises:
        SegmentationError: The result has another shape, or numbers that are no probabilities.
    """
    info = segmenter.info
    stack = generated_stack(info, 1, _SIZE, _SIZE)
    prompt = any_prompt(info, generated_picture(_SIZE, _SIZE))
    began = time.perf_counter()
    found = segmenter.segment(stack, prompt, lambda _share: None)
    seconds = time.perf_counter() - began
    check_numbers(found, stack.pixels.shape[:3])
    return SelfTest(found.status.value, seconds, float(found.mask.mean()), found.answer, dict(found.seconds))


def check_numbers(found: Segmentation, shape: tuple[int, ...]) -> None:
    """Check that a result can be used.

    Raises:
        SegmentationError: It cannot, for a reason that stands in the text.
    """
    expected = (len(found.classes), *shape)
    if found.mask.shape != expected or found.probability.shape != expected:
        raise SegmentationError(f"the result has the shape {found.mask.shape} where {expected} is right")
    if not np.isfinite(found.probability).all():
        raise SegmentationError("the result holds numbers that are none: the weights are damaged, or too coarse a type")
    if found.probability.min() < 0 or found.probability.max() > 1:
        raise SegmentationError("the result holds probabilities below 0 or above 1")
