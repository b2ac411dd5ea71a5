"""How masks of several targets are joined, and how a picture is cut out unasked, with a network of known masks."""

import numpy as np
import pytest
import torch

from dicom_core.errors import RunnerBusyError
from worker.segmenters.promptable.automatic import (
    AutomaticSettings,
    boxes_of,
    cut_out,
    point_grid,
    stability,
    without_repeats,
)
from worker.segmenters.promptable.drawing import Asked, best_of, draw
from worker.segmenters.promptable.preparing import Preparation
from worker.segmenters.promptable.targets import Target

SIDE, SHAPE = 32, (32, 64)
FEATURES = (torch.zeros(1, 1, 1, 1),)
PREPARATION = Preparation(size=SIDE, stretch=True)


class KnownNetwork:
    """Draws the box that it is shown, or the disc around a point: the left half of the square holds a disc.

    Args:
        room: Targets at a time for which there is memory.
        soft: Steepness of the border of the disc; little makes it unstable.
    """

    size = mask_side = SIDE
    device = torch.device("cpu")

    def __init__(self, room: int = 1000, soft: float = 30.0, iou: float = 0.9) -> None:
        self.room, self.soft, self.iou = room, soft, iou
        self.calls: list[Asked] = []

    def encode(self, pixels: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], ...]:
        return tuple(FEATURES for _ in pixels)

    def decode(self, features: tuple[torch.Tensor, ...], asked: Asked) -> tuple[torch.Tensor, torch.Tensor]:
        targets = next(len(one) for one in (asked.boxes, asked.points, asked.masks) if one is not None)
        if targets > self.room:
            raise torch.OutOfMemoryError
        self.calls.append(asked)
        rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
        if asked.boxes is not None:
            left, top, right, bottom = (asked.boxes[:, side, None, None] for side in range(4))
            inside = (columns >= left) & (columns <= right) & (rows >= top) & (rows <= bottom)
            return (inside.float() * 16 - 8)[:, None], torch.full((targets, 1), self.iou)
        disc = self.soft * (6.0 - torch.hypot(rows - 16.0, columns - 8.0)).clamp(-2, 2)
        everything = torch.full((SIDE, SIDE), 9.0)
        on_disc = asked.points[:, 0, 0] < 16
        nothing = torch.full((SIDE, SIDE), -9.0)
        first = torch.where(on_disc[:, None, None], disc, nothing)
        masks = torch.stack([first, everything.expand(targets, -1, -1)], dim=1)
        return masks, torch.tensor([[self.iou, 0.95]]).expand(targets, -1)


def box(left: float, top: float, right: float, bottom: float) -> Target:
    return Target(np.array([left, top, right, bottom], np.float32), np.zeros((0, 2), np.float32), np.zeros(0, bool))


def test_boxes_of_a_frame_become_the_union_of_their_masks() -> None:
    """Two boxes, in frame coordinates of a picture twice as wide as the square: both are drawn, and nothing else."""
    drawn = draw(KnownNetwork(), FEATURES, [box(0, 0, 19, 9), box(40, 20, 59, 29)], PREPARATION, SHAPE, 16)
    expected = np.zeros(SHAPE, bool)
    expected[0:10, 0:20] = True
    expected[20:30, 40:60] = True
    assert drawn.probability.shape == SHAPE
    assert np.array_equal(drawn.probability > 0.5, expected)
    assert drawn.predicted_iou == pytest.approx(0.9)


def test_targets_are_shown_some_at_a_time_and_fewer_when_memory_runs_out() -> None:
    """Five boxes, four at a time, room for two: the same union; where not even one fits that is an error."""
    boxes = [box(10 * n, 0, 10 * n + 3, 30) for n in range(5)]
    at_once = draw(KnownNetwork(), FEATURES, boxes, PREPARATION, SHAPE, 16)
    small = KnownNetwork(room=2)
    in_parts = draw(small, FEATURES, boxes, PREPARATION, SHAPE, 4)
    assert np.array_equal(at_once.probability, in_parts.probability)
    assert at_once.predicted_iou == pytest.approx(in_parts.predicted_iou)
    assert [len(asked.boxes) for asked in small.calls] == [2, 2, 1]
    with pytest.raises(RunnerBusyError):
        draw(KnownNetwork(room=0), FEATURES, boxes, PREPARATION, SHAPE, 4)


def test_targets_of_different_kinds_are_not_padded() -> None:
    """Boxes, a point and a box with a point go to the network by themselves, each array as long as it must be."""
    lone = Target(None, np.array([[8, 16]], np.float32), np.ones(1, bool))
    both = Target(np.zeros(4, np.float32), np.array([[8, 16]], np.float32), np.zeros(1, bool))
    network = KnownNetwork()
    draw(network, FEATURES, [box(0, 0, 9, 9), lone, both, box(20, 0, 29, 9)], PREPARATION, SHAPE, 16)
    shapes = {
        (None if one.boxes is None else len(one.boxes), None if one.points is None else tuple(one.points.shape))
        for one in network.calls
    }
    assert shapes == {(None, (1, 1, 2)), (2, None), (1, (1, 1, 2))}
    assert [one.several for one in network.calls] == [True, False, False]
    point = network.calls[0].points
    assert point is not None
    assert point.tolist() == [[[4, 16]]]


def test_best_of_several_masks_is_that_with_the_highest_predicted_iou() -> None:
    """Each target chooses for itself."""
    logits = torch.arange(2 * 3 * 4.0).reshape(2, 3, 2, 2)
    chosen, iou = best_of(logits, torch.tensor([[0.1, 0.9, 0.2], [0.5, 0.1, 0.7]]))
    assert torch.equal(chosen, torch.stack([logits[0, 1], logits[1, 2]]))
    assert iou.tolist() == pytest.approx([0.9, 0.7])


def test_picture_is_cut_out_unasked() -> None:
    """Of 64 points on a picture with one disc stays one mask: no repeats, no background, nothing empty."""
    cut = cut_out(KnownNetwork(), FEATURES, AutomaticSettings(points_per_side=8), PREPARATION, SHAPE, 10)
    rows, columns = np.indices(SHAPE)
    disc = np.hypot(rows - 16, (columns + 0.5) / 2 - 0.5 - 8) < 6
    assert (np.unique(cut.labels).tolist(), cut.labels.dtype) == ([0, 1], np.uint16)
    assert np.array_equal(cut.labels > 0, cut.drawn.probability > 0.5)
    assert ((cut.labels > 0) != disc).mean() < 0.02
    assert cut.drawn.predicted_iou == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("network", "settings"),
    [
        (KnownNetwork(iou=0.5), {}),
        (KnownNetwork(soft=0.3), {}),
        (KnownNetwork(), {"largest_share": 0.01}),
    ],
    ids=["not sure", "unstable", "too large"],
)
def test_masks_that_are_not_good_are_left_out(network: KnownNetwork, settings: dict[str, float]) -> None:
    """A low predicted IoU, a border that depends on the threshold, too large a part of the picture: no mask."""
    cut = cut_out(network, FEATURES, AutomaticSettings(points_per_side=4, **settings), PREPARATION, SHAPE, 16)
    assert not cut.labels.any()
    assert not cut.drawn.probability.any()
    assert cut.drawn.predicted_iou == 0


def test_large_share_lets_the_background_in_below_the_smaller_masks() -> None:
    """With everything allowed the whole picture is a mask as well, and the disc is labelled on top of it."""
    settings = AutomaticSettings(points_per_side=4, largest_share=1.0)
    cut = cut_out(KnownNetwork(), FEATURES, settings, PREPARATION, SHAPE, 16)
    assert np.unique(cut.labels).tolist() == [1, 2]
    assert (cut.labels == 1).sum() > (cut.labels == 2).sum()


def test_grid_covers_the_picture_evenly() -> None:
    """Middles of equal fields, x first."""
    assert point_grid(2, (40, 80)).tolist() == [[20, 10], [60, 10], [20, 30], [60, 30]]


def test_stability_is_the_overlap_of_a_strict_and_a_lax_mask() -> None:
    """One pixel of four beyond a logit of 1, two beyond -1: a half; none at all: 0."""
    logits = torch.tensor([[[2.0, 0.0], [-3.0, -3.0]], [[-3.0, -3.0], [-3.0, -3.0]]])
    assert stability(logits).tolist() == [0.5, 0.0]


def test_boxes_of_masks() -> None:
    """First and last column and row that hold a pixel."""
    masks = torch.zeros(2, 6, 9, dtype=torch.bool)
    masks[0, 2:5, 1:8] = True
    masks[1, 0, 8] = True
    assert boxes_of(masks).tolist() == [[1, 2, 7, 4], [8, 0, 8, 0]]
    assert boxes_of(masks[:0]).shape == (0, 4)


def test_repeats_are_left_out_best_first() -> None:
    """Of boxes that overlap by more than the limit the one with the highest score stays; at the limit both do."""
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 8], [20, 0, 29, 9], [0, 0, 9, 4]])
    scores = np.array([0.8, 0.9, 0.7, 0.6], np.float32)
    assert without_repeats(boxes, scores, 0.7) == [1, 2, 3]
    assert without_repeats(boxes, scores, 0.95) == [1, 0, 2, 3]
    assert without_repeats(boxes, scores, 0.0) == [1, 2]
    assert without_repeats(boxes, scores, 50 / 90) == [1, 2, 3]
    assert without_repeats(boxes[:0], scores[:0], 0.5) == []
