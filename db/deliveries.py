"""Results on their way: one row a (result object, destination), claimed by lease and fence like jobs.

A lane is one place that results go to. At most one delivery of a lane is on its way at a time, so that a destination
that hangs holds one thread, never all; after a transient failure the others of the lane wait a little as well.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, func, or_, select, update

from db import audit
from db.audit import Event, Outcome
from db.jobs import as_result, change_state
from db.models import DeliveryRow, JobRow, ResultRow
from db.session import Record, Transaction
from dicom_core.errors import LeaseLostError
from dicom_core.job import Delivery, DeliveryState, JobState
from dicom_core.result import ResultKind, ResultObject

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 900.0
"""Back-off after transient failures: doubles from the first to the longest."""
LANE_PAUSE_SECONDS = 5.0
"""How long the other deliveries of a lane wait after one failed: each gets its try, none in a hot loop."""
PERMANENT_REFUSALS = 3
"""A status that will not change is believed the third time."""


def _as_delivery(row: DeliveryRow, job: JobRow, result: ResultRow) -> Delivery:
    return Delivery(
        delivery_id=row.delivery_id,
        job_id=row.job_id,
        study_instance_uid=job.study_instance_uid,
        destination=row.destination,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        fence=row.fence,
        answer=row.answer,
        result=as_result(result),
        calling_ae_title=job.calling_ae_title,
        peer_address=job.peer_address,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


def _due(now: datetime) -> ColumnElement[bool]:
    """Waiting, its pause over, in a lane where nothing is on its way and that no failure holds."""
    busy = select(DeliveryRow.lane).where(DeliveryRow.state == DeliveryState.SENDING)
    held = select(DeliveryRow.lane).where(DeliveryRow.lane_held_until > now)
    return and_(
        DeliveryRow.state == DeliveryState.WAITING,
        DeliveryRow.next_try_at <= now,
        DeliveryRow.lane.not_in(busy),
        DeliveryRow.lane.not_in(held),
    )


def claim(record: Record, owner: str, lease_seconds: float) -> Delivery | None:
    """Take the delivery that has been due for longest in a lane where nothing is on its way, None if there is none.

    Of the objects of one job that became due together, those go first that others refer to; a report waits as long as
    its SEG object does.
    """
    with record.writing() as transaction:
        row = transaction.session.scalars(
            select(DeliveryRow)
            .where(_due(transaction.now))
            .order_by(DeliveryRow.next_try_at, DeliveryRow.job_id, DeliveryRow.place, DeliveryRow.delivery_id)
            .limit(1)
        ).one_or_none()
        if row is None:
            return None
        job = transaction.session.get_one(JobRow, row.job_id)
        result = transaction.session.get_one(ResultRow, row.result_id)
        row.state = DeliveryState.SENDING
        row.attempts += 1
        row.fence += 1
        row.lane_held_until = None
        row.lease_owner, row.lease_expires_at = owner, transaction.now + timedelta(seconds=lease_seconds)
        audit.append(
            transaction,
            Event.TRANSFER_BEGUN,
            study_instance_uid=job.study_instance_uid,
            job_id=job.job_id,
            detail={**_which(row, result), "attempt": row.attempts},
        )
        if job.state != JobState.SENDING:
            change_state(transaction, job, JobState.SENDING)
        return _as_delivery(row, job, result)


def _which(row: DeliveryRow, result: ResultRow | ResultObject) -> dict[str, str]:
    """What goes where, for the audit log."""
    return {"destination": row.destination, "kind": str(result.kind), "sop_instance_uid": result.sop_instance_uid}


def heartbeat(record: Record, delivery: Delivery, lease_seconds: float) -> None:
    """Prolong the lease.

    Raises:
        LeaseLostError: It was cancelled or taken over.
    """
    with record.writing() as transaction:
        _held(transaction, delivery).lease_expires_at = transaction.now + timedelta(seconds=lease_seconds)


def _held(transaction: Transaction, delivery: Delivery) -> DeliveryRow:
    row = transaction.session.get(DeliveryRow, delivery.delivery_id)
    if row is None or row.fence != delivery.fence or row.state != DeliveryState.SENDING:
        raise LeaseLostError(f"delivery {delivery.delivery_id} is no longer held by this worker")
    return row


def sent(record: Record, delivery: Delivery, answer: str) -> None:
    """SENDING -> SENT: the destination answered that it stored the object.

    Raises:
        LeaseLostError: Too late; whoever holds it now will send the same bytes again, which changes nothing.
    """
    with record.writing() as transaction:
        row = _held(transaction, delivery)
        row.state, row.answer, row.finished_at = DeliveryState.SENT, answer, transaction.now
        row.lease_owner, row.lease_expires_at = "", None
        audit.append(
            transaction,
            Event.INSTANCES_SENT,
            study_instance_uid=delivery.study_instance_uid,
            job_id=delivery.job_id,
            detail={**_which(row, delivery.result), "sha256": delivery.result.sha256, "answer": answer},
        )
        _settle_job(transaction, row.job_id)


def failed(record: Record, delivery: Delivery, answer: str, *, retryable: bool, give_up_after_hours: float) -> bool:
    """SENDING -> WAITING with a pause, or FAILED.

    Returns:
        Whether it will be tried again.

    Raises:
        LeaseLostError: Too late.
    """
    with record.writing() as transaction:
        row = _held(transaction, delivery)
        return _fail(transaction, row, delivery.study_instance_uid, answer, retryable, give_up_after_hours)


def _fail(
    transaction: Transaction, row: DeliveryRow, study: str, answer: str, retryable: bool, give_up_after_hours: float
) -> bool:
    now = transaction.now
    row.fence += 1
    row.answer = answer
    row.lease_owner, row.lease_expires_at = "", None
    row.refusals += 0 if retryable else 1
    over = row.refusals >= PERMANENT_REFUSALS or now - row.created_at > timedelta(hours=give_up_after_hours)
    audit.append(
        transaction,
        Event.TRANSFER_FAILED,
        outcome=Outcome.SERIOUS_FAILURE if over else Outcome.MINOR_FAILURE,
        study_instance_uid=study,
        job_id=row.job_id,
        detail={
            **_which(row, transaction.session.get_one(ResultRow, row.result_id)),
            "answer": answer,
            "attempt": row.attempts,
            "gives_up": over,
        },
    )
    if over:
        row.state, row.finished_at = DeliveryState.FAILED, now
        _settle_job(transaction, row.job_id)
        return False
    pause = min(FIRST_PAUSE_SECONDS * 2 ** min(row.attempts - 1, 16), LONGEST_PAUSE_SECONDS)
    row.state, row.rung_at = DeliveryState.WAITING, None
    row.next_try_at = now + timedelta(seconds=pause)
    if retryable:
        row.lane_held_until = now + timedelta(seconds=LANE_PAUSE_SECONDS)
    _put_off_report(transaction, row)
    return True


def _put_off_report(transaction: Transaction, row: DeliveryRow) -> None:
    """A report is not sent before the SEG object that it refers to, unless that is refused for good."""
    seg = transaction.session.get_one(ResultRow, row.result_id)
    if seg.kind != ResultKind.SEG:
        return
    reports = select(ResultRow.result_id).where(
        ResultRow.job_id == row.job_id, ResultRow.part == seg.part, ResultRow.kind == ResultKind.REPORT
    )
    transaction.session.execute(
        update(DeliveryRow)
        .where(
            DeliveryRow.result_id.in_(reports),
            DeliveryRow.destination == row.destination,
            DeliveryRow.state == DeliveryState.WAITING,
            DeliveryRow.next_try_at < row.next_try_at,
        )
        .values(next_try_at=row.next_try_at)
    )


def hand_back(record: Record, delivery: Delivery) -> None:
    """SENDING -> WAITING without a pause: the worker is told to stop.

    Raises:
        LeaseLostError: Too late.
    """
    with record.writing() as transaction:
        row = _held(transaction, delivery)
        row.state, row.attempts, row.fence = DeliveryState.WAITING, row.attempts - 1, row.fence + 1
        row.lease_owner, row.lease_expires_at, row.rung_at = "", None, None
        audit.append(
            transaction,
            Event.TRANSFER_HANDED_BACK,
            study_instance_uid=delivery.study_instance_uid,
            job_id=row.job_id,
            detail=_which(row, delivery.result),
        )


def reap_expired(record: Record, give_up_after_hours: float) -> int:
    """Take deliveries from workers whose lease ran out. Returns how many."""
    with record.writing() as transaction:
        rows = transaction.session.execute(
            select(DeliveryRow, JobRow.study_instance_uid)
            .join(JobRow, JobRow.job_id == DeliveryRow.job_id)
            .where(DeliveryRow.state == DeliveryState.SENDING, DeliveryRow.lease_expires_at < transaction.now)
        ).all()
        for row, study in rows:
            _fail(transaction, row, study, "the worker that sent it fell silent", True, give_up_after_hours)
        return len(rows)


def _settle_job(transaction: Transaction, job_id: str) -> None:
    """End the job when none of its deliveries is under way any more."""
    transaction.session.flush()
    states = set(transaction.session.scalars(select(DeliveryRow.state).where(DeliveryRow.job_id == job_id)))
    if states & {DeliveryState.WAITING, DeliveryState.SENDING}:
        return
    job = transaction.session.get_one(JobRow, job_id)
    if job.state != JobState.SENDING:
        return
    if DeliveryState.FAILED in states:
        answer = transaction.session.scalars(
            select(DeliveryRow.answer).where(DeliveryRow.job_id == job_id, DeliveryRow.state == DeliveryState.FAILED)
        ).first()
        change_state(transaction, job, JobState.SEND_FAILED, answer or "", outcome=Outcome.SERIOUS_FAILURE)
        return
    change_state(transaction, job, JobState.SENT)
    change_state(transaction, job, JobState.DONE)


def due(record: Record, ring_interval_seconds: float, limit: int) -> list[str]:
    """Ids of waiting deliveries for which nobody has rung lately, one a lane: more cannot be under way at once."""
    now = record.now()
    with record.reading() as session:
        return list(
            session.scalars(
                select(func.min(DeliveryRow.delivery_id))
                .where(
                    _due(now),
                    or_(
                        DeliveryRow.rung_at.is_(None),
                        DeliveryRow.rung_at <= now - timedelta(seconds=ring_interval_seconds),
                    ),
                )
                .group_by(DeliveryRow.lane)
                .order_by(func.min(DeliveryRow.next_try_at))
                .limit(limit)
            )
        )


def mark_rung(record: Record, delivery_ids: Sequence[str]) -> None:
    """Remember that workers were rung for these deliveries."""
    if delivery_ids:
        with record.writing() as transaction:
            transaction.session.execute(
                update(DeliveryRow).where(DeliveryRow.delivery_id.in_(delivery_ids)).values(rung_at=transaction.now)
            )


def of_job(record: Record, job_id: str) -> list[Delivery]:
    """All deliveries of one job, those of one object after those of another."""
    with record.reading() as session:
        rows = session.execute(
            select(DeliveryRow, JobRow, ResultRow)
            .join(JobRow, JobRow.job_id == DeliveryRow.job_id)
            .join(ResultRow, ResultRow.result_id == DeliveryRow.result_id)
            .where(DeliveryRow.job_id == job_id)
            .order_by(DeliveryRow.place, DeliveryRow.created_at, DeliveryRow.destination)
        ).all()
        return [_as_delivery(row, job, result) for row, job, result in rows]
