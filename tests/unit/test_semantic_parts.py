"""What semantic networks of every format share: settings, normalisation, sizes and windows."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_onnx import write_listed
from tube_pictures import stack_of

from dicom_core.errors import ConfigurationError, RunnerBusyError, SegmentationError, UnsupportedSourceError
from worker.image_stack import ImageStack, Imaging
from worker.model_folder.opening import open_folder
from worker.segmenters.semantic.fitting import fit_of, resampled
from worker.segmenters.semantic.looking import Looker
from worker.segmenters.semantic.normalisation import Normaliser
from worker.segmenters.semantic.settings import Output, SemanticSettings, Size, checked, only_file
from worker.segmenters.semantic.windows import fading, starts, through_windows

SIGMOID = {"output": {"activation": "sigmoid"}}


def settings(**values: Any) -> SemanticSettings:
    return checked(SemanticSettings, {**SIGMOID, **values}, "tiny")


def grey(values: np.ndarray, **details: Any) -> ImageStack:
    return stack_of(values.astype(np.float32), Imaging.CT, **details)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"thershold": 0.5}, "thershold"),
        ({"output": {}}, "output.activation"),
        ({"output": {"activation": "relu"}}, "output.activation"),
        ({"channels": 2}, "channels"),
        ({"size": {"fit": "windows"}}, "windows need a size"),
        ({"size": {"fit": "resize", "size": [64]}}, "needs 2 numbers"),
        ({"size": {"size": [64, 63], "multiple_of": 2}}, "multiple_of"),
        ({"size": {"fit": "pad", "shorter_side": 64}}, "shorter_side"),
        ({"size": {"keep_aspect": True}}, "keep_aspect"),
        ({"spacing_mm": [1, 1, 1]}, "spacing_mm"),
        ({"normalisation": {"scale": "window", "low": 0}}, "low and high"),
        ({"normalisation": {"scale": "window", "low": 1, "high": 1}}, "less than"),
        ({"normalisation": {"scale": "percentiles", "low": -1, "high": 50}}, "between 0 and 100"),
        ({"normalisation": {"mean": [0.5]}}, "together"),
        ({"normalisation": {"mean": [0.5, 0.5], "std": [1, 1]}}, "each channel"),
        ({"layout": "NCDHW", "channels": 3}, "one channel"),
        ({"axes": ["rows", "rows", "slices"]}, "once each"),
        ({"mask": {"threshold": 1.5}}, "mask.threshold"),
    ],
)
def test_a_wrong_setting_is_named(values: dict[str, Any], place: str) -> None:
    """Unknown keys, missing ones and contradictions are errors that say where they are."""
    with pytest.raises(ConfigurationError, match=place):
        settings(**values)


def test_the_only_file_needs_no_name(tmp_path: Path) -> None:
    """One file of a kind is found; of two, the settings must name one."""
    for name in ("a.onnx", "b.onnx", "c.ts"):
        (tmp_path / name).write_bytes(b"x")
    folder = open_folder(write_listed(tmp_path, ["a.onnx", "b.onnx", "c.ts"], {}), "onnx")
    assert only_file(folder, "", ".ts") == "c.ts"
    assert only_file(folder, "b.onnx", ".onnx") == "b.onnx"
    with pytest.raises(ConfigurationError, match="2 files"):
        only_file(folder, "", ".onnx")


def test_classes_take_their_channels() -> None:
    """Softmax leaves the background out; a class may have several channels; what does not fit is an error."""
    assert Output(activation="softmax").channels_of(2, 3) == ((1,), (2,))
    assert Output(activation="softmax", background=2).channels_of(2, 3) == ((0,), (1,))
    assert Output(activation="sigmoid").channels_of(2, 2) == ((0,), (1,))
    assert Output(activation="softmax", channels=((1, 2), 3)).channels_of(2, 4) == ((1, 2), (3,))
    with pytest.raises(ConfigurationError, match="for 1 classes but the manifest names 2"):
        Output(activation="softmax").channels_of(2, 2)
    with pytest.raises(ConfigurationError, match="does not have"):
        Output(activation="sigmoid", channels=(4,)).channels_of(1, 4)


RAMP = np.linspace(-1000, 1000, 5)[None, None].repeat(3, axis=1)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"values": "modality", "scale": "window", "low": 0, "high": 500}, [0, 0, 0, 1, 1]),
        ({"values": "modality", "scale": "window", "low": 0, "high": 500, "to": [-1, 1]}, [-1, -1, -1, 1, 1]),
        ({"values": "modality", "scale": "min_max"}, [0, 0.25, 0.5, 0.75, 1]),
        ({"values": "modality", "scale": "percentiles", "low": 25, "high": 75}, [0, 0, 0.5, 1, 1]),
        ({"values": "modality", "scale": "none", "mean": [-1000], "std": [500]}, [0, 1, 2, 3, 4]),
        ({"values": "modality", "scale": "z_score"}, [-1.414, -0.707, 0, 0.707, 1.414]),
        ({"values": "display"}, [0, 0, 0.167, 1, 1]),  # the window of CT angiography, -100 to 500
    ],
)
def test_numbers_are_those_the_network_learnt(how: dict[str, Any], expected: list[float]) -> None:
    """Each scale does what its name says to a ramp of Hounsfield units."""
    made = Normaliser(grey(RAMP), settings(normalisation=how)).frame(0)
    assert made.shape == (1, 3, 5)
    assert made.dtype == np.float32
    assert made[0, 0] == pytest.approx(expected, abs=0.002)


def test_a_stack_is_measured_as_one_or_frame_by_frame() -> None:
    """Frames of different brightness keep their difference only where the stack is measured as a whole."""
    stack = grey(np.stack([RAMP[0], RAMP[0] + 2000]))
    how = {"values": "modality", "scale": "min_max"}
    alone = Normaliser(stack, settings(normalisation=how))
    assert np.array_equal(alone.frame(0), alone.frame(1))
    whole = Normaliser(stack, settings(normalisation={**how, "per": "stack"}))
    assert whole.frame(0).max() == pytest.approx(0.5)
    assert whole.frame(1).min() == pytest.approx(0.5)
    volume = Normaliser(stack, settings(layout="NCDHW", normalisation=how)).volume()
    assert volume.shape == (1, 2, 3, 5)
    assert (volume.min(), volume.max()) == (0, 1)


def test_an_even_or_broken_picture_gives_numbers() -> None:
    """Nothing is divided by 0, and what is no number becomes one."""
    even = np.full((1, 4, 4), 7.0)
    broken = even.copy()
    broken[0, 0] = [np.nan, np.inf, -np.inf, 7]
    for values in (even, broken):
        for scale in ("min_max", "percentiles", "z_score"):
            how = {"values": "modality", "scale": scale}
            assert np.isfinite(Normaliser(grey(values), settings(normalisation=how)).frame(0)).all()


def test_colours_become_channels() -> None:
    """Green, luminance, RGB and BGR of a colour picture; a grey one is repeated."""
    pixels = np.zeros((1, 2, 2, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = 255, 51
    stack = stack_of(pixels, Imaging.FUNDUS)

    def first(**values: Any) -> list[float]:
        return [float(value) for value in Normaliser(stack, settings(**values)).frame(0)[:, 0, 0]]

    assert first(colour="green") == pytest.approx([0.2])
    assert first() == pytest.approx([0.299 + 0.2 * 0.587])
    assert first(channels=3) == pytest.approx([1, 0.2, 0])
    assert first(channels=3, colour="BGR") == pytest.approx([0, 0.2, 1])
    assert first(channels=3, normalisation={"values": "modality"}) == pytest.approx([255, 51, 0])
    assert len(Normaliser(grey(RAMP), settings(channels=3)).frame(0)) == 3


@pytest.mark.parametrize(
    ("size", "shape", "scaled", "padded", "window"),
    [
        ({}, (30, 40), (30, 40), (30, 40), (30, 40)),
        ({"multiple_of": 16}, (30, 40), (30, 40), (32, 48), (32, 48)),
        ({"size": [64, 64]}, (30, 40), (30, 40), (64, 64), (64, 64)),
        ({"fit": "resize", "size": [64, 32]}, (30, 40), (64, 32), (64, 32), (64, 32)),
        ({"fit": "resize", "size": [64, 64], "keep_aspect": True}, (30, 40), (48, 64), (64, 64), (64, 64)),
        ({"fit": "resize", "multiple_of": 16}, (30, 41), (32, 48), (32, 48), (32, 48)),
        ({"fit": "resize", "shorter_side": 60, "multiple_of": 4}, (30, 40), (60, 80), (60, 80), (60, 80)),
        ({"fit": "windows", "size": [32, 32]}, (30, 40), (30, 40), (32, 40), (32, 32)),
    ],
)
def test_sizes_fit_the_network(size: dict[str, Any], shape: Any, scaled: Any, padded: Any, window: Any) -> None:
    """Every way of fitting gives the shapes that it says, and there and back is the same picture."""
    fit = fit_of(shape, None, (), Size(**size))
    assert (fit.scaled, fit.padded, fit.window) == (scaled, padded, window)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = (rows + 2 * columns)[None].astype(np.float32)
    there = fit.forth(image)
    assert there.shape == (1, *padded)
    inner = (slice(None), slice(2, -2), slice(2, -2))
    assert fit.back(there)[inner] == pytest.approx(image[inner], abs=1.5)


def test_spacing_decides_the_size_of_a_volume() -> None:
    """Two millimetres between slices become one; unknown spacing changes nothing."""
    size = Size(fit="windows", size=(4, 4, 4))
    assert fit_of((10, 20, 30), (2.0, 1.0, 0.5), (1.0, 1.0, 1.0), size).scaled == (20, 20, 15)
    assert fit_of((10, 20, 30), None, (1.0, 1.0, 1.0), size).scaled == (10, 20, 30)


def test_a_picture_larger_than_the_network_is_refused() -> None:
    """Where neither windows nor another size are allowed, the text says what to write."""
    with pytest.raises(UnsupportedSourceError, match="windows"):
        fit_of((65, 40), None, (), Size(size=(64, 64)))


def test_volumes_are_resampled_along_all_axes() -> None:
    """A ramp along each of three axes stays that ramp."""
    for axis in range(3):
        ramp = np.moveaxis(np.arange(24, dtype=np.float32)[:, None, None].repeat(8, 1).repeat(6, 2), 0, axis)[None]
        shape = tuple(length // 2 for length in ramp.shape[1:])
        half = resampled(ramp, shape)
        assert half.shape == (1, *shape)
        along = np.moveaxis(half[0], axis, 0)
        assert along[1:-1, 0, 0] == pytest.approx(np.arange(12)[1:-1] * 2 + 0.5, abs=1e-4)


def test_windows_cover_everything_and_end_with_the_picture() -> None:
    """Neighbours overlap by at least what is asked for."""
    for length in (5, 16, 17, 40, 100):
        begin = starts(length, 16, 0.25)
        assert begin[0] == 0
        assert begin[-1] == max(0, length - 16)
        assert all(b - a <= 12 for a, b in itertools.pairwise(begin))
    assert fading((8, 8), 0.25).min() > 0
    assert fading((8, 8), 0.0).min() == 1


@pytest.mark.parametrize(("shape", "window"), [((40, 50), (16, 24)), ((20, 22, 18), (8, 8, 12))])
def test_windows_show_what_the_whole_shows(shape: tuple[int, ...], window: tuple[int, ...]) -> None:
    """A network that looks at single pixels says the same through windows; parts come in order and once."""
    image = np.random.default_rng(0).random((1, *shape), np.float32)
    seen: list[int] = []

    def network(pictures: np.ndarray) -> np.ndarray:
        seen.append(len(pictures))
        assert pictures.shape[1:] == (1, *window)
        return pictures

    looker = Looker(network, Output(activation="none"), 1, batch=3)
    parts = list(through_windows(looker, image, window, 0.25, lambda _share: None))
    assert [first for first, _ in parts] == list(np.cumsum([0, *(part.shape[1] for _, part in parts[:-1])]))
    assert np.concatenate([part for _, part in parts], axis=1) == pytest.approx(image, abs=1e-6)
    assert max(seen) == 3


def test_the_batch_is_halved_when_memory_ends() -> None:
    """What did not fit is done again in smaller portions, remembered, and told; nothing fits: a clean end."""
    most = 2

    def network(pictures: np.ndarray) -> np.ndarray:
        if len(pictures) > most:
            raise MemoryError
        return pictures

    looker = Looker(network, Output(activation="none"), 1, batch=8)
    made = np.zeros((8, 1, 4, 4), np.float32)
    pictures = np.random.default_rng(0).random((8, 1, 4, 4), np.float32)
    looker.look(8, lambda which: pictures[which], made.__setitem__)
    assert np.array_equal(made, pictures)
    assert "2 at a time" in looker.portions.warnings()[0]
    most = 0
    with pytest.raises(RunnerBusyError):
        looker.look(8, lambda which: pictures[which], made.__setitem__)


def test_answers_become_probabilities() -> None:
    """Softmax adds the channels of a class, sigmoid takes the largest; a coarser answer is brought to size."""
    logits = np.zeros((1, 3, 2, 2), np.float32)
    logits[:, 1] = np.log(2)

    def look(output: Output, values: np.ndarray = logits) -> np.ndarray:
        kept: list[np.ndarray] = []
        shown = np.zeros((1, 1, 4, 4), np.float32)
        Looker(lambda _: values, output, 1, 1).look(1, lambda _: shown, lambda _, found: kept.append(found))
        assert kept[0].shape == (1, 1, 4, 4)
        return kept[0]

    assert look(Output(activation="softmax", channels=((1, 2),))) == pytest.approx(0.75)
    assert look(Output(activation="sigmoid", channels=((0, 1),))) == pytest.approx(2 / 3)
    with pytest.raises(ConfigurationError, match="no probability"):
        look(Output(activation="none", channels=(0,)), logits + 3)
    with pytest.raises(SegmentationError, match="no number"):
        look(Output(activation="sigmoid", channels=(0,)), logits * np.nan)
