"""One job, several objects: built together, kept together, sent each for itself; at the end to a real Orthanc."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dicom_sources
import orthanc_server
import pydicom
import pytest
import worker_bench
from loopback import LOOPBACK, free_port
from orthanc_server import Orthanc
from pydicom.uid import SegmentationStorage
from scripted_scp import ScriptedSCP

from db import audit, deliveries, job_actions, jobs, reports
from db.audit_queries import AuditQuery, audit_rows
from db.deliveries import DeliveryRow
from db.session import Record
from dicom_core.errors import SpoolError, TransientDeliveryError
from dicom_core.job import DeliveryState, Job, JobState
from dicom_core.result import ResultKind
from dicom_core.settings import Settings
from worker import pipeline
from worker.delivery import run_next_delivery
from worker.pipeline import run_next_job
from worker.runner import Runner

SEG, OVERLAY, REPORT = ResultKind.SEG, ResultKind.OVERLAY, ResultKind.REPORT
pytestmark = [
    # pynetdicom 3.0.4 does not close the socket of a refused connection; the garbage collector does.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket.socket fd:pytest.PytestUnraisableExceptionWarning"
    ),
]


class Site:
    """A record, settings and the services of one worker whose rule sends everything to all destinations."""

    def __init__(self, folder: Path, destinations: list[dict[str, Any]], runner: Runner) -> None:
        names = [destination["name"] for destination in destinations]
        rules = [{**worker_bench.RULE, "destinations": names}]
        self.settings: Settings = worker_bench.settings_for(folder, rules=rules, destinations=destinations)
        self.record: Record = worker_bench.fresh_record(self.settings)
        self.services = worker_bench.services_with(runner, self.settings, self.record)

    def queue(self) -> str:
        worker_bench.receive(self.settings, self.record, dicom_sources.ct_series(frames=3, rows=16, columns=24))
        (job,) = worker_bench.complete(self.settings, self.record)
        return job.job_id

    def job(self, job_id: str) -> Job:
        return jobs.get(self.record, job_id)

    def deliver_all(self) -> None:
        while run_next_delivery(self.services):
            pass

    def make_due(self) -> None:
        """What waits for its next try need not wait."""
        with self.record.writing() as transaction:
            for row in transaction.session.query(DeliveryRow):
                row.next_try_at, row.lane_held_until = transaction.now, None


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with worker_bench.kept_runner() as kept:
        yield kept


@pytest.fixture
def site(tmp_path: Path, runner: Runner) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def make(*destinations: dict[str, Any]) -> Site:
        made.append(Site(tmp_path, list(destinations), runner))
        return made[-1]

    yield make
    for one in made:
        worker_bench.close(one.services)
    gc.collect()


def shelf(folder: Path, name: str, *results: ResultKind) -> dict[str, Any]:
    return {"name": name, "kind": "folder", "path": folder / name, **({"results": results} if results else {})}


def uids_in(folder: Path) -> set[str]:
    return {str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in folder.rglob("*.dcm")}


def test_each_destination_gets_what_it_wants(site: Callable[..., Site], tmp_path: Path) -> None:
    """SEG, overlay and report on one shelf, the SEG alone on the other; all kept, audited, and the job is DONE."""
    here = site(shelf(tmp_path, "reading", SEG, OVERLAY, REPORT), shelf(tmp_path, "plain"))
    job_id = here.queue()
    run_next_job(here.services)
    job = here.job(job_id)
    assert [result.kind for result in job.results] == [SEG, OVERLAY, OVERLAY, REPORT]
    assert all((here.settings.results_folder / result.path).is_file() for result in job.results)
    here.deliver_all()
    assert here.job(job_id).state is JobState.DONE
    assert uids_in(tmp_path / "reading") == {result.sop_instance_uid for result in job.results}
    assert uids_in(tmp_path / "plain") == {job.seg.sop_instance_uid}
    sent = [row.detail for row in audit_rows(here.record, AuditQuery(event="instances-sent"))]
    assert len(sent) == 5
    reading = [one["kind"] for one in sent if one["destination"] == "reading"]
    assert reading == ["seg", "overlay", "overlay", "report"]
    assert audit.verify(here.record).first_bad_sequence is None


def test_a_destination_without_seg_still_leaves_the_truth_here(site: Callable[..., Site], tmp_path: Path) -> None:
    """The SEG object is made and kept though only the report is wanted."""
    here = site(shelf(tmp_path, "letters", REPORT))
    job_id = here.queue()
    run_next_job(here.services)
    here.deliver_all()
    job = here.job(job_id)
    assert [result.kind for result in job.results] == [SEG, REPORT]
    assert uids_in(tmp_path / "letters") == {job.results[1].sop_instance_uid}
    assert job.state is JobState.DONE


def test_a_disk_that_fails_in_the_middle_leaves_nothing(
    site: Callable[..., Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some files kept, then an error: no object counts, no file stays, and the next try gives the same UIDs."""
    here = site(shelf(tmp_path, "reading", SEG, OVERLAY, REPORT))
    job_id = here.queue()
    kept: list[Path] = []
    keep = pipeline.keep_file

    def full(temporary: Path, final: Path) -> None:
        if len(kept) == 3:
            raise SpoolError("a result cannot be made durable: No space left on device")
        keep(temporary, final)
        kept.append(final)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "keep_file", full)
        run_next_job(here.services)
    assert len(kept) == 3
    assert not any(path.exists() for path in kept)
    job = here.job(job_id)
    assert (job.state, job.results) == (JobState.QUEUED, ())
    run_next_job(here.services)
    assert [result.kind for result in here.job(job_id).results] == [SEG, OVERLAY, OVERLAY, REPORT]


def test_a_worker_that_dies_before_its_files_count_leaves_nothing_for_ever(
    site: Callable[..., Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All files written, the record not: the next try keeps its own set, equal byte for byte, and clears the other."""
    here = site(shelf(tmp_path, "reading", SEG, REPORT))
    job_id = here.queue()

    class KilledError(BaseException):
        """As a signal would end the process."""

    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.jobs, "keep_result", killed)
        with pytest.raises(KilledError):
            run_next_job(here.services)
    (left,) = (here.settings.results_folder / job_id[:2]).iterdir()
    before = {path.name: path.read_bytes() for path in left.glob("*.dcm")}
    assert set(before) == {"seg.dcm", "report.dcm"}
    job = here.job(job_id)
    assert (job.state, job.results) == (JobState.RUNNING, ())
    jobs.fail_attempt(here.record, job, "fell silent", retryable=True, maximum_attempts=3, retry_after_seconds=0)
    run_next_job(here.services)
    (kept,) = (here.settings.results_folder / job_id[:2]).iterdir()
    assert kept != left
    assert {path.name: path.read_bytes() for path in kept.glob("*.dcm")} == before


def test_one_refused_kind_is_sent_again_alone(site: Callable[..., Site]) -> None:
    """A PACS that knows no Secondary Capture: the others arrive; when it has learned, a retry sends the overlays."""
    port = free_port()
    pacs = {"name": "pacs", "kind": "storage_scu", "ae_title": "RESULTS", "host": LOOPBACK, "port": port}
    here = site({**pacs, "results": [SEG, OVERLAY]})
    job_id = here.queue()
    run_next_job(here.services)
    with ScriptedSCP(sop_classes=[SegmentationStorage], port=port) as scp:
        for _ in range(3):
            here.deliver_all()
            here.make_due()
        assert [one.sop_instance_uid for one in scp.received] == [here.job(job_id).seg.sop_instance_uid]
        here.services.close()
    job = here.job(job_id)
    assert job.state is JobState.SEND_FAILED
    assert "accepts no Secondary Capture Image Storage" in job.reason
    assert "results of the destination" in job.reason
    job_actions.retry(here.record, job_id, "the PACS has learned it")
    with ScriptedSCP(sop_classes=[SegmentationStorage, pydicom.uid.SecondaryCaptureImageStorage], port=port) as scp:
        here.deliver_all()
        overlays = [result.sop_instance_uid for result in job.results if result.kind is OVERLAY]
        assert [one.sop_instance_uid for one in scp.received] == overlays
        here.services.close()
    assert here.job(job_id).state is JobState.DONE


def test_a_worker_that_is_told_to_stop_hands_its_delivery_back(
    site: Callable[..., Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A send that breaks while the process ends costs no attempt and no pause."""
    here = site(shelf(tmp_path, "reading"))
    job_id = here.queue()
    run_next_job(here.services)

    class Breaking:
        def send(self, *_: object, **__: object) -> str:
            here.services.stopping.set()
            raise TransientDeliveryError("the association was aborted")

    monkeypatch.setattr(here.services, "destination_of", lambda _: Breaking())
    assert run_next_delivery(here.services)
    (delivery,) = deliveries.of_job(here.record, job_id)
    assert (delivery.state, delivery.attempts) == (DeliveryState.WAITING, 0)
    assert deliveries.claim(here.record, "another", 60) is not None


@pytest.mark.skipif(not orthanc_server.INSTALLED, reason=orthanc_server.NOT_INSTALLED)
def test_orthanc_gets_the_whole_set_and_a_second_destination_the_seg(site: Callable[..., Site], tmp_path: Path) -> None:
    """By C-STORE every kind, compressed ones too: found by QIDO-RS in the study, each in a series of its own."""
    everything = list(ResultKind)
    with Orthanc(tmp_path / "orthanc") as orthanc:
        address = {"ae_title": orthanc.ae_title, "host": orthanc.host, "port": orthanc.dicom_port}
        here = site(
            {"name": "pacs", "kind": "storage_scu", **address, "results": everything},
            {"name": "web", "kind": "stow_rs", "url": orthanc.dicomweb_url, "results": [SEG, OVERLAY, REPORT]},
            shelf(tmp_path, "plain"),
        )
        job_id = here.queue()
        run_next_job(here.services)
        here.deliver_all()
        job = here.job(job_id)
        told = {one.kind: one.answer for one in reports.deliveries(here.record, job.study_instance_uid)}
        assert job.state is JobState.DONE, told
        found = orthanc.qido(f"studies/{job.study_instance_uid}/instances")
        assert {one["00080018"]["Value"][0] for one in found} == {result.sop_instance_uid for result in job.results}
        series = orthanc.qido(f"studies/{job.study_instance_uid}/series")
        assert len(series) == len(everything)
        assert {one["00080060"]["Value"][0] for one in series} == {"SEG", "CT", "SR"}
        for result in job.results:
            stored = pydicom.dcmread(pydicom.filebase.DicomBytesIO(orthanc.file(result.sop_instance_uid)))
            ours = pydicom.dcmread(here.settings.results_folder / result.path)
            assert stored == ours or result.kind not in (SEG, OVERLAY, REPORT)
        here.services.close()  # while the peer is there to hear it
    assert uids_in(tmp_path / "plain") == {job.seg.sop_instance_uid}
