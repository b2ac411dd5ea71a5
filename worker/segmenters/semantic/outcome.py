"""What models of any format owe to a series: to refuse what they do not know, and to account for what they found."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dicom_core.errors import UnsupportedSourceError
from worker.image_stack import ImageStack
from worker.segmenters.interface import Segmentation, SegmenterInfo, Status


def refuse_foreign(stack: ImageStack, info: SegmenterInfo) -> None:
    """Refuse a series of a kind that a model is not meant for.

    Raises:
        UnsupportedSourceError: It is of another kind.
    """
    if stack.imaging not in info.imagings or stack.arrangement not in info.arrangements:
        raise UnsupportedSourceError(
            f"{info.name} does not know this kind of picture ({stack.imaging}, {stack.arrangement}); choose another "
            "segmenter in the rule"
        )


def segmentation_of(
    mask: NDArray[np.bool_],
    probability: NDArray[np.float16],
    info: SegmenterInfo,
    *,
    parameters: Mapping[str, str],
    seconds: Mapping[str, float],
    scores: tuple[float, ...] | None = None,
    warnings: tuple[str, ...] = (),
) -> Segmentation:
    """What was found, with the status that follows from the mask.

    Args:
        mask: ``(classes, frames, rows, columns)`` bool.
        probability: The same axes.
        info: Names the classes.
        parameters: See :class:`Segmentation`, as the others.
        seconds: By stage.
        scores: None for the mean probability inside the mask of each frame.
        warnings: In words.
    """
    if scores is None:
        scores = tuple(
            float(probability[:, index][mask[:, index]].mean(dtype=np.float64)) if mask[:, index].any() else 0.0
            for index in range(mask.shape[1])
        )
    return Segmentation(
        status=Status.OK if mask.any() else Status.NO_MASK,
        mask=mask,
        probability=probability,
        classes=info.classes,
        scores=scores,
        parameters=parameters,
        seconds=seconds,
        warnings=warnings,
    )
