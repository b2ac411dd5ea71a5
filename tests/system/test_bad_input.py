"""Odd, broken and hostile files over a real C-STORE: each ends in words or a status, none harms a neighbour."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dicom_sources
import pydicom
import pytest
import store_scu
from pydicom.errors import InvalidDicomError
from running_site import RunningSite, running_site, site_settings
from steady_scu import SteadySender, data_set_bytes

from db import audit
from db.audit_queries import AuditQuery, audit_rows
from dicom_core.job import FINISHED, JobState

SHARED = Path(os.environ.get("VESSELQ_SHARED", "../shared")).resolve()
SENDABLE_CONTEXTS = 100
"""Of one association; PS3.8 allows 128."""

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # pydicom's remarks about the odd files
    pytest.mark.filterwarnings("ignore:.*socket.*:pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    folder = tmp_path_factory.mktemp("odd")
    with running_site(folder, site_settings(folder, worker={"maximum_attempts": 2})) as running:
        yield running


@dataclass
class Outcome:
    """What became of the files that were sent."""

    refused_by_sender: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    acknowledged_studies: set[str] = field(default_factory=set)


def _raw(path: Path) -> tuple[str, str, str, bytes] | None:
    """SOP class, SOP instance, transfer syntax and the data set's bytes as they lie in the file; None: not sendable."""
    content = path.read_bytes()
    try:
        meta = pydicom.filereader.read_file_meta_info(path)
        syntax, sop_class = str(meta.TransferSyntaxUID), str(meta.MediaStorageSOPClassUID)
        instance = str(meta.MediaStorageSOPInstanceUID)
        length = int(meta.FileMetaInformationGroupLength)
    except (InvalidDicomError, AttributeError, OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    data = content[144 + length :]
    sendable = content[128:132] == b"DICM" and sop_class and instance and syntax and len(data) > 8
    return (sop_class, instance, syntax, data) if sendable else None


def _send_each(site: RunningSite, paths: list[Path]) -> Outcome:
    outcome = Outcome()
    for path in paths:
        raw = _raw(path)
        if raw is None:
            outcome.refused_by_sender.append(path.name)
            continue
        sop_class, instance, syntax, data = raw
        try:
            with store_scu.association(site.port, contexts=[(sop_class, [syntax])]) as opened:
                if not opened.is_established or not opened.accepted_contexts:
                    outcome.statuses[-2] += 1  # the class or syntax is not negotiated
                    continue
                status = store_scu.store(opened, instance, data, sop_class=sop_class).status
        except (ValueError, UnicodeError, TypeError):
            outcome.refused_by_sender.append(path.name)
            continue
        outcome.statuses[status] += 1
        if status == 0:
            header = pydicom.dcmread(path, specific_tags=["StudyInstanceUID"], stop_before_pixels=True, force=True)
            outcome.acknowledged_studies.add(str(header.StudyInstanceUID))
    return outcome


@pytest.mark.skipif(not (SHARED / "data/dicom").is_dir(), reason="VESSELQ_SHARED holds no odd DICOM files")
def test_every_odd_file_ends_in_words_or_a_status(site: RunningSite) -> None:
    """Each file of the collection is refused by a status, or its study ends in finished jobs that all have a reason."""
    paths = sorted(path for path in (SHARED / "data/dicom").rglob("*") if path.is_file() and path.suffix != ".md")
    assert len(paths) > 200
    outcome = _send_each(site, paths)
    assert -1 not in outcome.statuses, "a sender was left without an answer"
    assert outcome.statuses[0] > 50
    site.wait_until_settled(*outcome.acknowledged_studies, seconds=240)
    jobs = [job for uid in outcome.acknowledged_studies for job in site.jobs(uid)]
    assert len(jobs) >= len(outcome.acknowledged_studies)
    assert {job.state for job in jobs} <= FINISHED
    silent = [job for job in jobs if job.state is not JobState.DONE and not job.reason]
    assert silent == []
    assert Counter(job.state for job in jobs)[JobState.DONE] > 10
    assert audit.verify(site.record).first_bad_sequence is None


@pytest.mark.skipif(not (SHARED / "data/TotalSegmentator_ct").is_dir(), reason="VESSELQ_SHARED holds no CT series")
def test_real_ct_series_is_segmented(site: RunningSite) -> None:
    """The repaired TotalSegmentator series (JPEG 2000 lossless) goes through and gives a SEG over its 20 slices."""
    paths = sorted((SHARED / "data/TotalSegmentator_ct/ct_series_fixed").iterdir())
    sender = SteadySender(site.port)
    datasets = [pydicom.dcmread(path) for path in paths]
    sender.send(datasets)
    study = str(datasets[0].StudyInstanceUID)
    site.wait_until_settled(study)
    (job,) = site.jobs(study)
    assert job.state is JobState.DONE, job.reason
    assert job.result["frames"] == len(paths)


def test_series_without_uids_is_refused(site: RunningSite) -> None:
    """Objects with an empty StudyInstanceUID, as some archives export them, get an error status and leave nothing."""
    (dataset,) = dicom_sources.xa_still(rows=24, columns=24)
    dataset.StudyInstanceUID = ""
    contexts = [(str(dataset.SOPClassUID), [str(dataset.file_meta.TransferSyntaxUID)])]
    with store_scu.association(site.port, contexts=contexts) as opened:
        answer = store_scu.store(
            opened, str(dataset.SOPInstanceUID), data_set_bytes(dataset), sop_class=str(dataset.SOPClassUID)
        )
    assert 0xC000 <= answer.status <= 0xCFFF
    refused = audit_rows(site.record, AuditQuery(event="instance-refused"))
    assert any(row.ae_title == "TESTER" for row in refused)


def test_one_rotten_slice_is_named(site: RunningSite) -> None:
    """A study with one rotten slice among good ones ends in words that name the slice; the neighbour study is fine."""
    rotten = dicom_sources.ct_series(frames=5, rows=24, columns=24)
    rotten[2].PixelData = rotten[2].PixelData[:64]
    healthy = dicom_sources.ct_series(frames=5, rows=24, columns=24)
    for study in (rotten, healthy):
        SteadySender(site.port).send(study)
    site.wait_until_settled(str(rotten[0].StudyInstanceUID), str(healthy[0].StudyInstanceUID))
    (failed,) = site.jobs(str(rotten[0].StudyInstanceUID))
    assert failed.state is JobState.FAILED
    assert str(rotten[2].SOPInstanceUID) in failed.reason
    (done,) = site.jobs(str(healthy[0].StudyInstanceUID))
    assert done.state is JobState.DONE


def test_logs_hold_no_stack_trace(site: RunningSite) -> None:
    """After all of it no process has logged an exception that nobody foresaw."""
    logs = {path.name: path.read_text() for path in (site.settings.data_folder.parent / "logs").glob("*.log")}
    assert logs
    assert [name for name, text in logs.items() if "Traceback" in text or '"exception"' in text] == []
