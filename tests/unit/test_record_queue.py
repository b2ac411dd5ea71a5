"""What the record says of work under way: waiting, running, stuck, done lately, and what is new since a scrape."""

import itertools
from collections.abc import Callable
from datetime import timedelta

import pytest
import record_story as story
from databases import Clock

from db import deliveries, jobs, metric_counts, peers, processes, queue_reports, stuck_work, throughput
from db.models import AuditForwarding, JobProgress, JobRow, Process
from db.session import Record
from dicom_core.job import Delivery, DeliveryState, JobState


def _study(number: int) -> str:
    return f"{story.STUDY}.{number}"


def _progress(record: Record, job_id: str, fence: int, stage: str = "segment", share: float = 0.5) -> None:
    with record.writing() as transaction:
        transaction.session.add(
            JobProgress(
                job_id=job_id, fence=fence, stage=stage, share=share, worker="worker-1", device="cpu",
                updated_at=transaction.now,
            )
        )  # fmt: skip


def _take(record: Record) -> Delivery:
    delivery = deliveries.claim(record, "worker-1", 60)
    assert delivery is not None
    return delivery


def _refuse(record: Record, times: int = 1, answer: str = "status 0xA900") -> None:
    """The destination refuses for good as often as that."""
    for _ in range(times):
        deliveries.failed(record, _take(record), answer, retryable=False, give_up_after_hours=72)


def _kinds(record: Record) -> list[tuple[str, str]]:
    return [(one.kind.value, one.name) for one in stuck_work.find(record)]


def test_waiting_by_priority(record: Record, clock: Clock) -> None:
    """Waiting jobs are counted by priority, the most urgent first, each with the time of the oldest."""
    story.queued(record, _study(1))
    clock.advance(60)
    story.queued(record, _study(2))
    story.queued(record, _study(3), priority=100)
    urgent, routine = queue_reports.waiting(record)
    assert (urgent.priority, urgent.jobs, routine.priority, routine.jobs) == (100, 1, 0, 2)
    assert urgent.oldest_since - routine.oldest_since >= timedelta(seconds=59)


def test_running_jobs_tell_their_progress(record: Record) -> None:
    """A running job has worker, stage and share; a report of an earlier try does not count."""
    job = story.running(record, _study(1))
    (found,) = queue_reports.running(record)
    assert (found.job_id, found.worker, found.stage, found.told_at) == (job.job_id, "worker-1", "", None)
    _progress(record, job.job_id, job.fence, share=1.7)
    (found,) = queue_reports.running(record)
    assert (found.stage, found.share, found.device) == ("segment", 1.0, "cpu")
    story.set_state(record, job, fence=job.fence + 1)
    (found,) = queue_reports.running(record)
    assert (found.stage, found.share) == ("", 0.0)


def test_lanes_tell_what_waits_and_why(record: Record) -> None:
    """A lane has its waiting and refused objects, how long it is held, and what it answered."""
    story.ready(record, _study(1))
    story.ready(record, _study(2), destinations=["sender"])
    _refuse(record)
    deliveries.failed(record, _take(record), "no answer", retryable=True, give_up_after_hours=72)
    found = {one.destination: one for one in queue_reports.lanes(record)}
    assert {name: (one.waiting, one.sending, one.failed) for name, one in found.items()} == {
        "pacs": (1, 0, 0),
        "sender": (1, 0, 0),
    }
    assert found["sender"].lane == "sender:SENDER@10.0.0.7"
    assert {one.answer for one in found.values()} == {"status 0xA900", "no answer"}
    assert [one.held_until is not None for one in found.values()].count(True) == 1
    assert all(one.oldest_since and one.next_try_at for one in found.values())


def test_counts(record: Record) -> None:
    """Deliveries by state and studies under way."""
    story.ready(record, _study(1))
    story.receive(record, 1, study=_study(2))
    assert queue_reports.delivery_counts(record) == {"WAITING": 1}
    assert queue_reports.studies_receiving(record) == 1


def test_processes_are_alive_silent_or_gone(record: Record, clock: Clock) -> None:
    """A process that does not beat is not alive; one that ended is listed for an hour, and then no more."""
    alive = processes.start(record, "worker", version="1", configuration={})
    ended = processes.start(record, "web", version="1", configuration={})
    processes.stop(record, ended)
    states = queue_reports.processes(record)
    assert [(one.kind, one.alive) for one in states] == [("worker", True), ("web", False)]
    assert queue_reports.alive_by_kind(states) == {"worker": 1}
    clock.advance(3700)
    assert [(one.process_id, one.alive) for one in queue_reports.processes(record)] == [(alive, False)]
    clock.advance(86400)
    assert queue_reports.processes(record) == []


def test_resources_of_a_worker(record: Record) -> None:
    """What a worker says of its memory is handed on as it is."""
    worker = processes.start(record, "worker", version="1", configuration={})
    with record.writing() as transaction:
        transaction.session.get_one(Process, worker).resources = {"device": "cuda:0"}
    (found,) = queue_reports.processes(record)
    assert found.resources == {"device": "cuda:0"}


def test_nothing_is_stuck_on_a_busy_site(record: Record) -> None:
    """Waiting, running and sending work of the last minutes is no alarm."""
    processes.start(record, "worker", version="1", configuration={})
    story.ready(record, _study(1))
    story.running(record, _study(2))
    story.queued(record, _study(3))
    story.receive(record, 1, study=_study(4))
    assert stuck_work.find(record) == []


def test_jobs_without_a_worker(record: Record, clock: Clock) -> None:
    """Jobs that wait for minutes while no worker lives are one finding, which says how many."""
    story.queued(record, _study(1))
    story.queued(record, _study(2))
    clock.advance(stuck_work.UNCLAIMED_SECONDS + 1)
    found = [one for one in stuck_work.find(record) if one.kind is stuck_work.Kind.QUEUE]
    assert [one.reason for one in found] == ["2 jobs wait and no worker lives."]
    processes.start(record, "worker", version="1", configuration={})
    assert ("queue", "segment") not in _kinds(record)


def test_a_running_job_that_tells_nothing(record: Record, clock: Clock) -> None:
    """A job whose last report is long ago is stuck; one whose lease ran out needs the dispatcher."""
    job = story.running(record, _study(1))
    jobs.heartbeat(record, job, 10 * stuck_work.NO_PROGRESS_SECONDS)
    _progress(record, job.job_id, job.fence)
    clock.advance(stuck_work.NO_PROGRESS_SECONDS + 1)
    (found,) = [one for one in stuck_work.find(record) if one.kind is stuck_work.Kind.JOB]
    assert (found.name, found.study_instance_uid) == (job.job_id, _study(1))
    assert found.code == "no-progress"
    clock.advance(10 * stuck_work.NO_PROGRESS_SECONDS)
    (found,) = [one for one in stuck_work.find(record) if one.kind is stuck_work.Kind.JOB]
    assert found.advice == "Start the dispatcher."


def test_a_study_that_never_ends(record: Record, clock: Clock) -> None:
    """A study that is still open long after its last instance is told with its UID."""
    story.receive(record, 1, study=_study(1))
    clock.advance(stuck_work.STUDY_OPEN_SECONDS + 1)
    assert ("study", _study(1)) in _kinds(record)


def test_a_destination_that_takes_nothing(record: Record, clock: Clock) -> None:
    """Objects that wait for an hour are one finding a destination, with its last answer."""
    story.ready(record, _study(1))
    deliveries.failed(record, _take(record), "no answer", retryable=True, give_up_after_hours=72)
    clock.advance(stuck_work.UNDELIVERED_SECONDS + 1)
    (found,) = [one for one in stuck_work.find(record) if one.kind is stuck_work.Kind.DELIVERY]
    assert found.reason == "1 objects wait for the destination pacs; it answered last: no answer"


def test_a_silent_process_until_it_has_a_successor(record: Record, clock: Clock) -> None:
    """A dispatcher that fell silent is an alarm until another one runs on that machine."""
    processes.start(record, "dispatcher", version="1", configuration={})
    clock.advance(processes.SILENT_AFTER_SECONDS + 1)
    (found,) = stuck_work.find(record)
    assert found.reason.startswith("The dispatcher on ")
    processes.start(record, "dispatcher", version="1", configuration={})
    assert stuck_work.find(record) == []


def test_throughput_by_hour(record: Record, clock: Clock) -> None:
    """Instances, ends of jobs and sent objects are in the hour in which they happened; hours of nothing are zero."""
    clock.advance((1800 - record.now().timestamp()) % 3600)  # half past, far from the next hour
    story.ready(record, _study(1))
    deliveries.sent(record, _take(record), "0x0000")
    skipped, failing = story.STUDY + ".8", story.STUDY + ".9"
    story.receive(record, 1, study=skipped)
    story.complete(record, skipped, skip="not an image")
    job = story.running(record, failing)
    jobs.fail_attempt(record, job, "damaged", retryable=False, maximum_attempts=1, retry_after_seconds=0)
    clock.advance(3600)
    story.receive(record, 1, 2, 3, study=_study(2))
    spans = throughput.throughput(record, hours=4)
    assert [span.instances for span in spans] == [0, 0, 5, 3]
    before = spans[-2]
    assert (before.done, before.failed, before.left_out, before.sent) == (1, 1, 1, 1)
    assert spans[-1].size_bytes == 1001 + 1002 + 1003
    assert {(after.begin - one.begin).total_seconds() for one, after in itertools.pairwise(spans)} == {3600}


def test_throughput_in_short_spans(record: Record) -> None:
    """A span may be as short as a minute; what happened just now is in the last one."""
    story.receive(record, 1)
    spans = throughput.throughput(record, hours=1, span_seconds=60)
    assert len(spans) == 60
    assert sum(span.instances for span in spans[-2:]) == 1


def test_stage_times(record: Record) -> None:
    """Median and slow tenth of the stages of finished jobs, whatever else a worker reported."""
    for number, seconds in enumerate((1.0, 3.0, 2.0)):
        job = story.ready(record, _study(number))
        story.set_state(record, job, result={"seconds": {"segment": seconds, "odd": "x"}})
        deliveries.sent(record, _take(record), "0x0000")
    (found,) = throughput.stage_times(record)
    assert (found.stage, found.jobs, found.median_seconds) == ("segment", 3, 2.0)
    assert found.slow_seconds == pytest.approx(2.8)


@pytest.mark.parametrize("result", [{}, {"seconds": None}, {"seconds": [1]}, {"seconds": {"a": True, "b": -1}}])
def test_what_is_no_time_is_left_out(result: dict[str, object]) -> None:
    """Results of older releases and odd values give no stage."""
    assert throughput.stage_seconds(result) == {}


def test_timings_win_over_seconds() -> None:
    """Where a worker reports timings these are used."""
    assert throughput.stage_seconds({"timings": {"segment": 2}, "seconds": {"segment": 1}}) == {"segment": 2.0}


def test_news_since_a_scrape(record: Record) -> None:
    """Events, received instances and times of jobs are told once: the next look begins where this one ended."""
    begin = metric_counts.head(record)
    story.ready(record, _study(1))
    news = metric_counts.since(record, begin)
    assert news.head == metric_counts.head(record)
    assert news.events["seg-created", 0] == 1
    assert (news.received["stored"], news.received["size_bytes"]) == (2, 1001 + 1002)
    (made,) = news.segmented
    assert (made.stages, made.delivered_seconds) == ({"segment": 0.5}, None)
    assert made.waited_seconds is not None
    assert news.delivered == ()
    deliveries.sent(record, _take(record), "0x0000")
    more = metric_counts.since(record, news.head)
    assert (more.received, more.segmented) == ({}, ())
    assert [one.delivered_seconds is not None for one in more.delivered] == [True]
    assert metric_counts.since(record, more.head) == metric_counts.News(more.head)


def test_news_come_in_bounded_looks(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a long silence a look takes so many rows and no more; nothing is lost or told twice."""
    story.ready(record, _study(1))
    whole = metric_counts.since(record, 0)
    monkeypatch.setattr(metric_counts, "MOST_AT_ONCE", 2)
    position, counted = 0, 0
    while (news := metric_counts.since(record, position)).head > position:
        position, counted = news.head, counted + news.events.total()
        assert news.events.total() <= 2
    assert counted == whole.events.total()


def test_what_repositories_have_not_been_sent(record: Record) -> None:
    """The rows behind a repository's place in the log are waiting for it."""
    story.receive(record, 1)
    last = metric_counts.head(record)
    with record.writing() as transaction:
        transaction.session.add(
            AuditForwarding(repository="arr", next_sequence=last, attempts=4, last_error="refused", lease_owner="")
        )
    (found,) = metric_counts.forwarding(record)
    assert (found.repository, found.waiting, found.attempts, found.last_error) == ("arr", 1, 4, "refused")


def test_contacts(record: Record, clock: Clock) -> None:
    """Senders of the last days with their last contact and what they brought, the last one first."""
    story.receive(record, 1, calling="CT1")
    clock.advance(60)
    story.receive(record, 1, 2, study=_study(2), calling="XA1")
    story.receive(record, 3, study=_study(2), calling="XA1")
    found = peers.contacts(record)
    assert [(one.ae_title, one.associations, one.instances) for one in found] == [("XA1", 2, 3), ("CT1", 1, 1)]
    clock.advance(peers.REMEMBERED_DAYS * 86400)
    assert peers.contacts(record) == []


def test_last_sent(record: Record) -> None:
    """The last object that a lane took, also of a job that is not over."""
    story.ready(record, _study(1), destinations=["pacs", "archive"])
    taken = _take(record)
    deliveries.sent(record, taken, "0x0000")
    assert list(peers.last_sent(record)) == [taken.destination]


def test_a_check_is_kept_and_audited(record: Record) -> None:
    """The last answer replaces the one before; both are in the audit log with who asked."""
    asked = record.on_behalf_of("ada")
    peers.keep_check(asked, "peer/ct", answered=True, answer="12 ms", ae_title="CT1", address="192.0.2.7")
    peers.keep_check(asked, "peer/ct", answered=False, answer="no answer")
    found = peers.checks(record)["peer/ct"]
    assert (found.answered, found.answer) == (False, "no answer")
    first, second = story.events(record, event="peer-checked")
    assert (first.user, first.outcome, first.ae_title, second.outcome) == ("ada", 0, "CT1", 4)
    story.assert_sound(record)


def test_try_now_ends_a_pause(record: Record) -> None:
    """What waits for a lane after a failure is due at once, and the log says who wanted it."""
    story.ready(record, _study(1))
    deliveries.failed(record, _take(record), "no answer", retryable=True, give_up_after_hours=72)
    assert deliveries.claim(record, "worker-1", 60) is None
    assert peers.try_now(record.on_behalf_of("ada"), ("pacs",), "the archive is back") == 1
    assert deliveries.claim(record, "worker-1", 60) is not None
    (row,) = story.events(record, event="transfer-repeated")
    assert (row.user, row.detail["reason"]) == ("ada", "the archive is back")
    assert peers.try_now(record, ("pacs",), "again") == 0
    assert len(story.events(record, event="transfer-repeated")) == 1


def test_resend_failed(record: Record) -> None:
    """What a lane refused for good is sent again, once."""
    story.ready(record, _study(1))
    _fail_for_good(record, lambda: _refuse(record))
    assert peers.resend_failed(record, ("pacs",), "configured now") == 1
    assert _take(record).state is DeliveryState.SENDING
    assert peers.resend_failed(record, ("pacs",), "once more") == 0


def _fail_for_good(record: Record, refuse: Callable[[], None]) -> None:
    """Until the job is SEND_FAILED."""
    for _ in range(deliveries.PERMANENT_REFUSALS - 1):
        refuse()
        peers.try_now(record, ("pacs",), "for the test")
    refuse()
    with record.reading() as session:
        assert {row.state for row in session.query(JobRow)} == {JobState.SEND_FAILED}
