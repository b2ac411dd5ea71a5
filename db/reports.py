"""Read-only answers for operators and auditors: what happened to a study, which jobs exist, what the audit log says."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import selectinload

from db import study_lists
from db.jobs import as_job
from db.models import DeliveryRow, JobRow, Process, ResultRow, Study
from db.session import Record
from db.study_lists import StudyFacts, StudyLine
from dicom_core.errors import NotFoundError
from dicom_core.job import Job, JobState


@dataclass(frozen=True, slots=True)
class StudySummary(StudyFacts):
    """One study with as little as possible of its jobs.

    Attributes:
        job_states: States of the jobs of the current result set: the newest job of each series.
    """

    job_states: tuple[str, ...]

    @classmethod
    def of(cls, line: StudyLine) -> "StudySummary":
        """Of a line of the list."""
        known = {one.name: getattr(line, one.name) for one in fields(StudyFacts)}
        return cls(**known, job_states=tuple(job.state for job in line.jobs))


@dataclass(frozen=True, slots=True)
class DeliverySummary:
    """One object on its way to one destination.

    Attributes:
        kind: Of the object.
        sop_instance_uid: Of the object.
    """

    job_id: str
    kind: str
    sop_instance_uid: str
    destination: str
    state: str
    attempts: int
    answer: str
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class ProcessSummary:
    """One process that announced itself."""

    process_id: str
    kind: str
    host: str
    pid: int
    version: str
    started_at: datetime
    last_seen_at: datetime
    stopped_at: datetime | None
    doing: str


def studies(record: Record, *, study_instance_uid: str = "", state: str = "", limit: int = 100) -> list[StudySummary]:
    """Studies, the latest first.

    Args:
        record: The record.
        study_instance_uid: Only this one.
        state: Only studies in this state, or with a current job in this state.
        limit: At most so many.
    """
    statement = select(Study).order_by(Study.last_received_at.desc()).limit(limit)
    if study_instance_uid:
        statement = statement.where(Study.study_instance_uid == study_instance_uid)
    if state:
        statement = statement.where(study_lists.with_state(state))
    with record.reading() as session:
        return [StudySummary.of(line) for line in study_lists.lines(session, session.scalars(statement).all())]


def study(record: Record, study_instance_uid: str) -> StudySummary:
    """One study.

    Raises:
        NotFoundError: It was never received.
    """
    found = studies(record, study_instance_uid=study_instance_uid, limit=1)
    if not found:
        raise NotFoundError(f"no study {study_instance_uid} was received")
    return found[0]


def jobs(
    record: Record, *, study_instance_uid: str = "", states: Sequence[JobState] = (), limit: int = 100
) -> list[Job]:
    """Jobs, the latest first."""
    statement = select(JobRow).order_by(JobRow.created_at.desc(), JobRow.job_id).limit(limit)
    statement = statement.options(selectinload(JobRow.results))
    if study_instance_uid:
        statement = statement.where(JobRow.study_instance_uid == study_instance_uid)
    if states:
        statement = statement.where(JobRow.state.in_(states))
    with record.reading() as session:
        return [as_job(row) for row in session.scalars(statement)]


def current_jobs(record: Record, study_instance_uid: str) -> list[Job]:
    """The newest job of each series of a study: its current result set."""
    with record.reading() as session:
        rows = session.scalars(select(JobRow).where(JobRow.study_instance_uid == study_instance_uid)).all()
        return [as_job(row) for row in study_lists.newest_jobs(rows)]


def deliveries(record: Record, study_instance_uid: str) -> list[DeliverySummary]:
    """Where the results of a study went: a job's in the order in which its objects are sent."""
    with record.reading() as session:
        rows = session.execute(
            select(DeliveryRow, ResultRow)
            .join(ResultRow, ResultRow.result_id == DeliveryRow.result_id)
            .join(JobRow, JobRow.job_id == DeliveryRow.job_id)
            .where(JobRow.study_instance_uid == study_instance_uid)
            .order_by(JobRow.created_at, JobRow.job_id, DeliveryRow.place, DeliveryRow.destination)
        ).all()
    return [
        DeliverySummary(
            row.job_id, result.kind, result.sop_instance_uid, row.destination, row.state, row.attempts, row.answer,
            row.finished_at,
        )
        for row, result in rows
    ]  # fmt: skip


def processes(record: Record, *, limit: int = 50) -> list[ProcessSummary]:
    """Processes, the latest first."""
    with record.reading() as session:
        rows = session.scalars(select(Process).order_by(Process.last_seen_at.desc()).limit(limit)).all()
    return [
        ProcessSummary(
            row.process_id, row.kind, row.host, row.pid, row.version, row.started_at, row.last_seen_at, row.stopped_at,
            row.doing,
        )
        for row in rows
    ]  # fmt: skip
