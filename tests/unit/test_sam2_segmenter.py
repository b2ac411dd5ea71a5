"""The sam2 segmenter on tiny random weights: pictures as transformers' Sam2Model, frames as its own video session."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_sam import SIDE, tiny_sam2, write_tiny_sam2
from tube_pictures import picture, stack_of, vessel_mask

from dicom_core.errors import ConfigurationError, InvalidPromptError, RunnerBusyError
from dicom_core.prompt import Box, Point
from worker.image_stack import Arrangement, ImageStack, Imaging
from worker.segmenters import registry
from worker.segmenters.interface import Prompt, Segmentation, Status
from worker.segmenters.promptable.drawing import Asked, Drawn
from worker.segmenters.sam2.following import follow, square
from worker.segmenters.sam2.network import Sam2Network
from worker.segmenters.sam2.segmenter import Sam2Segmenter

BOX = Box(left=8, top=5, right=50, bottom=30)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_sam2(tmp_path_factory.mktemp("sam2") / "model")


@pytest.fixture(scope="module")
def network() -> Sam2Network:
    return Sam2Network(tiny_sam2(), "cpu", "float32")


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    """Ten inputs: more frames than the network has memories for."""
    return torch.randn(10, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


def angiogram(count: int = 5, arrangement: Arrangement = Arrangement.RUN) -> ImageStack:
    """Wide pictures: 60 rows, 100 columns."""
    pictures = [picture(vessel_mask(100, seed=n), bright=False, seed=n)[:60] for n in range(count)]
    return stack_of(np.stack(pictures), Imaging.XRAY_ANGIOGRAPHY, arrangement)


def segment(segmenter: Sam2Segmenter, stack: ImageStack, prompt: Prompt) -> Segmentation:
    return segmenter.segment(stack, prompt, lambda _share: None)


def on(number: int) -> Box:
    return BOX.model_copy(update={"frame_number": number})


def blob(row: int, column: int) -> np.ndarray:
    mask = np.zeros((60, 100), bool)
    mask[row : row + 20, column : column + 30] = True
    return mask


# Pictures


@functools.cache
def same_weights(*, video: bool) -> tuple[Any, Sam2Network]:
    """A Sam2Model of transformers, and our network for either kind of folder."""
    model, theirs = tiny_sam2(video=video), tiny_sam2(video=False)
    theirs.load_state_dict({name: value for name, value in model.state_dict().items() if name in theirs.state_dict()})
    return theirs, Sam2Network(model, "cpu", "float32")


@pytest.mark.parametrize("video", [False, True])
@pytest.mark.parametrize(
    "asked",
    [
        Asked(boxes=torch.tensor([[5.0, 5.0, 40.0, 30.0], [20.0, 20.0, 60.0, 60.0]])),
        Asked(points=torch.tensor([[[20.0, 30.0]]]), labels=torch.tensor([[1]]), several=True),
        Asked(points=torch.tensor([[[20.0, 30.0], [5.0, 5.0]]]), labels=torch.tensor([[1, 0]])),
        Asked(masks=torch.randn(1, 1, SIDE // 4, SIDE // 4, generator=torch.Generator().manual_seed(1))),
        Asked(boxes=torch.tensor([[5.0, 5.0, 40.0, 30.0]]), masks=torch.full((1, 1, SIDE // 4, SIDE // 4), -3.0)),
    ],
    ids=["boxes", "point", "points", "mask", "box and mask"],
)
def test_picture_is_drawn_as_sam2_model_draws_it(video: bool, asked: Asked, frames: torch.Tensor) -> None:
    """The network for videos draws single pictures exactly as Sam2Model with the same weights does."""
    theirs, ours = same_weights(video=video)
    expected, iou = [], []
    with torch.inference_mode():
        for n in range(next(len(one) for one in (asked.boxes, asked.points, asked.masks) if one is not None)):
            out = theirs(
                pixel_values=frames[:1],
                input_boxes=None if asked.boxes is None else asked.boxes[None, n : n + 1],
                input_points=None if asked.points is None else asked.points[None, n : n + 1],
                input_labels=None if asked.labels is None else asked.labels[None, n : n + 1],
                input_masks=None if asked.masks is None else asked.masks[n : n + 1],
                multimask_output=asked.several,
            )
            expected.append(out.pred_masks[0, 0])
            iou.append(out.iou_scores[0, 0])
    logits, scores = ours.decode(ours.encode(frames[:2])[0], asked)
    assert torch.allclose(logits, torch.stack(expected), atol=1e-4)
    assert torch.allclose(scores, torch.stack(iou), atol=1e-5)
    assert logits.std() > 0.1


# Frames


def straightforward(
    network: Sam2Network, frames: torch.Tensor, shown: Mapping[int, np.ndarray]
) -> dict[int, torch.Tensor]:
    """Transformers' own way: the whole video in a session, masks added, propagated forward and in reverse."""
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    session = Sam2VideoInferenceSession(video=frames, dtype=torch.float32)
    for index, mask in sorted(shown.items()):
        session.add_mask_inputs(session.obj_id_to_idx(1), index, square(mask, SIDE))
        session.obj_with_new_inputs = [1]
        network.model(session, frame_idx=index)
    found = {}
    for reverse in (False, True):
        for out in network.model.propagate_in_video_iterator(session, start_frame_idx=min(shown), reverse=reverse):
            if out.frame_idx not in shown:
                found[out.frame_idx] = out.pred_masks[0]
    return found


@pytest.mark.parametrize("first", [0, 4, 9])
def test_following_equals_the_propagation_of_transformers(
    network: Sam2Network, frames: torch.Tensor, first: int
) -> None:
    """Forward and backward over ten frames, from one frame and from two: what is dropped on the way is never missed."""
    for shown in ({first: blob(10, 20)}, {first: blob(10, 20), 6: blob(30, 50)}):
        expected = straightforward(network, frames, shown)
        found = {}
        for index, logits, there in follow(network, len(frames), lambda n: frames[n : n + 1], shown):
            found[index] = logits
            assert 0 <= there <= 1
        assert sorted(found) == sorted(expected) == [n for n in range(10) if n not in shown]
        for index, logits in found.items():
            assert torch.allclose(logits, expected[index], atol=1e-4), index
        assert max(float(logits.std()) for logits in found.values()) > 0.1


def test_what_is_shown_decides_what_is_followed(network: Sam2Network, frames: torch.Tensor) -> None:
    """Another mask on the first frame gives other masks on the following ones: there is a memory."""
    here, there = (
        torch.stack([logits for _, logits, _ in follow(network, 4, lambda n: frames[n : n + 1], {0: mask})])
        for mask in (blob(0, 0), blob(35, 60))
    )
    assert (here - there).abs().max() > 0.01


def test_memory_of_a_long_run_stays_small(network: Sam2Network, frames: torch.Tensor, monkeypatch: Any) -> None:
    """Each followed frame leaves a memory and a pointer behind, no drawn masks, and one position map for all."""
    sessions: list[Any] = []
    made = follow.__globals__["_session"]
    monkeypatch.setitem(follow.__globals__, "_session", lambda count: sessions.append(made(count)) or sessions[0])
    for _ in follow(network, 8, lambda n: frames[n : n + 1], {3: blob(10, 20)}):
        pass
    outputs = sessions[0].output_dict_per_obj[0]
    kept = [*outputs["cond_frame_outputs"].values(), *outputs["non_cond_frame_outputs"].values()]
    assert len(kept) == 8
    names = {"maskmem_features", "maskmem_pos_enc", "object_pointer", "object_score_logits"}
    assert all(set(one) == names for one in kept)
    assert len({one["maskmem_pos_enc"].data_ptr() for one in outputs["non_cond_frame_outputs"].values()}) == 1
    assert not sessions[0].mask_inputs_per_obj[0]


def test_mask_becomes_a_square_of_zeros_and_ones() -> None:
    """The upper left quarter of a wide frame is the upper left quarter of the square."""
    mask = np.zeros((40, 80), bool)
    mask[:20, :40] = True
    filled = square(mask, 16)
    assert filled.shape == (1, 1, 16, 16)
    assert filled[0, 0, :8, :8].all()
    assert filled.sum() == 64


# The segmenter


def test_run_is_followed_from_the_frame_that_is_shown(folder: Path) -> None:
    """A box on the third of five frames: that frame is drawn as by itself, the others are found in both directions."""
    segmenter, stack = Sam2Segmenter(folder=str(folder)), angiogram()
    shares: list[float] = []
    found = segmenter.segment(stack, Prompt(boxes=(on(3),)), shares.append)
    alone = segment(Sam2Segmenter(folder=str(folder), follow=False), stack, Prompt(boxes=(on(3),)))
    assert np.array_equal(found.mask[0, 2], alone.mask[0, 2])
    assert np.flatnonzero(alone.probability[0].any(axis=(1, 2))).tolist() == [2]
    assert np.flatnonzero(found.probability[0].any(axis=(1, 2))).tolist() == [0, 1, 2, 3, 4]
    assert found.parameters["followed_from"] == "frames 3"
    assert (shares, shares[-1]) == (sorted(shares), 1.0)
    assert set(found.seconds) == {"encode", "draw", "follow"}
    again = segment(segmenter, stack, Prompt(boxes=(on(3),)))
    assert np.array_equal(found.probability, again.probability)


def test_followed_frames_are_those_of_the_propagation(folder: Path) -> None:
    """From DICOM-like frames to probabilities: equal to following the found mask with the same preparation."""
    segmenter, stack = Sam2Segmenter(folder=str(folder)), angiogram(3)
    found = segment(segmenter, stack, Prompt(points=(Point(x=60, y=20, frame_number=1),)))
    network, prepared = segmenter._network, segmenter._preparation
    assert isinstance(network, Sam2Network)
    from worker.pictures.display import display_frame

    pixels = prepared.pixels([display_frame(stack, n) for n in range(3)])
    expected = straightforward(network, pixels, {0: found.mask[0, 0]})
    for index in (1, 2):
        theirs = torch.sigmoid(prepared.to_frame(expected[index], (60, 100)))[0].numpy()
        assert np.abs(found.probability[0, index] - theirs).max() < 1e-3


@pytest.mark.parametrize("arrangement", [Arrangement.FRAMES, Arrangement.RUN])
def test_frames_are_not_followed_where_there_is_nothing_to_follow(folder: Path, arrangement: Arrangement) -> None:
    """Independent pictures, and runs with a prompt on every frame, are looked at one by one."""
    stack = angiogram(3, arrangement)
    prompt = Prompt(boxes=(on(2),)) if arrangement is Arrangement.FRAMES else Prompt(boxes=(BOX,))
    found = segment(Sam2Segmenter(folder=str(folder)), stack, prompt)
    assert "followed_from" not in found.parameters
    expected = [1] if arrangement is Arrangement.FRAMES else [0, 1, 2]
    assert np.flatnonzero(found.probability[0].any(axis=(1, 2))).tolist() == expected


def test_nothing_found_where_it_is_shown_is_not_followed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the shown frame yields no pixel there is nothing to follow, and the result is no mask."""
    nothing = Drawn(np.full((60, 100), 0.1, np.float32), 0.7)
    monkeypatch.setattr("worker.segmenters.promptable.drawing.draw", lambda *_: nothing)
    found = segment(Sam2Segmenter(folder=str(folder)), angiogram(3), Prompt(boxes=(on(1),)))
    assert (found.status, "followed_from" in found.parameters) == (Status.NO_MASK, False)


def test_model_for_pictures_leaves_other_frames_empty_and_says_so(tmp_path: Path) -> None:
    """A folder with Sam2Model alone draws the frame that is shown; the warning counts the others."""
    segmenter = Sam2Segmenter(folder=str(write_tiny_sam2(tmp_path / "model", video=False)))
    found = segment(segmenter, angiogram(3), Prompt(boxes=(on(2),)))
    assert np.flatnonzero(found.probability[0].any(axis=(1, 2))).tolist() == [1]
    assert any(warning.startswith("2 frames without a prompt") for warning in found.warnings)


def test_full_device_ends_in_a_clear_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Following cannot be done in smaller portions: a device without memory is busy, which can be tried again."""
    segmenter = Sam2Segmenter(folder=str(folder))

    def full(*_: object) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Sam2Network, "maps", full)
    with pytest.raises(RunnerBusyError, match="no memory left to follow"):
        segment(segmenter, angiogram(3), Prompt(boxes=(on(1),)))


def test_half_precision_follows_too(folder: Path) -> None:
    """The encoder in bfloat16: every frame is found, and differs a little from float32."""
    stack, prompt = angiogram(3), Prompt(boxes=(on(1),))
    full = segment(Sam2Segmenter(folder=str(folder)), stack, prompt)
    half = segment(Sam2Segmenter(folder=str(folder), dtype="bfloat16"), stack, prompt)
    assert half.probability[0].any(axis=(1, 2)).all()
    difference = np.abs(full.probability[0, 0].astype(np.float32) - half.probability[0, 0].astype(np.float32))
    assert difference.max() > 0
    assert difference.mean() < 0.05


def test_settings_and_info(folder: Path) -> None:
    """`follow` is a setting of sam2; the info is that of the folder; a prompt is needed; weights of sam are refused."""
    with pytest.raises(ConfigurationError, match="`follow`"):
        Sam2Segmenter(folder=str(folder), follow="yes")  # type: ignore[arg-type]
    settings = {"folder": str(folder), "follow": False, "automatic": True}
    registry.check_settings("sam2", {"sam2": settings})
    segmenter = Sam2Segmenter(folder=str(folder))
    assert segmenter.info.name == "tiny-sam2"
    assert registry.info("sam2").needs_folder
    segmenter.warm_up()
    with pytest.raises(InvalidPromptError):
        segment(segmenter, angiogram(1), Prompt())
    with pytest.raises(ConfigurationError, match="'sam2', not for 'sam'"):
        registry.load("sam", {"sam": {"folder": str(folder)}}, "cpu")


def test_long_lists_of_frames_are_told_in_short(folder: Path) -> None:
    """Ten frames that are shown: the account names eight and counts the others."""
    prompt = Prompt(boxes=tuple(on(number) for number in range(1, 11)))
    found = segment(Sam2Segmenter(folder=str(folder)), angiogram(11), prompt)
    assert found.parameters["followed_from"] == "frames 1, 2, 3, 4, 5, 6, 7, 8 and 2 more"
