"""Read-only answers about work under way: what waits, what runs where, where results wait, which processes live."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import case, func, select

from db.models import DeliveryRow, JobProgress, JobRow, Process, Study
from db.processes import SILENT_AFTER_SECONDS
from db.reports import ProcessSummary
from db.session import Record
from dicom_core.job import DeliveryState, JobState
from dicom_core.study import StudyState

_ENDED_SHOWN_SECONDS = 3600.0
"""A process that ended on purpose is listed for this long."""
_SILENT_SHOWN_SECONDS = 86400.0
"""And one that fell silent for this long."""


@dataclass(frozen=True, slots=True)
class WaitingJobs:
    """Jobs of one priority that wait.

    Attributes:
        oldest_since: When the one that waits for longest was made.
    """

    priority: int
    jobs: int
    oldest_since: datetime


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that a worker holds.

    Attributes:
        worker: Process id of the worker.
        stage: What it is doing, "" before the first report.
        share: Of the stage, 0 to 1.
        device: On which device, "" before the first report.
        told_at: When progress was reported last, None before the first report.
    """

    job_id: str
    study_instance_uid: str
    modality: str
    segmenter: str
    priority: int
    attempts: int
    worker: str
    started_at: datetime | None
    lease_expires_at: datetime | None
    stage: str = ""
    share: float = 0.0
    device: str = ""
    told_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Lane:
    """What waits for one place that results go to.

    Attributes:
        lane: The place: the name of a destination, or ``sender:AE@address``.
        destination: The name that rules use; ``sender`` stands for whoever sent the study.
        waiting: Objects that are still to be sent.
        sending: Objects on their way now.
        failed: Objects that it refused for good, or that were given up.
        oldest_since: Since when the first of the waiting ones is waiting.
        held_until: After a failure: when the next try is made at the earliest.
        next_try_at: When the first of the waiting ones is due.
        answer: One of the last answers to what waits or failed, in words.
    """

    lane: str
    destination: str
    waiting: int
    sending: int
    failed: int
    oldest_since: datetime | None
    held_until: datetime | None
    next_try_at: datetime | None
    answer: str


@dataclass(frozen=True, slots=True)
class ProcessState(ProcessSummary):
    """A process and whether it lives.

    Attributes:
        alive: It beat lately and did not end.
        resources: What a worker says of its memory and devices.
    """

    alive: bool
    resources: Mapping[str, Any]


def waiting(record: Record) -> list[WaitingJobs]:
    """Waiting jobs by priority, the most urgent first."""
    statement = (
        select(JobRow.priority, func.count(), func.min(JobRow.created_at))
        .where(JobRow.state == JobState.QUEUED)
        .group_by(JobRow.priority)
        .order_by(JobRow.priority.desc())
    )
    with record.reading() as session:
        return [WaitingJobs(priority, count, oldest) for priority, count, oldest in session.execute(statement)]


def running(record: Record) -> list[RunningJob]:
    """Jobs that workers hold, the longest running first, with their progress where it was reported."""
    statement = (
        select(JobRow, JobProgress)
        # progress of an earlier try tells nothing of this one
        .outerjoin(JobProgress, (JobProgress.job_id == JobRow.job_id) & (JobProgress.fence == JobRow.fence))
        .where(JobRow.state == JobState.RUNNING)
        .order_by(JobRow.started_at, JobRow.job_id)
    )
    with record.reading() as session:
        return [_running(job, progress) for job, progress in session.execute(statement)]


def _running(job: JobRow, progress: JobProgress | None) -> RunningJob:
    return RunningJob(
        job_id=job.job_id,
        study_instance_uid=job.study_instance_uid,
        modality=job.modality,
        segmenter=job.segmenter,
        priority=job.priority,
        attempts=job.attempts,
        worker=job.lease_owner,
        started_at=job.started_at,
        lease_expires_at=job.lease_expires_at,
        stage=progress.stage if progress else "",
        share=min(1.0, max(0.0, progress.share)) if progress else 0.0,
        device=progress.device if progress else "",
        told_at=progress.updated_at if progress else None,
    )


def lanes(record: Record) -> list[Lane]:
    """Places with something waiting, on its way or refused, by name."""
    unfinished = (DeliveryState.WAITING, DeliveryState.SENDING, DeliveryState.FAILED)
    waits = DeliveryRow.state == DeliveryState.WAITING
    grouped = (
        select(
            DeliveryRow.lane,
            DeliveryRow.state,
            func.max(DeliveryRow.destination),
            func.count(),
            func.min(DeliveryRow.created_at),
            func.max(DeliveryRow.lane_held_until),
            func.min(case((waits, DeliveryRow.next_try_at))),
            func.max(DeliveryRow.answer),
        )
        .where(DeliveryRow.state.in_(unfinished))
        .group_by(DeliveryRow.lane, DeliveryRow.state)
    )
    found: dict[str, dict[str, _Part]] = {}
    with record.reading() as session:
        for lane, state, *facts in session.execute(grouped):
            found.setdefault(lane, {})[state] = _Part(*facts)
    return [_lane(lane, found[lane]) for lane in sorted(found)]


class _Part(NamedTuple):
    """The deliveries of one lane in one state."""

    destination: str = ""
    number: int = 0
    oldest: datetime | None = None
    held_until: datetime | None = None
    next_try_at: datetime | None = None
    answer: str = ""


def _lane(lane: str, states: Mapping[str, _Part]) -> Lane:
    waits, sends, failed = (
        states.get(state, _Part()) for state in (DeliveryState.WAITING, DeliveryState.SENDING, DeliveryState.FAILED)
    )
    return Lane(
        lane=lane,
        destination=waits.destination or sends.destination or failed.destination,
        waiting=waits.number,
        sending=sends.number,
        failed=failed.number,
        oldest_since=waits.oldest,
        held_until=waits.held_until,
        next_try_at=waits.next_try_at,
        answer=waits.answer or failed.answer,
    )


def delivery_counts(record: Record) -> dict[str, int]:
    """How many deliveries are in each state."""
    with record.reading() as session:
        rows = session.execute(select(DeliveryRow.state, func.count()).group_by(DeliveryRow.state))
        return dict(rows.all())


def studies_receiving(record: Record) -> int:
    """How many studies are being received."""
    with record.reading() as session:
        return session.scalar(select(func.count()).where(Study.state == StudyState.RECEIVING)) or 0


def processes(record: Record, *, limit: int = 100) -> list[ProcessState]:
    """Living processes, those that fell silent within a day and those that ended within an hour; by kind and start."""
    now = record.now()
    silent, ended = (now - timedelta(seconds=span) for span in (_SILENT_SHOWN_SECONDS, _ENDED_SHOWN_SECONDS))
    statement = (
        select(Process)
        .where(Process.last_seen_at > silent, Process.stopped_at.is_(None) | (Process.stopped_at > ended))
        .order_by(Process.last_seen_at.desc())
        .limit(limit)
    )
    with record.reading() as session:
        found = [_process(row, now) for row in session.scalars(statement)]
    return sorted(found, key=lambda one: (not one.alive, one.kind, one.started_at))


def _process(row: Process, now: datetime) -> ProcessState:
    return ProcessState(
        process_id=row.process_id,
        kind=row.kind,
        host=row.host,
        pid=row.pid,
        version=row.version,
        started_at=row.started_at,
        last_seen_at=row.last_seen_at,
        stopped_at=row.stopped_at,
        alive=row.stopped_at is None and (now - row.last_seen_at).total_seconds() < SILENT_AFTER_SECONDS,
        doing=row.doing,
        resources=dict(row.resources or {}),
    )


def alive_by_kind(states: list[ProcessState]) -> Counter[str]:
    """How many processes of each kind live."""
    return Counter(one.kind for one in states if one.alive)
