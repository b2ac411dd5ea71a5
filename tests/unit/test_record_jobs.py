"""The queue: claims, leases, fences, retries, the operator's hand."""

import threading

import pytest
from record_story import (
    assert_sound,
    complete,
    events,
    kept,
    queued,
    ready,
    receive,
    running,
    set_state,
    state,
    words,
)

from db import deliveries, job_actions, jobs
from db.models import JobRow
from dicom_core.errors import ConflictError, LeaseLostError, NotFoundError
from dicom_core.job import CANCELLABLE, FINISHED, RETRYABLE_BY_OPERATOR, DeliveryState, JobState

ONE_MINUTE = 60


def _fail(record, job, *, retryable=True, maximum_attempts=3, retry_after_seconds=5.0):
    return jobs.fail_attempt(
        record,
        job,
        "the child died",
        retryable=retryable,
        maximum_attempts=maximum_attempts,
        retry_after_seconds=retry_after_seconds,
    )


def test_a_claim_takes_the_job_once(record):
    """RUNNING with owner, lease, attempt 1 and a new fence; a second claim finds nothing."""
    before = queued(record)
    job = jobs.claim(record, "worker-1", ONE_MINUTE)
    assert (job.job_id, job.state, job.attempts, job.fence) == (before.job_id, JobState.RUNNING, 1, before.fence + 1)
    assert job.lease_owner == "worker-1"
    assert jobs.claim(record, "worker-2", ONE_MINUTE) is None
    (row,) = events(record, event="job-running")
    assert row.detail == {"from": "QUEUED", "to": "RUNNING", "attempt": 1, "worker": "worker-1"}


def test_threads_never_share_a_job(record):
    """Six threads that claim at once get twelve different jobs, each once."""
    made = {queued(record, f"1.2.{number}").job_id for number in range(12)}
    claimed: list[str] = []

    def work() -> None:
        while (job := jobs.claim(record, threading.current_thread().name, ONE_MINUTE)) is not None:
            claimed.append(job.job_id)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(made)
    assert_sound(record)


def test_a_heartbeat_prolongs_the_lease(record, clock):
    """With beats a job outlives its first lease; without it is taken away."""
    job = running(record)
    clock.advance(50)
    jobs.heartbeat(record, job, ONE_MINUTE)
    clock.advance(50)
    assert jobs.reap_expired(record, 3, 5) == 0
    clock.advance(11)
    assert jobs.reap_expired(record, 3, 5) == 1
    assert state(record, job) is JobState.QUEUED


def test_an_old_fence_writes_nothing(record, clock):
    """After the lease ran out and another worker took the job, the first one is refused everywhere."""
    first = running(record)
    clock.advance(61)
    jobs.reap_expired(record, 3, 5)
    clock.advance(6)
    second = jobs.claim(record, "worker-2", ONE_MINUTE)
    assert second.job_id == first.job_id
    before = len(events(record))
    for late in (
        lambda: jobs.heartbeat(record, first, ONE_MINUTE),
        lambda: jobs.keep_result(record, first, kept(first)),
        lambda: jobs.finish_without_result(record, first, JobState.NO_VESSEL_FOUND, "nothing", {}),
        lambda: _fail(record, first),
        lambda: jobs.hand_back(record, first, "stop"),
    ):
        with pytest.raises(LeaseLostError):
            late()
    assert len(events(record)) == before
    jobs.keep_result(record, second, kept(second))
    assert state(record, first) is JobState.SEG_READY


def test_an_expired_lease_that_nobody_took_still_counts(record, clock):
    """A worker that was slow to beat may finish as long as its fence stands."""
    job = running(record)
    clock.advance(600)
    assert len(jobs.keep_result(record, job, kept(job))) == 1


@pytest.mark.parametrize("end", ["cancel", "expiry"])
def test_a_heartbeat_finds_the_job_gone(record, clock, end):
    """After a cancellation or an expiry the next beat says so."""
    job = running(record)
    if end == "cancel":
        job_actions.cancel(record, job.job_id, "wrong patient")
    else:
        clock.advance(61)
        jobs.reap_expired(record, 3, 5)
    with pytest.raises(LeaseLostError):
        jobs.heartbeat(record, job, ONE_MINUTE)


def test_a_kept_result_makes_one_delivery_a_destination(record):
    """SEG_READY with the facts of the result, deliveries WAITING, provenance in the audit row."""
    job = running(record, destinations=("pacs", "archive", "pacs", "sender"))
    made = jobs.keep_result(record, job, kept(job))
    after = jobs.get(record, job.job_id)
    assert (after.state, after.results, after.lease_owner) == (JobState.SEG_READY, kept(job).objects, "")
    found = deliveries.of_job(record, job.job_id)
    assert sorted(one.destination for one in found) == ["archive", "pacs", "sender"]
    assert {one.delivery_id for one in found} == set(made)
    assert {one.state for one in found} == {DeliveryState.WAITING}
    (row,) = events(record, event="seg-created")
    assert row.event_id == "110103"
    (made_object,) = row.detail["objects"]
    assert made_object["sop_instance_uid"] == after.seg.sop_instance_uid
    assert row.detail["model"] == "ridge"


def test_a_result_without_destination_is_done(record):
    """Kept here, DONE, and the reason says why nothing was sent."""
    job = running(record, destinations=())
    assert jobs.keep_result(record, job, kept(job)) == []
    after = jobs.get(record, job.job_id)
    assert after.state is JobState.DONE
    assert "no destination" in after.reason
    assert words(record, job) == ["job-queued", "job-running", "seg-created", "job-state"]


@pytest.mark.parametrize("end", [JobState.NO_VESSEL_FOUND, JobState.SKIPPED])
def test_an_end_without_object_is_visible(record, end):
    """The reason stands in the row; the facts of the try are kept."""
    job = running(record)
    jobs.finish_without_result(record, job, end, "nothing found", {"frames": 3})
    after = jobs.get(record, job.job_id)
    assert (after.state, after.reason, after.result) == (end, "nothing found", {"frames": 3})
    assert after.finished_at is not None


def test_a_change_that_no_arrow_allows_is_refused_and_leaves_nothing(record):
    """``finish_without_result`` with DONE is a programming error: ConflictError, no row, no audit."""
    job = running(record)
    before = len(events(record))
    with pytest.raises(ConflictError, match="cannot become DONE"):
        jobs.finish_without_result(record, job, JobState.DONE, "", {})
    assert state(record, job) is JobState.RUNNING
    assert len(events(record)) == before


def test_failed_attempts_wait_longer_each_time_and_end_in_failed(record, clock):
    """5 s, 10 s, then FAILED with the reason; every attempt has its audit row."""
    job = running(record)
    assert _fail(record, job) is JobState.QUEUED
    assert jobs.claim(record, "w", ONE_MINUTE) is None
    clock.advance(5.1)
    job = jobs.claim(record, "w", ONE_MINUTE)
    assert _fail(record, job) is JobState.QUEUED
    clock.advance(9.9)
    assert jobs.claim(record, "w", ONE_MINUTE) is None
    clock.advance(0.2)
    job = jobs.claim(record, "w", ONE_MINUTE)
    assert job.attempts == 3
    assert _fail(record, job) is JobState.FAILED
    assert jobs.get(record, job.job_id).reason == "the child died"
    assert words(record, job) == ["job-queued", *["job-running", "job-attempt-failed"] * 2, "job-running", "job-failed"]
    assert [row.outcome for row in events(record, event="job-failed")] == [8]


def test_what_cannot_get_better_is_not_tried_again(record):
    """A deterministic error costs one attempt."""
    assert _fail(record, running(record), retryable=False) is JobState.FAILED


def test_the_pause_stays_bounded_however_many_attempts_are_allowed(record, clock):
    """With a thousand attempts the doubling stops at an hour instead of overflowing."""
    job = running(record)
    set_state(record, job, attempts=900)
    clock.advance(61)
    assert jobs.reap_expired(record, 1000, 5.0) == 1
    clock.advance(jobs.LONGEST_PAUSE_SECONDS + 1)
    assert jobs.claim(record, "w", ONE_MINUTE) is not None


def test_hand_back_costs_no_attempt(record):
    """A worker that is told to stop gives the job back at once; the next claim is attempt 1 again."""
    job = running(record)
    jobs.hand_back(record, job, "told to stop")
    again = jobs.claim(record, "worker-2", ONE_MINUTE)
    assert (again.job_id, again.attempts) == (job.job_id, 1)
    assert again.fence > job.fence
    assert words(record, job)[2] == "job-handed-back"


def test_silence_costs_an_attempt_and_the_last_one_fails_the_job(record, clock):
    """A job that always kills its worker ends in FAILED."""
    queued(record)
    for _ in range(3):
        clock.advance(61)
        job = jobs.claim(record, "w", ONE_MINUTE)
        clock.advance(61)
        assert jobs.reap_expired(record, 3, 5) == 1
    assert state(record, job) is JobState.FAILED
    assert "fell silent" in jobs.get(record, job.job_id).reason
    assert jobs.reap_expired(record, 3, 5) == 0


def test_due_and_mark_rung(record, clock):
    """A job is rung for once in an interval, most urgent first, at most ``limit`` of them."""
    routine = queued(record, "1.2.1")
    stat = queued(record, "1.2.2", priority=100)
    assert jobs.due(record, 10, 100) == [stat.job_id, routine.job_id]
    assert jobs.due(record, 10, 1) == [stat.job_id]
    jobs.mark_rung(record, [stat.job_id])
    jobs.mark_rung(record, [])
    assert jobs.due(record, 10, 100) == [routine.job_id]
    clock.advance(10.1)
    assert len(jobs.due(record, 10, 100)) == 2


def test_a_job_between_two_tries_is_not_rung_for(record, clock):
    """Only when its pause is over, then at once."""
    job = running(record)
    jobs.mark_rung(record, [job.job_id])
    _fail(record, job)
    assert jobs.due(record, 10, 100) == []
    clock.advance(5.1)
    assert jobs.due(record, 10, 100) == [job.job_id]


def test_jobs_are_found_by_the_beginning_of_their_id(record):
    """Six digits are enough when they are unique; wildcards are not."""
    job = queued(record)
    assert jobs.get(record, job.job_id[:6]).job_id == job.job_id
    for wrong in ("", job.job_id[:5], "______", "%%%%%%", "0" * 32):
        with pytest.raises(NotFoundError, match="vesselq jobs"):
            jobs.get(record, wrong)


def test_an_ambiguous_beginning_is_not_found_and_a_whole_id_is(record):
    """Two jobs with the same beginning: only the whole id names one."""
    one, two = queued(record, "1.2.1"), queued(record, "1.2.2")
    with record.writing() as transaction:
        transaction.session.get_one(JobRow, one.job_id).job_id = "abcdef" + "0" * 26
        transaction.session.get_one(JobRow, two.job_id).job_id = "abcdef" + "1" * 26
    with pytest.raises(NotFoundError):
        jobs.get(record, "abcdef")
    assert jobs.get(record, "abcdef" + "1" * 26).study_instance_uid == "1.2.2"


@pytest.mark.parametrize("before", list(JobState))
def test_only_some_states_can_be_cancelled(record, before):
    """CANCELLABLE, and no other: the rest is over, and the answer says what it is."""
    job = queued(record)
    set_state(record, job, state=before)
    if before in CANCELLABLE:
        assert job_actions.cancel(record, job.job_id, "operator").state is JobState.CANCELLED
        assert words(record, job)[-1] == "job-cancelled"
    else:
        with pytest.raises(ConflictError, match=before.value):
            job_actions.cancel(record, job.job_id, "operator")


@pytest.mark.parametrize("before", list(JobState))
def test_only_some_states_can_be_tried_again(record, before):
    """RETRYABLE_BY_OPERATOR, and no other; attempts begin anew and the reason is audited with the user."""
    job = queued(record)
    set_state(record, job, state=before, attempts=3)
    record.user = "ada"
    if before in RETRYABLE_BY_OPERATOR - {JobState.SEND_FAILED}:
        after = job_actions.retry(record, job.job_id, "fixed the model")
        assert (after.state, after.attempts, after.finished_at) == (JobState.QUEUED, 0, None)
        (row,) = events(record, event="job-retried")
        assert (row.user, row.detail["reason"]) == ("ada", "fixed the model")
        assert jobs.claim(record, "w", ONE_MINUTE).job_id == job.job_id
    elif before is not JobState.SEND_FAILED:
        with pytest.raises(ConflictError):
            job_actions.retry(record, job.job_id, "please")


def test_a_job_without_segmenter_cannot_be_tried_again(record):
    """A series that no rule wanted has nothing to run."""
    receive(record, 1)
    (job,) = complete(record, skip="no rule")
    with pytest.raises(ConflictError, match="no segmenter"):
        job_actions.retry(record, job.job_id, "please")


@pytest.mark.parametrize("sent_one", [False, True])
def test_retrying_a_cancelled_job_sends_the_kept_result(record, sent_one):
    """A result that was built is not built again: only what has not arrived is sent, with the same bytes."""
    job = ready(record, destinations=("pacs", "archive"))
    if sent_one:
        deliveries.sent(record, deliveries.claim(record, "w", ONE_MINUTE), "0x0000")
    job_actions.cancel(record, job.job_id, "stop")
    assert deliveries.claim(record, "w", ONE_MINUTE) is None
    after = job_actions.retry(record, job.job_id, "go on")
    assert (after.state, after.results) == (JobState.SENDING, job.results)
    assert jobs.claim(record, "w", ONE_MINUTE) is None
    while (delivery := deliveries.claim(record, "w", ONE_MINUTE)) is not None:
        assert delivery.result == job.seg
        deliveries.sent(record, delivery, "0x0000")
    assert state(record, job) is JobState.DONE
    assert {one.state for one in deliveries.of_job(record, job.job_id)} == {DeliveryState.SENT}
    assert words(record, job).count("instances-sent") == 2


def test_a_cancelled_run_can_be_run_again_to_the_end(record):
    """Cancelled while RUNNING, tried again, segmented, delivered."""
    job = running(record)
    job_actions.cancel(record, job.job_id, "stop")
    job_actions.retry(record, job.job_id, "go")
    again = jobs.claim(record, "w", ONE_MINUTE)
    jobs.keep_result(record, again, kept(again))
    deliveries.sent(record, deliveries.claim(record, "w", ONE_MINUTE), "ok")
    assert state(record, job) is JobState.DONE


def test_counts_and_the_oldest_waiting(record, clock):
    """What the metrics show."""
    assert (jobs.counts_by_state(record), jobs.oldest_waiting(record)) == ({}, None)
    first = queued(record, "1.2.1")
    clock.advance(60)
    queued(record, "1.2.2")
    assert jobs.counts_by_state(record) == {"QUEUED": 2}
    assert jobs.oldest_waiting(record) == first.created_at
    jobs.claim(record, "w", ONE_MINUTE)
    assert jobs.counts_by_state(record) == {"QUEUED": 1, "RUNNING": 1}


def test_reasons_with_hostile_text_are_stored_on_every_database(record):
    """NUL and lone surrogates in a reason do not keep a job from failing."""
    job = running(record)
    jobs.fail_attempt(record, job, "bad \x00 slice \ud800", retryable=False, maximum_attempts=3, retry_after_seconds=5)
    assert jobs.get(record, job.job_id).reason == "bad ? slice ?"
    assert_sound(record)


def test_finished_times_are_kept(record):
    """``finished_at`` is when the job ended, also after it is purged later."""
    job = running(record)
    jobs.finish_without_result(record, job, JobState.NO_VESSEL_FOUND, "", {})
    ended = jobs.get(record, job.job_id).finished_at
    with record.writing() as transaction:
        row = transaction.session.get_one(JobRow, job.job_id)
        jobs.change_state(transaction, row, JobState.PURGED)
    assert jobs.get(record, job.job_id).finished_at == ended
    assert JobState.PURGED in FINISHED
