"""``vesselq seg show`` and ``vesselq seg compare`` answer people and machines, and mistakes end in a sentence."""

import json
from pathlib import Path

import dicom_sources
import numpy as np
import pytest
from PIL import Image
from seg_cases import ARTERY_AND_VEIN, CASES, IDENTITY, mask_for, segmentation_of
from typer.testing import CliRunner

from console.cli import app
from dicom_core.result import SEGMENTATIONS, ResultKind
from worker.seg_writer.writer import build_segmentation, save_segmentation
from worker.source_images.reading import read_series


def run(*arguments: str | Path):
    return CliRunner().invoke(app, ["seg", *map(str, arguments)])


def written(folder: Path, name: str = "ct", kind: ResultKind = ResultKind.SEG) -> Path:
    """A source series in ``FOLDER/NAME`` and its segmentation beside it."""
    (source,) = read_series(dicom_sources.save(CASES[name].build(), folder / name))
    segmentation = segmentation_of(mask_for(source, 2), ARTERY_AND_VEIN)
    save_segmentation(build_segmentation(source, segmentation, IDENTITY, kind=kind), folder / f"{name}.dcm")
    return folder / f"{name}.dcm"


@pytest.mark.parametrize("kind", sorted(SEGMENTATIONS))
def test_show_for_people(kind: ResultKind, tmp_path: Path) -> None:
    """Maker, segments, references and the warning that nobody has reviewed it."""
    result = run("show", written(tmp_path, kind=kind))
    assert result.exit_code == 0, result.output
    for words in ("Artery (51114001)", "#d8654f", "vesselq ridge", "not reviewed", "source instances", "0.7 x 0.7 mm"):
        assert words in result.stdout


def test_show_for_machines(tmp_path: Path) -> None:
    """One JSON document with the same facts."""
    result = run("show", written(tmp_path, "xa_run"), "--json")
    document = json.loads(result.stdout)
    assert document["type"] == "BINARY"
    assert document["spacing_mm"] is None
    assert document["frames"] == 18
    assert [segment["label"] for segment in document["segments"]] == ["Artery", "Vein"]
    assert document["segments"][0]["code"] == {"value": "51114001", "scheme": "SCT", "meaning": "Artery"}
    assert document["segments"][0]["frames"] == 9
    assert document["segments"][0]["voxels"] > 0


def test_show_holds_no_patient_data(tmp_path: Path) -> None:
    """The summary can be pasted into a message."""
    path = written(tmp_path)
    for arguments in ((), ("--json",)):
        output = run("show", path, *arguments).output
        assert "Generated" not in output
        assert "T0001" not in output


@pytest.mark.parametrize("name", ["ct", "enhanced_mr", "xa_run", "op_rgb", "several_op"])
def test_picture_over_the_source(name: str, tmp_path: Path) -> None:
    """The picture shows the source's frames in grey or colour and the segments in their colours."""
    path = written(tmp_path, name)
    (tmp_path / "notes.txt").write_text("not DICOM")
    result = run("show", path, "--picture", tmp_path / "out.png", "--source", tmp_path)
    assert result.exit_code == 0, result.output
    assert (
        f"out.png shows {max(1, json.loads(run('show', path, '--json').stdout)['frames'] // 2)} frames" in result.stdout
    )
    over = np.asarray(Image.open(tmp_path / "out.png")).astype(int)
    run("show", path, "--picture", tmp_path / "black.png")
    black = np.asarray(Image.open(tmp_path / "black.png")).astype(int)
    assert over.shape == black.shape
    assert (over.sum(axis=-1) > 60).mean() > (black.sum(axis=-1) > 60).mean() + 0.2, "the source fills the tiles"


def test_picture_without_the_source_is_in_the_colours_of_the_segments(tmp_path: Path) -> None:
    """Masks on black; the vein, drawn last, in exactly its colour."""
    result = run("show", written(tmp_path), "--picture", tmp_path / "out.png", "--json")
    assert json.loads(result.stdout)["picture"] == {"path": str(tmp_path / "out.png"), "frames": 7}
    pixels = np.asarray(Image.open(tmp_path / "out.png")).reshape(-1, 3)
    assert (pixels == (0, 151, 206)).all(axis=-1).sum() > 1000
    assert (pixels == (216, 101, 79)).all(axis=-1).sum() > 100


def test_compare_for_people_and_machines(tmp_path: Path) -> None:
    """Both segments, each with its three measures and their unit."""
    first = written(tmp_path)
    (source,) = read_series(sorted((tmp_path / "ct").glob("*.dcm")))
    moved = np.roll(mask_for(source, 2), 2, axis=-1)
    second = tmp_path / "moved.dcm"
    save_segmentation(build_segmentation(source, segmentation_of(moved, ARTERY_AND_VEIN), IDENTITY), second)
    result = run("compare", first, second)
    assert result.exit_code == 0, result.output
    for words in ("Dice", "clDice", "95 % distance (mm)", "Artery", "code"):
        assert words in result.stdout
    document = json.loads(run("compare", first, second, "--json").stdout)
    assert document["unit"] == "mm"
    artery = document["segments"][0]
    assert 0 < artery["dice"] < 1
    assert 0 < artery["distance_95"] <= 1.5


def test_compare_says_how_it_measured(tmp_path: Path) -> None:
    """Without geometry distances are in pixels, and the reader is told."""
    path = written(tmp_path, "xa_run")
    result = run("compare", path, path)
    assert "95 % distance (pixels)" in result.stdout
    assert "frame by frame" in result.stdout


def test_mistakes_end_in_a_sentence(tmp_path: Path) -> None:
    """Wrong files, folders and options have exit codes and words, never a trace."""
    path, other = written(tmp_path), written(tmp_path, "sc")
    (tmp_path / "text.dcm").write_text("nothing")
    cases = [
        (("show", tmp_path / "none.dcm"), 4, "no file"),
        (("show", tmp_path / "text.dcm"), 1, "no DICOM file"),
        (("show", tmp_path / "ct" / "0001.dcm"), 1, "not a DICOM Segmentation"),
        (("show", path, "--source", tmp_path), 2, "--picture"),
        (("show", path, "--picture", tmp_path / "no" / "x.png"), 4, "no folder"),
        (("show", path, "--picture", tmp_path / "x.png", "--source", tmp_path / "no"), 4, "no folder"),
        (("show", path, "--picture", tmp_path / "x.png", "--source", tmp_path / "sc"), 4, "none of the source images"),
        (("show", path, "--picture", tmp_path / "sc"), 1, "cannot be written"),
        (("compare", path, other), 2, "different images"),
        (("compare", path, tmp_path / "none.dcm"), 4, "no file"),
        (("compare", path), 2, "Missing argument"),
    ]
    for arguments, code, words in cases:
        result = run(*arguments)
        assert (result.exit_code, words in result.output) == (code, True), (arguments, result.output)
        assert "Traceback" not in result.output
