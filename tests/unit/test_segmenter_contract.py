"""What every segmenter of vesselq owes to the worker, whatever is inside it.

A segmenter that cannot be made without settings (weights in a folder) is checked by its info alone.
"""

from importlib.metadata import entry_points

import numpy as np
import pytest
from tube_pictures import ct_volume, picture, stack_of, vessel_mask

from dicom_core.errors import ConfigurationError, UnsupportedSourceError
from worker.image_stack import Arrangement, ImageStack, Imaging
from worker.segmenters import registry
from worker.segmenters.interface import Prompt, Segmentation, Segmenter, Status

OURS = [point.name for point in entry_points(group=registry.GROUP) if point.value.startswith("worker.")]
SPACING = (2.0, 1.0, 1.0)


def stacks() -> list[ImageStack]:
    """Return small stacks of each arrangement, among them colour and a blank one."""
    dark = np.stack([picture(vessel_mask(96, seed=n), bright=False, seed=n) for n in range(2)])
    bright = np.stack([picture(vessel_mask(96, seed=n), bright=True, seed=n) for n in range(2)])
    colour = np.repeat(np.clip(dark, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)
    volume, _ = ct_volume(SPACING, 4.0, extent_mm=40.0)
    return [
        stack_of(dark, Imaging.XRAY_ANGIOGRAPHY, Arrangement.RUN),
        stack_of(colour, Imaging.FUNDUS),
        stack_of(bright, Imaging.OCT_ANGIOGRAPHY),
        stack_of(volume, Imaging.CT, Arrangement.VOLUME, SPACING),
        stack_of(np.zeros((2, 32, 32), np.float32), Imaging.XRAY_ANGIOGRAPHY),
    ]


@pytest.fixture(params=OURS)
def segmenter(request: pytest.FixtureRequest) -> Segmenter:
    """Return each segmenter on the CPU, made with its default settings."""
    try:
        return registry.load(request.param, {}, "cpu")
    except ConfigurationError as error:
        pytest.skip(f"needs settings: {error}")


@pytest.mark.parametrize("name", OURS)
def test_info_is_complete(name: str) -> None:
    """Info bears the entry point's name, says what it takes and finds, and its labels fit a SegmentLabel."""
    info = registry.info(name)
    assert info.name == name
    assert info.version
    assert info.summary
    assert info.imagings <= frozenset(Imaging)
    assert info.imagings
    assert info.arrangements
    assert info.classes
    assert all(1 <= len(found.label) <= 64 for found in info.classes)


@pytest.mark.parametrize("stack", stacks(), ids=lambda stack: f"{stack.imaging}-{stack.arrangement}-{stack.is_colour}")
def test_result_keeps_the_contract(segmenter: Segmenter, stack: ImageStack) -> None:
    """Shapes, types and ranges are those of the interface, the mask is empty unless OK, progress ends at 1."""
    if stack.imaging not in segmenter.info.imagings or stack.arrangement not in segmenter.info.arrangements:
        with pytest.raises(UnsupportedSourceError):
            segmenter.segment(stack, Prompt(), lambda _share: None)
        return
    shares: list[float] = []
    before = stack.pixels.copy()
    result = segmenter.segment(stack, Prompt(), shares.append)
    shape = (len(segmenter.info.classes), *stack.pixels.shape[:3])
    assert result.mask.shape == result.probability.shape == shape
    assert (result.mask.dtype, result.probability.dtype) == (np.bool_, np.float16)
    assert np.isfinite(result.probability).all()
    assert 0 <= result.probability.min() <= result.probability.max() <= 1
    assert result.mask.any() == (result.status is Status.OK)
    assert result.classes == segmenter.info.classes
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert np.array_equal(stack.pixels, before)
    _check_account(result, len(stack.pixels))


def _check_account(result: Segmentation, frames: int) -> None:
    """Scores, times and parameters are there, in words and numbers that the SEG object and the log can hold."""
    assert len(result.scores) == frames
    assert all(0 <= one <= 1 for one in result.scores)
    assert result.seconds
    assert min(result.seconds.values()) >= 0
    assert result.parameters
    assert all(isinstance(value, str) for value in result.parameters.values())
