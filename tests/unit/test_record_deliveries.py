"""Results on their way: lanes, back-off, giving up, the end of the job."""

from datetime import timedelta

import pytest
from record_story import assert_sound, complete, events, kept, queued, ready, receive, set_state, state, words
from sqlalchemy import func, select

from db import deliveries, job_actions, jobs
from db.models import DeliveryRow
from db.session import Record
from dicom_core.errors import LeaseLostError
from dicom_core.job import Delivery, DeliveryState, JobState

ONE_MINUTE = 60
GIVE_UP = 72.0


def _claim(record: Record) -> Delivery:
    delivery = deliveries.claim(record, "worker-1", ONE_MINUTE)
    assert delivery is not None
    return delivery


def _fail(record: Record, delivery: Delivery, *, retryable: bool, answer: str = "0xA700") -> bool:
    return deliveries.failed(record, delivery, answer, retryable=retryable, give_up_after_hours=GIVE_UP)


def test_a_claim_takes_a_delivery_and_its_job_is_sending(record):
    """SENDING with a fence; the transfer and the job's change have a row each."""
    job = ready(record)
    delivery = _claim(record)
    assert (delivery.job_id, delivery.state, delivery.attempts, delivery.fence) == (job.job_id, "SENDING", 1, 1)
    assert (delivery.result, delivery.calling_ae_title, delivery.peer_address) == (job.seg, "SENDER", "10.0.0.7")
    assert state(record, job) is JobState.SENDING
    assert words(record, job)[-2:] == ["transfer-begun", "job-state"]
    assert deliveries.claim(record, "worker-2", ONE_MINUTE) is None


def test_sent_everywhere_is_done(record):
    """The last destination ends the job: SENT, DONE; the audit names object, hash, destination and answer."""
    job = ready(record, destinations=("pacs", "archive"))
    first, second = _claim(record), _claim(record)
    deliveries.sent(record, first, "0x0000")
    assert state(record, job) is JobState.SENDING
    deliveries.sent(record, second, "0x0000")
    assert state(record, job) is JobState.DONE
    rows = events(record, event="instances-sent")
    assert sorted(row.detail["destination"] for row in rows) == ["archive", "pacs"]
    assert {(row.detail["sha256"], row.event_id) for row in rows} == {(job.seg.sha256, "110104")}
    states = [row.detail["to"] for row in events(record, event="job-state")]
    assert states == ["SENDING", "SENT", "DONE"]
    assert_sound(record)


def test_one_delivery_a_lane(record):
    """Two results for one destination go one after the other; another destination is free meanwhile."""
    ready(record, "1.2.1", destinations=("pacs",))
    ready(record, "1.2.2", destinations=("pacs", "archive"))
    first, other = _claim(record), _claim(record)
    assert {first.destination, other.destination} == {"pacs", "archive"}
    assert deliveries.claim(record, "w", ONE_MINUTE) is None
    assert deliveries.due(record, 10, 100) == []
    deliveries.sent(record, first, "ok")
    assert _claim(record).destination == first.destination


def test_every_sender_is_a_lane_of_its_own(record):
    """The destination "sender" means another place for every calling AE: they do not wait for each other."""
    for number, calling in enumerate(("ONE", "TWO", "ONE")):
        study = f"1.2.{number}"
        receive(record, 1, study=study, calling=calling)
        job = _complete_and_keep(record, study, ("sender",))
        assert job is not None
    assert {_claim(record).calling_ae_title, _claim(record).calling_ae_title} == {"ONE", "TWO"}
    assert deliveries.claim(record, "w", ONE_MINUTE) is None


def _complete_and_keep(record: Record, study: str, destinations: tuple[str, ...]) -> str:
    complete(record, study, destinations=destinations)
    job = jobs.claim(record, "w", ONE_MINUTE)
    assert job is not None
    jobs.keep_result(record, job, kept(job))
    return job.job_id


def test_transient_failures_back_off(record, clock):
    """5, 10, 20 ... 900 s at most; the job stays SENDING."""
    job = ready(record)
    pauses = []
    for _ in range(11):
        assert _fail(record, _claim(record), retryable=True) is True
        with record.reading() as session:
            pauses.append((session.scalars(select(DeliveryRow.next_try_at)).one() - record.now()).total_seconds())
        clock.advance(pauses[-1] + 0.1)
    assert [round(pause) for pause in pauses] == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900, 900]
    assert state(record, job) is JobState.SENDING
    assert {row.outcome for row in events(record, event="transfer-failed")} == {4}


def test_a_failure_holds_its_lane_for_a_moment(record, clock):
    """The others of the lane wait five seconds, then each gets its try; other lanes do not wait."""
    ready(record, "1.2.1", destinations=("pacs",))
    ready(record, "1.2.2", destinations=("pacs", "archive"))
    first = _claim(record)
    assert first.study_instance_uid == "1.2.1"
    _fail(record, first, retryable=True)
    assert _claim(record).destination == "archive"
    assert deliveries.claim(record, "w", ONE_MINUTE) is None
    clock.advance(deliveries.LANE_PAUSE_SECONDS + 0.1)
    assert {_claim(record).study_instance_uid} <= {"1.2.1", "1.2.2"}


def test_every_delivery_of_a_dead_lane_gets_its_try(record, clock):
    """A destination that never answers is tried with each result, not for ever with the first."""
    for number in range(4):
        ready(record, f"1.2.{number}")
    tried = set()
    for _ in range(8):
        delivery = _claim(record)
        tried.add(delivery.study_instance_uid)
        _fail(record, delivery, retryable=True)
        clock.advance(deliveries.LANE_PAUSE_SECONDS + 0.1)
    assert len(tried) == 4


def test_a_failure_touches_one_row_only(record):
    """A dead destination with many waiting results costs no rewriting of them all."""
    for number in range(5):
        ready(record, f"1.2.{number}")
    with record.reading() as session:
        before = dict(session.execute(select(DeliveryRow.delivery_id, DeliveryRow.next_try_at)).all())
    delivery = _claim(record)
    _fail(record, delivery, retryable=True)
    with record.reading() as session:
        after = dict(session.execute(select(DeliveryRow.delivery_id, DeliveryRow.next_try_at)).all())
    assert {key for key in before if before[key] != after[key]} == {delivery.delivery_id}


def test_a_refusal_is_believed_the_third_time(record, clock):
    """Permanent statuses: three tries, then FAILED, and the job SEND_FAILED with the answer."""
    job = ready(record)
    for expected in (True, True, False):
        delivery = _claim(record)
        assert _fail(record, delivery, retryable=False, answer="0xC000 cannot understand") is expected
        clock.advance(3600)
    after = jobs.get(record, job.job_id)
    assert (after.state, after.reason) == (JobState.SEND_FAILED, "0xC000 cannot understand")
    assert [row.detail["gives_up"] for row in events(record, event="transfer-failed")] == [False, False, True]
    assert deliveries.claim(record, "w", ONE_MINUTE) is None


def test_transient_failures_do_not_count_as_refusals(record, clock):
    """Ten times out of resources is no refusal."""
    ready(record)
    for _ in range(10):
        assert _fail(record, _claim(record), retryable=True) is True
        clock.advance(1000)


def test_after_days_it_gives_up(record, clock):
    """Transient failures end after ``give_up_after_hours``."""
    job = ready(record)
    _fail(record, _claim(record), retryable=True)
    clock.advance(GIVE_UP * 3600 + 1)
    assert _fail(record, _claim(record), retryable=True) is False
    assert state(record, job) is JobState.SEND_FAILED


def test_a_job_with_one_failed_destination_waits_for_the_others(record, clock):
    """SEND_FAILED only when nothing is under way any more; what arrived, arrived."""
    job = ready(record, destinations=("pacs", "archive"))
    first, second = _claim(record), _claim(record)
    refused = first.destination
    for _ in range(3):
        _fail(record, first, retryable=False)
        clock.advance(3600)
        if _ < 2:
            first = _claim(record)
            assert first.destination == refused
    assert state(record, job) is JobState.SENDING
    deliveries.sent(record, second, "ok")
    assert state(record, job) is JobState.SEND_FAILED


def test_retry_sends_only_what_failed(record, clock):
    """SEND_FAILED -> SENDING: the failed delivery waits again with fresh counters; the sent one stays sent."""
    job = ready(record, destinations=("pacs", "archive"))
    good = _claim(record)
    deliveries.sent(record, good, "ok")
    for _ in range(3):
        _fail(record, _claim(record), retryable=False)
        clock.advance(3600)
    assert state(record, job) is JobState.SEND_FAILED
    clock.advance(100 * 3600)
    assert job_actions.retry(record, job.job_id, "archive repaired").state is JobState.SENDING
    again = _claim(record)
    assert (again.destination != good.destination, again.attempts) == (True, 1)
    assert _fail(record, again, retryable=True) is True  # its time begins anew
    clock.advance(10)
    deliveries.sent(record, _claim(record), "ok")
    assert state(record, job) is JobState.DONE


@pytest.mark.parametrize("late", ["sent", "failed", "heartbeat", "hand_back"])
@pytest.mark.parametrize("end", ["expiry", "cancel", "superseded"])
def test_an_old_fence_writes_nothing(record, clock, late, end):
    """After expiry or cancellation the first sender is refused."""
    job = ready(record)
    delivery = _claim(record)
    if end == "expiry":
        clock.advance(61)
        assert deliveries.reap_expired(record, GIVE_UP) == 1
    elif end == "cancel":
        job_actions.cancel(record, job.job_id, "stop")
    else:
        set_state(record, job, state=JobState.SEG_READY)
        with record.writing() as transaction:
            jobs.end(transaction, transaction.session.get_one(jobs.JobRow, job.job_id), JobState.SUPERSEDED, "new")
    before = len(events(record))
    with pytest.raises(LeaseLostError):
        {
            "sent": lambda: deliveries.sent(record, delivery, "ok"),
            "failed": lambda: _fail(record, delivery, retryable=True),
            "heartbeat": lambda: deliveries.heartbeat(record, delivery, ONE_MINUTE),
            "hand_back": lambda: deliveries.hand_back(record, delivery),
        }[late]()
    assert len(events(record)) == before


def test_a_silent_sender_loses_its_delivery_and_it_is_sent_again(record, clock):
    """The lease runs out, the delivery waits five seconds, another worker sends it."""
    job = ready(record)
    _claim(record)
    clock.advance(59)
    assert deliveries.reap_expired(record, GIVE_UP) == 0
    clock.advance(2)
    assert deliveries.reap_expired(record, GIVE_UP) == 1
    clock.advance(6)
    deliveries.sent(record, _claim(record), "ok")
    assert state(record, job) is JobState.DONE


def test_a_heartbeat_prolongs_the_lease(record, clock):
    """A long transfer is not taken away."""
    ready(record)
    delivery = _claim(record)
    clock.advance(50)
    deliveries.heartbeat(record, delivery, ONE_MINUTE)
    clock.advance(50)
    assert deliveries.reap_expired(record, GIVE_UP) == 0


def test_hand_back_costs_nothing_and_is_audited(record):
    """The delivery is free at once, the attempt does not count."""
    job = ready(record)
    deliveries.hand_back(record, _claim(record))
    assert _claim(record).attempts == 1
    assert words(record, job).count("transfer-handed-back") == 1


def test_due_names_one_delivery_a_free_lane(record):
    """More cannot be under way at once, so more rings would only fill Redis."""
    for number in range(3):
        ready(record, f"1.2.{number}", destinations=("pacs", "archive"))
    due = deliveries.due(record, 10, 100)
    assert len(due) == 2
    assert len(deliveries.due(record, 10, 1)) == 1
    deliveries.mark_rung(record, due)
    deliveries.mark_rung(record, [])
    assert not set(deliveries.due(record, 10, 100)) & set(due)
    _fail(record, _claim(record), retryable=True)
    _claim(record)
    assert deliveries.due(record, 10, 100) == []  # one lane held, one busy


def test_a_delivery_whose_ring_was_lost_is_rung_for_again(record, clock):
    """The doorbell may forget; the interval brings it back."""
    ready(record)
    (only,) = deliveries.due(record, 10, 100)
    deliveries.mark_rung(record, [only])
    assert deliveries.due(record, 10, 100) == []
    clock.advance(10.1)
    assert deliveries.due(record, 10, 100) == [only]


def test_cancelling_a_job_cancels_its_open_deliveries(record):
    """What was sent stays SENT, the rest is CANCELLED and free of its lane."""
    job = ready(record, destinations=("pacs", "archive", "folder"))
    deliveries.sent(record, _claim(record), "ok")
    _claim(record)
    job_actions.cancel(record, job.job_id, "stop")
    assert sorted(one.state for one in deliveries.of_job(record, job.job_id)) == ["CANCELLED", "CANCELLED", "SENT"]
    ready(record, "1.2.9", destinations=("pacs", "archive", "folder"))
    assert {_claim(record).destination for _ in range(3)} == {"pacs", "archive", "folder"}


def test_the_longest_waiting_goes_first(record, clock):
    """In the order in which results were kept."""
    for number in range(3):
        ready(record, f"1.2.{number}")
        clock.advance(1)
    order = []
    while (delivery := deliveries.claim(record, "w", ONE_MINUTE)) is not None:
        order.append(delivery.study_instance_uid)
        deliveries.sent(record, delivery, "ok")
    assert order == ["1.2.0", "1.2.1", "1.2.2"]


def test_an_answer_with_hostile_text_is_stored(record):
    """NUL in what a destination said does not keep the delivery from failing."""
    ready(record)
    _fail(record, _claim(record), retryable=True, answer="no\x00way")
    with record.reading() as session:
        assert session.scalars(select(DeliveryRow.answer)).one() == "no?way"
    assert_sound(record)


def test_no_delivery_without_result(record):
    """A queued job has none; nothing can be claimed."""
    queued(record)
    assert deliveries.claim(record, "w", timedelta(minutes=1).total_seconds()) is None
    with record.reading() as session:
        assert session.scalar(select(func.count()).select_from(DeliveryRow)) == 0
    assert DeliveryState.WAITING not in {DeliveryState.SENT, DeliveryState.FAILED}
