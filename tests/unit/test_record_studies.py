"""When a study is complete, and which jobs its generations get."""

from datetime import timedelta

import pytest
from record_story import (
    STUDY,
    assert_sound,
    association,
    complete,
    events,
    instance,
    kept,
    listener,
    queued,
    quiet,
    ready,
    receive,
    requests,
    running,
    set_state,
    state,
    words,
)
from sqlalchemy import select

from db import deliveries, job_actions, jobs, register, reports, retention, studies
from db.models import Instance, JobRow, Study
from dicom_core.errors import ConflictError, LeaseLostError, NotFoundError
from dicom_core.job import DeliveryState, JobState


def test_a_study_is_quiet_only_after_its_time(record, clock):
    """``stable_after_seconds`` counts from the last stored instance."""
    receive(record, 1)
    clock.advance(20)
    receive(record, 2)
    clock.advance(20)
    assert studies.quiet_studies(record, 30) == []
    clock.advance(11)
    (found,) = studies.quiet_studies(record, 30)
    assert (found.study_instance_uid, found.generation, found.revision) == (STUDY, 0, 2)


def test_a_quiet_study_carries_what_routing_needs(record):
    """Series with modality, sender of the last instance, and instances ordered by UID whatever the order of arrival."""
    receive(record, 3, 1, 2, calling="FIRST")
    receive(record, 4, calling="LAST")
    receive(record, 1, series=2, calling="FIRST")
    one, two = quiet(record).series
    assert [item.sop_instance_uid[-1] for item in one.instances] == ["1", "2", "3", "4"]
    assert (one.calling_ae_title, one.called_ae_title, one.peer_address, one.modality) == (
        "LAST",
        "VESSELQ",
        "10.0.0.7",
        "CT",
    )
    assert two.calling_ae_title == "FIRST"


def test_completing_queues_one_job_a_series_with_its_audit_rows(record):
    """The study is COMPLETE in generation 1, each series has a QUEUED job, and each change has exactly one row."""
    receive(record, 1, 2)
    receive(record, 1, series=2)
    made = complete(record, priority=10)
    assert [(job.state, job.generation, job.priority) for job in made] == [(JobState.QUEUED, 1, 10)] * 2
    (row,) = events(record, event="study-complete")
    assert row.detail == {"generation": 1, "series": 2, "instances": 3}
    assert [row.job_id for row in events(record, event="job-queued")] == [job.job_id for job in made]
    assert studies.quiet_studies(record, 0) == []


def test_an_instance_that_arrives_meanwhile_stops_completion(record):
    """Between the look and the change one more instance came: nothing changes, the next look has it."""
    receive(record, 1)
    seen = quiet(record)
    receive(record, 2)
    assert studies.complete(record, seen, requests(seen)) == []
    assert events(record, event="study-complete") == []
    assert len(complete(record)) == 1
    assert len(studies.source_of(record, reports.jobs(record)[0])) == 2


def test_the_guard_does_not_depend_on_the_clock(record):
    """An instance within the same tick of the clock stops completion as well."""
    receive(record, 1)
    seen = quiet(record)
    with record.writing() as transaction:
        at = transaction.session.get_one(Study, STUDY).last_received_at
    receive(record, 2)
    with record.writing() as transaction:
        transaction.session.get_one(Study, STUDY).last_received_at = at
    assert studies.complete(record, seen, requests(seen)) == []


def test_a_clock_that_is_set_back_loses_no_instance(record, clock):
    """Instances from before the step belong to the study and to the job like those after it."""
    receive(record, 1)
    clock.advance(-7200)
    receive(record, 2)
    assert len(quiet(record).series[0].instances) == 2
    (job,) = complete(record)
    assert len(studies.source_of(record, job)) == 2


def test_completing_twice_makes_one_generation(record):
    """Two dispatchers with the same quiet study: the second changes nothing."""
    receive(record, 1)
    seen = quiet(record)
    assert len(studies.complete(record, seen, requests(seen))) == 1
    assert studies.complete(record, seen, requests(seen)) == []
    assert len(reports.jobs(record)) == 1


def test_a_series_without_a_rule_is_skipped_in_words(record):
    """SKIPPED is an end state with its reason, from the start."""
    receive(record, 1)
    (job,) = complete(record, skip="no rule wants it")
    assert (job.state, job.reason, job.finished_at is None) == (JobState.SKIPPED, "no rule wants it", False)
    assert words(record, job) == ["job-skipped"]
    assert jobs.claim(record, "w", 60) is None


def test_unchanged_series_keep_their_job(record):
    """A late instance in series 2 makes a job for series 2 only; the job of series 1 goes on."""
    receive(record, 1)
    receive(record, 1, series=2)
    first = {job.series_instance_uid: job for job in complete(record)}
    receive(record, 2, series=2)
    (new,) = complete(record)
    assert (new.series_instance_uid, new.generation) == (f"{STUDY}.2", 2)
    assert state(record, first[f"{STUDY}.1"]) is JobState.QUEUED
    assert state(record, first[f"{STUDY}.2"]) is JobState.SUPERSEDED


def test_a_skipped_series_stays_skipped(record):
    """An unchanged SKIPPED series gets no second job."""
    receive(record, 1)
    complete(record, skip="no rule")
    receive(record, 1, series=2)
    made = complete(record, skip="no rule")
    assert [job.series_instance_uid for job in made] == [f"{STUDY}.2"]


def test_another_configuration_makes_a_new_job_of_the_same_content(record):
    """When rules changed, the next generation is not satisfied by the old result."""
    receive(record, 1)
    complete(record)
    receive(record, 1, series=2)
    made = complete(record, configuration="new")
    assert sorted(job.series_instance_uid for job in made) == [f"{STUDY}.1", f"{STUDY}.2"]


def test_a_failed_series_is_tried_again_when_the_study_is_sent_again(record):
    """FAILED does not count as done: the next generation has a new job, the old one stays as history."""
    job = running(record)
    jobs.fail_attempt(record, job, "rotten", retryable=False, maximum_attempts=3, retry_after_seconds=5)
    with record.reading() as session:
        uid = session.scalars(select(Instance.sop_instance_uid)).first()
    register.mark_missing(record, uid, "its file is damaged")
    receive(record, 1, 2)
    (new,) = complete(record)
    assert (new.generation, new.state) == (2, JobState.QUEUED)
    assert state(record, job) is JobState.FAILED
    with pytest.raises(ConflictError, match="generation 2 replaced it"):
        job_actions.retry(record, job.job_id, "please")


@pytest.mark.parametrize("before", [JobState.QUEUED, JobState.RUNNING, JobState.SEG_READY, JobState.SEND_FAILED])
def test_a_later_generation_supersedes_what_has_not_been_sent(record, before):
    """QUEUED, RUNNING, SEG_READY and SEND_FAILED jobs of the series end with the reason, their deliveries with them."""
    job = {JobState.QUEUED: queued, JobState.RUNNING: running}.get(before, ready)(record)
    if before is JobState.SEND_FAILED:
        for _ in range(deliveries.PERMANENT_REFUSALS):
            with record.writing() as transaction:
                for row in transaction.session.scalars(select(deliveries.DeliveryRow)):
                    row.next_try_at = transaction.now
            delivery = deliveries.claim(record, "w", 60)
            deliveries.failed(record, delivery, "0xC000", retryable=False, give_up_after_hours=72)
    assert state(record, job) is before
    receive(record, 3)
    (new,) = complete(record)
    old = jobs.get(record, job.job_id)
    assert (old.state, old.reason) == (JobState.SUPERSEDED, "generation 2 of the study replaced it")
    assert old.finished_at is not None
    assert words(record, job).count("job-superseded") == 1
    assert {one.state for one in deliveries.of_job(record, job.job_id)} <= {"CANCELLED", "FAILED"}
    assert deliveries.claim(record, "w", 60) is None
    assert jobs.claim(record, "w", 60).job_id == new.job_id
    assert_sound(record)


def test_a_worker_whose_job_was_superseded_writes_nothing(record):
    """Heartbeat, result and failure of the old fence are refused."""
    job = running(record)
    receive(record, 3)
    jobs.heartbeat(record, job, 60)  # the study is being received again, but nothing has replaced the job yet
    complete(record)
    with pytest.raises(LeaseLostError):
        jobs.heartbeat(record, job, 60)
    with pytest.raises(LeaseLostError):
        jobs.keep_result(record, job, kept(job))
    assert deliveries.of_job(record, job.job_id) == []


def test_a_job_that_is_being_sent_is_not_taken_back(record):
    """SENDING and DONE jobs of the earlier generation stay: the destination may have the object already."""
    sending = ready(record)
    assert deliveries.claim(record, "w", 60) is not None
    receive(record, 3)
    complete(record)
    assert state(record, sending) is JobState.SENDING


def test_a_job_whose_destination_never_answered_is_taken_back(record):
    """A dead destination must not get both generations later: what only waited in SENDING is SUPERSEDED."""
    sending = ready(record)
    delivery = deliveries.claim(record, "w", 60)
    deliveries.failed(record, delivery, "no answer", retryable=True, give_up_after_hours=72)
    assert state(record, sending) is JobState.SENDING
    receive(record, 3)
    complete(record)
    assert state(record, sending) is JobState.SUPERSEDED
    assert [one.state for one in deliveries.of_job(record, sending.job_id)] == [DeliveryState.CANCELLED]


def test_purged_instances_of_a_series_are_counted(record, clock):
    """A late slice of a series whose other slices were purged comes with their number."""
    receive(record, 1, 2)
    complete(record, skip="no rule")
    clock.advance(40 * 86400)
    retention.purge_sources(record, 30)
    receive(record, 3)
    (series,) = quiet(record).series
    assert (len(series.instances), series.absent) == (1, 2)


def test_jobs_of_a_study_that_is_received_again_wait(record):
    """A QUEUED job is not claimed while its study is RECEIVING: the next generation may replace it."""
    queued(record)
    receive(record, 3)
    assert jobs.claim(record, "w", 60) is None
    assert jobs.due(record, 10, 100) == []


def test_a_job_works_on_the_instances_of_its_generation(record):
    """A late instance does not slip into a running job; the next generation's job has it."""
    job = running(record)
    receive(record, 3)
    assert len(studies.source_of(record, job)) == 2
    (new,) = complete(record)
    assert [len(studies.source_of(record, one)) for one in (job, new)] == [2, 3]


def test_the_source_of_a_purged_study_is_gone_in_words(record, clock):
    """NotFoundError tells the operator to send the study again."""
    receive(record, 1)
    (job,) = complete(record, skip="no rule")
    clock.advance(40 * 86400)
    retention.purge_sources(record, 30)
    with pytest.raises(NotFoundError, match="send the study again"):
        studies.source_of(record, job)


def test_a_series_whose_files_are_all_missing_is_shown_and_a_purged_one_is_not(record, clock):
    """MISSING must end in a visible state; PURGED is over and gets no new job when another series arrives."""
    receive(record, 1)
    complete(record, skip="no rule")
    clock.advance(40 * 86400)
    retention.purge_sources(record, 30)
    receive(record, 1, series=2)
    register.mark_missing(record, f"{STUDY}.2.1", "gone")
    assert [(series.series_instance_uid, series.instances) for series in quiet(record).series] == [(f"{STUDY}.2", ())]


def test_close_now_completes_a_study_that_is_still_fed(record):
    """An operator does not wait for the quiet time; the wish is granted once."""
    by = association(listener(record))
    register.record_instances(record, [instance(by, 1)])
    assert studies.quiet_studies(record, 3600) == []
    studies.close_now(record, STUDY)
    seen = quiet(record)
    assert len(studies.complete(record, seen, requests(seen))) == 1
    with pytest.raises(ConflictError, match="complete already"):
        studies.close_now(record, STUDY)
    register.record_instances(record, [instance(by, 2)])
    assert studies.quiet_studies(record, 3600) == []


def test_close_now_of_an_unknown_study_says_so(record):
    """NotFoundError names the UID."""
    with pytest.raises(NotFoundError, match=r"1\.2\.3"):
        studies.close_now(record, "1.2.3")


def test_quiet_studies_come_oldest_first_up_to_the_limit(record, clock):
    """The limit cuts the youngest."""
    for number in range(5):
        receive(record, 1, study=f"1.2.{number}")
        clock.advance(1)
    assert [one.study_instance_uid for one in studies.quiet_studies(record, 0, limit=3)] == ["1.2.0", "1.2.1", "1.2.2"]


def test_only_one_job_a_series_generation_and_configuration_can_exist(record):
    """The database itself refuses a second one."""
    job = queued(record)
    with record.reading() as session:
        row = session.get_one(JobRow, job.job_id)
        values = {column.name: getattr(row, column.name) for column in JobRow.__table__.columns}
    with pytest.raises(Exception, match=r"(?i)unique"), record.writing() as transaction:
        transaction.session.add(JobRow(**{**values, "job_id": "0" * 32}))


def test_priority_with_ageing_orders_the_queue(record, clock):
    """STAT overtakes routine that has waited less than four hours, and no more."""
    old = queued(record, "1.2.1")
    clock.advance(4 * 3600 + 60)
    waiting = queued(record, "1.2.2")
    clock.advance(60)
    stat = queued(record, "1.2.3", priority=100)
    assert [jobs.claim(record, "w", 60).job_id for _ in range(3)] == [old.job_id, stat.job_id, waiting.job_id]
    assert timedelta(seconds=100 * jobs.AGEING_SECONDS_PER_POINT) == timedelta(hours=4)


def test_purged_work_is_done_again_when_the_study_comes_back(record, clock):
    """After PURGED, the same content makes a new job in the next generation."""
    job = queued(record)
    set_state(record, job, state=JobState.DONE)
    clock.advance(40 * 86400)
    retention.purge_sources(record, 30)
    assert state(record, job) is JobState.PURGED
    receive(record, 1, 2)
    (new,) = complete(record)
    assert (new.generation, new.input_hash) == (2, job.input_hash)
