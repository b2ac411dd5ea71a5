"""`vesselq segment`: a folder in, SEG objects and previews out, without any server."""

import json
import subprocess
import sys
from pathlib import Path

import dicom_sources
import pydicom
from typer.testing import CliRunner, Result

from console.cli import app


def _segment(*arguments: str) -> Result:
    """The command in this process: it starts in seconds elsewhere, and one test sees it as users do."""
    result = CliRunner().invoke(app, ["segment", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def test_folder_of_two_series(tmp_path: Path) -> None:
    """Every series that a rule wants gets a SEG and a preview; standard output is one JSON document only."""
    tomography = dicom_sources.ct_series(6, rows=64, columns=64, ContrastBolusAgent="Iohexol")
    plain_mr = dicom_sources.mr_series(frames=3, rows=32, columns=32, SeriesDescription="T1", ProtocolName="T1")
    dicom_sources.save([*tomography, *plain_mr], tmp_path / "in")
    arguments = ("segment", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--json")
    command = [sys.executable, "-m", "console.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    by_modality = {series["modality"]: series for series in json.loads(done.stdout)["series"]}
    assert by_modality["CT"]["status"] == "ok"
    assert Path(by_modality["CT"]["preview_path"]).is_file()
    seg = pydicom.dcmread(by_modality["CT"]["segmentation_path"])
    assert seg.StudyInstanceUID == tomography[0].StudyInstanceUID
    assert by_modality["MR"]["status"] == "skipped"
    assert "no rule wants it" in by_modality["MR"]["reason"]


def test_all_results_have_names_that_can_be_read(tmp_path: Path) -> None:
    """`--results` makes what destinations can ask for, each file named by the series that it is about."""
    (dataset,) = dicom_sources.xa_still(rows=128, columns=120)
    dicom_sources.save([dataset], tmp_path / "in")
    wanted = ("--results", "seg, overlay,report", "--segmenter", "ridge")
    done = _segment(str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--json", *wanted)
    assert done.exit_code == 0, done.stderr
    (series,) = json.loads(done.stdout)["series"]
    uid = dataset.SeriesInstanceUID
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{uid}.seg.dcm", f"{uid}.overlay.dcm", f"{uid}.report.dcm", f"{uid}.png",
    }  # fmt: skip
    assert set(series["objects"]) == {"seg", "overlay", "report"}
    assert pydicom.dcmread(series["objects"]["report"][0]).Modality == "SR"


def test_own_results_are_never_segmented_again(tmp_path: Path) -> None:
    """The overlay of an angiogram is an angiogram for every rule, and still left alone; --segmenter changes nothing."""
    folder = tmp_path / "both"
    dicom_sources.save(dicom_sources.xa_still(rows=128, columns=120), folder)
    command = (str(folder), "--out", str(folder), "--segmenter", "ridge", "--results", "overlay", "--json")
    assert _segment(*command).exit_code == 0
    again = json.loads(_segment(*command).stdout)["series"]
    reasons = {(series["modality"], series["reason"]) for series in again if series["status"] == "skipped"}
    assert reasons == {("SEG", "made by vesselq itself"), ("XA", "made by vesselq itself")}
    assert [series["modality"] for series in again if series["status"] == "ok"] == ["XA"]


def test_one_file_with_a_named_segmenter(tmp_path: Path) -> None:
    """A single file is fine, and --segmenter goes over the rules."""
    (path,) = dicom_sources.save(dicom_sources.sc(rows=128, columns=120), tmp_path / "in")
    done = _segment(str(path), "--out", str(tmp_path / "out"), "--segmenter", "ridge", "--json")
    assert done.exit_code == 0, done.stderr
    (series,) = json.loads(done.stdout)["series"]
    assert series["segmenter"] == "ridge"
    assert series["status"] in ("ok", "no vessel found")


def test_empty_object_on_request(tmp_path: Path) -> None:
    """With ``segmentation.send_empty`` a blank picture gets an object too, and the table still says what was found."""
    (dataset,) = dicom_sources.xa_still(rows=128, columns=120)
    dataset.PixelData = b"\x80" * len(dataset.PixelData)
    dicom_sources.save([dataset], tmp_path / "in")
    (tmp_path / "vesselq.toml").write_text("[segmentation]\nsend_empty = true\n")
    for name, arguments in (("default", ()), ("empty", ("--config", str(tmp_path / "vesselq.toml")))):
        done = _segment(
            str(tmp_path / "in"), "--out", str(tmp_path / name), "--segmenter", "ridge", "--json", *arguments
        )
        assert done.exit_code == 0, done.stderr
        (series,) = json.loads(done.stdout)["series"]
        assert series["status"] == "no vessel found"
        assert (series["segmentation_path"] is not None) == (name == "empty")
    assert not any(pydicom.dcmread(series["segmentation_path"]).PixelData)


def test_failed_series_is_told(tmp_path: Path) -> None:
    """A damaged series ends with exit code 1 and a reason that names the instance."""
    (dataset,) = dicom_sources.xa_still(rows=128, columns=120)
    dataset.PixelData = dataset.PixelData[:50]
    dicom_sources.save([dataset], tmp_path / "in")
    done = _segment(str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--json")
    assert done.exit_code == 1
    (series,) = json.loads(done.stdout)["series"]
    assert series["status"] == "failed"
    assert str(dataset.SOPInstanceUID) in series["reason"]


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    """A folder that is not there, or holds no DICOM, is exit code 4 and a sentence without a stack trace."""
    (tmp_path / "empty").mkdir()
    for folder in ("missing", "empty"):
        done = _segment(str(tmp_path / folder), "--out", str(tmp_path / "out"))
        assert done.exit_code == 4
        assert folder in done.stderr


def test_a_place_that_cannot_be_written_to_is_told_before_any_work(tmp_path: Path) -> None:
    """`--out` that is a file, or below one, is exit code 1 and a sentence that names it."""
    dicom_sources.save(dicom_sources.xa_still(), tmp_path / "in")
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        done = _segment(str(tmp_path / "in"), "--out", str(out))
        assert done.exit_code == 1
        assert f"{out} is no folder that can be written to" in done.stderr


def test_table_names_each_file_shortly(tmp_path: Path) -> None:
    """For people: one short name an object, and a line that says where the files are."""
    (dataset,) = dicom_sources.xa_still(rows=128, columns=120)
    dicom_sources.save([dataset], tmp_path / "in")
    wanted = ("--segmenter", "ridge", "--results", "overlay")
    done = _segment(str(tmp_path / "in"), "--out", str(tmp_path / "out"), *wanted)
    assert done.exit_code == 0, done.stderr
    assert "seg.dcm" in done.stdout
    assert "overlay.dcm" in done.stdout
    assert done.stdout.count(str(dataset.SeriesInstanceUID)) == 1
    assert f"{tmp_path / 'out'}/SeriesInstanceUID.object" in done.stdout


def test_unknown_kinds_of_result_are_a_mistake_of_usage(tmp_path: Path) -> None:
    """The sentence names the word and what there is."""
    done = _segment(str(tmp_path), "--out", str(tmp_path / "out"), "--results", "seg,pdf")
    assert done.exit_code == 2
    assert "'pdf' is no kind of result" in done.stderr
    assert "seg_labelmap" in done.stderr
