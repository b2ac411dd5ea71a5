"""The queue as workers see it: claims by lease and fence, heart beats, results, failures.

Every guarded change commits with its audit row. A worker holds a job as long as its lease lasts by the database's
clock. Every claim and every intervention raises the fence; a worker that comes late with an old fence is refused with
``LeaseLostError`` and writes nothing. What an operator does to a job is in ``db.job_actions``.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select, update
from sqlalchemy.orm import Session

from db import audit
from db.audit import Event, Outcome
from db.models import DeliveryRow, JobProgress, JobRow, ResultRow, Study, storable
from db.session import Record, Transaction
from dicom_core.errors import ConflictError, LeaseLostError, NotFoundError
from dicom_core.job import (
    FINISHED,
    TRANSITIONS,
    DeliveryState,
    Job,
    JobState,
    KeptResult,
)
from dicom_core.result import ResultKind, ResultObject
from dicom_core.settings import SENDER
from dicom_core.study import StudyState

_EVENTS = {
    JobState.RUNNING: Event.JOB_RUNNING,
    JobState.SEG_READY: Event.SEG_CREATED,
    JobState.NO_VESSEL_FOUND: Event.JOB_NO_VESSEL_FOUND,
    JobState.SKIPPED: Event.JOB_SKIPPED,
    JobState.FAILED: Event.JOB_FAILED,
    JobState.SUPERSEDED: Event.JOB_SUPERSEDED,
    JobState.CANCELLED: Event.JOB_CANCELLED,
}
LONGEST_PAUSE_SECONDS = 3600.0
"""The pause between tries doubles no further than this."""
AGEING_SECONDS_PER_POINT = 144.0
"""One point of priority counts as this much waiting: STAT (100) overtakes what has waited up to four hours, no more."""


def queue_key(created_at: datetime, priority: int) -> float:
    """Where a job stands in the queue: the smallest is claimed first."""
    return created_at.timestamp() - priority * AGEING_SECONDS_PER_POINT


def as_job(row: JobRow) -> Job:
    """The frozen form of a row."""
    return Job(
        job_id=row.job_id,
        study_instance_uid=row.study_instance_uid,
        series_instance_uid=row.series_instance_uid,
        generation=row.generation,
        modality=row.modality,
        state=JobState(row.state),
        reason=row.reason,
        rule=row.rule,
        segmenter=row.segmenter,
        prompt=row.prompt,
        destinations=tuple(row.destinations),
        priority=row.priority,
        attempts=row.attempts,
        fence=row.fence,
        input_hash=row.input_hash,
        configuration_hash=row.configuration_hash,
        created_at=row.created_at,
        updated_at=row.updated_at,
        calling_ae_title=row.calling_ae_title,
        lease_owner=row.lease_owner,
        started_at=row.started_at,
        finished_at=row.finished_at,
        wanted={name: tuple(ResultKind(kind) for kind in kinds) for name, kinds in (row.wanted or {}).items()},
        results=tuple(as_result(result) for result in row.results),
        result=dict(row.result),
    )


def as_result(row: ResultRow) -> ResultObject:
    """The frozen form of a row."""
    return ResultObject(
        kind=ResultKind(row.kind),
        part=row.part,
        item=row.item,
        path=row.path,
        sha256=row.sha256,
        sop_class_uid=row.sop_class_uid,
        sop_instance_uid=row.sop_instance_uid,
        series_instance_uid=row.series_instance_uid,
        size_bytes=row.size_bytes,
    )


def change_state(
    transaction: Transaction,
    row: JobRow,
    state: JobState,
    reason: str = "",
    *,
    event: Event | None = None,
    outcome: Outcome = Outcome.SUCCESS,
    detail: dict[str, Any] | None = None,
) -> None:
    """Move a job along an allowed transition and audit it.

    Raises:
        ConflictError: ``TRANSITIONS`` has no such change.
    """
    before = JobState(row.state)
    if state is not before and state not in TRANSITIONS[before]:
        raise ConflictError(f"job {row.job_id} is {before}; it cannot become {state}")
    row.state, row.reason, row.updated_at = state, reason, transaction.now
    if before is JobState.RUNNING and state is not before:
        transaction.session.execute(delete(JobProgress).where(JobProgress.job_id == row.job_id))
    if state in FINISHED and before not in FINISHED:
        row.finished_at = transaction.now
    audit.append(
        transaction,
        event or _EVENTS.get(state, Event.JOB_STATE),
        outcome=outcome,
        study_instance_uid=row.study_instance_uid,
        job_id=row.job_id,
        detail={"from": before.value, "to": state.value, **({"reason": reason} if reason else {}), **(detail or {})},
    )


def end(transaction: Transaction, row: JobRow, state: JobState, reason: str) -> None:
    """Take a job away from whoever has it: SUPERSEDED or CANCELLED, with the deliveries that have not begun."""
    row.fence += 1
    row.lease_owner, row.lease_expires_at = "", None
    change_state(transaction, row, state, reason)
    transaction.session.execute(
        update(DeliveryRow)
        .where(DeliveryRow.job_id == row.job_id, DeliveryRow.state.in_([DeliveryState.WAITING, DeliveryState.SENDING]))
        .values(
            state=DeliveryState.CANCELLED, fence=DeliveryRow.fence + 1, lease_owner="", lease_expires_at=None,
            lane_held_until=None, finished_at=transaction.now,
        )
    )  # fmt: skip


def _claimable(now: datetime) -> ColumnElement[bool]:
    """Due, and of a study that is not being received again: then the next generation decides what still counts."""
    complete = exists().where(Study.study_instance_uid == JobRow.study_instance_uid, Study.state == StudyState.COMPLETE)
    return and_(JobRow.state == JobState.QUEUED, or_(JobRow.next_try_at.is_(None), JobRow.next_try_at <= now), complete)


def claim(record: Record, owner: str, lease_seconds: float) -> Job | None:
    """Take the most urgent job that is due, None when there is none.

    Args:
        record: The record.
        owner: Process id of the worker.
        lease_seconds: How long it is held without a heart beat.
    """
    with record.writing() as transaction:
        row = transaction.session.scalars(
            select(JobRow).where(_claimable(transaction.now)).order_by(JobRow.queue_key, JobRow.job_id).limit(1)
        ).one_or_none()
        if row is None:
            return None
        row.attempts += 1
        row.fence += 1
        row.lease_owner = owner
        row.lease_expires_at = transaction.now + timedelta(seconds=lease_seconds)
        row.started_at = transaction.now
        row.finished_at = None
        change_state(transaction, row, JobState.RUNNING, detail={"attempt": row.attempts, "worker": owner})
        return as_job(row)


def heartbeat(record: Record, job: Job, lease_seconds: float) -> None:
    """Prolong the lease.

    Raises:
        LeaseLostError: Somebody else has the job, or it was cancelled or superseded.
    """
    with record.writing() as transaction:
        changed = transaction.session.execute(
            update(JobRow)
            .where(JobRow.job_id == job.job_id, JobRow.fence == job.fence, JobRow.state == JobState.RUNNING)
            .values(lease_expires_at=transaction.now + timedelta(seconds=lease_seconds))
            .returning(JobRow.job_id)
        ).one_or_none()
        if changed is None:
            raise LeaseLostError(f"job {job.job_id} is no longer held by this worker")


def _held(transaction: Transaction, job: Job) -> JobRow:
    row = transaction.session.get(JobRow, job.job_id)
    if row is None or row.fence != job.fence or row.state != JobState.RUNNING:
        raise LeaseLostError(f"job {job.job_id} is no longer held by this worker")
    return row


def keep_result(record: Record, job: Job, kept: KeptResult) -> list[str]:
    """RUNNING -> SEG_READY with one delivery for each object that a destination gets; without any the job is DONE.

    Returns:
        The ids of the deliveries.

    Raises:
        LeaseLostError: The result comes too late and must not be used.
    """
    with record.writing() as transaction:
        row = _held(transaction, job)
        row.lease_owner, row.lease_expires_at = "", None
        _keep_summary(row, kept.summary)
        change_state(transaction, row, JobState.SEG_READY, detail=_provenance(kept.objects, kept.summary))
        results = [
            (_add_result(transaction, row, place, result), result.kind)
            for place, result in enumerate(sorted(kept.objects, key=lambda result: result.order), start=1)
        ]
        transaction.session.flush()  # before the deliveries, which refer to them
        made = [
            _add_delivery(transaction, row, destination, result)
            for destination in dict.fromkeys(row.destinations)
            for result, kind in results
            if kind in job.results_for(destination)
        ]
        if not made:
            why = "no destination gets one of its objects" if row.destinations else "no destination is configured"
            change_state(transaction, row, JobState.DONE, f"{why}; the result is kept here")
        return made


def _keep_summary(row: JobRow, summary: Mapping[str, Any]) -> None:
    row.result = dict(summary)
    row.model = storable(str(summary.get("model", "")), 64)
    row.model_version = storable(str(summary.get("model_version", "")), 64)


def _provenance(made: Sequence[ResultObject], summary: Mapping[str, object]) -> dict[str, Any]:
    """What the audit log says of a result: what was made by what, what it was asked, what it said."""
    names = ("model", "model_version", "weights_sha256", "frames_with_vessel")
    where_told = ("prompt", "semiautomatic", "answer", "memory", "warnings")
    objects = [
        {"kind": result.kind.value, "sop_instance_uid": result.sop_instance_uid, "sha256": result.sha256}
        for result in made
    ]
    told = {name: summary[name] for name in where_told if summary.get(name)}
    return {
        **({"objects": objects} if objects else {}),
        **{name: summary[name] for name in names if name in summary},
        **told,
    }


def _add_result(transaction: Transaction, row: JobRow, place: int, result: ResultObject) -> ResultRow:
    added = ResultRow(result_id=uuid.uuid4().hex, job_id=row.job_id, place=place, **asdict(result))
    transaction.session.add(added)
    return added


def _add_delivery(transaction: Transaction, row: JobRow, destination: str, result: ResultRow) -> str:
    delivery = DeliveryRow(
        delivery_id=uuid.uuid4().hex,
        job_id=row.job_id,
        result_id=result.result_id,
        place=result.place,
        destination=destination,
        lane=f"{SENDER}:{row.calling_ae_title}@{row.peer_address}" if destination == SENDER else destination,
        state=DeliveryState.WAITING,
        attempts=0,
        refusals=0,
        fence=0,
        next_try_at=transaction.now,
        created_at=transaction.now,
    )
    transaction.session.add(delivery)
    return delivery.delivery_id


def finish_without_result(record: Record, job: Job, state: JobState, reason: str, summary: dict[str, Any]) -> None:
    """RUNNING -> NO_VESSEL_FOUND or SKIPPED: a visible end without an object.

    Raises:
        LeaseLostError: Too late.
    """
    with record.writing() as transaction:
        row = _held(transaction, job)
        row.lease_owner, row.lease_expires_at = "", None
        _keep_summary(row, summary)
        change_state(transaction, row, state, reason, detail=_provenance((), summary))


def fail_attempt(
    record: Record, job: Job, reason: str, *, retryable: bool, maximum_attempts: int, retry_after_seconds: float
) -> JobState:
    """RUNNING -> QUEUED for another try, or FAILED when none is left or none can help.

    Returns:
        The state that it has now.

    Raises:
        LeaseLostError: Too late.
    """
    with record.writing() as transaction:
        return _fail(transaction, _held(transaction, job), reason, retryable, maximum_attempts, retry_after_seconds)


def _fail(
    transaction: Transaction,
    row: JobRow,
    reason: str,
    retryable: bool,
    maximum_attempts: int,
    retry_after_seconds: float,
) -> JobState:
    row.lease_owner, row.lease_expires_at = "", None
    row.fence += 1
    if retryable and row.attempts < maximum_attempts:
        pause = min(retry_after_seconds * 2 ** min(row.attempts - 1, 16), LONGEST_PAUSE_SECONDS)
        row.next_try_at = transaction.now + timedelta(seconds=pause)
        row.rung_at = None
        change_state(
            transaction,
            row,
            JobState.QUEUED,
            f"attempt {row.attempts} of {maximum_attempts} failed: {reason}",
            event=Event.JOB_ATTEMPT_FAILED,
            outcome=Outcome.MINOR_FAILURE,
        )
    else:
        change_state(transaction, row, JobState.FAILED, reason, outcome=Outcome.SERIOUS_FAILURE)
    return JobState(row.state)


def hand_back(record: Record, job: Job, reason: str) -> None:
    """RUNNING -> QUEUED without costing an attempt: the worker is told to stop.

    Raises:
        LeaseLostError: Too late.
    """
    with record.writing() as transaction:
        row = _held(transaction, job)
        row.attempts -= 1
        row.fence += 1
        row.lease_owner, row.lease_expires_at, row.rung_at = "", None, None
        change_state(transaction, row, JobState.QUEUED, reason, event=Event.JOB_HANDED_BACK)


def reap_expired(record: Record, maximum_attempts: int, retry_after_seconds: float) -> int:
    """Take jobs from workers whose lease ran out. Returns how many."""
    with record.writing() as transaction:
        rows = transaction.session.scalars(
            select(JobRow).where(JobRow.state == JobState.RUNNING, JobRow.lease_expires_at < transaction.now)
        ).all()
        for row in rows:
            _fail(transaction, row, "the worker that ran it fell silent", True, maximum_attempts, retry_after_seconds)
        return len(rows)


def due(record: Record, ring_interval_seconds: float, limit: int) -> list[str]:
    """Ids of waiting jobs for which nobody has rung lately, most urgent first."""
    now = record.now()
    with record.reading() as session:
        return list(
            session.scalars(
                select(JobRow.job_id)
                .where(
                    _claimable(now),
                    or_(JobRow.rung_at.is_(None), JobRow.rung_at <= now - timedelta(seconds=ring_interval_seconds)),
                )
                .order_by(JobRow.queue_key)
                .limit(limit)
            )
        )


def mark_rung(record: Record, job_ids: Sequence[str]) -> None:
    """Remember that workers were rung for these jobs."""
    if job_ids:
        with record.writing() as transaction:
            transaction.session.execute(
                update(JobRow).where(JobRow.job_id.in_(job_ids)).values(rung_at=transaction.now)
            )


def get(record: Record, job_id: str) -> Job:
    """One job by its id or a unique beginning of it (at least 6 digits).

    Raises:
        NotFoundError: There is none, or the beginning fits several.
    """
    with record.reading() as session:
        return as_job(job_named(session, job_id))


def job_named(session: Session, job_id: str) -> JobRow:
    """The row of one job by its id or a unique beginning of it (at least 6 digits).

    Raises:
        NotFoundError: There is none, or the beginning fits several.
    """
    # no LIKE, which uses no index; "g" sorts behind every hexadecimal digit
    fits = (JobRow.job_id >= job_id) & (JobRow.job_id < f"{job_id}g")
    rows = session.scalars(select(JobRow).where(fits).order_by(JobRow.job_id).limit(2)).all()
    exact = [row for row in rows if row.job_id == job_id]
    if len(job_id) < 6 or len(exact or rows) != 1:
        raise NotFoundError(f"no single job has the id {job_id!r}; `vesselq jobs` lists them")
    return (exact or rows)[0]


def stale_tries(record: Record, folders: Sequence[str]) -> list[str]:
    """Which folders of results may go: nobody works in them, and no object that is kept lies in them.

    Args:
        record: The record.
        folders: Their names, ``JOB-FENCE``. A job that the record does not know is not ours to judge.
    """
    of_job = {name: name.partition("-")[0] for name in folders}
    ids = set(of_job.values())
    with record.reading() as session:
        known = session.execute(select(JobRow.job_id, JobRow.state, JobRow.fence).where(JobRow.job_id.in_(ids))).all()
        paths = session.scalars(select(ResultRow.path).where(ResultRow.job_id.in_(ids), ResultRow.path != "")).all()
    in_use = {path.split("/")[-2] for path in paths}
    in_use |= {f"{job_id}-{fence}" for job_id, state, fence in known if state == JobState.RUNNING}
    ours = {job_id for job_id, _, _ in known}
    return [name for name, job_id in of_job.items() if job_id in ours and name not in in_use]


def counts_by_state(record: Record) -> dict[str, int]:
    """How many jobs are in each state."""
    with record.reading() as session:
        rows = session.execute(select(JobRow.state, func.count()).group_by(JobRow.state))
        return dict(rows.all())


def oldest_waiting(record: Record) -> datetime | None:
    """Since when the longest waiting job has been queued, None when none waits."""
    with record.reading() as session:
        return session.scalars(
            select(JobRow.created_at).where(JobRow.state == JobState.QUEUED).order_by(JobRow.created_at).limit(1)
        ).one_or_none()
