"""The main job with real senders, a real PACS and the real segmenter, for every class of source."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dicom_sources
import pydicom
import pytest
from orthanc_server import Orthanc
from pydicom.dataset import Dataset
from running_site import AE_TITLE, EVERYTHING, RunningSite, running_site, site_settings
from seg_checks import dciodvfy_messages

from db import audit, reports
from db.audit_queries import AuditQuery, audit_rows
from dicom_core.job import JobState

SOURCES: dict[str, Callable[[], list[Dataset]]] = {
    "CT series": lambda: dicom_sources.ct_series(frames=12, rows=96, columns=88),
    "MR series": lambda: dicom_sources.mr_series(frames=12, rows=96, columns=88),
    "Enhanced CT": lambda: dicom_sources.enhanced_ct(frames=12, rows=96, columns=88),
    "Enhanced MR": lambda: dicom_sources.enhanced_mr(frames=12, rows=96, columns=88),
    "XA still": lambda: dicom_sources.xa_still(rows=128, columns=120),
    "XA run": lambda: dicom_sources.xa_run(frames=6, rows=128, columns=120),
    "OP RGB": lambda: dicom_sources.op_rgb(rows=256, columns=264),
    "OP grey": lambda: dicom_sources.op_grey(rows=256, columns=264),
    "SC": lambda: dicom_sources.sc(rows=128, columns=120),
    "OPT with frame of reference": lambda: dicom_sources.opt_with_frame_of_reference(rows=96, columns=88),
    "OPT without frame of reference": lambda: dicom_sources.opt_without(rows=96, columns=88),
    "OPT en face": lambda: dicom_sources.opt_en_face(rows=128, columns=120),
}

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("storescu") is None, reason="DCMTK's storescu is not installed"),
    pytest.mark.skipif(not Path("/usr/sbin/Orthanc").exists(), reason="Orthanc is not installed"),
]


@dataclass(frozen=True)
class Hospital:
    """A site and the PACS that it serves."""

    vesselq: RunningSite
    pacs: Orthanc
    folder: Path


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    folder = tmp_path_factory.mktemp("hospital")
    with Orthanc(folder / "orthanc") as pacs:
        settings = site_settings(
            folder,
            segmenter="ridge",
            destinations=[
                {"name": "pacs", "kind": "storage_scu", "ae_title": pacs.ae_title, "host": pacs.host,
                 "port": pacs.dicom_port},
                {"name": "web", "kind": "stow_rs", "url": pacs.dicomweb_url},
            ],
            peers=[
                {"name": "storescu", "ae_title": "STORESCU"},
                {"name": "orthanc", "ae_title": pacs.ae_title, "port": pacs.dicom_port},
            ],
            rules=[
                {"name": "eye", "when": {"keyword": "Modality", "one_of": ["OP", "OPT"]}, "segmenter": "ridge",
                 "destinations": ["web"]},
                {"name": "back", "when": {"keyword": "Modality", "equals": "DX"}, "segmenter": "ridge",
                 "destinations": ["sender"]},
                {"name": "all", "when": EVERYTHING, "segmenter": "ridge", "destinations": ["pacs"]},
            ],
        )  # fmt: skip
        with running_site(folder, settings) as vesselq:
            pacs.add_modality("vesselq", AE_TITLE, vesselq.port)
            yield Hospital(vesselq, pacs, folder)


def _storescu(port: int, files: list[Path]) -> None:
    subprocess.run(
        ["storescu", "-R", "-aet", "STORESCU", "-aec", AE_TITLE, "127.0.0.1", str(port), *map(str, files)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip


def _segs_in_pacs(hospital: Hospital, study: str) -> list[str]:
    found = hospital.pacs.qido(f"studies/{study}/instances", Modality="SEG")
    return [instance["00080018"]["Value"][0] for instance in found]


def _check_result(hospital: Hospital, study: str, source: list[Dataset]) -> None:
    (job,) = hospital.vesselq.jobs(study)
    assert job.state is JobState.DONE, job.reason
    assert _segs_in_pacs(hospital, study) == [job.seg.sop_instance_uid]
    path = hospital.folder / f"{job.job_id}.dcm"
    path.write_bytes(hospital.pacs.file(job.seg.sop_instance_uid))
    seg = pydicom.dcmread(path)
    assert seg.SegmentationType == "BINARY"
    assert seg.StudyInstanceUID == study
    referenced = {
        str(item.ReferencedSOPInstanceUID)
        for series in seg.ReferencedSeriesSequence
        for item in series.ReferencedInstanceSequence
    }
    assert referenced == {str(dataset.SOPInstanceUID) for dataset in source}
    assert [line for line in dciodvfy_messages(path) if line.startswith(("Error", "Warning"))] == []


@pytest.mark.parametrize("name", SOURCES)
def test_storescu_sends_and_the_seg_is_in_the_pacs(hospital: Hospital, name: str) -> None:
    """A study sent by DCMTK's storescu ends as one SEG in Orthanc, found by QIDO, with dciodvfy silent."""
    source = SOURCES[name]()
    study = str(source[0].StudyInstanceUID)
    _storescu(hospital.vesselq.port, dicom_sources.save(source, hospital.folder / f"scu-{name}"))
    hospital.vesselq.wait_until_settled(study, seconds=90)
    _check_result(hospital, study, source)


@pytest.mark.parametrize("name", SOURCES)
def test_orthanc_sends_and_gets_the_seg_back(hospital: Hospital, name: str) -> None:
    """A study that Orthanc sends from its archive has its SEG beside it in the same archive afterwards."""
    source = SOURCES[name]()
    study = str(source[0].StudyInstanceUID)
    for file in dicom_sources.save(source, hospital.folder / f"orthanc-{name}"):
        hospital.pacs.upload(file)
    hospital.pacs.send(study, "vesselq")
    hospital.vesselq.wait_until_settled(study, seconds=90)
    _check_result(hospital, study, source)
    assert len(hospital.pacs.qido(f"studies/{study}/instances")) == len(source) + 1


def test_result_goes_back_to_the_sender(hospital: Hospital) -> None:
    """With the destination "sender" the SEG returns to the AE that sent the study."""
    source = dicom_sources.dx(rows=128, columns=120)
    study = str(source[0].StudyInstanceUID)
    for file in dicom_sources.save(source, hospital.folder / "sender"):
        hospital.pacs.upload(file)
    hospital.pacs.send(study, "vesselq")
    hospital.vesselq.wait_until_settled(study)
    _check_result(hospital, study, source)
    (delivery,) = reports.deliveries(hospital.vesselq.record, study)
    assert delivery.destination == "sender"


def test_the_audit_log_tells_the_story(hospital: Hospital) -> None:
    """Receipt, completion, each job state and the sending stand in the log under the study; the chain verifies."""
    source = dicom_sources.xa_still(rows=128, columns=120)
    study = str(source[0].StudyInstanceUID)
    _storescu(hospital.vesselq.port, dicom_sources.save(source, hospital.folder / "audit"))
    hospital.vesselq.wait_until_settled(study)
    record = hospital.vesselq.record
    rows = audit_rows(record, AuditQuery(study_instance_uid=study))
    told = [row.event for row in rows]
    for event in ("study-receiving", "instances-received", "study-complete", "job-queued", "job-running", "seg-created",
                  "transfer-begun", "instances-sent"):  # fmt: skip
        assert told.count(event) == 1, told
    assert next(row.ae_title for row in rows if row.event == "instances-received") == "STORESCU"
    assert audit.verify(record).first_bad_sequence is None


def test_own_results_are_never_segmented(hospital: Hospital) -> None:
    """A SEG that comes back to the listener is not accepted: the loop is closed before it begins."""
    source = dicom_sources.xa_still(rows=128, columns=120)
    study = str(source[0].StudyInstanceUID)
    _storescu(hospital.vesselq.port, dicom_sources.save(source, hospital.folder / "loop"))
    hospital.vesselq.wait_until_settled(study)
    (job,) = hospital.vesselq.jobs(study)
    result = hospital.vesselq.settings.results_folder / job.seg.path
    with pytest.raises(subprocess.CalledProcessError):
        _storescu(hospital.vesselq.port, [result])
    assert len(reports.jobs(hospital.vesselq.record, study_instance_uid=study)) == 1


def test_no_patient_name_is_logged_or_recorded(hospital: Hospital) -> None:
    """The patient's name and identifier are in the images and the SEG only: not in logs, record, or file names."""
    source = dicom_sources.xa_still(rows=128, columns=120)
    source[0].PatientName, source[0].PatientID = "Zzyzx^Quetzalcoatl", "ID-UNMISTAKABLE-77"
    study = str(source[0].StudyInstanceUID)
    _storescu(hospital.vesselq.port, dicom_sources.save(source, hospital.folder / "phi"))
    hospital.vesselq.wait_until_settled(study)
    data = hospital.vesselq.settings.data_folder
    searched = [*data.glob("*sqlite3*"), *(hospital.folder / "logs").glob("*.log")]
    assert len(searched) >= 6
    for path in searched:
        content = path.read_bytes()
        assert b"Zzyzx" not in content, path
        assert b"UNMISTAKABLE" not in content, path
    assert not [path for path in data.rglob("*") if "Zzyzx" in path.name or "UNMISTAKABLE" in path.name]
