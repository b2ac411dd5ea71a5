"""A question of each kind that can be put to any model, for trials on generated pictures."""

import numpy as np
from numpy.typing import NDArray

from dicom_core.prompt import Box, Point, PromptKind, Question
from worker.segmenters.interface import ExamplePicture, Prompt, SegmenterInfo

QUESTION = "Please segment the blood vessel."
_EASIEST = (PromptKind.NONE, PromptKind.TEXT, PromptKind.BOXES, PromptKind.POINTS, PromptKind.MASK, PromptKind.EXAMPLE)


def any_prompt(info: SegmenterInfo, picture: NDArray[np.uint8], frames: int = 1) -> Prompt:
    """Something that a model can be asked, nothing if it needs nothing."""
    kind = next(kind for kind in _EASIEST if kind in info.prompts)
    return prompt_of_kind(kind, picture, frames)


def prompt_of_kind(kind: PromptKind, picture: NDArray[np.uint8], frames: int = 1) -> Prompt:
    """Ask in one way for the middle of a picture.

    Args:
        kind: The way.
        picture: ``(rows, columns, 3)`` uint8 RGB; serves as the example, too.
        frames: Of the stack, for a mask.
    """
    rows, columns = picture.shape[:2]
    box = Box(left=columns // 4, top=rows // 4, right=columns * 3 // 4, bottom=rows * 3 // 4)
    match kind:
        case PromptKind.TEXT:
            return Prompt(questions=(Question(text=QUESTION),))
        case PromptKind.POINTS:
            return Prompt(points=(Point(x=columns // 2, y=rows // 2), Point(x=0, y=0, inside=False)))
        case PromptKind.BOXES:
            return Prompt(boxes=(box,))
        case PromptKind.MASK:
            mask = np.zeros((frames, rows, columns), np.bool_)
            mask[:, rows // 4 : rows * 3 // 4, columns // 4 : columns * 3 // 4] = True
            return Prompt(mask=mask)
        case PromptKind.EXAMPLE:
            return Prompt(example=ExamplePicture(picture, (box,)))
        case _:
            return Prompt()
