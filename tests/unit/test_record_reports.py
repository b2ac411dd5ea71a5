"""What operators and auditors are told, and what the retention policy takes away."""

from datetime import timedelta

import pytest
from record_story import STUDY, assert_sound, complete, events, queued, ready, receive, set_state, state, words

from db import deliveries, job_actions, jobs, register, reports, retention
from db.audit_queries import AuditQuery, audit_rows
from db.models import JobRow
from dicom_core.errors import ConflictError, NotFoundError
from dicom_core.job import JobState

DAY = 86400
FINISHED_BY_SENDING = ("pacs",)


def _sent(record, study=STUDY):
    job = ready(record, study)
    deliveries.sent(record, deliveries.claim(record, "w", 60), "0x0000")
    return jobs.get(record, job.job_id)


def test_a_study_is_summed_up(record):
    """State, generation, modalities, counts, sender and the states of its current jobs."""
    receive(record, 1, 2)
    receive(record, 1, series=2)
    complete(record)
    found = reports.study(record, STUDY)
    assert (found.state, found.generation, found.modalities, found.series, found.instances) == (
        "COMPLETE",
        1,
        ("CT",),
        2,
        3,
    )
    assert (found.calling_ae_title, found.job_states) == ("SENDER", ("QUEUED", "QUEUED"))
    with pytest.raises(NotFoundError, match=r"9\.9"):
        reports.study(record, "9.9")


def test_studies_come_latest_first_and_are_filtered(record, clock):
    """By UID, by their own state, by the state of a current job."""
    for number in range(3):
        receive(record, 1, study=f"1.2.{number}")
        clock.advance(1)
    complete(record, "1.2.0")
    assert [one.study_instance_uid for one in reports.studies(record)] == ["1.2.2", "1.2.1", "1.2.0"]
    assert len(reports.studies(record, limit=2)) == 2
    assert [one.study_instance_uid for one in reports.studies(record, state="COMPLETE")] == ["1.2.0"]
    assert [one.study_instance_uid for one in reports.studies(record, state="QUEUED")] == ["1.2.0"]
    assert [one.study_instance_uid for one in reports.studies(record, study_instance_uid="1.2.1")] == ["1.2.1"]
    assert reports.studies(record, state="nonsense") == []


def test_a_replaced_job_does_not_show_its_study(record):
    """A study whose failure was repaired by a later generation is not listed under FAILED."""
    job = queued(record)
    set_state(record, job, state=JobState.FAILED)
    assert len(reports.studies(record, state="FAILED")) == 1
    receive(record, 3)
    complete(record)
    assert reports.studies(record, state="FAILED") == []
    assert [one.generation for one in reports.current_jobs(record, STUDY)] == [2]


def test_jobs_are_listed_and_filtered(record, clock):
    """Latest first; by study and by states."""
    old = queued(record, "1.2.1")
    clock.advance(1)
    new = queued(record, "1.2.2")
    assert [job.job_id for job in reports.jobs(record)] == [new.job_id, old.job_id]
    assert [job.job_id for job in reports.jobs(record, study_instance_uid="1.2.1")] == [old.job_id]
    assert reports.jobs(record, states=[JobState.DONE]) == []
    assert len(reports.jobs(record, states=[JobState.QUEUED, JobState.DONE], limit=1)) == 1


def test_deliveries_of_a_study(record):
    """Where the results went, with the last answer."""
    job = ready(record, destinations=("pacs", "archive"))
    delivery = deliveries.claim(record, "w", 60)
    deliveries.failed(record, delivery, "0xA700", retryable=True, give_up_after_hours=72)
    found = {one.destination: one for one in reports.deliveries(record, STUDY)}
    assert set(found) == {"pacs", "archive"}
    assert (found[delivery.destination].answer, found[delivery.destination].attempts) == ("0xA700", 1)
    assert {one.job_id for one in found.values()} == {job.job_id}


def test_the_audit_log_is_searched(record, clock):
    """By study, job, AE, event, failure and time; in order; the latest when there are more than the limit."""
    job = queued(record)
    clock.advance(60)
    middle = record.now()
    register.mark_missing(record, f"{STUDY}.1.1", "gone")
    everything = audit_rows(record, AuditQuery())
    assert [row.sequence for row in everything] == [row.sequence for row in events(record)]
    study_words = [row.event for row in audit_rows(record, AuditQuery(study_instance_uid=STUDY))]
    assert study_words == ["study-receiving", "instances-received", "study-complete", "job-queued", "instance-missing"]
    assert [row.event for row in audit_rows(record, AuditQuery(job_id=job.job_id))] == ["job-queued"]
    assert len(audit_rows(record, AuditQuery(ae_title="SENDER"))) == 2
    assert len(audit_rows(record, AuditQuery(event="study-complete"))) == 1
    assert [row.event for row in audit_rows(record, AuditQuery(failed_only=True))] == ["instance-missing"]
    assert [row.event for row in audit_rows(record, AuditQuery(since=middle))] == ["instance-missing"]
    assert len(audit_rows(record, AuditQuery(until=middle))) == len(everything) - 1
    assert [row.sequence for row in audit_rows(record, AuditQuery(limit=2))] == [
        row.sequence for row in everything[-2:]
    ]


def test_sources_are_purged_when_everything_is_over(record, clock):
    """Instances PURGED, DONE jobs PURGED with a row each, the study audited, paths handed out once."""
    job = _sent(record)
    assert retention.purge_sources(record, 30) == []
    clock.advance(31 * DAY)
    (purged,) = retention.purge_sources(record, 30)
    assert (purged.study_instance_uid, len(purged.paths)) == (STUDY, 2)
    assert retention.purge_sources(record, 30) == []
    assert state(record, job) is JobState.PURGED
    assert words(record, job)[-1] == "job-state"
    assert events(record, job_id=job.job_id)[-1].detail == {"from": "DONE", "to": "PURGED"}
    (row,) = events(record, event="sources-purged")
    assert (row.event_id, row.action, row.detail) == ("110105", "D", {"instances": 2})
    assert register.recorded_files(record) == []
    assert_sound(record)


@pytest.mark.parametrize("unfinished", [JobState.QUEUED, JobState.RUNNING, JobState.SEG_READY, JobState.SENDING])
def test_sources_of_unfinished_work_stay(record, clock, unfinished):
    """However old the study is."""
    job = queued(record)
    set_state(record, job, state=unfinished)
    clock.advance(400 * DAY)
    assert retention.purge_sources(record, 30) == []


def test_sources_of_a_study_that_is_received_again_stay(record, clock):
    """RECEIVING is not over."""
    _sent(record)
    clock.advance(31 * DAY)
    receive(record, 9)
    assert retention.purge_sources(record, 30) == []


def test_no_more_studies_than_the_limit_are_purged_at_once(record, clock):
    """The writer's lock is held for short times only."""
    for number in range(3):
        receive(record, 1, study=f"1.2.{number}")
        complete(record, f"1.2.{number}", skip="no rule")
    clock.advance(31 * DAY)
    assert [len(retention.purge_sources(record, 30, limit=2)) for _ in range(3)] == [2, 1, 0]


def test_a_file_that_was_received_again_is_not_removed(record, clock):
    """Between the purge of the rows and that of the files the study came back: its file stays."""
    receive(record, 1, 2)
    complete(record, skip="no rule")
    clock.advance(31 * DAY)
    (purged,) = retention.purge_sources(record, 30)
    receive(record, 1)
    (back,) = [path for _, path, _ in register.recorded_files(record)]
    removed: list[str] = []
    assert retention.remove_purged(record, purged, removed.append) == 1
    assert removed == [path for path in purged.paths if path != back]


def test_files_are_removed_in_small_parts(record, clock, monkeypatch):
    """All of them, though no transaction holds the writers for long."""
    monkeypatch.setattr(retention, "_FILES_AT_ONCE", 3)
    receive(record, *range(10))
    complete(record, skip="no rule")
    clock.advance(31 * DAY)
    (purged,) = retention.purge_sources(record, 30)
    removed: list[str] = []
    assert retention.remove_purged(record, purged, removed.append) == 10
    assert sorted(removed) == sorted(purged.paths)


def test_old_results_are_forgotten_once_and_audited(record, clock):
    """The clock starts when the job ended, not when its sources were purged."""
    job = _sent(record)
    clock.advance(31 * DAY)
    retention.purge_sources(record, 30)
    clock.advance(timedelta(days=335).total_seconds())
    assert retention.results_to_remove(record, 365) == [job.seg.path]
    assert retention.results_to_remove(record, 365) == []
    (row,) = events(record, event="result-removed")
    assert (row.job_id, row.detail["sha256"]) == (job.job_id, job.seg.sha256)


@pytest.mark.parametrize("end", [JobState.SEND_FAILED, JobState.CANCELLED])
def test_results_that_nobody_sent_go_too_and_the_study_can_come_again(record, clock, end):
    """An operator has the whole time to send them; then the job is PURGED and the same study is a new try."""
    job = ready(record)
    set_state(record, job, state=end, finished_at=record.now())
    clock.advance(364 * DAY)
    assert retention.results_to_remove(record, 365) == []
    clock.advance(2 * DAY)
    assert retention.results_to_remove(record, 365) == [job.seg.path]
    after = jobs.get(record, job.job_id)
    assert (after.state, after.reason) == (JobState.PURGED, "its result was not sent for 365 days")
    assert after.results[0].sop_instance_uid == job.seg.sop_instance_uid
    receive(record, 1, 2, 3)
    (again,) = complete(record)
    assert (again.state, again.generation) == (JobState.QUEUED, 2)


def test_a_removed_result_is_never_built_again(record):
    """A cancelled job whose files are gone cannot be tried again: other bytes could come under the same UID."""
    job = ready(record)
    with record.writing() as transaction:
        transaction.session.get_one(JobRow, job.job_id).results[0].path = ""
    job_actions.cancel(record, job.job_id, "stop")
    with pytest.raises(ConflictError, match="send the study again"):
        job_actions.retry(record, job.job_id, "go on")
    assert state(record, job) is JobState.CANCELLED
