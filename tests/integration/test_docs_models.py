"""The guide for an engineer's own models, followed word for word with tiny models in place of large ones."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import dicom_sources
import numpy as np
import pydicom
import pytest
import sa2va_checkpoints
import tiny_sam
from doc_pages import DOCS, blocks
from PIL import Image
from tiny_onnx import tiny_finder
from typer.testing import CliRunner

from console.cli import app
from worker.model_folder.manifest import MANIFEST_FILE
from worker.model_trial.generated import generated_picture

GUIDE = DOCS / "how-to" / "bring-your-own-model.md"
PLACE = "/srv/vesselq"
"""Where the guide's settings have the models; the test has them elsewhere."""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the guide begins with: an export, two downloads, a picture and a study."""
    (tmp_path / "models").mkdir()
    (tmp_path / "finder.onnx").write_bytes(tiny_finder().SerializeToString())
    (settings,) = blocks(GUIDE, "ini")
    (tmp_path / "finder.toml").write_text(settings)
    medsam = tiny_sam.write_tiny_sam(tmp_path / "medsam-download", medsam=True)
    (medsam / MANIFEST_FILE).unlink()
    (medsam / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    sa2va_checkpoints.write_checkpoint(tmp_path / "sa2va-download")
    (tmp_path / "terms.txt").write_text("For research alone.")
    Image.fromarray(generated_picture(48, 64)).save(tmp_path / "picture.png")
    for station in ("BIPLANE", "CATHLAB", "OTHER"):
        dicom_sources.save(
            dicom_sources.xa_still(rows=64, columns=72, StationName=station), tmp_path / "study" / station
        )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown_lines() -> Iterator[list[str]]:
    """The command lines of the guide in their order, as words."""
    for block in blocks(GUIDE, "sh"):
        for line in block.strip().splitlines():
            yield shlex.split(line)


def test_the_guide_can_be_followed(desk: Path) -> None:
    """Every command of the guide does what it says: three models become folders, are verified, tried and used."""
    (settings,) = blocks(GUIDE, "toml")
    (desk / "vesselq.toml").write_text(
        settings.replace(PLACE, str(desk)).replace('"forced"', '"forced"\nthreshold = 0.02')
    )
    told = {}
    for program, *words in shown_lines():
        assert program == "vesselq"
        if words[0] == "doctor":
            continue  # looks for the servers of a site
        # The true size would take minutes: given twice, the last word counts.
        quick = ["--rounds", "1", "--size", "tiny"] if "--random-weights" in words else []
        result = CliRunner().invoke(app, [*words, *quick, *(["--json"] if words[0] != "config" else [])])
        assert result.exit_code == 0, (words, result.output, result.exception)
        told[" ".join(words[:3])] = json.loads(result.stdout) if words[0] != "config" else None
    _check_folders(desk, told)
    _check_arrays(desk)
    _check_results(told["segment study --out"]["series"])


def _check_folders(desk: Path, told: dict[str, dict[str, object]]) -> None:
    for name in ("finder", "medsam", "sa2va-vessel"):
        assert (desk / "models" / name / MANIFEST_FILE).is_file()
        assert told[f"models verify models/{name}"]["ok"] is True
    assert told["models show medsam-download"]["system"] == "sam"
    assert told["models show models/sa2va-vessel"]["license_text"] == "For research alone."
    remarks = {one["name"]: one["remark"] for one in told["models list"]["models"]}
    assert {"finder", "medsam", "sa2va-vessel"} <= set(remarks)
    assert not any(remarks.values())


def _check_arrays(desk: Path) -> None:
    shapes = {}
    for name in ("finder", "medsam", "sa2va"):
        with np.load(desk / f"{name}.npz") as arrays:
            shapes[name] = (arrays["probability"].shape, arrays["mask"].dtype)
            assert str(arrays["answer"]) == ("Sure, [SEG].<|im_end|>" if name == "sa2va" else "")
            assert ("seg_vector" in arrays) == (name == "sa2va")
    assert set(shapes.values()) == {((1, 48, 64), np.dtype(bool))}
    with Image.open(desk / "finder.png") as drawn:
        assert drawn.size == (64, 48)


def _check_results(series: list[dict[str, str]]) -> None:
    """Each rule had its series; what has vessels has an object that names the model."""
    by_segmenter = {one["segmenter"]: one for one in series}
    assert set(by_segmenter) == {"finder", "sa2va-vessel", "ridge+medsam"}
    assert all(one["status"] in ("ok", "no vessel found") for one in series), series
    for name in ("finder", "sa2va-vessel"):
        seg = pydicom.dcmread(by_segmenter[name]["segmentation_path"])
        assert seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == name
