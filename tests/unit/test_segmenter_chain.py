"""A chain: the first segmenter finds, the next refine, and only what they agree on stays."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_core.errors import ConfigurationError, InvalidPromptError
from dicom_core.prompt import PromptKind, Question
from worker.image_stack import Arrangement, FrameIdentity, ImageStack, Imaging
from worker.segmenters.chain import ChainSegmenter, info_of_chain
from worker.segmenters.interface import (
    ProgressCallback,
    Prompt,
    Segmentation,
    SegmentClass,
    SegmenterInfo,
    Status,
)

FINDS = SegmenterInfo(
    name="finder",
    version="1",
    summary="finds",
    imagings=frozenset({Imaging.XRAY_ANGIOGRAPHY, Imaging.CT}),
    arrangements=frozenset(Arrangement),
    weights_sha256="a" * 64,
    license="MIT",
)
REFINES = SegmenterInfo(
    name="refiner",
    version="2",
    summary="refines",
    imagings=frozenset(Imaging),
    arrangements=frozenset({Arrangement.FRAMES, Arrangement.RUN}),
    prompts=frozenset({PromptKind.BOXES, PromptKind.MASK}),
)
SHAPE = (3, 40, 50)


def stack() -> ImageStack:
    frames = tuple(FrameIdentity("1.2.3", number) for number in range(1, SHAPE[0] + 1))
    pixels = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    return ImageStack(pixels, Arrangement.RUN, Imaging.XRAY_ANGIOGRAPHY, frames)


def blank() -> NDArray[np.bool_]:
    return np.zeros(SHAPE, np.bool_)


class Fixed:
    """Answers with masks that are given to it and remembers what it was asked."""

    def __init__(self, info: SegmenterInfo, *masks: NDArray[np.bool_], status: Status = Status.OK) -> None:
        self.info = replace(info, classes=tuple(SegmentClass("blood_vessel", f"Class {n}") for n in range(len(masks))))
        self.masks = np.stack(masks)
        self.status = status
        self.asked: list[tuple[ImageStack, Prompt]] = []
        self.warm = 0

    def warm_up(self) -> None:
        self.warm += 1

    def segment(self, stack: ImageStack, prompt: Prompt, progress: ProgressCallback) -> Segmentation:
        self.info.check_prompt(prompt)
        self.asked.append((stack, prompt))
        chosen = self.masks[:, [frame.frame_number - 1 for frame in stack.frames]]
        progress(1.0)
        return Segmentation(
            status=self.status,
            mask=chosen,
            probability=chosen.astype(np.float16) * np.float16(0.75),
            classes=self.info.classes,
            scores=(0.5,) * len(stack.frames),
            parameters={"threshold": "0.5"},
            seconds={"network": 1.0},
            warnings=(f"{self.info.name} says so",),
        )


def chained(first: Fixed, *refiners: Fixed, **settings: object) -> tuple[Segmentation, list[float]]:
    told: list[float] = []
    found = ChainSegmenter([first, *refiners], **settings).segment(stack(), Prompt(), told.append)
    return found, told


def one_vessel() -> NDArray[np.bool_]:
    mask = blank()
    mask[1, 10:14, 5:25] = True
    return mask


def test_only_what_agrees_is_kept() -> None:
    """A piece that the refiner sees too stays, with the refiner's edge; one that it does not see goes, and is told."""
    first = one_vessel()
    first[1, 30:34, 5:25] = True
    refined = blank()
    refined[1, 9:14, 5:25] = True  # a row more than was found
    refined[1, 9:14, 40:45] = True  # in no box: what nobody found is no vessel
    found, told = chained(Fixed(FINDS, first), Fixed(REFINES, refined))
    wanted = blank()
    wanted[1, 9:14, 5:25] = True
    assert found.status is Status.OK
    assert np.array_equal(found.mask[0], wanted)
    assert np.array_equal(found.probability[0] > 0, wanted)
    assert found.parameters["refiner.components"] == "1 kept of 2 asked"
    assert "1 of 2 found pieces were left out: refiner did not agree" in found.warnings
    assert {"finder says so", "refiner says so"} <= set(found.warnings)
    assert found.parameters["finder.threshold"] == found.parameters["refiner.threshold"] == "0.5"
    assert found.seconds == {"finder network": 1.0, "refiner network": 1.0}
    assert found.scores == (0.5,) * 3
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_refiner_is_shown_boxes_and_the_mask_of_the_frames_that_show_something() -> None:
    """One box a component, a little larger, of its frame; frames without any are not shown at all."""
    first = one_vessel()
    first[2, 0:5, 45:50] = True
    refiner = Fixed(REFINES, first)
    chained(Fixed(FINDS, first), refiner)
    ((shown, prompt),) = refiner.asked
    assert [frame.frame_number for frame in shown.frames] == [2, 3]
    assert np.array_equal(shown.pixels, stack().pixels[1:])
    assert np.array_equal(prompt.mask, first[1:])
    assert [
        (box.sop_instance_uid, box.frame_number, box.left, box.top, box.right, box.bottom) for box in prompt.boxes
    ] == [("1.2.3", 2, 3.0, 8.0, 26.0, 15.0), ("1.2.3", 3, 43.0, 0.0, 49.0, 6.0)]


def test_refiner_that_takes_no_mask_gets_none() -> None:
    """The mask is a prompt only where it is understood."""
    refiner = Fixed(replace(REFINES, prompts=frozenset({PromptKind.BOXES})), one_vessel())
    found, _ = chained(Fixed(FINDS, one_vessel()), refiner)
    assert refiner.asked[0][1].mask is None
    assert np.array_equal(found.mask[0], one_vessel())


@pytest.mark.parametrize(
    ("settings", "kept"),
    [({}, False), ({"measure": "share"}, True), ({"agreement": 0.15}, True), ({"measure": "share", "near": 0}, True)],
)
def test_overlap_is_counted_as_the_settings_say(settings: dict[str, object], kept: bool) -> None:
    """A refiner that paints everything has all of a thin vessel, but shares little with it."""
    line = blank()
    line[0, 20, 5:45] = True
    found, _ = chained(Fixed(FINDS, line), Fixed(REFINES, ~blank()), **settings)
    assert found.mask.any() == kept
    assert found.status is (Status.OK if kept else Status.NO_MASK)
    if kept:
        reach = int(settings.get("near", 2))
        assert set(np.flatnonzero(found.mask[0, 0, :, 20])) == set(range(20 - reach, 21 + reach))


def test_nothing_found_ends_it_without_the_refiner() -> None:
    """No component, no question: the refiner draws something into whatever it is shown."""
    for status in (Status.NO_MASK, Status.OUT_OF_DOMAIN, Status.OK):
        refiner = Fixed(REFINES, ~blank())
        found, told = chained(Fixed(FINDS, blank(), status=status), refiner)
        assert found.status is status
        assert refiner.asked == []
        assert told[-1] == 1.0


def test_specks_and_crowds_are_dropped_and_told() -> None:
    """Small components are not shown, and of many only the largest; where none is left nothing is found."""
    specks = blank()
    specks[0, ::10, 0:3] = True
    refiner = Fixed(REFINES, specks)
    found, _ = chained(Fixed(FINDS, specks), refiner)
    assert (found.status, refiner.asked) == (Status.NO_MASK, [])
    assert any("4 found pieces were too small" in warning for warning in found.warnings)
    found, _ = chained(Fixed(FINDS, specks), refiner, least_pixels=1, most_boxes=1)
    assert found.mask.sum() == 3


def test_every_class_is_refined_for_itself() -> None:
    """Arteries and veins that cross are shown one kind after the other."""
    other = blank()
    other[1, 2:38, 14:17] = True
    refiner = Fixed(REFINES, one_vessel() | other)
    found, told = chained(Fixed(FINDS, one_vessel(), other), refiner)
    assert len(refiner.asked) == 2
    assert len(found.classes) == len(found.mask) == 2
    assert all(
        (mask & first).sum() == first.sum() for mask, first in zip(found.mask, (one_vessel(), other), strict=True)
    )
    assert told == sorted(told)


def test_refiner_that_does_not_know_the_picture() -> None:
    """Its word counts: nothing may be said of such a picture."""
    found, _ = chained(Fixed(FINDS, one_vessel()), Fixed(REFINES, one_vessel(), status=Status.OUT_OF_DOMAIN))
    assert found.mask.any()  # masks come with OK alone; a refiner that gives one all the same is believed
    found, _ = chained(Fixed(FINDS, one_vessel()), Fixed(REFINES, blank(), status=Status.OUT_OF_DOMAIN))
    assert found.status is Status.OUT_OF_DOMAIN


def test_three_in_a_chain() -> None:
    """Each refines what the one before left."""
    third = Fixed(replace(REFINES, name="third"), one_vessel())
    found, told = chained(Fixed(FINDS, one_vessel()), Fixed(REFINES, one_vessel()), third)
    assert np.array_equal(found.mask[0], one_vessel())
    assert found.parameters["third.components"] == "1 kept of 1 asked"
    assert told == sorted(told)


def test_prompt_is_for_the_first() -> None:
    """What the first cannot be asked is refused; the refiner never sees it."""
    chain = ChainSegmenter([Fixed(FINDS, one_vessel()), Fixed(REFINES, one_vessel())])
    with pytest.raises(InvalidPromptError, match="finder"):
        chain.segment(stack(), Prompt(questions=(Question(text="vessels"),)), lambda _share: None)


def test_info_of_a_chain() -> None:
    """Name, version, hash and licence tell of all its segmenters; it takes what all of them take."""
    info = info_of_chain([FINDS, REFINES])
    assert (info.name, info.version) == ("finder+refiner", "1+2+chain1")
    assert info.imagings == FINDS.imagings
    assert info.arrangements == REFINES.arrangements
    assert info.prompts == frozenset({PromptKind.NONE})
    assert info.license == "MIT AND Apache-2.0"
    assert len(info.weights_sha256) == 64
    assert info.weights_sha256 != info_of_chain([REFINES, REFINES]).weights_sha256 == ""
    changed = info_of_chain([FINDS, replace(REFINES, weights_sha256="b" * 64)])
    assert changed.weights_sha256 != info.weights_sha256


def test_what_takes_no_boxes_cannot_refine() -> None:
    """The text says which one."""
    with pytest.raises(ConfigurationError, match="finder cannot refine another: it takes no boxes"):
        info_of_chain([REFINES, FINDS])


@pytest.mark.parametrize(
    "settings", [{"agreement": 2}, {"measure": "dice"}, {"near": -1}, {"most_boxes": 0}, {"margin": True}]
)
def test_wrong_settings_are_named(settings: dict[str, object]) -> None:
    """A setting of the chain that cannot be is a configuration error with its name."""
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        ChainSegmenter([Fixed(FINDS, blank()), Fixed(REFINES, blank())], **settings)


def test_all_are_warmed_up() -> None:
    """Before the first job the chain warms up each of its segmenters."""
    parts = Fixed(FINDS, blank()), Fixed(REFINES, blank())
    ChainSegmenter(parts).warm_up()
    assert [part.warm for part in parts] == [1, 1]
