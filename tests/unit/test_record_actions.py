"""What an operator does to jobs: another priority, another transfer of the result."""

import pytest
from record_story import assert_sound, events, kept, queued, ready, running, set_state, state, words

from db import deliveries, job_actions, jobs, retention
from db.models import JobRow
from dicom_core.errors import ConflictError, NotFoundError
from dicom_core.job import HIGHEST_PRIORITY, RESENDABLE, DeliveryState, JobState

ONE_MINUTE = 60
GIVE_UP = 72.0


def _send_all(record) -> list[str]:
    """Every delivery that is due, sent; the destinations in that order."""
    told = []
    while (delivery := deliveries.claim(record, "w", ONE_MINUTE)) is not None:
        deliveries.sent(record, delivery, "0x0000")
        told.append(delivery.destination)
    return told


def _done(record, **facts):
    job = ready(record, **facts)
    _send_all(record)
    assert state(record, job) is JobState.DONE
    return job


def test_a_priority_lets_a_job_overtake(record):
    """The younger job is claimed first, and the audit log says who wanted it, from what to what, and why."""
    old, young = queued(record, "1.2.1"), queued(record, "1.2.2")
    changed = job_actions.change_priority(record.on_behalf_of("ada"), young.job_id[:8], 100, "the surgeon waits")
    assert (changed.priority, changed.state) == (100, JobState.QUEUED)
    (row,) = events(record, event="priority-changed")
    assert row.detail == {"from_priority": 0, "to_priority": 100, "reason": "the surgeon waits"}
    assert (row.user, row.job_id, row.study_instance_uid) == ("ada", young.job_id, "1.2.2")
    assert jobs.due(record, 10, 100) == [young.job_id, old.job_id]
    assert [jobs.claim(record, "w", ONE_MINUTE).job_id for _ in range(2)] == [young.job_id, old.job_id]
    assert_sound(record)


def test_a_changed_priority_counts_as_if_it_had_been_given_at_first(record, clock):
    """A job's time of waiting is kept: routine made STAT and made routine again stands where it stood."""
    first = queued(record, "1.2.1")
    clock.advance(60)
    second = queued(record, "1.2.2")
    job_actions.change_priority(record, second.job_id, 100, "urgent")
    job_actions.change_priority(record, second.job_id, 0, "not urgent after all")
    with record.reading() as session:
        rows = [session.get_one(JobRow, job.job_id) for job in (first, second)]
    assert [row.queue_key for row in rows] == [jobs.queue_key(row.created_at, 0) for row in rows]
    assert jobs.claim(record, "w", ONE_MINUTE).job_id == first.job_id


def test_a_priority_outlives_a_failed_attempt(record, clock):
    """A job that waits for its next try keeps what it was given."""
    job = queued(record)
    job_actions.change_priority(record, job.job_id, 50, "soon")
    claimed = jobs.claim(record, "w", ONE_MINUTE)
    jobs.fail_attempt(record, claimed, "died", retryable=True, maximum_attempts=3, retry_after_seconds=5)
    assert jobs.get(record, job.job_id).priority == 50
    job_actions.change_priority(record, job.job_id, 60, "sooner")
    clock.advance(6)
    assert jobs.claim(record, "w", ONE_MINUTE).priority == 60


@pytest.mark.parametrize("before", sorted(set(JobState) - {JobState.QUEUED}))
def test_only_what_waits_has_a_priority(record, before):
    """In every other state the answer says what the job is, and nothing is changed or audited."""
    job = queued(record)
    set_state(record, job, state=before)
    with pytest.raises(ConflictError, match=before.value):
        job_actions.change_priority(record, job.job_id, 10, "please")
    assert jobs.get(record, job.job_id).priority == 0
    assert events(record, event="priority-changed") == []


@pytest.mark.parametrize("wrong", [-1, HIGHEST_PRIORITY + 1])
def test_a_priority_has_bounds(record, wrong):
    """What no rule could give, no operator can."""
    job = queued(record)
    with pytest.raises(ConflictError, match="no priority"):
        job_actions.change_priority(record, job.job_id, wrong, "please")
    assert events(record, event="priority-changed") == []


def test_a_done_job_is_sent_again_everywhere(record):
    """SENDING again with the same objects; the end is DONE again, and the transfer is audited twice with one hash."""
    job = _done(record, destinations=("pacs", "archive"))
    again = job_actions.resend(record.on_behalf_of("ada"), job.job_id[:8], "the archive was restored")
    assert (again.state, again.reason) == (JobState.SENDING, "the archive was restored")
    assert (again.results, again.finished_at) == (job.results, None)
    (row,) = events(record, event="transfer-repeated")
    assert row.detail["destinations"] == ["archive", "pacs"]
    assert (row.detail["reason"], row.user, row.job_id) == ("the archive was restored", "ada", job.job_id)
    assert len(deliveries.due(record, 10, 100)) == 2
    assert sorted(_send_all(record)) == ["archive", "pacs"]
    assert state(record, job) is JobState.DONE
    hashes = [row.detail["sha256"] for row in events(record, event="instances-sent")]
    assert hashes == [job.seg.sha256] * 4
    assert_sound(record)


def test_one_destination_alone_gets_it_again(record):
    """The others are left in peace."""
    job = _done(record, destinations=("pacs", "archive"))
    job_actions.resend(record, job.job_id, "lost there", "archive")
    assert _send_all(record) == ["archive"]
    assert state(record, job) is JobState.DONE
    assert {one.state for one in deliveries.of_job(record, job.job_id)} == {DeliveryState.SENT}


def test_a_repeated_transfer_begins_anew(record, clock):
    """Its tries and its time to give up are counted from now, not from the first transfer."""
    job = _done(record)
    clock.advance(100 * 3600)
    job_actions.resend(record, job.job_id, "lost there")
    delivery = deliveries.claim(record, "w", ONE_MINUTE)
    assert delivery.attempts == 1
    assert deliveries.failed(record, delivery, "0xA700", retryable=True, give_up_after_hours=GIVE_UP) is True
    assert state(record, job) is JobState.SENDING


def test_another_destination_that_failed_stays_failed(record, clock):
    """Sending again to one that has it says nothing about the one that refused: the job ends SEND_FAILED again."""
    job = ready(record, destinations=("pacs", "archive"))
    while (delivery := deliveries.claim(record, "w", ONE_MINUTE)) is not None:
        if delivery.destination == "pacs":
            deliveries.sent(record, delivery, "ok")
        else:
            deliveries.failed(record, delivery, "0xC000", retryable=False, give_up_after_hours=GIVE_UP)
        clock.advance(3600)
    assert state(record, job) is JobState.SEND_FAILED
    job_actions.resend(record, job.job_id, "lost there", "pacs")
    assert _send_all(record) == ["pacs"]
    assert (state(record, job), jobs.get(record, job.job_id).reason) == (JobState.SEND_FAILED, "0xC000")
    job_actions.resend(record, job.job_id, "both now")
    assert sorted(_send_all(record)) == ["archive", "pacs"]
    assert state(record, job) is JobState.DONE


@pytest.mark.parametrize("before", sorted(set(JobState) - RESENDABLE))
def test_only_what_was_sent_can_be_sent_again(record, before):
    """In every other state the answer says what the job is; its deliveries stay as they are."""
    job = ready(record)
    set_state(record, job, state=before)
    with pytest.raises(ConflictError, match=before.value):
        job_actions.resend(record, job.job_id, "please")
    assert events(record, event="transfer-repeated") == []


def test_what_cannot_be_sent_again(record, clock):
    """An unknown destination, a job that sends nothing, a result that was removed, an unknown job."""
    job = _done(record)
    with pytest.raises(NotFoundError, match="'moon'; it went to pacs"):
        job_actions.resend(record, job.job_id, "please", "moon")
    with pytest.raises(NotFoundError):
        job_actions.resend(record, "ffffffff", "please")
    clock.advance(400 * 86400)
    assert retention.results_to_remove(record, 365)
    with pytest.raises(ConflictError, match="no longer kept"):
        job_actions.resend(record, job.job_id, "please")
    nowhere = running(record, "1.2.9", destinations=())
    jobs.keep_result(record, nowhere, kept(nowhere))
    with pytest.raises(ConflictError, match="no destination"):
        job_actions.resend(record, nowhere.job_id, "please")
    assert words(record, job).count("transfer-repeated") == 0
