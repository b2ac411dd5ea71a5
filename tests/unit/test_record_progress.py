"""How far a running job is, as the record knows it; what a process has at hand."""

import pytest
from record_story import events, kept, listener, queued, running
from sqlalchemy import select

from db import job_actions, jobs, processes, progress
from db.models import JobProgress, Process
from db.session import Record
from dicom_core.job import Job, JobState


def _rows(record: Record) -> list[JobProgress]:
    with record.reading() as session:
        return list(session.scalars(select(JobProgress)))


def test_the_latest_report_is_kept(record):
    """One row a job, with the worker that holds it; nothing of it is audited."""
    job = running(record)
    before = len(events(record))
    progress.report(record, job, "load", 0.0)
    progress.report(record, job, "segment", 0.25, "cuda:0 (NVIDIA H100)")
    (row,) = _rows(record)
    assert (row.job_id, row.fence, row.worker) == (job.job_id, job.fence, "worker-1")
    assert (row.stage, row.share, row.device) == ("segment", 0.25, "cuda:0 (NVIDIA H100)")
    assert len(events(record)) == before


def test_the_time_of_a_report_is_that_of_the_database(record, clock):
    """What stands still is found by it."""
    job = running(record)
    progress.report(record, job, "segment", 0.25)
    clock.advance(30)
    progress.report(record, job, "segment", 0.25)
    assert abs((record.now() - _rows(record)[0].updated_at).total_seconds()) < 5


def test_words_and_shares_out_of_bounds_fit_the_columns(record):
    """A segmenter that counts wrongly, a device with a long name: cut, not refused."""
    job = running(record)
    progress.report(record, job, "s" * 40, 1.5, "d\x00" * 70)
    (row,) = _rows(record)
    assert (row.stage, row.share, row.device) == ("s" * 16, 1.0, "d?" * 32)


def test_who_lost_the_job_reports_nothing(record, clock):
    """An old fence neither writes a row nor changes that of the worker which has the job now."""
    old = running(record)
    clock.advance(61)
    jobs.reap_expired(record, 3, 0)
    progress.report(record, old, "segment", 0.5)
    assert _rows(record) == []
    new = jobs.claim(record, "worker-2", 60)
    progress.report(record, new, "read", 0.1)
    progress.report(record, old, "segment", 0.9)
    (row,) = _rows(record)
    assert (row.worker, row.stage) == ("worker-2", "read")
    assert new.job_id == old.job_id


def _fail(record: Record, job: Job) -> None:
    jobs.fail_attempt(record, job, "died", retryable=True, maximum_attempts=3, retry_after_seconds=0)


ENDS = {
    "keep": lambda record, job: jobs.keep_result(record, job, kept(job)),
    "nothing": lambda record, job: jobs.finish_without_result(record, job, JobState.NO_VESSEL_FOUND, "nothing", {}),
    "fail": _fail,
    "hand back": lambda record, job: jobs.hand_back(record, job, "told to stop"),
    "cancel": lambda record, job: job_actions.cancel(record, job.job_id, "stop"),
    "reap": lambda record, _job: jobs.reap_expired(record, 3, 0),
}


@pytest.mark.parametrize("end", sorted(ENDS))
def test_progress_ends_with_the_run(record, clock, end):
    """However a job leaves RUNNING, its row goes in the same transaction; that of another job stays."""
    job, other = running(record, "1.2.1"), queued(record, "1.2.2")
    progress.report(record, job, "segment", 0.5)
    clock.advance(61)
    other = jobs.claim(record, "worker-2", 600)
    progress.report(record, other, "segment", 0.5)
    ENDS[end](record, job)
    assert [row.job_id for row in _rows(record)] == [other.job_id]


def test_a_beat_tells_what_a_worker_has(record):
    """Resources are the latest ones; a process that tells of none has none."""
    worker, other = listener(record), listener(record)
    told = {"device": "cpu", "child_resident_bytes": 7, "device_memory_used_bytes": None}
    processes.beat(record, worker, resources={"device": "cpu"})
    processes.beat(record, worker, "works", told)
    processes.beat(record, other)
    with record.reading() as session:
        assert session.get_one(Process, worker).resources == told
        assert session.get_one(Process, worker).doing == "works"
        assert session.get_one(Process, other).resources is None
