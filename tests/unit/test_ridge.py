"""The ridge segmenter on synthetic vessels with known masks."""

import numpy as np
import pytest
from tube_pictures import ct_volume, dice, picture, stack_of, vessel_mask

from dicom_core.errors import ConfigurationError, InvalidPromptError
from dicom_core.prompt import Question
from worker.image_stack import Arrangement, ImageStack, Imaging
from worker.segmenters.interface import Prompt, Segmentation, Status
from worker.segmenters.ridge import RidgeSegmenter


def segment(stack: ImageStack, **settings: object) -> Segmentation:
    return RidgeSegmenter(**settings).segment(stack, Prompt(), lambda _share: None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("imaging", "bright"),
    [
        (Imaging.XRAY_ANGIOGRAPHY, False),
        (Imaging.XRAY_ANGIOGRAPHY, True),
        (Imaging.FUNDUS, False),
        (Imaging.OCT_ANGIOGRAPHY, True),
        (Imaging.OTHER, True),
    ],
)
def test_vessels_are_found_with_the_polarity_of_the_picture(imaging: Imaging, bright: bool) -> None:
    """Dark or bright vessels of 5 and 9 pixels are found with a Dice above 0.7; angiography detects subtraction."""
    truth = vessel_mask()
    result = segment(stack_of(picture(truth, bright=bright)[None], imaging))
    assert result.status is Status.OK
    assert dice(result.mask[0, 0], truth) > 0.7
    assert result.parameters["polarity"] == ("bright" if bright else "dark")


def test_polarity_of_the_kind_of_picture_finds_nothing_the_other_way_round() -> None:
    """Bright vessels in OCT angiography are not found when dark ones are asked for: only flanks are."""
    truth = vessel_mask()
    stack = stack_of(picture(truth, bright=True)[None], Imaging.OCT_ANGIOGRAPHY)
    assert dice(segment(stack, polarity="dark").mask[0, 0], truth) < 0.2
    assert dice(segment(stack, polarity="bright").mask[0, 0], truth) > 0.7


def test_larger_pictures_of_the_same_scene_give_the_same_mask() -> None:
    """Scales follow the field of view: a camera with twice the pixels finds the same vessels."""
    truth = vessel_mask()
    small = picture(truth, bright=False)
    large = np.kron(small, np.ones((2, 2), np.float32))
    once = segment(stack_of(small[None], Imaging.XRAY_ANGIOGRAPHY)).mask[0, 0]
    twice = segment(stack_of(large[None], Imaging.XRAY_ANGIOGRAPHY)).mask[0, 0]
    assert dice(twice[::2, ::2], once) > 0.9


def fundus_photograph() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return RGB ``(1, rows, columns, 3)`` uint8, the true mask and the disc that the camera shows."""
    truth = vessel_mask(400)
    rows, columns = np.mgrid[:400, :400]
    disc = np.hypot(rows - 200, columns - 200) < 185
    green = np.where(disc, 0.6 * picture(truth, bright=False), 4.0)
    rgb = np.stack([np.where(disc, 200.0, 6.0), green, 0.3 * green], axis=-1)
    return np.clip(rgb, 0, 255).astype(np.uint8)[None], truth & disc, disc


def test_border_of_a_fundus_photograph_is_no_vessel() -> None:
    """Vessels are found in the green channel of a colour photograph, and the rim of the black surround is not."""
    pixels, truth, disc = fundus_photograph()
    result = segment(stack_of(pixels, Imaging.FUNDUS))
    assert dice(result.mask[0, 0], truth) > 0.7
    assert not result.mask[0, 0][~disc].any()
    assert not result.probability[0, 0][~disc].any()


def test_border_of_a_collimator_is_no_vessel() -> None:
    """The edge between a black collimator and an empty field gives no mask."""
    empty = picture(np.zeros((256, 256), bool), bright=False)
    empty[:, :40] = 2.0
    empty[:30] = 2.0
    assert segment(stack_of(empty[None], Imaging.XRAY_ANGIOGRAPHY)).status is Status.NO_MASK


def test_grey_leaf_of_a_collimator_is_no_vessel() -> None:
    """Beside the straight edge of a grey leaf the vessels are found as without it, and the leaf is not."""
    truth = vessel_mask()
    covered = picture(truth, bright=False)
    covered[-24:] *= 0.5
    mask = segment(stack_of(covered[None], Imaging.XRAY_ANGIOGRAPHY)).mask[0, 0]
    assert not mask[-23:].any()
    assert dice(mask[:-30], truth[:-30]) > 0.7


@pytest.mark.parametrize("imaging", list(Imaging))
@pytest.mark.parametrize("level", [0.0, 100.0])
def test_blank_picture_gives_no_mask(imaging: Imaging, level: float) -> None:
    """A constant picture of any kind ends as NO_MASK with an empty mask and finite probabilities."""
    result = segment(stack_of(np.full((2, 64, 64), level, np.float32), imaging))
    assert result.status is Status.NO_MASK
    assert not result.mask.any()
    assert np.isfinite(result.probability).all()
    assert result.scores == (0.0, 0.0)


@pytest.mark.parametrize("imaging", [Imaging.XRAY_ANGIOGRAPHY, Imaging.FUNDUS, Imaging.OCT_ANGIOGRAPHY])
def test_noise_gives_no_mask(imaging: Imaging) -> None:
    """White noise on a flat picture holds no vessel."""
    noise = np.random.default_rng(3).normal(120, 8, (1, 256, 256)).astype(np.float32)
    assert segment(stack_of(noise, imaging)).status is Status.NO_MASK


def test_blank_volume_gives_no_mask() -> None:
    """Uniform tissue in CT and a constant MR volume end as NO_MASK."""
    tissue = np.full((8, 48, 48), 40.0, np.float32)
    for imaging in (Imaging.CT, Imaging.MR):
        stack = stack_of(tissue, imaging, Arrangement.VOLUME, (2.0, 1.0, 1.0))
        assert segment(stack).status is Status.NO_MASK


@pytest.mark.parametrize("radius_mm", [2.0, 4.0, 9.0])
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (3.0, 0.9, 0.9)])
def test_tubes_in_ct_are_found_whatever_their_width(radius_mm: float, spacing_mm: tuple[float, float, float]) -> None:
    """A slanting contrast-filled tube from 4 to 18 mm wide is found in thin and in thick slices."""
    voxels, truth = ct_volume(spacing_mm, radius_mm)
    result = segment(stack_of(voxels, Imaging.CT, Arrangement.VOLUME, spacing_mm))
    assert result.status is Status.OK
    assert dice(result.mask[0], truth) > 0.7


def test_spacing_decides_what_is_a_tube() -> None:
    """The same voxels told to be ten times larger are no vessel any more: lengths are millimetres, not voxels."""
    voxels, truth = ct_volume((1.0, 1.0, 1.0), 2.0)
    mr = stack_of(voxels, Imaging.MR, Arrangement.VOLUME, (1.0, 1.0, 1.0))
    larger = stack_of(voxels, Imaging.MR, Arrangement.VOLUME, (10.0, 10.0, 10.0))
    assert dice(segment(mr).mask[0], truth) > 0.7
    assert dice(segment(larger).mask[0], truth) < 0.5


def test_bone_is_no_vessel() -> None:
    """A rod of compact bone beside a vessel is left out, the vessel stays."""
    voxels, truth = ct_volume((1.0, 1.0, 1.0), 3.0)
    voxels[:, 5:12, 45:52] = 1100.0
    mask = segment(stack_of(voxels, Imaging.CT, Arrangement.VOLUME, (1.0, 1.0, 1.0))).mask[0]
    assert not mask[:, 5:12, 45:52].any()
    assert dice(mask, truth) > 0.7


def test_volume_is_the_same_in_slabs_and_at_once() -> None:
    """Slabs overlap by enough that a small memory gives the same mask as a large one."""
    voxels, _ = ct_volume((2.0, 1.0, 1.0), 4.0, extent_mm=80.0)
    stack = stack_of(voxels, Imaging.CT, Arrangement.VOLUME, (2.0, 1.0, 1.0))
    shares: list[float] = []
    slabs = RidgeSegmenter(memory_mib=1).segment(stack, Prompt(), shares.append)
    whole = segment(stack, memory_mib=4096)
    assert len(shares) > 2
    assert np.array_equal(slabs.mask, whole.mask)
    assert np.abs(slabs.probability.astype(np.float32) - whole.probability.astype(np.float32)).max() < 0.01


def test_unknown_spacing_is_told() -> None:
    """A volume without spacing is taken as 1 mm and the result says so."""
    voxels, truth = ct_volume((1.0, 1.0, 1.0), 4.0)
    result = segment(stack_of(voxels, Imaging.CT, Arrangement.VOLUME))
    assert dice(result.mask[0], truth) > 0.7
    assert any("1 mm" in warning for warning in result.warnings)


def test_batch_equals_singles() -> None:
    """Each of several independent pictures gets the mask and probability that it gets alone."""
    pixels = np.stack([picture(vessel_mask(seed=n), bright=False, seed=n) for n in range(3)])
    together = segment(stack_of(pixels, Imaging.XRAY_ANGIOGRAPHY))
    for number in range(3):
        alone = segment(stack_of(pixels[number : number + 1], Imaging.XRAY_ANGIOGRAPHY))
        assert np.array_equal(together.probability[0, number], alone.probability[0, 0])
        assert np.array_equal(together.mask[0, number], alone.mask[0, 0])
        assert together.scores[number] == alone.scores[0]


def test_run_does_not_depend_on_the_memory() -> None:
    """The frames of a run get the same masks in chunks of one as in one chunk."""
    pixels = np.stack([picture(vessel_mask(seed=n), bright=False, seed=n) for n in range(4)])
    stack = stack_of(pixels, Imaging.XRAY_ANGIOGRAPHY, Arrangement.RUN)
    small, large = segment(stack, memory_mib=1), segment(stack, memory_mib=1024)
    assert np.array_equal(small.mask, large.mask)
    assert large.mask.any(axis=(0, 2, 3)).all()


def test_frames_before_the_contrast_medium_stay_empty() -> None:
    """In a run, frames without contrast medium are not searched until something is found."""
    truth = vessel_mask()
    empty = np.zeros_like(truth)
    pixels = np.stack([picture(m, bright=False, seed=n) for n, m in enumerate([empty, empty, truth, truth])])
    result = segment(stack_of(pixels, Imaging.XRAY_ANGIOGRAPHY, Arrangement.RUN))
    assert not result.mask[0, :2].any()
    assert min(dice(result.mask[0, n], truth) for n in (2, 3)) > 0.7
    assert result.scores[:2] == (0.0, 0.0)
    assert min(result.scores[2:]) > 0.5


def test_same_input_gives_the_same_bits() -> None:
    """Two runs of the same series agree in every bit of mask and probability."""
    stack = stack_of(picture(vessel_mask(), bright=False)[None], Imaging.FUNDUS)
    first, second = segment(stack), segment(stack)
    assert np.array_equal(first.mask, second.mask)
    assert np.array_equal(first.probability, second.probability)


def test_threshold_cuts_the_probability() -> None:
    """The mask lies where the probability reaches the threshold; a lower threshold only adds."""
    stack = stack_of(picture(vessel_mask(), bright=True)[None], Imaging.OCT_ANGIOGRAPHY)
    usual, low = segment(stack), segment(stack, threshold=0.2)
    assert usual.probability[usual.mask].min() >= 0.5
    assert low.mask[usual.mask].all()
    assert low.mask.sum() > usual.mask.sum()
    assert low.parameters["threshold"] == "0.2"


def test_unmeasured_kind_of_picture_is_told() -> None:
    """A kind of picture that nobody measured gets a result with a warning."""
    result = segment(stack_of(picture(vessel_mask(), bright=False)[None], Imaging.ULTRASOUND))
    assert any("ultrasound" in warning for warning in result.warnings)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 200), (2, 17, 5)])
@pytest.mark.parametrize("arrangement", list(Arrangement))
def test_tiny_pictures_are_taken(shape: tuple[int, int, int], arrangement: Arrangement) -> None:
    """Pictures smaller than a kernel give a result of their own shape."""
    pixels = np.random.default_rng(0).random(shape).astype(np.float32)
    for imaging in (Imaging.FUNDUS, Imaging.CT):
        result = segment(stack_of(pixels, imaging, arrangement, (1.0, 1.0, 1.0)))
        assert result.mask.shape == (1, *shape)


def test_prompt_is_refused() -> None:
    """A filter does not read: a question is an error, no question is not."""
    stack = stack_of(np.zeros((1, 16, 16), np.float32), Imaging.FUNDUS)
    asked = Prompt(questions=(Question(text="the left coronary artery"),))
    with pytest.raises(InvalidPromptError, match="takes no prompt"):
        RidgeSegmenter().segment(stack, asked, lambda _share: None)
    assert RidgeSegmenter().segment(stack, Prompt(), lambda _share: None).status is Status.NO_MASK


@pytest.mark.parametrize(
    ("setting", "value"),
    [("threshold", 0.0), ("threshold", 1.5), ("threshold", "high"), ("polarity", "grey"), ("memory_mib", 0)],
)
def test_wrong_settings_are_named(setting: str, value: object) -> None:
    """A setting out of range is an error that names it."""
    with pytest.raises(ConfigurationError, match=setting):
        RidgeSegmenter(**{setting: value})  # type: ignore[arg-type]
