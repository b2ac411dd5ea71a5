"""What is asked of the network on each frame: one target for each thing that the prompt shows there."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_core.errors import InvalidPromptError
from dicom_core.prompt import Box, Point
from worker.image_stack import ImageStack
from worker.segmenters.interface import Prompt


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to be drawn on a frame.

    Attributes:
        box: ``(4,)`` float32: left, top, right, bottom; None for none.
        points: ``(points, 2)`` float32: x and y.
        inside: ``(points,)`` bool: whether a point lies on it, or beside it.
        mask: ``(rows, columns)`` bool: where it is about; None for nowhere.
    """

    box: NDArray[np.float32] | None
    points: NDArray[np.float32]
    inside: NDArray[np.bool_]
    mask: NDArray[np.bool_] | None = None

    @property
    def kind(self) -> tuple[bool, int, bool]:
        """Targets of one kind can be shown to the network together, without padding."""
        return self.box is not None, len(self.points), self.mask is not None

    @property
    def is_ambiguous(self) -> bool:
        """Whether it is one point, which may mean a part or the whole: the network then offers several masks."""
        return self.kind == (False, 1, False)


def targets_of(stack: ImageStack, prompt: Prompt, *, show_masks: bool = True) -> Mapping[int, tuple[Target, ...]]:
    """Sort a prompt by frames.

    Each box is a target of its own. A point within boxes belongs to the smallest of them; all others on a frame speak
    of one target. Each target gets the part of the mask that lies in its box. A mask alone is one target.

    Args:
        stack: What is asked about.
        prompt: With points, boxes or a mask.
        show_masks: Whether targets that have a box or points get a mask as well.

    Returns:
        By index of the frame; frames on which nothing is shown are absent.

    Raises:
        InvalidPromptError: It shows nothing on any frame, a place outside of a picture, a mask of another shape, or
            nothing but what is not meant.
    """
    shape = (stack.pixels.shape[1], stack.pixels.shape[2])
    if prompt.mask is not None and prompt.mask.shape != (len(stack.frames), *shape):
        raise InvalidPromptError(
            f"The mask of the prompt is {' x '.join(map(str, prompt.mask.shape))}; it must have the "
            f"{len(stack.frames)} frames of {shape[0]} x {shape[1]} pixels of the series"
        )
    asked = {}
    for index, frame in enumerate(stack.frames):
        points, boxes = prompt.on_frame(frame)
        mask = prompt.mask[index] if prompt.mask is not None and prompt.mask[index].any() else None
        if targets := _on_frame(_inside(points, shape), [_clipped(box, shape) for box in boxes], mask, show_masks):
            asked[index] = targets
    if not asked:
        raise InvalidPromptError(
            "The prompt shows nothing on any frame of this series; check the UIDs and numbers in it"
        )
    return asked


def _on_frame(
    points: tuple[Point, ...], boxes: list[NDArray[np.float32]], mask: NDArray[np.bool_] | None, show_masks: bool
) -> tuple[Target, ...]:
    of_box: list[list[Point]] = [[] for _ in boxes]
    others: list[Point] = []
    for point in points:
        home = _smallest_around(point, boxes)
        (others if home is None else of_box[home]).append(point)
    if others and boxes and not any(point.inside for point in others):
        for own in of_box:  # what is not meant anywhere is not meant in any box
            own.extend(others)
        others = []
    targets = [
        _target(box, own, _within(mask, box) if show_masks else None) for box, own in zip(boxes, of_box, strict=True)
    ]
    if others:
        if mask is None and not any(point.inside for point in others):
            raise InvalidPromptError("The prompt shows only what is not meant; add a point or a box on what is")
        targets.append(_target(None, others, mask if show_masks else None))
    if not targets and mask is not None:
        targets.append(_target(None, [], mask))
    return tuple(targets)


def _target(box: NDArray[np.float32] | None, points: list[Point], mask: NDArray[np.bool_] | None) -> Target:
    return Target(
        box,
        np.array([(point.x, point.y) for point in points], np.float32).reshape(-1, 2),
        np.array([point.inside for point in points], bool),
        mask,
    )


def _inside(points: tuple[Point, ...], shape: tuple[int, int]) -> tuple[Point, ...]:
    for point in points:
        if point.x > shape[1] - 0.5 or point.y > shape[0] - 0.5:
            raise _outside("point", shape)
    return points


def _clipped(box: Box, shape: tuple[int, int]) -> NDArray[np.float32]:
    if box.left > shape[1] - 0.5 or box.top > shape[0] - 0.5:
        raise _outside("box", shape)
    right, bottom = min(box.right, shape[1] - 1), min(box.bottom, shape[0] - 1)
    return np.array([min(box.left, right), min(box.top, bottom), right, bottom], np.float32)


def _outside(what: str, shape: tuple[int, int]) -> InvalidPromptError:
    return InvalidPromptError(
        f"A {what} of the prompt lies outside of the picture, which has {shape[1]} columns (x) and {shape[0]} rows (y)"
    )


def _smallest_around(point: Point, boxes: list[NDArray[np.float32]]) -> int | None:
    around = [
        ((box[2] - box[0]) * (box[3] - box[1]), index)
        for index, box in enumerate(boxes)
        if box[0] <= point.x <= box[2] and box[1] <= point.y <= box[3]
    ]
    return min(around)[1] if around else None


def _within(mask: NDArray[np.bool_] | None, box: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """The part of a mask in a box, None for nothing."""
    if mask is None:
        return None
    left, top = np.floor(box[:2] + 0.5).astype(int)
    right, bottom = np.floor(box[2:] + 0.5).astype(int)
    part = np.zeros_like(mask)
    part[top : bottom + 1, left : right + 1] = mask[top : bottom + 1, left : right + 1]
    return part if part.any() else None
