"""One job from claim to its next state, over a real record, spool and child process."""

import shutil
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dicom_sources
import pydicom
import pytest
import worker_bench
from sqlalchemy import select

from db import audit, job_actions, jobs, register, reports, retention
from db.audit_queries import AuditQuery, audit_rows
from db.models import JobProgress, JobRow
from db.session import Record
from dicom_core.job import JobState
from dicom_core.settings import Settings
from worker import pipeline
from worker.delivery import run_next_delivery
from worker.leftovers import remove_leftovers
from worker.pipeline import run_next_job
from worker.runner import Runner


class Bench:
    """A record, settings and the services of one worker."""

    def __init__(self, settings: Settings, runner: Runner) -> None:
        self.settings = settings
        self.record: Record = worker_bench.fresh_record(settings)
        self.services = worker_bench.services_with(runner, settings, self.record)

    def queue(self, **source: Any) -> str:
        datasets = dicom_sources.ct_series(**{"frames": 3, "rows": 16, "columns": 24, **source})
        worker_bench.receive(self.settings, self.record, datasets)
        (job,) = worker_bench.complete(self.settings, self.record)
        return job.job_id


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with worker_bench.kept_runner() as kept:
        yield kept


@pytest.fixture
def benches(tmp_path: Path, runner: Runner) -> Iterator[Any]:
    made: list[Bench] = []

    def make(**changes: Any) -> Bench:
        bench = Bench(worker_bench.settings_for(tmp_path, **changes), runner)
        made.append(bench)
        return bench

    yield make
    for bench in made:
        worker_bench.close(bench.services)


def test_job_becomes_a_kept_result_and_is_delivered(benches: Any, tmp_path: Path) -> None:
    """QUEUED, RUNNING, SEG_READY, SENDING, SENT, DONE: each step audited once, the file at its destination."""
    bench = benches()
    job_id = bench.queue()
    assert run_next_job(bench.services)
    job = jobs.get(bench.record, job_id)
    assert job.state is JobState.SEG_READY
    assert (bench.settings.results_folder / job.seg.path).is_file()
    assert (bench.settings.results_folder / str(job.result["preview_path"])).is_file()
    assert {"load", "segment", "keep"} <= job.result["seconds"].keys()
    assert job.result["device"] == "cpu"
    assert run_next_delivery(bench.services)
    job = jobs.get(bench.record, job_id)
    assert job.state is JobState.DONE
    sent = list((tmp_path / "shelf").rglob("*.dcm"))
    assert [str(pydicom.dcmread(path).SOPInstanceUID) for path in sent] == [job.seg.sop_instance_uid]
    events = [row.event for row in audit_rows(bench.record, AuditQuery(job_id=job_id))]
    assert events == [
        "job-queued", "job-running", "seg-created", "transfer-begun", "job-state", "instances-sent", "job-state",
        "job-state",
    ]  # fmt: skip
    assert audit.verify(bench.record).first_bad_sequence is None
    assert not run_next_job(bench.services)
    assert not list((bench.settings.results_folder / "tmp").iterdir())


def test_empty_mask_ends_visibly_without_an_object(benches: Any) -> None:
    """A segmenter that finds nothing ends the job as NO_VESSEL_FOUND; nothing is sent."""
    bench = benches(model={"mode": "empty"})
    job_id = bench.queue()
    run_next_job(bench.services)
    job = jobs.get(bench.record, job_id)
    assert (job.state, job.reason) == (JobState.NO_VESSEL_FOUND, "no vessel found")
    assert not run_next_delivery(bench.services)


def test_empty_mask_is_sent_on_request(benches: Any, tmp_path: Path) -> None:
    """With ``send_empty`` the job goes on to DONE with an object of empty frames, and its record says so."""
    bench = benches(model={"mode": "empty"}, segmentation={"send_empty": True})
    job_id = bench.queue()
    run_next_job(bench.services)
    job = jobs.get(bench.record, job_id)
    assert job.state is JobState.SEG_READY
    assert job.result["warnings"] == ["no vessel was found: the object is empty"]
    assert job.result["frames_with_vessel"] == 0
    assert run_next_delivery(bench.services)
    assert jobs.get(bench.record, job_id).state is JobState.DONE
    (sent,) = [pydicom.dcmread(path) for path in (tmp_path / "shelf").rglob("*.dcm")]
    assert sent.NumberOfFrames == 3
    assert not any(sent.PixelData)


def test_poison_fails_after_three_attempts_and_others_go_on(benches: Any) -> None:
    """A series that kills its child every time is FAILED after three attempts, in words."""
    bench = benches(model={"mode": "die"})
    job_id = bench.queue()
    while run_next_job(bench.services):
        pass
    job = jobs.get(bench.record, job_id)
    assert job.state is JobState.FAILED
    assert job.attempts == 3
    assert "child process ended" in job.reason


def test_second_attempt_can_succeed(benches: Any, tmp_path: Path) -> None:
    """One death costs one attempt."""
    bench = benches(model={"mode": "die", "once": str(tmp_path / "once")})
    job_id = bench.queue()
    while run_next_job(bench.services):
        pass
    job = jobs.get(bench.record, job_id)
    assert (job.state, job.attempts) == (JobState.SEG_READY, 2)


def test_rotten_slice_is_named(benches: Any) -> None:
    """A series with one damaged instance fails at once, and the reason names that instance."""
    bench = benches()
    datasets = dicom_sources.ct_series(frames=4, rows=16, columns=24)
    rotten = datasets[2]
    rotten.PixelData = rotten.PixelData[:100]
    worker_bench.receive(bench.settings, bench.record, datasets)
    (job,) = worker_bench.complete(bench.settings, bench.record)
    run_next_job(bench.services)
    job = jobs.get(bench.record, job.job_id)
    assert job.state is JobState.FAILED
    assert job.attempts == 1
    assert rotten.SOPInstanceUID in job.reason


def test_missing_source_file_is_named(benches: Any) -> None:
    """A stored file that is gone ends in words that name the instance, not in a crash."""
    bench = benches()
    job_id = bench.queue()
    victim = next(iter(bench.settings.spool_folder.glob("instances/??/*.dcm")))
    victim.unlink()
    run_next_job(bench.services)
    job = jobs.get(bench.record, job_id)
    assert job.state is JobState.FAILED
    assert "is missing" in job.reason


def test_series_with_a_gap_is_never_segmented(benches: Any) -> None:
    """An instance that is found missing after the job was made: no result over the rest; sent again, all is well."""
    bench = benches()
    datasets = dicom_sources.ct_series(frames=3, rows=16, columns=24)
    worker_bench.receive(bench.settings, bench.record, datasets)
    (job,) = worker_bench.complete(bench.settings, bench.record)
    register.mark_missing(bench.record, str(datasets[1].SOPInstanceUID), "its file is not in the spool")
    run_next_job(bench.services)
    failed = jobs.get(bench.record, job.job_id)
    assert failed.state is JobState.FAILED
    assert "missing" in failed.reason
    worker_bench.receive(bench.settings, bench.record, datasets[1:2])
    (again,) = worker_bench.complete(bench.settings, bench.record)
    run_next_job(bench.services)
    assert jobs.get(bench.record, again.job_id).result["frames"] == 3


def test_late_worker_leaves_the_kept_result_alone(benches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that was stopped for longer than its lease keeps nothing: the other one's file stays as it is."""
    bench = benches()
    job_id = bench.queue()
    keep = pipeline.jobs.keep_result
    others: list[str] = []

    def overtaken(record: Record, job: Any, kept: Any) -> list[str]:
        monkeypatch.setattr(pipeline.jobs, "keep_result", keep)
        jobs.fail_attempt(record, job, "fell silent", retryable=True, maximum_attempts=3, retry_after_seconds=0)
        run_next_job(bench.services)  # the other worker
        others.append(jobs.get(record, job.job_id).seg.path)
        return keep(record, job, kept)

    monkeypatch.setattr(pipeline.jobs, "keep_result", overtaken)
    run_next_job(bench.services)
    job = jobs.get(bench.record, job_id)
    assert job.state is JobState.SEG_READY
    assert [job.seg.path] == others
    folder = bench.settings.results_folder
    assert [str(path.relative_to(folder)) for path in folder.rglob("seg.dcm")] == others
    assert run_next_delivery(bench.services)
    assert jobs.get(bench.record, job_id).state is JobState.DONE


def test_destination_that_raises_anything_frees_its_lane(benches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw ends the try in words at once instead of holding the lane for a lease."""
    bench = benches()
    bench.queue()
    run_next_job(bench.services)

    def stumble(_: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(bench.services, "destination_of", stumble)
    run_next_delivery(bench.services)
    (delivery,) = reports.deliveries(bench.record, reports.jobs(bench.record)[0].study_instance_uid)
    assert (delivery.state, delivery.answer) == ("WAITING", "unexpected RuntimeError")


def test_cancelled_job_is_dropped_while_it_runs(benches: Any) -> None:
    """While it runs the record shows how far it is; cancelling takes it from its worker, and nothing is kept."""
    bench = benches(model={"mode": "hang"}, worker={"lease_seconds": 1, "deadline_seconds": 60})
    job_id = bench.queue()
    thread = threading.Thread(target=run_next_job, args=(bench.services,))
    thread.start()
    _wait_for(lambda: [(row.stage, row.device) for row in _progress(bench.record)] == [("segment", "cpu")])
    job_actions.cancel(bench.record, job_id, "not wanted")
    thread.join(15)
    assert not thread.is_alive()
    job = jobs.get(bench.record, job_id)
    assert (job.state, job.reason) == (JobState.CANCELLED, "not wanted")
    assert _progress(bench.record) == []
    assert bench.services.runner.child_pid is None


def test_stopping_hands_the_job_back(benches: Any) -> None:
    """A worker that is told to stop returns its job at once and without costing an attempt."""
    bench = benches(model={"mode": "hang"})
    job_id = bench.queue()
    thread = threading.Thread(target=run_next_job, args=(bench.services,))
    thread.start()
    _wait_for(lambda: jobs.get(bench.record, job_id).state is JobState.RUNNING)
    bench.services.stopping.set()
    thread.join(15)
    assert not thread.is_alive()
    job = jobs.get(bench.record, job_id)
    assert (job.state, job.attempts) == (JobState.QUEUED, 0)


def test_changed_result_file_is_not_sent(benches: Any) -> None:
    """A kept file that was altered on the disk never leaves: the hash is checked before every send."""
    bench = benches()
    job_id = bench.queue()
    run_next_job(bench.services)
    path = bench.settings.results_folder / jobs.get(bench.record, job_id).seg.path
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    run_next_delivery(bench.services)
    (delivery,) = reports.deliveries(bench.record, jobs.get(bench.record, job_id).study_instance_uid)
    assert "has changed on the disk" in delivery.answer
    assert not list((bench.settings.data_folder / "shelf").rglob("*.dcm"))


def test_late_instance_makes_a_second_generation(benches: Any) -> None:
    """A late instance gives a new result under other UIDs; the first one stays what it was."""
    bench = benches()
    datasets = dicom_sources.ct_series(frames=4, rows=16, columns=24)
    worker_bench.receive(bench.settings, bench.record, datasets[:3])
    (first,) = worker_bench.complete(bench.settings, bench.record)
    run_next_job(bench.services)
    worker_bench.receive(bench.settings, bench.record, datasets[3:])
    (second,) = worker_bench.complete(bench.settings, bench.record)
    run_next_job(bench.services)
    first, second = jobs.get(bench.record, first.job_id), jobs.get(bench.record, second.job_id)
    assert (first.state, second.state) == (JobState.SUPERSEDED, JobState.SEG_READY)
    assert second.generation == 2
    assert second.result["frames"] == 4
    assert first.seg.sop_instance_uid != second.seg.sop_instance_uid


def test_stale_work_folders_are_removed(benches: Any) -> None:
    """A worker that starts clears what a killed one left behind, and nothing else."""
    bench = benches()
    job_id = bench.queue()
    stale = bench.settings.results_folder / "tmp" / f"{job_id}-7"
    stale.mkdir(parents=True)
    remove_leftovers(bench.services)
    assert not stale.exists()


def test_results_that_never_counted_do_not_stay(benches: Any) -> None:
    """Files of a worker that died before they counted, the job then cancelled; what is kept or unknown stays."""
    bench = benches()
    job_id = bench.queue()
    run_next_job(bench.services)
    (kept,) = (bench.settings.results_folder / job_id[:2]).iterdir()
    running, uncounted, unknown = (kept.with_name(name) for name in (f"{job_id}-8", f"{job_id}-7", f"{'f' * 32}-1"))
    for folder in (uncounted, unknown):
        shutil.copytree(kept, folder)
    remove_leftovers(bench.services)
    assert (kept.is_dir(), uncounted.exists(), unknown.is_dir()) == (True, False, True)
    assert (kept / "seg.dcm").is_file()
    with bench.record.writing() as transaction:
        row = transaction.session.get_one(JobRow, job_id)
        row.state, row.fence = JobState.RUNNING, 8
    shutil.copytree(kept, running)
    remove_leftovers(bench.services)
    assert running.is_dir()


def test_the_next_try_removes_what_the_last_one_left(benches: Any) -> None:
    """A worker that starts while the lease of a dead one lasts keeps its folders; who does the job removes them."""
    bench = benches()
    job_id = bench.queue()
    dead = jobs.claim(bench.record, "d" * 32, 60)
    results = bench.settings.results_folder
    left = [results / folder / f"{job_id}-{dead.fence}" for folder in ("tmp", job_id[:2])]
    other = results / "tmp" / f"{'f' * 32}-1"
    for folder in (*left, other):
        folder.mkdir(parents=True)
    remove_leftovers(bench.services)
    assert all(folder.is_dir() for folder in left)
    with bench.record.writing() as transaction:
        row = transaction.session.get_one(JobRow, job_id)
        row.lease_expires_at = transaction.now - timedelta(seconds=1)
    assert jobs.reap_expired(bench.record, 3, 0) == 1
    assert run_next_job(bench.services)
    assert not any(folder.exists() for folder in left)
    (kept,) = (results / job_id[:2]).iterdir()
    assert (kept / "seg.dcm").is_file()
    assert other.is_dir(), "the folder of a job that the record does not know is somebody's"


def test_results_that_retention_let_go_do_not_stay(benches: Any) -> None:
    """The dispatcher may die between the record and the removal of the files."""
    bench = benches()
    job_id = bench.queue()
    run_next_job(bench.services)
    with bench.record.writing() as transaction:
        row = transaction.session.get_one(JobRow, job_id)
        row.state, row.finished_at = JobState.DONE, transaction.now - timedelta(days=2)
    assert retention.results_to_remove(bench.record, 1)
    remove_leftovers(bench.services)
    assert list((bench.settings.results_folder / job_id[:2]).iterdir()) == []


def _progress(record: Record) -> list[JobProgress]:
    with record.reading() as session:
        return list(session.scalars(select(JobProgress)))


def _wait_for(condition: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
