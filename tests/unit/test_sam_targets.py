"""How a prompt becomes targets on frames."""

import numpy as np
import pytest
from tube_pictures import stack_of

from dicom_core.errors import InvalidPromptError
from dicom_core.prompt import Box, Point
from worker.image_stack import Arrangement, ImageStack, Imaging
from worker.segmenters.interface import Prompt
from worker.segmenters.promptable.targets import Target, targets_of

BOX = Box(left=10, top=5, right=30, bottom=20)
SMALL = Box(left=12, top=8, right=16, bottom=12)


def stack(frames: int = 3) -> ImageStack:
    return stack_of(np.zeros((frames, 40, 60), np.float32), Imaging.OTHER, Arrangement.RUN)


def only(prompt: Prompt, *, show_masks: bool = True) -> tuple[Target, ...]:
    """The targets of a single frame."""
    return targets_of(stack(1), prompt, show_masks=show_masks)[0]


def mask_of(*boxes: Box) -> np.ndarray:
    mask = np.zeros((1, 40, 60), bool)
    for box in boxes:
        mask[0, int(box.top) : int(box.bottom) + 1, int(box.left) : int(box.right) + 1] = True
    return mask


def test_each_box_is_a_target_and_all_points_together_are_one() -> None:
    """Two boxes and two points outside of them: three targets, the last with both points and their labels."""
    other = Box(left=40, top=5, right=50, bottom=20)
    points = (Point(x=55, y=35), Point(x=2, y=1, inside=False))
    one, two, three = only(Prompt(boxes=(BOX, other), points=points))
    assert one.box is not None
    assert two.box is not None
    assert one.box.tolist() == [10, 5, 30, 20]
    assert two.box.tolist() == [40, 5, 50, 20]
    assert three.kind == (False, 2, False)
    assert three.points.tolist() == [[55, 35], [2, 1]]
    assert three.inside.tolist() == [True, False]


def test_point_in_boxes_belongs_to_the_smallest() -> None:
    """A point within two nested boxes refines the inner one, and is no target of its own."""
    outer, inner = only(Prompt(boxes=(BOX, SMALL), points=(Point(x=14, y=10),)))
    assert (len(outer.points), inner.points.tolist()) == (0, [[14, 10]])


def test_points_on_what_is_not_meant_are_told_to_every_box() -> None:
    """Where only boxes say what is meant, a point beside it outside of them counts for each."""
    targets = only(Prompt(boxes=(BOX, SMALL), points=(Point(x=50, y=30, inside=False),)))
    assert [target.kind for target in targets] == [(True, 1, False)] * 2
    assert not any(target.inside.any() for target in targets)


def test_only_one_point_is_ambiguous() -> None:
    """A single point may mean a part or the whole; with a second one, a box or a mask it does not."""
    point, more = Point(x=1, y=1), Point(x=2, y=2)
    assert only(Prompt(points=(point,)))[0].is_ambiguous
    assert not only(Prompt(points=(point, more)))[0].is_ambiguous
    assert not only(Prompt(points=(Point(x=14, y=10),), boxes=(BOX,)))[0].is_ambiguous
    assert not only(Prompt(points=(point,), mask=mask_of(BOX)))[0].is_ambiguous


def test_each_box_sees_its_part_of_the_mask() -> None:
    """The corners of the box belong to it; a box without any of the mask gets none."""
    far = Box(left=40, top=25, right=50, bottom=35)
    one, two = only(Prompt(boxes=(SMALL, far), mask=mask_of(BOX)))
    assert one.mask is not None
    assert np.array_equal(one.mask, mask_of(SMALL)[0])
    assert two.mask is None
    hidden = only(Prompt(boxes=(SMALL, far), mask=mask_of(BOX)), show_masks=False)
    assert [target.mask for target in hidden] == [None, None]


def test_mask_alone_is_a_target() -> None:
    """A mask without boxes and points is shown as a whole, whether masks are shown beside others or not."""
    for show in (True, False):
        (target,) = only(Prompt(mask=mask_of(BOX)), show_masks=show)
        assert target.kind == (False, 0, True)
        assert np.array_equal(target.mask, mask_of(BOX)[0])


def test_frames_on_which_nothing_is_shown_are_absent() -> None:
    """Places with a frame number, and masks that are empty on a frame, leave the other frames out."""
    mask = np.zeros((3, 40, 60), bool)
    mask[2, 4, 4] = True
    prompt = Prompt(boxes=(BOX.model_copy(update={"frame_number": 1}),), mask=mask)
    assert sorted(targets_of(stack(), prompt)) == [0, 2]
    assert sorted(targets_of(stack(), Prompt(boxes=(BOX,)))) == [0, 1, 2]
    elsewhere = Prompt(boxes=(BOX.model_copy(update={"sop_instance_uid": "1.2.3"}),))
    with pytest.raises(InvalidPromptError, match="nothing on any frame"):
        targets_of(stack(), elsewhere)


def test_box_beyond_the_border_is_cut() -> None:
    """The part of a box outside of the picture does not count."""
    (target,) = only(Prompt(boxes=(Box(left=50, top=30, right=500, bottom=500),)))
    assert target.box is not None
    assert target.box.tolist() == [50, 30, 59, 39]


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        (Prompt(points=(Point(x=60, y=3),)), "point of the prompt lies outside .* 60 columns .* 40 rows"),
        (Prompt(points=(Point(x=3, y=40),)), "outside"),
        (Prompt(boxes=(Box(left=70, top=1, right=80, bottom=2),)), "box of the prompt lies outside"),
        (Prompt(points=(Point(x=3, y=3, inside=False),)), "only what is not meant"),
        (Prompt(mask=np.ones((1, 60, 40), bool)), "1 x 60 x 40; it must have the 1 frames of 40 x 60"),
        (Prompt(mask=np.zeros((1, 40, 60), bool)), "nothing on any frame"),
    ],
)
def test_prompt_that_does_not_fit_the_pictures_is_refused(prompt: Prompt, text: str) -> None:
    """Places outside, masks of another shape and prompts that mean nothing are errors that say what to do."""
    with pytest.raises(InvalidPromptError, match=text):
        targets_of(stack(1), prompt)
