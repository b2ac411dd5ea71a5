"""What an operator does to a job: try it again, stop it, let it overtake others, send its result once more.

Each is one guarded change with one row of the audit log, which names who wanted it (``Record.on_behalf_of``) and why.
"""

from sqlalchemy import ColumnElement, select, update

from db import audit
from db.audit import Event
from db.jobs import as_job, change_state, end, job_named, queue_key
from db.models import DeliveryRow, JobRow
from db.session import Record, Transaction
from dicom_core.errors import ConflictError, NotFoundError
from dicom_core.job import (
    CANCELLABLE,
    HIGHEST_PRIORITY,
    RESENDABLE,
    RETRYABLE_BY_OPERATOR,
    DeliveryState,
    Job,
    JobState,
)


def retry(record: Record, job_id: str, reason: str) -> Job:
    """Another try: of the deliveries that failed or were cancelled, else of the segmentation.

    A result that was built is never built again: another run could put other bytes under the same UID.

    Raises:
        NotFoundError: No such job.
        ConflictError: Its state does not allow it, a later generation replaced it, or its result is no longer kept.
    """
    with record.writing() as transaction:
        row = job_named(transaction.session, job_id)
        if JobState(row.state) not in RETRYABLE_BY_OPERATOR or not row.segmenter:
            why = "no segmenter was chosen for it" if not row.segmenter else f"it is {row.state}"
            raise ConflictError(f"job {row.job_id} cannot be tried again: {why}")
        _refuse_if_replaced(transaction, row)
        if row.results:
            _refuse_if_removed(row)
            _deliver_again(transaction, row, DeliveryRow.state.in_([DeliveryState.FAILED, DeliveryState.CANCELLED]))
            change_state(transaction, row, JobState.SENDING, reason, event=Event.JOB_RETRIED)
        else:
            row.attempts, row.next_try_at, row.rung_at = 0, None, None
            change_state(transaction, row, JobState.QUEUED, reason, event=Event.JOB_RETRIED)
        row.finished_at = None
        return as_job(row)


def cancel(record: Record, job_id: str, reason: str) -> Job:
    """Stop a job; a worker that is running it finds its lease lost.

    Raises:
        NotFoundError: No such job.
        ConflictError: It is over already.
    """
    with record.writing() as transaction:
        row = job_named(transaction.session, job_id)
        if JobState(row.state) not in CANCELLABLE:
            raise ConflictError(f"job {row.job_id} cannot be cancelled: it is {row.state}")
        end(transaction, row, JobState.CANCELLED, reason)
        return as_job(row)


def change_priority(record: Record, job_id: str, priority: int, reason: str) -> Job:
    """Let a waiting job overtake others, or be overtaken.

    Args:
        record: The record.
        job_id: Of the job, or the beginning of it.
        priority: 0 (routine) to 100 (STAT), as rules give it.
        reason: Why, for the audit log.

    Raises:
        NotFoundError: No such job.
        ConflictError: It does not wait for a worker any more, or there is no such priority.
    """
    if not 0 <= priority <= HIGHEST_PRIORITY:
        raise ConflictError(f"{priority} is no priority; choose 0 (routine) to {HIGHEST_PRIORITY} (STAT)")
    with record.writing() as transaction:
        row = job_named(transaction.session, job_id)
        if row.state != JobState.QUEUED:
            raise ConflictError(f"the priority of job {row.job_id} means nothing any more: it is {row.state}")
        before, row.priority = row.priority, priority
        row.queue_key, row.updated_at = queue_key(row.created_at, priority), transaction.now
        audit.append(
            transaction,
            Event.PRIORITY_CHANGED,
            study_instance_uid=row.study_instance_uid,
            job_id=row.job_id,
            detail={"from_priority": before, "to_priority": priority, "reason": reason},
        )
        return as_job(row)


def resend(record: Record, job_id: str, reason: str, destination: str = "") -> Job:
    """Send the kept objects of a finished job once more: the same bytes under the same UIDs.

    Args:
        record: The record.
        job_id: Of the job, or the beginning of it.
        reason: Why, for the audit log.
        destination: One of those that the job has deliveries for, "" for all of them.

    Raises:
        NotFoundError: No such job, or it has nothing for that destination.
        ConflictError: Its state does not allow it, or its result is no longer kept.
    """
    with record.writing() as transaction:
        row = job_named(transaction.session, job_id)
        if JobState(row.state) not in RESENDABLE:
            raise ConflictError(f"job {row.job_id} cannot be sent again: it is {row.state}")
        chosen = _destinations(transaction, row, destination)
        _refuse_if_removed(row)
        _deliver_again(transaction, row, DeliveryRow.destination.in_(chosen))
        change_state(
            transaction, row, JobState.SENDING, reason, event=Event.TRANSFER_REPEATED, detail={"destinations": chosen}
        )
        row.finished_at = None
        return as_job(row)


def _destinations(transaction: Transaction, row: JobRow, wanted: str) -> list[str]:
    """Where the job has something to send; only ``wanted`` where it is named."""
    known = transaction.session.scalars(
        select(DeliveryRow.destination)
        .where(DeliveryRow.job_id == row.job_id)
        .distinct()
        .order_by(DeliveryRow.destination)
    ).all()
    if not known:
        raise ConflictError(f"job {row.job_id} cannot be sent again: it has no destination")
    if wanted and wanted not in known:
        raise NotFoundError(f"job {row.job_id} has nothing for {wanted!r}; it went to {', '.join(known)}")
    return [wanted] if wanted else list(known)


def _deliver_again(transaction: Transaction, row: JobRow, which: ColumnElement[bool]) -> None:
    transaction.session.execute(
        update(DeliveryRow)
        .where(DeliveryRow.job_id == row.job_id, which)
        .values(
            state=DeliveryState.WAITING, refusals=0, attempts=0, next_try_at=transaction.now, lane_held_until=None,
            rung_at=None, created_at=transaction.now, finished_at=None,
        )
    )  # fmt: skip


def _refuse_if_replaced(transaction: Transaction, row: JobRow) -> None:
    newest: int = transaction.session.scalars(
        select(JobRow.generation)
        .where(
            JobRow.study_instance_uid == row.study_instance_uid, JobRow.series_instance_uid == row.series_instance_uid
        )
        .order_by(JobRow.generation.desc())
        .limit(1)
    ).one()
    if newest > row.generation:
        raise ConflictError(f"job {row.job_id} belongs to generation {row.generation}; generation {newest} replaced it")


def _refuse_if_removed(row: JobRow) -> None:
    if not all(result.path for result in row.results):
        raise ConflictError(f"the result of job {row.job_id} is no longer kept; send the study again")
