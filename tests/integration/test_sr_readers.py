"""Other people's software reads our reports: dciodvfy, DCMTK and Orthanc."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import orthanc_server
import pytest
from orthanc_server import Orthanc
from seg_cases import ARTERY_AND_VEIN, CASES, IDENTITY_WITH_WEIGHTS, mask_for, segmentation_of
from seg_checks import dciodvfy_messages, has_dciodvfy

from worker.measurements.measuring import measure_vessels
from worker.measurements.vessel_measurements import VesselMeasurements
from worker.result_header.identity import ResultIdentity
from worker.seg_writer.writer import build_segmentation, save_segmentation
from worker.sr_writer.report import build_report


def identity_of(name: str) -> ResultIdentity:
    """Of the report on one class of source."""
    number = list(CASES).index(name)
    return replace(
        IDENTITY_WITH_WEIGHTS,
        sop_instance_uid=f"2.25.20020{number}",
        series_instance_uid=f"2.25.20010{number}",
        series_number=902,
    )


KNOWN_MESSAGES = (
    # It knows no private coding scheme, though PS3.16 section 8.2 allows them and the report declares it.
    "CodingSchemeDesignator(0008,0102)[1]> - Unrecognized defined term = <99VESSELQ>",
)
NO_CHARACTER_SET = "The VR checker does not support this Specific Character Set: ISO_IR 192"
"""DCMTK of Debian cannot check Unicode text, and says so of every object that holds it."""
needs_dcmtk = pytest.mark.skipif(
    not shutil.which("dsrdump") or not shutil.which("dsr2html"), reason="dsrdump and dsr2html (dcmtk) are missing"
)


def report_file(name: str, folder: Path) -> tuple[Path, VesselMeasurements, str]:
    """A report of this class of source on disk, its numbers, and the StudyInstanceUID."""
    source = CASES[name].series()
    found = segmentation_of(mask_for(source, 2), ARTERY_AND_VEIN)
    segmentation = build_segmentation(source, found, IDENTITY_WITH_WEIGHTS)
    measurements = measure_vessels(source, found)
    path = folder / f"{name}.dcm"
    save_segmentation(build_report(source, segmentation, measurements, identity_of(name)), path)
    return path, measurements, str(source.datasets[0].StudyInstanceUID)


def said(*command: str | Path) -> tuple[str, list[str]]:
    """Output of a DCMTK tool, and its warnings and errors."""
    done = subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith(("W:", "E:", "F:"))]
    return done.stdout, [line for line in lines if NO_CHARACTER_SET not in line]


@pytest.mark.skipif(not has_dciodvfy(), reason="dciodvfy (package dicom3tools) is missing")
@pytest.mark.parametrize("name", CASES)
def test_dciodvfy_has_two_known_complaints(name: str, tmp_path: Path) -> None:
    """Nothing but the private coding scheme and the device UID of the contributing equipment."""
    path, _, _ = report_file(name, tmp_path)
    messages = dciodvfy_messages(path)
    assert [message for message in messages if not message.endswith(KNOWN_MESSAGES)] == []
    assert all(any(message.endswith(known) for message in messages) for known in KNOWN_MESSAGES)


@needs_dcmtk
@pytest.mark.parametrize("name", CASES)
def test_dcmtk_reads_it(name: str, tmp_path: Path) -> None:
    """Dsrdump and dsr2html say nothing against it, and show every number with its unit."""
    path, measurements, _ = report_file(name, tmp_path)
    text, complaints = said("dsrdump", "+Pc", path)
    assert complaints == []
    assert "Comprehensive 3D SR Document" in text
    page = tmp_path / "report.html"
    assert said("dsr2html", path, page)[1] == []
    html = page.read_text(encoding="utf-8")
    for region in measurements.regions:
        for one in region.measurements:
            number = f"{one.value:g}"
            assert f'"{number}" ({one.unit},UCUM,' in text
            assert number in html
    assert "not reviewed" in html


@pytest.mark.skipif(not orthanc_server.INSTALLED, reason=orthanc_server.NOT_INSTALLED)
def test_orthanc_stores_it(tmp_path: Path) -> None:
    """QIDO-RS finds one series of Modality SR in each study; the file comes back bit for bit."""
    with Orthanc(tmp_path / "orthanc") as orthanc:
        for name in ("ct", "xa_run", "op_rgb"):
            path, _, study = report_file(name, tmp_path)
            orthanc.upload(path)
            (series,) = orthanc.qido("series", StudyInstanceUID=study, Modality="SR")
            assert series["0020000E"]["Value"] == [identity_of(name).series_instance_uid]
            assert orthanc.file(identity_of(name).sop_instance_uid) == path.read_bytes()
