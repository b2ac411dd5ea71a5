"""What a model said, as a file for NumPy and as a picture."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_core.errors import SpoolError
from worker.image_stack import ImageStack
from worker.segmenters.interface import Segmentation

_PROBABILITY = "probability"
"""Segmenters that compute finer than float16 leave the finer numbers in the extras under this name."""


def arrays_of(found: Segmentation) -> dict[str, NDArray[Any]]:
    """Name the arrays of a result.

    Returns:
        ``probability`` float32 and ``mask`` bool, ``(frames, rows, columns)`` where there is one class, else
        ``(classes, frames, rows, columns)``; ``answer``, ``status`` and ``classes`` as text; ``scores`` float32, one a
        frame; and the extras of the segmenter, such as ``seg_vector``.
    """
    finer = found.extras.get(_PROBABILITY, found.probability)
    one = len(found.classes) == 1
    return {
        **found.extras,
        _PROBABILITY: np.asarray(finer[0] if one else finer, np.float32),
        "mask": found.mask[0] if one else found.mask,
        "answer": np.array(found.answer),
        "status": np.array(found.status.value),
        "classes": np.array([one.label for one in found.classes]),
        "scores": np.array(found.scores, np.float32),
    }


def write_arrays(file: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write an .npz file that needs no pickle to be read.

    Raises:
        SpoolError: It cannot be written.
    """
    try:
        with file.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays)
    except OSError as error:
        raise SpoolError(f"{file} cannot be written: {error.strerror}") from error


def write_overlay(file: Path, stack: ImageStack, found: Segmentation) -> int:
    """Draw the mask over the frame with most of it.

    Returns:
        The index of that frame.

    Raises:
        SpoolError: It cannot be written.
    """
    from PIL import Image

    from worker.pictures.choice import most_vessel
    from worker.pictures.display import display_frame
    from worker.pictures.overlay import lay_over
    from worker.result_header.catalogue import colour_of

    frame = most_vessel(found.mask)
    colours = [colour_of(one.key, stack.imaging) for one in found.classes]
    drawn = lay_over(display_frame(stack, frame), list(found.mask[:, frame]), colours)
    try:
        Image.fromarray(drawn).save(file, format="PNG")
    except OSError as error:
        raise SpoolError(f"{file} cannot be written: {error.strerror or error}") from error
    return frame
