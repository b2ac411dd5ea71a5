"""The commands of an engineer: from a download to a folder that a rule can use, and a close look at what it says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_segmenter
import typer
from PIL import Image
from safetensors.numpy import save_file
from typer.testing import CliRunner, Result

from console.cli import app
from worker.image_stack import Imaging
from worker.model_folder.manifest import MANIFEST_FILE
from worker.model_trial.generated import generated_picture


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The toy is installed; no settings file of the machine is found."""
    toy_segmenter.install(monkeypatch)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Weights as they were downloaded, with a pickle beside them."""
    folder = tmp_path / "raw"
    folder.mkdir()
    save_file({"level": np.array([120.0], np.float32)}, folder / toy_segmenter.WEIGHTS)
    (folder / "LICENSE").write_text("Anybody may.")
    (folder / "pytorch_model.bin").write_bytes(b"program")
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture with vessels."""
    Image.fromarray(generated_picture(48, 64)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Settings with a good model, one whose folder is missing, and one whose licence nobody accepted."""
    file = tmp_path / "vesselq.toml"
    file.write_text(
        '[models.little]\nsystem = "toy"\nfolder = "model"\n'
        '[models.lost]\nsystem = "toy"\nfolder = "nowhere"\n'
        '[models.strict]\nsystem = "toy"\nfolder = "strict"\n'
    )
    return file


def vesselq(*words: object) -> Result:
    """Run ``vesselq models``."""
    return CliRunner().invoke(app, ["models", *map(str, words)])


def told(*words: object) -> Any:
    """Run it with --json; what it printed is one document and nothing else."""
    result = vesselq(*words, "--json")
    assert result.exit_code in (0, 1), result.output
    return json.loads(result.stdout)


def converted(raw: Path, out: str, *more: object, license_name: str = "MIT") -> Any:
    """Convert the toy."""
    return told("convert", raw, out, "--system", "toy", "--license", license_name, *more)


def test_convert_says_what_it_made(raw: Path, tmp_path: Path) -> None:
    """The folder bears what was said; pickles are left out, in words; the next step is told."""
    (tmp_path / "settings.toml").write_text('mode = "hard"\n[mask]\nthreshold = 0.4\n')
    made = converted(
        raw, "model", "--name", "little", "--version", "3", "--summary", "One number", "--source", "a colleague",
        "--imaging", "fundus", "--class", "artery=Artery", "--settings", "settings.toml", "--set", "mode=soft",
    )  # fmt: skip
    assert json.loads((tmp_path / "model" / MANIFEST_FILE).read_text())["name"] == made["name"] == "little"
    assert (made["version"], made["license"], made["imagings"]) == ("3", "MIT", ["fundus"])
    assert made["classes"] == [{"key": "artery", "label": "Artery"}]
    assert made["settings"] == {"mask": {"threshold": 0.4}, "mode": "soft"}
    assert made["left_out"] == ["pytorch_model.bin"]
    said = vesselq("convert", raw, "other", "--system", "toy", "--license", "LicenseRef-strict").output
    assert "other is a model for toy (named by you)" in said
    assert "left out: pytorch_model.bin" in said
    assert "next: vesselq models verify other" in said
    assert 'accept_license = "LicenseRef-strict"' in said


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("convert", "raw", "model"), 2, "no model that vesselq knows"),
        (("convert", "raw", "model", "--system", "toy"), 2, "--license"),
        (("convert", "raw", "model", "--system", "magic"), 4, "no segmenter 'magic'"),
        (("convert", "raw", "model", "--system", "toy", "--imaging", "photo"), 2, "none of"),
        (("convert", "raw", "model", "--system", "toy", "--class", "worm=Worm"), 2, "the keys are"),
        (("convert", "raw", "model", "--system", "toy", "--set", "threshold"), 2, "KEY=VALUE"),
        (("convert", "raw", "model", "--system", "toy", "--settings", "no.toml"), 2, "no.toml cannot be read"),
        (("convert", "nothing", "model"), 4, "neither a folder nor a file"),
        (("verify", "raw"), 2, "vesselq models convert"),
        (("verify", "nothing"), 2, "neither a folder of weights nor a model"),
        (("show", "nothing"), 4, "no segmenter"),
        (("predict", "ridge", "picture.png", "--box", "1,2,3"), 2, "LEFT,TOP,RIGHT,BOTTOM"),
        (("predict", "ridge", "picture.png", "--box", "9,2,3,4"), 2, "is no box"),
        (("predict", "ridge", "picture.png", "--point", "1"), 2, "X,Y"),
        (("predict", "ridge", "picture.png", "--out", "no/x.npz"), 4, "is no folder"),
        (("predict", "ridge", "picture.png", "--prompt", "vessel"), 1, "takes no prompt"),
        (("predict", "ridge", "nothing.png"), 4, "neither a folder nor a file"),
        (("predict", "ridge", "picture.png", "--device", "cuda:63"), 2, "There is no cuda:63 here"),
        (("predict", "ridge", "picture.png", "--device", "gpu"), 2, "'gpu' is no device"),
        (("benchmark", "ridge", "--device", "meta"), 2, "does not work on 'meta'"),
        (("benchmark", "ridge", "--batch", "many"), 2, "numbers of frames"),
        (("benchmark", "ridge", "--batch", "0"), 2, "numbers of frames"),
        (("benchmark", "ridge", "--size", "8b"), 2, "goes with --random-weights"),
        (("benchmark", "ridge", "--random-weights"), 2, "cannot be made with random weights"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("raw", "picture")
def test_mistakes_are_told_in_sentences(words: tuple[str, ...], code: int, said: str) -> None:
    """What cannot be done ends with its exit code and a sentence, without a trace."""
    result = vesselq(*words)
    assert result.exit_code == code, result.output
    assert said in " ".join(result.output.replace("│", " ").split())
    assert "Traceback" not in result.output


def test_list_shows_systems_and_models(raw: Path, settings: Path) -> None:
    """Systems, and the models of the settings, each with what is wrong with it."""
    converted(raw, "model")
    converted(raw, "strict", license_name="LicenseRef-strict")
    found = told("list", "--config", settings)
    assert {"ridge", "vesselnet", "toy"} <= {one["name"] for one in found["systems"]}
    toy = next(one for one in found["systems"] if one["name"] == "toy")
    assert toy["needs_folder"] is True
    assert toy["prompts"] == ["boxes", "none", "points", "text"]
    little, lost, strict = found["models"]
    assert (little["name"], little["system"], little["version"], little["remark"]) == ("little", "toy", "1", "")
    assert "nowhere is no folder" in lost["remark"]
    assert 'accept_license = "LicenseRef-strict"' in strict["remark"]
    table = vesselq("list", "--config", settings).stdout
    assert "little" in table
    assert "needs a folder" in table


def test_show_prints_the_licence(raw: Path, settings: Path) -> None:
    """By name or folder, for people and machines; a folder without a manifest says what would run it."""
    converted(raw, "model")
    by_folder, by_name = told("show", "./model"), told("show", "little", "--config", settings)
    for facts in (by_folder, by_name):
        assert facts["license_text"] == "Anybody may."
        assert (facts["system"], facts["parameters"], facts["must_be_accepted"]) == ("toy", 1, False)
    shown = vesselq("show", "./model").stdout
    assert shown.rstrip().endswith("Anybody may.")
    assert "must_be_accepted" in shown
    assert vesselq("show", "ridge").exit_code == 0
    (raw / "config.json").write_text('{"model_type": "sam"}')
    facts = told("show", raw)
    assert (facts["system"], facts["license"]) == ("sam", "not known")
    assert "vesselq models convert" in facts["manifest"]


def test_verify_ends_with_1_where_something_changed(raw: Path, settings: Path, tmp_path: Path) -> None:
    """All findings of a good folder are ok; one changed byte is told and ends with 1; files alone load nothing."""
    converted(raw, "model")
    found = told("verify", "model", "--device", "cpu")
    assert found["ok"] is True
    assert {one["what"]: one["health"] for one in found["findings"]}["self-test"] == "ok"
    weights = tmp_path / "model" / toy_segmenter.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    result = vesselq("verify", "little", "--config", settings, "--device", "cpu")
    assert result.exit_code == 1
    assert "fails" in result.stdout
    assert toy_segmenter.WEIGHTS in result.stdout
    found = told("verify", "model", "--files-only")
    assert [one["what"] for one in found["findings"]] == ["files", "other files", "licence"]
    assert found["ok"] is False


def test_predict_writes_arrays_and_a_picture(raw: Path, picture: Path, settings: Path, tmp_path: Path) -> None:
    """A model by folder or name, asked in words and by boxes; what it said stands in the file and on the screen."""
    converted(raw, "model")
    said = told(
        "predict", "./model", picture, "--prompt", "artery", "--box", "0,0,31,47", "--dtype", "float16",
        "--device", "cpu", "--out", "x.npz", "--picture", "x.png",
    )  # fmt: skip
    assert said["arrays"]["probability"] == [1, 48, 64]
    assert said["parameters"] == {"dtype": "float16"}
    assert said["warnings"] == ["a toy"]
    assert said["drawn_frame"] == 0
    grey = generated_picture(48, 64)[..., 0]
    with np.load(tmp_path / "x.npz") as arrays:
        assert np.array_equal(arrays["mask"][0, :, :32], grey[:, :32] < 120)
        assert not arrays["mask"][0, :, 32:].any()
        assert str(arrays["answer"]) == "1 questions"
        assert arrays["seg_vector"].tolist() == [[120.0, 120.0, 120.0]]
    with Image.open(tmp_path / "x.png") as drawn:
        assert drawn.size == (64, 48)
    result = vesselq("predict", "little", picture, picture, "--video", "--config", settings, "--device", "cpu")
    assert result.exit_code == 0
    assert "share in mask" in result.stdout


def test_points_on_the_command_line(raw: Path, picture: Path) -> None:
    """X,Y lies inside; X,Y,outside does not."""
    from console.prompt_options import box_of, point_of, table_of

    assert (point_of("3,4").inside, point_of("3.5,4,outside").inside) == (True, False)
    assert point_of("3.5,4,outside").x == 3.5
    assert box_of("1,2,3,4.5").bottom == 4.5
    assert table_of(["a=1", "b=true", 'c="x"', "d=two words", "e=[1, 2]"]) == {
        "a": 1, "b": True, "c": "x", "d": "two words", "e": [1, 2],
    }  # fmt: skip
    assert table_of(["size.fit=resize", "size.size=[8, 8]"]) == {"size": {"fit": "resize", "size": [8, 8]}}
    with pytest.raises(typer.BadParameter, match="has a value already"):
        table_of(["size=3", "size.fit=resize"])
    converted(raw, "model")
    assert told("predict", "./model", picture, "--point", "3,4,outside", "--device", "cpu")["status"] == "ok"


def test_benchmark_measures_each_batch(raw: Path) -> None:
    """A line for each number of frames, for people and machines."""
    converted(raw, "model")
    words = ("benchmark", "./model", "--batch", "1,3", "--rows", 16, "--columns", 24, "--rounds", 1, "--device", "cpu")
    found = told(*words)
    assert [one["frames"] for one in found["timings"]] == [1, 3]
    assert all(one["seconds_a_frame"] > 0 for one in found["timings"])
    assert found["device"] == "cpu"
    assert "seconds a frame" in vesselq(*words).stdout


def test_benchmark_of_a_true_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights a system measures itself; one that cannot be made without weights says so."""
    from worker.model_trial import true_shapes

    asked: list[Any] = []

    def measured(size: str, how: true_shapes.Measuring) -> Iterator[object]:
        asked.append((size, how.batches, how.device))
        yield {"size": size, "seconds_a_frame_and_more_so_that_the_title_fits": 0.5}

    monkeypatch.setattr(true_shapes, "_sa2va", measured)
    monkeypatch.setattr(true_shapes, "_sam", measured)
    words = ("benchmark", "sa2va", "--random-weights", "--batch", "1,16", "--device", "cpu")
    assert told(*words)["timings"][0]["size"] == "8b"
    assert "sa2va with random weights on cpu" in vesselq(*words, "--size", "4b").stdout
    assert told("benchmark", "sam", "--random-weights", "--size", "vit-h", "--device", "cpu")["timings"]
    assert asked == [("8b", [1, 16], "cpu"), ("4b", [1, 16], "cpu"), ("h", [1], "cpu")]


def test_predict_with_a_mask(raw: Path, picture: Path, tmp_path: Path) -> None:
    """A mask is what is not black, the same on each frame; the toy takes none and says so."""
    from worker.model_trial.pictures import mask_in, stack_of

    stack = stack_of([picture, picture], frozenset({Imaging.OTHER}), video=True)
    grey = np.zeros((48, 64), np.uint8)
    grey[10:20] = 1
    Image.fromarray(grey).save(tmp_path / "mask.png")
    assert np.array_equal(mask_in(tmp_path / "mask.png", stack), np.stack([grey > 0] * 2))
    converted(raw, "model")
    result = vesselq("predict", "./model", picture, "--mask", "mask.png", "--device", "cpu")
    assert result.exit_code == 1
    assert "cannot be asked by mask" in result.output
    Image.fromarray(grey[:, :9]).save(tmp_path / "small.png")
    assert "another size" in vesselq("predict", "./model", picture, "--mask", "small.png").output
    assert "is no file" in vesselq("predict", "./model", picture, "--mask", "no.png").output


def test_predict_with_an_example(raw: Path, picture: Path) -> None:
    """An example is a picture with boxes; one without the other is a mistake; the toy takes none and says so."""
    from worker.model_trial.pictures import example_in

    assert np.array_equal(example_in(picture), generated_picture(48, 64))
    converted(raw, "model")
    words = ("predict", "./model", picture, "--device", "cpu", "--example", picture)
    assert vesselq(*words).exit_code == 2
    assert "cannot be asked by example" in vesselq(*words, "--example-box", "1,2,3,4").output


def test_export_to_onnx(tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """vesselnet, a folder of SAM and a SAM of the settings each find their writer; others are refused."""
    import tiny_sam

    from worker.segmenters.onnx_writing import ExportReport
    from worker.segmenters.sam import onnx_export as of_sam
    from worker.segmenters.vesselnet import onnx_export as of_vesselnet

    asked: list[Any] = []

    def written(*values: Any, **more: Any) -> ExportReport:
        asked.append((values, more))
        return ExportReport(tmp_path / "out", ("net.onnx",), 2e-6)

    monkeypatch.setattr(of_sam, "export", written)
    monkeypatch.setattr(of_vesselnet, "export", written)
    assert told("export-onnx", "vesselnet", "out", "--imaging", "fundus")["max_difference"] == 2e-6
    assert asked[-1][0] == (Path("out"), Imaging.FUNDUS)
    tiny_sam.write_tiny_sam(tmp_path / "tiny")
    assert "differ by 2.0e-06 at most" in vesselq("export-onnx", "./tiny", "out").stdout
    assert asked[-1][0][0].manifest.name == "tiny-sam"
    (tmp_path / "vesselq.toml").write_text('[models.mine]\nsystem = "sam"\nfolder = "tiny"\naccept_license = "X"\n')
    assert told("export-onnx", "mine", "out")["files"] == ["net.onnx"]
    assert asked[-1] == (("tiny", Path("out")), {"accept_license": "X"})
    converted(raw, "toy")
    for words, said in (
        (("./toy", "out"), "only vesselnet and sam"),
        (("ridge", "out"), "only vesselnet and sam"),
        (("sam", "out"), "a system without weights"),
        (("vesselnet", "out", "--imaging", "photo"), "none of"),
        (("nothing", "out"), "no segmenter"),
    ):
        result = vesselq("export-onnx", *words)
        assert result.exit_code in (2, 4)
        assert said in " ".join(result.output.replace("│", " ").split())
