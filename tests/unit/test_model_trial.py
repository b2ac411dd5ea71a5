"""What an engineer looks through: pictures as they are, any model by name or folder, results as arrays."""

from pathlib import Path

import dicom_sources
import numpy as np
import pytest
import toy_segmenter
from PIL import Image
from safetensors.numpy import save_file
from toy_segmenter import ToySegmenter

from dicom_core.errors import (
    ConfigurationError,
    DamagedSourceError,
    NotFoundError,
    SegmentationError,
    SourceTooLargeError,
    SpoolError,
    UnsupportedSourceError,
)
from dicom_core.prompt import PromptKind, Question
from worker.image_stack import Arrangement, ImageStack, Imaging
from worker.model_folder.adopting import Description, adopt
from worker.model_folder.checking import Health
from worker.model_folder.recognising import recognise
from worker.model_trial.asking import any_prompt, prompt_of_kind
from worker.model_trial.choosing import chosen, opened
from worker.model_trial.describing import described
from worker.model_trial.generated import generated_picture, generated_stack
from worker.model_trial.pictures import likeliest, stack_of
from worker.model_trial.result_file import arrays_of, write_arrays, write_overlay
from worker.model_trial.self_test import self_test
from worker.model_trial.timing import time_frames
from worker.model_trial.verifying import verify
from worker.pictures.display import display_frame
from worker.segmenters import registry
from worker.segmenters.interface import ProgressCallback, Prompt, Segmentation

XA = frozenset({Imaging.XRAY_ANGIOGRAPHY})


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    toy_segmenter.install(monkeypatch)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Weights of the toy as they were downloaded."""
    folder = tmp_path / "raw"
    folder.mkdir()
    save_file({"level": np.array([120.0], np.float32)}, folder / toy_segmenter.WEIGHTS)
    (folder / "LICENSE").write_text("Anybody may.")
    return folder


@pytest.fixture
def folder(raw: Path, tmp_path: Path) -> Path:
    """The same with a manifest."""
    adopt(recognise(raw, "toy"), tmp_path / "toy", Description("little", license="MIT"))
    return tmp_path / "toy"


def picture(folder: Path, name: str, mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Path:
    """Write a picture with every value in it."""
    random = np.random.default_rng(3)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    most, kind = (65536, np.uint16) if mode == "I;16" else (256, np.uint8)
    pixels = random.integers(0, most, shape).astype(kind)
    Image.fromarray(pixels).save(folder / name)
    return folder / name


def test_colour_pictures_reach_the_model_as_they_are(tmp_path: Path) -> None:
    """A PNG becomes uint8 RGB, bit for bit; several become independent pictures, or a run in the order named."""
    first, second = picture(tmp_path, "b.png"), picture(tmp_path, "a.png")
    stack = stack_of([first, second], XA, video=False)
    assert (stack.arrangement, stack.imaging, stack.pixels.dtype) == (
        Arrangement.FRAMES, Imaging.XRAY_ANGIOGRAPHY, np.uint8,
    )  # fmt: skip
    assert np.array_equal(stack.pixels[0], np.asarray(Image.open(first)))
    assert [frame.frame_number for frame in stack.frames] == [1, 2]
    assert stack_of([first, second], XA, video=True).arrangement is Arrangement.RUN
    assert len(stack_of([tmp_path], XA, video=False).frames) == 2


@pytest.mark.parametrize(("mode", "white"), [("L", 255), ("I;16", 65535)])
def test_grey_pictures_keep_their_values(tmp_path: Path, mode: str, white: int) -> None:
    """Grey stays grey with its own values, and what a reader sees of it is exactly the grey of the file."""
    file = picture(tmp_path, "grey.png", mode)
    stack = stack_of([file], XA, video=False)
    values = np.asarray(Image.open(file))
    assert np.array_equal(stack.pixels[0], values.astype(np.float32))
    assert stack.display_range == (0, white)
    seen = display_frame(stack, 0)
    expected = np.rint(values.astype(np.float64) * 255 / white).astype(int)
    assert np.abs(seen[..., 0].astype(int) - expected).max() <= (0 if white == 255 else 1)
    assert (seen[..., 0] == seen[..., 2]).all()


def test_a_dicom_series_says_itself_what_it_is(tmp_path: Path) -> None:
    """DICOM files, or their folder, are decoded as the worker does, whatever the segmenter is for."""
    files = dicom_sources.save(dicom_sources.xa_run(frames=3, rows=32, columns=40), tmp_path / "run")
    for places in (files, [tmp_path / "run"]):
        stack = stack_of(places, frozenset({Imaging.FUNDUS}), video=False)
        assert (stack.imaging, stack.arrangement) == (Imaging.XRAY_ANGIOGRAPHY, Arrangement.RUN)
        assert stack.pixels.shape == (3, 32, 40)


def test_pictures_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing there, several sizes, a mixture, no picture at all, far too large: each in a sentence."""
    file = picture(tmp_path, "a.png")
    with pytest.raises(NotFoundError):
        stack_of([tmp_path / "no.png"], XA, video=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError):
        stack_of([tmp_path / "empty"], XA, video=False)
    with pytest.raises(UnsupportedSourceError, match="differ in size"):
        stack_of([file, picture(tmp_path, "b.png", size=(30, 30))], XA, video=False)
    with pytest.raises(UnsupportedSourceError, match="differ in size"):
        stack_of([file, picture(tmp_path, "c.png", "L")], XA, video=False)
    (tmp_path / "words.txt").write_text("words")
    with pytest.raises(UnsupportedSourceError, match="both pictures and other files"):
        stack_of([file, tmp_path / "words.txt"], XA, video=False)
    (tmp_path / "bad.png").write_bytes(file.read_bytes()[:90])
    with pytest.raises(DamagedSourceError, match=r"bad\.png cannot be read"):
        stack_of([tmp_path / "bad.png"], XA, video=False)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(SourceTooLargeError):
        stack_of([file], XA, video=False)


def test_a_picture_is_taken_for_what_the_model_is_for() -> None:
    """A model for any picture gets one of any kind; one for eyes gets a picture of an eye."""
    assert likeliest(frozenset(Imaging)) is Imaging.OTHER
    assert likeliest(frozenset({Imaging.FUNDUS, Imaging.XRAY_ANGIOGRAPHY})) is Imaging.XRAY_ANGIOGRAPHY
    assert likeliest(frozenset({Imaging.FUNDUS})) is Imaging.FUNDUS


def test_names_folders_and_files_are_told_apart(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A known name wins over a folder of that name; ./NAME is the folder; settings of this time are on top."""
    monkeypatch.chdir(tmp_path)
    models = {"mine": {"system": "toy", "folder": str(folder), "dtype": "float16"}}
    by_name = chosen("mine", models, {"dtype": "float32"})
    assert by_name.place is None
    assert dict(by_name.models["mine"]) == {"system": "toy", "folder": str(folder), "dtype": "float32"}
    assert models["mine"]["dtype"] == "float16"
    assert chosen("toy", {}, {}).place is None
    for what in ("./toy", str(folder)):
        made = chosen(what, {}, {}).load("cpu")
        assert isinstance(made, ToySegmenter)
        assert made.info.name == "little"
    with pytest.raises(NotFoundError, match="There is no segmenter 'nothing'"):
        chosen("nothing", {}, {}).load("cpu")
    with pytest.raises(NotFoundError, match="neither a folder nor a file"):
        chosen("no/thing", {}, {})
    chain = chosen("ridge+mine", models, {})
    assert set(chain.models) == {"mine"}


def test_a_licence_is_asked_for(raw: Path, tmp_path: Path) -> None:
    """A folder whose licence is not permissive needs it to be named; one without a manifest is only looked at."""
    adopt(recognise(raw, "toy"), tmp_path / "toy", Description("little", license="LicenseRef-strict"))
    with pytest.raises(ConfigurationError, match="LicenseRef-strict"):
        chosen(str(tmp_path / "toy"), {}, {})
    assert chosen(str(tmp_path / "toy"), {}, {}, "LicenseRef-strict").load("cpu").info.license == "LicenseRef-strict"


def test_naming_a_file_of_a_folder_is_no_way_around_its_licence(raw: Path, tmp_path: Path) -> None:
    """A file that the manifest beside it lists is that model; another file that lies there is a model without one."""
    (raw / "net.ts").write_bytes(b"anything")
    adopt(recognise(raw, "toy"), tmp_path / "toy", Description("little", license="LicenseRef-strict"))
    with pytest.raises(ConfigurationError, match="LicenseRef-strict"):
        opened(tmp_path / "toy" / "net.ts")
    assert opened(tmp_path / "toy" / "net.ts", "LicenseRef-strict").checked
    (tmp_path / "toy" / "other.ts").write_bytes(b"anything")
    assert not opened(tmp_path / "toy" / "other.ts").checked


def test_a_network_that_nobody_described(tmp_path: Path) -> None:
    """A bare ONNX file cannot be run before somebody has said what it takes: the way to say so is told."""
    pytest.importorskip("onnxruntime")
    (tmp_path / "net.onnx").write_bytes(b"anything")
    with pytest.raises(ConfigurationError, match=r"has no manifest.*output.*vesselq models convert .*net\.onnx OUT"):
        chosen(str(tmp_path / "net.onnx"), {}, {}).load("cpu")


def test_descriptions(folder: Path) -> None:
    """A name, a model of the settings, a folder with and without a manifest: what is known, the licence in full."""
    assert described("ridge", {})["summary"] == registry.info("ridge").summary
    for facts in (described(str(folder), {}), described("mine", {"mine": {"system": "toy", "folder": str(folder)}})):
        assert (facts["name"], facts["license"], facts["must_be_accepted"]) == ("little", "MIT", False)
        assert facts["license_text"] == "Anybody may."
        assert facts["parameters"] == 1
    (folder / "LICENSE").write_text("Nobody may.")
    assert "cannot be shown" in described(str(folder), {})["license_text"]
    facts = described("ridge", {"ridge": {"threshold": 0.4}})
    assert facts["settings"] == {"threshold": 0.4}


@pytest.mark.parametrize("kind", PromptKind)
def test_a_prompt_of_each_kind(kind: PromptKind) -> None:
    """Each way of asking makes a prompt of that kind alone, in the picture."""
    asked = prompt_of_kind(kind, generated_picture(40, 60), frames=2)
    assert asked.kinds == {kind}
    for box in asked.boxes:
        assert (box.right, box.bottom) == (45, 30)
    assert asked.mask is None or asked.mask.shape == (2, 40, 60)


def test_the_generated_picture_is_the_same_everywhere() -> None:
    """Its vessels are dark, and stacks of it are of a kind that the segmenter takes."""
    drawn = generated_picture(64, 96)
    assert drawn.shape == (64, 96, 3)
    assert 60 < drawn.min() < 110 < np.median(drawn) < 170
    assert 0.03 < float((drawn[..., 0] < 115).mean()) < 0.15
    for name in ("ridge", "vesselnet"):
        info = registry.info(name)
        stack = generated_stack(info, 2, 64, 96)
        assert stack.imaging in info.imagings
        assert stack.arrangement in info.arrangements
        assert any_prompt(info, drawn) == Prompt()


def looked(folder: Path, prompt: Prompt, frames: int = 1) -> tuple[ImageStack, dict[str, np.ndarray]]:
    """Show the toy a generated picture."""
    segmenter = chosen(str(folder), {}, {}).load("cpu")
    stack = generated_stack(segmenter.info, frames, 30, 40)
    return stack, arrays_of(segmenter.segment(stack, prompt, lambda _share: None))


def test_arrays_have_the_axes_that_people_expect(folder: Path, tmp_path: Path) -> None:
    """One class: frames first; several: classes first. The finer probabilities of the extras win over float16."""
    _, arrays = looked(folder, Prompt(), frames=2)
    assert (arrays["probability"].shape, arrays["probability"].dtype) == ((2, 30, 40), np.float32)
    assert arrays["probability"].max() == np.float32(0.7)
    assert arrays["mask"].shape == (2, 30, 40)
    _, arrays = looked(folder, Prompt(questions=(Question(text="artery"), Question(text="vein"))))
    assert arrays["probability"].shape == arrays["mask"].shape == (2, 1, 30, 40)
    assert arrays["classes"].tolist() == ["artery", "vein"]
    assert arrays["seg_vector"].shape == (2, 3)
    write_arrays(tmp_path / "out.npz", arrays)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as read:
        assert str(read["answer"]) == "2 questions"
        assert str(read["status"]) == "ok"
        assert {name: read[name].shape for name in read} == {name: array.shape for name, array in arrays.items()}


def test_the_overlay_shows_the_frame_with_most(folder: Path, tmp_path: Path) -> None:
    """The drawn file has the size of the frame and differs from it where the mask is."""
    segmenter = ToySegmenter(folder=str(folder))
    stack = generated_stack(segmenter.info, 3, 64, 80)
    stack.pixels[2, :20] = 0
    found = segmenter.segment(stack, Prompt(), lambda _share: None)
    assert write_overlay(tmp_path / "o.png", stack, found) == 2
    drawn = np.asarray(Image.open(tmp_path / "o.png"))
    assert drawn.shape == (64, 80, 3)
    assert (drawn[:18] != display_frame(stack, 2)[:18]).any(axis=-1).all()


def test_files_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    """A folder that is none ends in a sentence."""
    stack, arrays = looked(folder, Prompt())
    with pytest.raises(SpoolError, match="cannot be written"):
        write_arrays(tmp_path / "no" / "out.npz", arrays)
    found = ToySegmenter(folder=str(folder)).segment(stack, Prompt(), lambda _share: None)
    with pytest.raises(SpoolError, match="cannot be written"):
        write_overlay(tmp_path / "no" / "out.png", stack, found)


def test_self_test_tells_what_came_back(folder: Path) -> None:
    """A good model passes with words about it; wrong shapes, no numbers and impossible ones do not."""
    told = self_test(ToySegmenter(folder=str(folder)))
    assert told.status == "ok"
    assert 0.02 < told.share < 0.3
    assert "'0 questions'" in told.in_words()
    for wrong, words in (("nan", "numbers that are none"), ("large", "above 1"), ("shape", "the shape")):
        with pytest.raises(SegmentationError, match=words):
            self_test(ToySegmenter(folder=str(folder), wrong=wrong))


def test_verify_goes_from_the_files_to_the_answer(raw: Path, folder: Path, tmp_path: Path) -> None:
    """A good folder is loaded and asked; a damaged one is not loaded; what fails later is a finding, too."""
    assert [one.what for one in verify(folder, "cpu") if one.health is Health.OK][:6] == [
        "files", "other files", "licence", "parameters", "load", "self-test",
    ]  # fmt: skip
    assert [one.what for one in verify(folder, "cpu", load=False)][-1] == "parameters"
    adopt(recognise(raw, "toy"), tmp_path / "strict", Description("m", license="LicenseRef-strict"))
    assert all(one.health is Health.OK for one in verify(tmp_path / "strict", "cpu"))
    adopt(recognise(raw, "toy"), tmp_path / "nan", Description("m", license="MIT", settings={"wrong": "nan"}))
    last = verify(tmp_path / "nan", "cpu")[-1]
    assert (last.what, last.health) == ("self-test", Health.FAILS)
    save_file({"other": np.zeros(1, np.float32)}, raw / toy_segmenter.WEIGHTS)
    adopt(recognise(raw, "toy"), tmp_path / "other", Description("m", license="MIT"))
    last = verify(tmp_path / "other", "cpu")[-1]
    assert (last.what, last.health, last.detail) == ("load", Health.FAILS, "the weights are those of another network")
    (folder / toy_segmenter.WEIGHTS).write_bytes(b"")
    assert [one.what for one in verify(folder, "cpu")] == ["files", "other files", "licence"]


def test_timing_counts_frames(folder: Path) -> None:
    """Seconds a frame are those of a round over its frames; the first round does not count."""
    calls: list[int] = []

    class Counted(ToySegmenter):
        def segment(self, stack: ImageStack, prompt: Prompt, progress: ProgressCallback) -> Segmentation:
            calls.append(len(stack.frames))
            return super().segment(stack, prompt, progress)

    timing = time_frames(Counted(folder=str(folder)), 2, 32, 48, rounds=2)
    assert calls == [2, 2, 2]
    assert (timing.frames, timing.rows, timing.columns, timing.rounds) == (2, 32, 48, 2)
    assert 0 < timing.seconds_a_frame <= timing.slowest < 1
