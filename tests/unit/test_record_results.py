"""Result sets: several objects a job, each destination its own choice of them."""

import pytest
from record_story import assert_sound, events, kept, ready, result_object, running, set_state, state
from sqlalchemy import func, select

from db import deliveries, job_actions, jobs, reports, retention
from db.models import DeliveryRow, ResultRow
from db.session import Record
from dicom_core.errors import LeaseLostError
from dicom_core.job import Delivery, DeliveryState, Job, JobState, KeptResult
from dicom_core.result import ResultKind

SEG, DEFLATED, OVERLAY, REPORT = (
    ResultKind.SEG, ResultKind.SEG_DEFLATED, ResultKind.OVERLAY, ResultKind.REPORT,
)  # fmt: skip
BOTH = ("pacs", "archive")
EVERYTHING = {"pacs": (REPORT, SEG, OVERLAY)}
"""The archive says nothing."""


def _claim(record: Record) -> Delivery:
    delivery = deliveries.claim(record, "worker-1", 60)
    assert delivery is not None
    return delivery


def _send_all_but(record: Record, clock, refused: ResultKind) -> None:
    """Every object arrives but one, which is refused until that is believed."""
    while (delivery := deliveries.claim(record, "worker-1", 60)) is not None:
        if delivery.result.kind is refused:
            deliveries.failed(record, delivery, "0x0122", retryable=False, give_up_after_hours=72)
            clock.advance(3600)
        else:
            deliveries.sent(record, delivery, "ok")


def test_a_job_makes_what_any_destination_gets_and_always_the_seg(record):
    """The kinds are the union, in the order of the enumeration; SEG is made even where nobody gets it."""
    assert running(record, "1.2.1", destinations=BOTH, wanted=EVERYTHING).kinds == (SEG, OVERLAY, REPORT)
    assert running(record, "1.2.2", destinations=("pacs",), wanted={"pacs": (DEFLATED,)}).kinds == (SEG, DEFLATED)
    assert running(record, "1.2.3", destinations=()).kinds == (SEG,)
    assert running(record, "1.2.4", destinations=("pacs",), wanted={"elsewhere": (REPORT,)}).kinds == (SEG,)


def test_each_destination_gets_its_own_choice(record):
    """Three objects to one, one to the other: four deliveries, each with its object."""
    job = ready(record, destinations=BOTH, wanted=EVERYTHING)
    assert [result.kind for result in job.results] == [SEG, OVERLAY, REPORT]
    found = [(one.destination, one.result.kind) for one in deliveries.of_job(record, job.job_id)]
    assert sorted(found) == sorted([("archive", SEG), ("pacs", SEG), ("pacs", OVERLAY), ("pacs", REPORT)])
    (row,) = events(record, event="seg-created")
    assert [one["sop_instance_uid"] for one in row.detail["objects"]] == [one.sop_instance_uid for one in job.results]


def test_what_refers_is_sent_after_what_it_refers_to(record):
    """Of one job to one destination: SEG, overlay, report; of several parts and items in their order."""
    job = running(record, destinations=("pacs",), wanted=EVERYTHING)
    shuffled = [
        result_object(job, REPORT, 1), result_object(job, OVERLAY, 1, 2), result_object(job, SEG, 2),
        result_object(job, OVERLAY, 1, 1), result_object(job, SEG, 1),
    ]  # fmt: skip
    jobs.keep_result(record, job, KeptResult(tuple(shuffled), {}))
    sent = []
    while (delivery := deliveries.claim(record, "w", 60)) is not None:
        sent.append((delivery.result.kind, delivery.result.part, delivery.result.item))
        deliveries.sent(record, delivery, "ok")
    assert sent == [(SEG, 1, 1), (SEG, 2, 1), (OVERLAY, 1, 1), (OVERLAY, 1, 2), (REPORT, 1, 1)]
    assert state(record, job) is JobState.DONE


def test_a_report_never_overtakes_its_segmentation(record, clock):
    """While the SEG object waits for its next try the overlay goes, but not the report that refers to it."""
    ready(record, destinations=("pacs",), wanted=EVERYTHING)
    sent = []
    for attempt in range(40):
        delivery = deliveries.claim(record, "w", 60)
        if delivery is None:
            clock.advance(5)
        elif delivery.result.kind is SEG and attempt < 15:
            deliveries.failed(record, delivery, "no answer", retryable=True, give_up_after_hours=72)
        else:
            sent.append(delivery.result.kind)
            deliveries.sent(record, delivery, "ok")
    assert sent == [OVERLAY, SEG, REPORT]


def test_a_report_goes_alone_where_its_segmentation_is_refused_for_good(record, clock):
    """A destination that takes no SEG object still gets what else it wants."""
    job = ready(record, destinations=("pacs",), wanted=EVERYTHING)
    for _ in range(20):
        _send_all_but(record, clock, SEG)
        clock.advance(900)
    states = {one.result.kind: one.state for one in deliveries.of_job(record, job.job_id)}
    assert states == {SEG: DeliveryState.FAILED, OVERLAY: DeliveryState.SENT, REPORT: DeliveryState.SENT}


def test_every_object_that_is_sent_is_audited(record):
    """Kind, UID and hash of each, once a destination; the job is SENT with the last one."""
    job = ready(record, destinations=("pacs",), wanted=EVERYTHING)
    for number in range(3):
        assert state(record, job) is (JobState.SENDING if number else JobState.SEG_READY)
        deliveries.sent(record, _claim(record), f"0x0000 {number}")
    assert state(record, job) is JobState.DONE
    told = [row.detail for row in events(record, event="instances-sent")]
    assert [(one["kind"], one["sop_instance_uid"], one["sha256"]) for one in told] == [
        (result.kind.value, result.sop_instance_uid, result.sha256) for result in job.results
    ]
    begun = [row.detail["sop_instance_uid"] for row in events(record, event="transfer-begun")]
    assert begun == [result.sop_instance_uid for result in job.results]
    assert_sound(record)


def test_one_refused_object_fails_the_job_and_alone_is_sent_again(record, clock):
    """The others arrive; SEND_FAILED at the end; a retry sends what failed and nothing else."""
    job = ready(record, destinations=("pacs",), wanted=EVERYTHING)
    _send_all_but(record, clock, OVERLAY)
    assert state(record, job) is JobState.SEND_FAILED
    overlay = next(one for one in deliveries.of_job(record, job.job_id) if one.result.kind is OVERLAY)
    told = [row.detail for row in events(record, event="transfer-failed")]
    assert {(one["kind"], one["sop_instance_uid"]) for one in told} == {("overlay", overlay.result.sop_instance_uid)}
    job_actions.retry(record, job.job_id, "the destination was repaired")
    again = _claim(record)
    assert (again.result, again.delivery_id) == (overlay.result, overlay.delivery_id)
    assert deliveries.claim(record, "w", 60) is None
    deliveries.sent(record, again, "ok")
    assert state(record, job) is JobState.DONE


def test_a_worker_that_dies_with_one_object_costs_that_one_only(record, clock):
    """Its lease runs out and the same object is sent again; the ones before it stay sent."""
    job = ready(record, destinations=("pacs",), wanted=EVERYTHING)
    deliveries.sent(record, _claim(record), "ok")
    lost = _claim(record)
    clock.advance(61)
    assert deliveries.reap_expired(record, 72) == 1
    clock.advance(6)
    kinds = []
    while (delivery := deliveries.claim(record, "w", 60)) is not None:
        kinds.append(delivery.result.kind)
        deliveries.sent(record, delivery, "ok")
    assert sorted(kinds) == sorted([OVERLAY, REPORT])
    assert lost.result.kind is OVERLAY
    assert state(record, job) is JobState.DONE


def test_cancelling_stops_all_objects_that_are_not_sent(record):
    """One SENT, the rest CANCELLED."""
    job = ready(record, destinations=BOTH, wanted=EVERYTHING)
    deliveries.sent(record, _claim(record), "ok")
    job_actions.cancel(record, job.job_id, "stop")
    states = sorted(one.state for one in deliveries.of_job(record, job.job_id))
    assert states == [DeliveryState.CANCELLED] * 3 + [DeliveryState.SENT]


def test_a_destination_that_gets_nothing_of_what_was_made_holds_nobody_up(record):
    """Where no object is for anyone the job is DONE and says so."""
    job = running(record, destinations=("pacs",), wanted={"pacs": (REPORT,)})
    assert jobs.keep_result(record, job, KeptResult((result_object(job),), {})) == []
    after = jobs.get(record, job.job_id)
    assert (after.state, after.reason) == (
        JobState.DONE, "no destination gets one of its objects; the result is kept here",
    )  # fmt: skip


def test_a_late_worker_keeps_none_of_its_objects(record, clock):
    """All objects of a set or none: the fence is asked before any row is written."""
    job = running(record, destinations=BOTH, wanted=EVERYTHING)
    clock.advance(61)
    jobs.reap_expired(record, 3, 0)
    with pytest.raises(LeaseLostError):
        jobs.keep_result(record, job, kept(job))
    with record.reading() as session:
        assert session.scalar(select(func.count()).select_from(ResultRow)) == 0
        assert session.scalar(select(func.count()).select_from(DeliveryRow)) == 0


def test_a_set_with_an_object_twice_is_refused_as_a_whole(record, monkeypatch):
    """An error in the middle of the transaction leaves the job RUNNING and no row behind."""
    job = running(record, destinations=("pacs",), wanted=EVERYTHING)

    def broken(*_: object) -> str:
        raise RuntimeError("power cut")

    monkeypatch.setattr(jobs, "_add_delivery", broken)
    with pytest.raises(RuntimeError):
        jobs.keep_result(record, job, kept(job))
    assert state(record, job) is JobState.RUNNING
    with record.reading() as session:
        assert session.scalar(select(func.count()).select_from(ResultRow)) == 0


def test_old_results_go_with_all_their_files(record, clock):
    """One path and one audit row an object, once."""
    job = ready(record, destinations=("pacs",), wanted=EVERYTHING)
    set_state(record, job, state=JobState.DONE, finished_at=record.now())
    clock.advance(366 * 86400)
    assert retention.results_to_remove(record, 365) == [result.path for result in job.results]
    assert retention.results_to_remove(record, 365) == []
    gone = [row.detail["sop_instance_uid"] for row in events(record, event="result-removed")]
    assert gone == [result.sop_instance_uid for result in job.results]


def test_reports_name_object_and_destination(record):
    """What the study page shows: every delivery with kind and UID, in the order of sending."""
    job = ready(record, destinations=BOTH, wanted=EVERYTHING)
    deliveries.sent(record, _claim(record), "0x0000 stored")
    found = reports.deliveries(record, job.study_instance_uid)
    assert [one.kind for one in found] == ["seg", "seg", "overlay", "report"]
    assert {one.sop_instance_uid for one in found} == {result.sop_instance_uid for result in job.results}
    assert sorted(one.answer for one in found) == ["", "", "", "0x0000 stored"]
    (listed,) = reports.jobs(record)
    assert _facts(listed) == _facts(job)
    assert _facts(reports.current_jobs(record, job.study_instance_uid)[0]) == _facts(job)


def _facts(job: Job) -> tuple[object, ...]:
    return (job.results, dict(job.wanted))
