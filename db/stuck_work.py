"""What does not go on by itself, each with the reason in words and what to do. Thresholds are those of an alarm."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from db import queue_reports
from db.models import DeliveryRow, JobProgress, JobRow, Study
from db.session import Record
from dicom_core.job import DeliveryState, JobState
from dicom_core.study import StudyState

LEASE_OVERDUE_SECONDS = 30.0
"""A dispatcher that lives takes a job from a silent worker within a second."""
NO_PROGRESS_SECONDS = 600.0
"""Since the last report of a running job."""
UNCLAIMED_SECONDS = 300.0
"""A job that is due although no worker lives."""
STUDY_OPEN_SECONDS = 1800.0
"""Since the last instance of a study that is not complete."""
UNDELIVERED_SECONDS = 3600.0
"""Since an object became ready for a destination that does not take it."""
_MOST = 100
"""Of each kind: more of them would tell nothing new."""


class Kind(StrEnum):
    """What kind of work is stuck."""

    JOB = "job"
    QUEUE = "queue"
    STUDY = "study"
    DELIVERY = "delivery"
    PROCESS = "process"


@dataclass(frozen=True, slots=True)
class StuckWork:
    """One thing that does not go on.

    Attributes:
        kind: Of it.
        name: Job id, StudyInstanceUID, destination or process id.
        since: Since when.
        code: Key of ``SENTENCES``.
        values: What the names in its sentence stand for.
        reason: That sentence.
        advice: What to do.
        study_instance_uid: Whose, "" for none.
    """

    kind: Kind
    name: str
    since: datetime
    code: str
    values: Mapping[str, str | int]
    reason: str
    advice: str
    study_instance_uid: str = ""


SENTENCES: Mapping[str, tuple[str, str]] = {
    "process-silent": (
        "The {process} on {host} (process {pid}) fell silent.",
        "Look at its log and start it again.",
    ),
    "lease-over": ("The worker of a job fell silent and nobody took the job back.", "Start the dispatcher."),
    "no-progress": (
        "A running job has told of no progress for long.",
        "Wait for the deadline of the worker, or cancel it and try again.",
    ),
    "no-worker": ("{count} jobs wait and no worker lives.", "Start a worker."),
    "study-open": (
        "A study is still being received, and nothing has come for long.",
        "See whether the dispatcher runs and the sender holds its association open, or close the study.",
    ),
    "undelivered": ("{count} objects wait for the destination {destination}.", "See whether it answers."),
    "undelivered-answer": (
        "{count} objects wait for the destination {destination}; it answered last: {answer}",
        "See whether it answers.",
    ),
}
"""What is wrong and what to do, by code."""


def _stuck(
    kind: Kind, name: str, since: datetime, code: str, *, study_instance_uid: str = "", **values: str | int
) -> StuckWork:
    reason, advice = SENTENCES[code]
    return StuckWork(kind, name, since, code, values, reason.format(**values), advice, study_instance_uid)


def find(record: Record) -> list[StuckWork]:
    """Everything that is stuck, the oldest first."""
    now = record.now()
    states = queue_reports.processes(record)
    workers = queue_reports.alive_by_kind(states)["worker"]
    found = [*_silent_processes(states)]
    with record.reading() as session:
        found += _running(session, now)
        found += _unclaimed(session, now, workers)
        found += _open_studies(session, now)
        found += _undelivered(session, now)
    return sorted(found, key=lambda one: one.since)


def _silent_processes(states: list[queue_reports.ProcessState]) -> Iterator[StuckWork]:
    for one in states:
        successor = any(
            other.alive and other.kind == one.kind and other.host == one.host and other.started_at > one.started_at
            for other in states
        )
        if not one.alive and one.stopped_at is None and not successor:
            yield _stuck(
                Kind.PROCESS, one.process_id, one.last_seen_at, "process-silent", process=one.kind, host=one.host,
                pid=one.pid,
            )  # fmt: skip


def _running(session: Session, now: datetime) -> Iterator[StuckWork]:
    """Jobs whose worker is gone, or that report nothing any more."""
    quiet = now - timedelta(seconds=NO_PROGRESS_SECONDS)
    told = func.coalesce(JobProgress.updated_at, JobRow.started_at)
    statement = (
        select(JobRow, JobProgress)
        .outerjoin(JobProgress, (JobProgress.job_id == JobRow.job_id) & (JobProgress.fence == JobRow.fence))
        .where(
            JobRow.state == JobState.RUNNING,
            or_(JobRow.lease_expires_at < now - timedelta(seconds=LEASE_OVERDUE_SECONDS), told < quiet),
        )
        .limit(_MOST)
    )
    for job, progress in session.execute(statement):
        if job.lease_expires_at is not None and job.lease_expires_at < now:
            code, since = "lease-over", job.lease_expires_at
        else:
            code, since = "no-progress", progress.updated_at if progress else job.started_at or job.updated_at
        yield _stuck(Kind.JOB, job.job_id, since, code, study_instance_uid=job.study_instance_uid)


def _unclaimed(session: Session, now: datetime, workers: int) -> Iterator[StuckWork]:
    """Jobs that are due while no worker lives: one finding for all of them."""
    if workers:
        return
    limit = now - timedelta(seconds=UNCLAIMED_SECONDS)
    count, oldest = session.execute(
        select(func.count(), func.min(JobRow.created_at))
        .join(Study, Study.study_instance_uid == JobRow.study_instance_uid)
        .where(
            JobRow.state == JobState.QUEUED,
            JobRow.created_at < limit,
            or_(JobRow.next_try_at.is_(None), JobRow.next_try_at < limit),
            Study.state == StudyState.COMPLETE,
        )
    ).one()
    if count:
        yield _stuck(Kind.QUEUE, "segment", oldest, "no-worker", count=count)


def _open_studies(session: Session, now: datetime) -> Iterator[StuckWork]:
    limit = now - timedelta(seconds=STUDY_OPEN_SECONDS)
    statement = (
        select(Study)
        .where(Study.state == StudyState.RECEIVING, Study.last_received_at < limit)
        .order_by(Study.last_received_at)
        .limit(_MOST)
    )
    for study in session.scalars(statement):
        uid = study.study_instance_uid
        yield _stuck(Kind.STUDY, uid, study.last_received_at, "study-open", study_instance_uid=uid)


def _undelivered(session: Session, now: datetime) -> Iterator[StuckWork]:
    """Destinations that do not take what waits for them: one finding each."""
    statement = (
        select(DeliveryRow.destination, func.count(), func.min(DeliveryRow.created_at), func.max(DeliveryRow.answer))
        .where(
            DeliveryRow.state == DeliveryState.WAITING,
            DeliveryRow.created_at < now - timedelta(seconds=UNDELIVERED_SECONDS),
        )
        .group_by(DeliveryRow.destination)
        .limit(_MOST)
    )
    for destination, count, oldest, answer in session.execute(statement):
        code, told = ("undelivered-answer", {"answer": str(answer)}) if answer else ("undelivered", {})
        yield _stuck(Kind.DELIVERY, destination, oldest, code, count=count, destination=destination, **told)
