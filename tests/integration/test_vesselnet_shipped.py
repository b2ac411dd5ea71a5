"""The shipped weights on generated pictures: vessels are found, strangers turned away."""

from functools import cache

import numpy as np
import pytest
from tube_pictures import ct_volume, stack_of

from training.measures import agreement
from training.synthetic.picture import Kind
from training.synthetic.sampling import sample, sample_negative
from worker.image_stack import Arrangement, ImageStack, Imaging
from worker.segmenters.interface import Prompt, Segmentation, Status
from worker.segmenters.vesselnet.segmenter import VesselnetSegmenter

IMAGINGS: dict[Kind, Imaging] = {
    "xa": Imaging.XRAY_ANGIOGRAPHY,
    "fundus": Imaging.FUNDUS,
    "octa": Imaging.OCT_ANGIOGRAPHY,
}


@pytest.fixture(scope="module")
def segmenter() -> VesselnetSegmenter:
    """Return the segmenter as shipped."""
    return VesselnetSegmenter()


@cache
def drawn(kind: Kind, seed: int, size: int = 320) -> tuple[ImageStack, np.ndarray]:
    """Return a drawn picture as the worker would hand it over, and its vessels."""
    made = sample(kind, seed, size)
    pixels = made.image if made.image.ndim == 3 else made.image.astype(np.float32)
    return stack_of(pixels[None], IMAGINGS[kind]), made.mask


@cache
def stranger(seed: int) -> np.ndarray:
    """Return a picture that shows something else; every kind is asked about the same ones."""
    return sample_negative(seed, 256).image


@cache
def found_in_drawn(segmenter: VesselnetSegmenter, kind: Kind, seed: int) -> Segmentation:
    """What the segmenter finds in a drawn picture; several tests look at it."""
    return segment(segmenter, drawn(kind, seed)[0])


def segment(segmenter: VesselnetSegmenter, stack: ImageStack) -> Segmentation:
    return segmenter.segment(stack, Prompt(), lambda _share: None)


@pytest.mark.parametrize(("kind", "goal"), [("xa", 0.65), ("fundus", 0.45), ("octa", 0.82)])
def test_vessels_of_drawn_pictures_are_found(segmenter: VesselnetSegmenter, kind: Kind, goal: float) -> None:
    """Pictures that training never drew: the mean Dice over six of them reaches the goal."""
    values = [
        agreement(found_in_drawn(segmenter, kind, seed).mask[0, 0], drawn(kind, seed)[1]).dice for seed in range(6)
    ]
    assert np.mean(values) >= goal


@pytest.mark.parametrize(("imaging", "least"), list(zip(IMAGINGS.values(), (4, 9, 11), strict=True)))
def test_strangers_get_no_mask(segmenter: VesselnetSegmenter, imaging: Imaging, least: int) -> None:
    """Of 12 texts, charts, photographs, faces and noises few get a mask, and at least so many end out of domain."""
    ends = []
    for seed in range(12):
        image = stranger(seed)
        pixels = image if image.ndim == 3 else image.astype(np.float32)
        found = segment(segmenter, stack_of(pixels[None], imaging))
        ends.append(found.status)
        if found.status is Status.OUT_OF_DOMAIN:
            assert not found.probability.any()
    assert ends.count(Status.OK) <= 2
    assert ends.count(Status.OUT_OF_DOMAIN) >= least


def test_blank_and_tomograms_are_turned_away(segmenter: VesselnetSegmenter) -> None:
    """An even grey and a slice of a CT phantom are no angiograms."""
    volume, _ = ct_volume((2.0, 1.0, 1.0), 6.0, extent_mm=128.0)
    for pixels in (np.full((1, 256, 256), 90, np.float32), volume[30:31]):
        assert segment(segmenter, stack_of(pixels, Imaging.XRAY_ANGIOGRAPHY)).status is Status.OUT_OF_DOMAIN


def test_bright_vessels_of_a_subtraction_are_found(segmenter: VesselnetSegmenter) -> None:
    """A drawn angiogram turned over, as after subtraction, is understood as bright and gets much the same mask."""
    stack, _ = drawn("xa", 4)
    turned = stack_of(np.float32(255) - stack.pixels, Imaging.XRAY_ANGIOGRAPHY)
    dark, bright = found_in_drawn(segmenter, "xa", 4), segment(segmenter, turned)
    assert (dark.parameters["polarity"], bright.parameters["polarity"]) == ("dark", "bright")
    assert agreement(bright.mask[0, 0], dark.mask[0, 0]).dice > 0.8


def test_run_and_single_frames_agree(segmenter: VesselnetSegmenter) -> None:
    """The frames of a run get the masks that they get alone, since each is looked at by itself."""
    stack, _ = drawn("xa", 0)
    pixels = np.concatenate([stack.pixels, stack.pixels[:, ::-1]])
    run = segment(segmenter, stack_of(pixels, Imaging.XRAY_ANGIOGRAPHY, Arrangement.RUN))
    alone = found_in_drawn(segmenter, "xa", 0)
    assert agreement(run.mask[0, 0], alone.mask[0, 0]).dice > 0.97


def test_probabilities_are_calibrated(segmenter: VesselnetSegmenter) -> None:
    """Of pixels called about 0.8 likely, between a half and all are vessel, and more than of those called 0.2."""
    said, true = [], []
    for seed in range(6):
        said.append(found_in_drawn(segmenter, "octa", seed).probability[0, 0].astype(np.float32).ravel())
        true.append(drawn("octa", seed)[1].ravel())
    probability, vessel = np.concatenate(said), np.concatenate(true)
    likely = vessel[(probability > 0.7) & (probability < 0.9)].mean()
    unlikely = vessel[(probability > 0.1) & (probability < 0.3)].mean()
    assert unlikely < 0.5 < likely
