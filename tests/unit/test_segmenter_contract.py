"""What every segmenter of vesselq owes to the worker, whatever is inside it.

Systems that need a folder of weights are made from tiny ones, with random weights where they learn.
"""

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import entry_points

import numpy as np
import pytest
from tiny_models import tiny_table
from tube_pictures import ct_volume, picture, stack_of, vessel_mask

from dicom_core.errors import ConfigurationError, InvalidPromptError, UnsupportedSourceError
from dicom_core.prompt import PromptKind
from worker.image_stack import Arrangement, ImageStack, Imaging
from worker.model_trial.asking import prompt_of_kind
from worker.segmenters import registry
from worker.segmenters.interface import Prompt, Segmentation, Segmenter, Status

OURS = [point.name for point in entry_points(group=registry.GROUP) if point.value.startswith("worker.")]
SPACING = (2.0, 1.0, 1.0)
MOST_FRAMES_OF_LARGE_MODELS = 2
"""Of a volume, for systems that are slow even when they are tiny."""
Make = Callable[[str], Segmenter]


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


def run() -> ImageStack:
    """The run of angiography among them, which every system takes."""
    return stacks()[0]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Make each segmenter once, on the CPU."""
    made: dict[str, Segmenter] = {}

    def of_system(name: str) -> Segmenter:
        if name not in made:
            table = tiny_table(name, tmp_path_factory.mktemp(name)) if registry.info(name).needs_folder else {}
            made[name] = registry.load(name, {name: table}, "cpu")
        return made[name]

    return of_system


def ask(kind: PromptKind, stack: ImageStack) -> Prompt:
    """Ask for the middle of a stack."""
    rows, columns = stack.pixels.shape[1:3]
    return prompt_of_kind(kind, np.zeros((rows, columns, 3), np.uint8), len(stack.frames))


def easiest(segmenter: Segmenter) -> PromptKind:
    """Nothing if that is enough, else something that it takes."""
    return next(kind for kind in PromptKind if kind in segmenter.info.prompts)


def checked(segmenter: Segmenter, stack: ImageStack, prompt: Prompt) -> Segmentation:
    """Segment, and check all that is owed whatever comes out."""
    shares: list[float] = []
    before = stack.pixels.copy()
    result = segmenter.segment(stack, prompt, shares.append)
    shape = (len(result.classes), *stack.pixels.shape[:3])
    assert result.mask.shape == result.probability.shape == shape
    assert (result.mask.dtype, result.probability.dtype) == (np.bool_, np.float16)
    assert np.isfinite(result.probability).all()
    assert 0 <= result.probability.min() <= result.probability.max() <= 1
    assert result.mask.any() == (result.status is Status.OK)
    assert len(result.classes) == max(1, len(prompt.questions) or len(segmenter.info.classes))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert np.array_equal(stack.pixels, before)
    assert len(result.scores) == len(stack.frames)
    assert all(0 <= one <= 1 for one in result.scores)
    assert result.seconds
    assert min(result.seconds.values()) >= 0
    assert result.parameters
    assert all(isinstance(value, str) for value in result.parameters.values())
    return result


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
    assert info.prompts
    assert info.classes
    assert all(1 <= len(found.label) <= 64 for found in info.classes)


@pytest.mark.parametrize("name", OURS)
def test_a_folder_is_missed_at_once(name: str) -> None:
    """Without settings a system is ready, or says that it needs a folder."""
    if registry.info(name).needs_folder:
        with pytest.raises(ConfigurationError, match="needs the setting 'folder'"):
            registry.load(name, {}, "cpu")
    else:
        registry.check_settings(name, {})


@pytest.mark.parametrize("stack", stacks(), ids=lambda stack: f"{stack.imaging}-{stack.arrangement}-{stack.is_colour}")
@pytest.mark.parametrize("name", OURS)
def test_result_keeps_the_contract(make: Make, name: str, stack: ImageStack) -> None:
    """Shapes, types and ranges are those of the interface; a foreign picture is refused or comes with a warning."""
    segmenter = make(name)
    if segmenter.info.needs_folder:
        few = slice(MOST_FRAMES_OF_LARGE_MODELS)
        stack = replace(stack, pixels=stack.pixels[few], frames=stack.frames[few])
    known = stack.imaging in segmenter.info.imagings and stack.arrangement in segmenter.info.arrangements
    try:
        result = checked(segmenter, stack, ask(easiest(segmenter), stack))
    except UnsupportedSourceError:
        assert not known
    else:
        assert known or result.warnings


@pytest.mark.parametrize("kind", PromptKind)
@pytest.mark.parametrize("name", OURS)
def test_prompts_are_taken_or_refused(make: Make, name: str, kind: PromptKind) -> None:
    """Every way of asking that info names works; every other is refused in words that name the segmenter."""
    segmenter, stack = make(name), run()
    prompt = ask(kind, stack)
    if kind not in segmenter.info.prompts:
        with pytest.raises(InvalidPromptError, match=segmenter.info.name):
            segmenter.segment(stack, prompt, lambda _share: None)
    elif kind is not easiest(segmenter):
        checked(segmenter, stack, prompt)


@pytest.mark.parametrize("name", OURS)
def test_weights_are_named(make: Make, name: str) -> None:
    """A loaded model bears the name, licence and hash of its folder."""
    info = make(name).info
    if registry.info(name).needs_folder:
        assert info.name.startswith("tiny")
        assert len(info.weights_sha256) == 64
    else:
        assert info == registry.info(name)
