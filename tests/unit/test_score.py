"""The measures, the manifest's reader and the command that scores a segmenter."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tube_pictures import picture, vessel_mask
from typer import Typer
from typer.testing import CliRunner

from dicom_core.errors import ConfigurationError
from training.drawn_set import write_drawn_set
from training.manifest import imaging_of, read_manifest
from training.measures import Agreement, agreement, summarise
from training.score import main
from worker.image_stack import Imaging

app = Typer()
app.command()(main)


def square(*, rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((20, 20), bool)
    mask[rows, columns] = True
    return mask


def test_measures_by_hand() -> None:
    """Masks of 40 and 20 pixels with 20 in common: Dice 2/3, IoU 1/2, precision 1/2, recall 1."""
    found = agreement(square(rows=slice(0, 4), columns=slice(0, 10)), square(rows=slice(0, 4), columns=slice(0, 5)))
    assert found.dice == pytest.approx(2 / 3)
    assert found.iou == pytest.approx(0.5)
    assert found.precision == pytest.approx(0.5)
    assert found.recall == pytest.approx(1.0)


def test_centre_line_counts_a_thin_vessel_as_much_as_a_thick_one() -> None:
    """Missing a vessel one pixel wide hardly moves Dice and halves the recall of the centre line."""
    thick = square(rows=slice(2, 9), columns=slice(0, 20))
    both = thick | square(rows=slice(15, 16), columns=slice(0, 20))
    found = agreement(thick, both)
    assert found.dice > 0.9
    assert found.centreline_dice < 0.8


def test_empty_masks() -> None:
    """Two empty masks agree perfectly; an empty one against a vessel is 0 everywhere."""
    empty, full = np.zeros((5, 5), bool), np.ones((5, 5), bool)
    assert agreement(empty, empty) == Agreement(1, 1, 1, 1, 1)
    assert agreement(empty, full) == Agreement(0, 0, 0, 0, 0)
    assert agreement(full, empty) == Agreement(0, 0, 0, 0, 0)


def test_only_the_field_of_view_counts() -> None:
    """What lies outside the field of view is neither right nor wrong."""
    truth = square(rows=slice(0, 5), columns=slice(0, 5))
    wrong_outside = truth | square(rows=slice(10, 20), columns=slice(0, 20))
    inside = square(rows=slice(0, 10), columns=slice(0, 20))
    assert agreement(wrong_outside, truth, inside).dice == 1.0
    assert agreement(wrong_outside, truth).dice < 0.3


def test_interval_holds_the_mean_and_shrinks_with_more_images() -> None:
    """The bootstrap interval lies around the mean, is the same each time, and is narrower for more images."""
    values = np.random.default_rng(0).uniform(0.4, 0.8, 200)
    many = summarise([Agreement(v, v, v, v, v) for v in values])["dice"]
    few = summarise([Agreement(v, v, v, v, v) for v in values[:10]])["dice"]
    assert many.low < many.mean < many.high
    assert many.high - many.low < few.high - few.low
    assert many == summarise([Agreement(v, v, v, v, v) for v in values])["dice"]


@pytest.mark.parametrize(
    ("modality", "imaging"),
    [
        ("XA (2D coronary angiogram frame, 512x512)", Imaging.XRAY_ANGIOGRAPHY),
        ("X-ray angiography", Imaging.XRAY_ANGIOGRAPHY),
        ("OCTA en face 320x320 grey", Imaging.OCT_ANGIOGRAPHY),
        ("synthetic OCTA en face 304x304 grey", Imaging.OCT_ANGIOGRAPHY),
        ("OCT angiography", Imaging.OCT_ANGIOGRAPHY),
        ("OCT B-scan", Imaging.OCT),
        ("colour fundus photo 999x960 RGB", Imaging.FUNDUS),
        ("scanning laser ophthalmoscopy", Imaging.FUNDUS),
        ("CT series, contrast", Imaging.CT),
        ("MRA time of flight", Imaging.MR),
    ],
)
def test_modality_in_words_decides_the_kind_of_picture(modality: str, imaging: Imaging) -> None:
    """The words of a manifest's modality name one kind of picture; OCTA is not OCT."""
    assert imaging_of(modality) is imaging


def test_unknown_modality_is_an_error() -> None:
    """Words that name no kind of picture are refused rather than guessed."""
    with pytest.raises(ConfigurationError, match="photograph of a leaf"):
        imaging_of("photograph of a leaf")


ManifestMaker = Callable[..., Path]


@pytest.fixture
def manifest(tmp_path: Path) -> ManifestMaker:
    """Return a function that writes three angiograms with masks of twice the size, and a manifest of them."""

    def make(**changes: object) -> Path:
        entries = []
        for number in range(3):
            truth = vessel_mask(256, seed=number)
            grey = np.clip(picture(truth, bright=False, seed=number), 0, 255).astype(np.uint8)
            Image.fromarray(grey).save(tmp_path / f"{number}.png")
            Image.fromarray(truth.astype(np.uint8) * 255).resize((512, 512)).save(tmp_path / f"{number}_mask.png")
            entry = {
                "dataset": "A" if number < 2 else "B",
                "modality": "XA frame",
                "image": f"{number}.png",
                "mask": f"{number}_mask.png",
                "mask_rule": ">127, resize 512->256",
                "fov_mask": None,
                "split": "val" if number else "train",
            }
            entries.append(entry | changes)
        entries.append({"dataset": "A", "modality": "DICOM XA", "image": "x.dcm", "mask": None, "mask_rule": None})
        entries.append({"dataset": "A", "modality": "CT series", "image": "folder", "mask": "labels.nii.gz"})
        path = tmp_path / "manifest.json"
        path.write_text(json.dumps(entries))
        return path

    return make


def test_entries_that_cannot_be_scored_are_counted(manifest: ManifestMaker, tmp_path: Path) -> None:
    """DICOM files and volumes are skipped and counted; data set and split choose."""
    path = manifest()
    everything = read_manifest(path, tmp_path)
    assert (len(everything.cases), everything.skipped) == (3, 2)
    assert len(read_manifest(path, tmp_path, dataset="A", split="val").cases) == 1
    assert read_manifest(path, tmp_path, dataset="B").skipped == 0


def test_mask_of_another_size_is_resized(manifest: ManifestMaker, tmp_path: Path) -> None:
    """A mask of twice the size is averaged down to the image's and equals the one it was made from."""
    case = read_manifest(manifest(), tmp_path).cases[1]
    assert np.array_equal(case.truth((256, 256)), vessel_mask(256, seed=1))
    assert case.inside((256, 256)) is None
    assert case.stack().pixels.shape == (1, 256, 256)


def test_fundus_is_read_in_colour(manifest: ManifestMaker, tmp_path: Path) -> None:
    """A colour file is RGB for a fundus photograph, and grey for any other kind of picture."""
    Image.new("RGB", (8, 6), (9, 9, 9)).save(tmp_path / "colour.png")
    fundus = read_manifest(manifest(modality="fundus", image="colour.png"), tmp_path).cases[0].stack()
    assert (fundus.pixels.shape, fundus.pixels.dtype) == ((1, 6, 8, 3), np.uint8)
    angiogram = read_manifest(manifest(modality="XA", image="colour.png"), tmp_path).cases[0].stack()
    assert (angiogram.pixels.shape, angiogram.pixels.dtype) == ((1, 6, 8), np.float32)


@pytest.mark.parametrize("text", ["", "{}", "[1]", "[{}]"])
def test_file_that_is_no_manifest_is_told(text: str, tmp_path: Path) -> None:
    """Anything but a list of images ends in a sentence that names the file."""
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"list\.json"):
        read_manifest(path, tmp_path)


def test_command_ends_with_one_json_line(manifest: ManifestMaker, tmp_path: Path) -> None:
    """The table goes to stdout, the bar to stderr, and the last line is JSON with each data set's means."""
    sheet = tmp_path / "worst.png"
    arguments = ["--manifest", str(manifest()), "--root", str(tmp_path), "--json", "--contact-sheet", str(sheet)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout.splitlines()[-1])
    assert said["skipped"] == 2
    assert {name: entry["n"] for name, entry in said["datasets"].items()} == {"A": 2, "B": 1}
    for entry in said["datasets"].values():
        assert {"n", "dice", "iou", "precision", "recall", "centreline_dice"} <= set(entry)
        assert entry["dice"] > 0.6
        assert entry["dice_interval"][0] <= entry["dice"] <= entry["dice_interval"][1]
    assert "Dice" in result.stdout
    with Image.open(sheet) as drawn:
        assert drawn.size == (3 * 256, 3 * 256)


def test_command_limits_each_data_set(manifest: ManifestMaker, tmp_path: Path) -> None:
    """--limit 1 takes one image of each set."""
    arguments = ["--manifest", str(manifest()), "--root", str(tmp_path), "--json", "--limit", "1"]
    said = json.loads(CliRunner().invoke(app, arguments).stdout.splitlines()[-1])
    assert {name: entry["n"] for name, entry in said["datasets"].items()} == {"A": 1, "B": 1}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [(["--dataset", "C"], 2, "no image"), (["--segmenter", "nobody"], 4, "known are")],
)
def test_command_says_what_is_wrong(
    manifest: ManifestMaker, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    """A data set or segmenter that does not exist ends with a sentence and its exit code, without a traceback."""
    result = CliRunner().invoke(app, ["--manifest", str(manifest()), "--root", str(tmp_path), *arguments])
    assert result.exit_code == code
    assert words in " ".join(result.stderr.split())


def test_drawn_set_is_scored_like_any_other(tmp_path: Path) -> None:
    """The drawn pictures come with a manifest of all three kinds, with fields of view, that the command reads."""
    path = write_drawn_set(tmp_path, count=1, size=96)
    cases = read_manifest(path, tmp_path).cases
    assert [case.imaging for case in cases] == [Imaging.XRAY_ANGIOGRAPHY, Imaging.FUNDUS, Imaging.OCT_ANGIOGRAPHY]
    assert all(case.truth((96, 96)).any() for case in cases)
    assert all(case.inside((96, 96)) is not None for case in cases)


def test_two_segmenters_stand_in_one_table(manifest: ManifestMaker, tmp_path: Path) -> None:
    """--compare adds a row a data set and an entry in the JSON; --setting reaches the segmenter that is measured."""
    arguments = ["--manifest", str(manifest()), "--root", str(tmp_path), "--json", "--limit", "1"]
    result = CliRunner().invoke(app, [*arguments, "--compare", "ridge", "--setting", "threshold=0.99"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout.splitlines()[-1])
    assert said["compared"]["ridge"]["A"]["dice"] > said["datasets"]["A"]["dice"]


def test_folds_choose_cases(manifest: ManifestMaker, tmp_path: Path) -> None:
    """--fold B:2 takes the second picture of its set alone; subjects of CHASE_DB1 stay together."""
    arguments = ["--manifest", str(manifest()), "--root", str(tmp_path), "--json", "--fold", "B:2"]
    said = json.loads(CliRunner().invoke(app, arguments).stdout.splitlines()[-1])
    assert {name: entry["n"] for name, entry in said["datasets"].items()} == {"B": 1}
    case = read_manifest(manifest(dataset="CHASE_DB1"), tmp_path).cases[0]
    names = ("Image_01L.jpg", "Image_01R.jpg", "Image_02L.jpg", "Image_03R.jpg")
    assert [replace(case, image=tmp_path / name).fold for name in names] == [0, 0, 0, 1]


def test_setting_that_is_no_toml_is_told(manifest: ManifestMaker, tmp_path: Path) -> None:
    """A text without quotes ends with a sentence about how settings are written."""
    arguments = ["--manifest", str(manifest()), "--root", str(tmp_path), "--setting", "polarity=dark"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "KEY=VALUE" in result.stderr
