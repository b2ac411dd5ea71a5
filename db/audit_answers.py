"""Answers to what auditors and managers ask in words: who saw it, what happened to it, which studies are concerned."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, exists, func, select, tuple_
from sqlalchemy.orm import Session

from db import jobs, reports, study_lists
from db.audit import Event
from db.audit_queries import AuditQuery, AuditRow, audit_rows, readable
from db.models import AuditEvent, AuditForwarding, DeliveryRow, JobRow, ResultRow, Study
from db.reports import DeliverySummary
from db.session import Record
from dicom_core.chain import SIGN, names_in
from dicom_core.job import DeliveryState, Job

_MOST_ROWS = 100_000
_ARRIVED = (DeliveryState.SENT, DeliveryState.COMMITTED)
_OF_JOB = (
    JobRow.study_instance_uid, JobRow.series_instance_uid, JobRow.job_id, JobRow.generation, JobRow.state, JobRow.model,
    JobRow.model_version, JobRow.created_at, JobRow.finished_at,
)  # fmt: skip
"""The columns that :class:`Recalled` begins with."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One way in which somebody came to see a study or its results.

    Attributes:
        who: A person, a program with a token, or the destination that a result was sent to.
        address: Where from, "" where the log tells none.
        event: What was done (``db.audit.Event``).
        times: How often.
        first_at: In the form of the log, UTC.
        last_at: The same.
    """

    who: str
    address: str
    event: str
    times: int
    first_at: str
    last_at: str


@dataclass(frozen=True, slots=True)
class JobStory:
    """What happened to one job.

    Attributes:
        events: All its rows of the audit log, in order.
    """

    job: Job
    deliveries: list[DeliverySummary]
    events: list[AuditRow]


@dataclass(frozen=True, slots=True)
class Recalled:
    """One job that a model answered, with or without a result.

    Attributes:
        sop_instance_uids: Of the objects that were made.
        destinations: That have at least one of them.
    """

    study_instance_uid: str
    series_instance_uid: str
    job_id: str
    generation: int
    state: str
    model: str
    model_version: str
    created_at: datetime
    finished_at: datetime | None
    sop_instance_uids: tuple[str, ...]
    destinations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recall:
    """What a version of a model touched.

    Attributes:
        jobs: How many there are in all.
        rows: Some of them, the latest first.
        before: Job id with which the next page is asked for, "" when there is none.
    """

    jobs: int
    rows: list[Recalled]
    before: str


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A study without a result object.

    Attributes:
        reasons: Why, in words: one for each of its current jobs.
    """

    study_instance_uid: str
    state: str
    first_received_at: datetime
    completed_at: datetime | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PatientStudy:
    """A study of one patient."""

    study_instance_uid: str
    state: str
    first_received_at: datetime
    last_received_at: datetime


@dataclass(frozen=True, slots=True)
class RepositoryState:
    """How far an audit repository has been told.

    Attributes:
        sent: Sequence number of the last row that it has.
        waiting: How many rows it does not have yet.
    """

    name: str
    sent: int
    waiting: int
    last_sent_at: datetime | None
    next_try_at: datetime | None
    last_error: str


@dataclass(frozen=True, slots=True)
class LogState:
    """How long the log is.

    Attributes:
        first_sequence: Of the oldest row in the database, larger than 1 when older ones are in archives; 0 for none.
        head_sequence: Of the newest row, 0 for none.
        head_at: Its time.
        head_hash: Its hash.
    """

    first_sequence: int
    head_sequence: int
    head_at: str
    head_hash: str
    repositories: list[RepositoryState]


def who_saw(record: Record, study_instance_uid: str) -> list[Sighting]:
    """Everybody who opened a study or did something to it, and where its results were sent."""
    found: dict[tuple[str, str, str], Sighting] = {}
    query = AuditQuery(study_instance_uid=study_instance_uid, limit=_MOST_ROWS)
    for row in audit_rows(record, query):
        sent_to = row.detail.get("destination") if row.event == Event.INSTANCES_SENT.word else None
        who = str(sent_to) if sent_to else row.user
        if who:
            key = (who, row.address, row.event)
            before = found.get(key) or Sighting(*key, 0, row.at, row.at)
            found[key] = replace(before, times=before.times + 1, last_at=row.at)
    return list(found.values())


def job_story(record: Record, job_id: str) -> JobStory:
    """What happened to a job.

    Args:
        record: The record.
        job_id: Its id, or enough of its first digits.

    Raises:
        NotFoundError: No such job, or several.
    """
    with record.reading() as session:
        job_id = jobs.job_named(session, job_id).job_id
    job = jobs.get(record, job_id)
    return JobStory(
        job,
        [one for one in reports.deliveries(record, job.study_instance_uid) if one.job_id == job_id],
        audit_rows(record, AuditQuery(job_id=job_id, limit=_MOST_ROWS)),
    )


def models_used(record: Record) -> list[tuple[str, str]]:
    """Every model with every version that ever answered, chains among them."""
    with record.reading() as session:
        return _models_used(session)


def _models_used(session: Session) -> list[tuple[str, str]]:
    """From one entry of the index to the next greater one: there are few models and many jobs."""
    names = select(func.min(JobRow.model).label("model")).where(JobRow.model > "").cte("names", recursive=True)
    next_name = select(func.min(JobRow.model)).where(JobRow.model > names.c.model).scalar_subquery()
    names = names.union_all(select(next_name).where(names.c.model.is_not(None)))
    first = select(func.min(JobRow.model_version)).where(JobRow.model == names.c.model).scalar_subquery()
    pairs = select(names.c.model, first.label("version")).where(names.c.model.is_not(None)).cte("pairs", recursive=True)
    greater = (JobRow.model == pairs.c.model, JobRow.model_version > pairs.c.version)
    next_version = select(func.min(JobRow.model_version)).where(*greater).scalar_subquery()
    pairs = pairs.union_all(select(pairs.c.model, next_version).where(pairs.c.version.is_not(None)))
    found = select(pairs.c.model, pairs.c.version).where(pairs.c.version.is_not(None)).order_by(*pairs.c)
    return [(row.model, row.version) for row in session.execute(found)]


def recall(record: Record, model: str, model_version: str = "", *, before: str = "", limit: int = 1000) -> Recall:
    """Every study that a model touched, alone or as one of a chain, the latest first.

    Args:
        record: The record.
        model: Name of the model.
        model_version: Its version, "" for every one.
        before: ``Recall.before`` of the page before.
        limit: At most so many jobs.
    """
    with record.reading() as session:
        pairs = [pair for pair in _models_used(session) if _holds(*pair, model, model_version)]
        total = sum(session.scalars(select(func.count()).where(*_made_by(pair))).one() for pair in pairs)
        pages = [_jobs_of(session, pair, before, limit + 1) for pair in pairs]
        found = list(heapq.merge(*pages, key=lambda row: (row.created_at, row.job_id), reverse=True))
        rows = _recalled(session, found[:limit])
    return Recall(total, rows, rows[-1].job_id if len(found) > limit else "")


def _holds(models: str, versions: str, model: str, model_version: str) -> bool:
    """Whether this model answered, alone or as one of a chain: rather one too many than one too few."""
    names = names_in(models)
    if len(names) == 1 or models == model:
        return models == model and model_version in ("", versions)
    return model in names and (not model_version or f"{SIGN}{model_version}{SIGN}" in f"{SIGN}{versions}{SIGN}")


def _made_by(pair: tuple[str, str]) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return JobRow.model == pair[0], JobRow.model_version == pair[1]


def _jobs_of(session: Session, pair: tuple[str, str], before: str, limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
    model, version = pair
    in_order = (JobRow.model_version, JobRow.created_at, JobRow.job_id)
    # not "= version": PostgreSQL would leave it out of the order and walk along the jobs of all models by their time
    statement = select(*_OF_JOB).where(
        JobRow.model == model, JobRow.model_version >= version, JobRow.model_version <= version
    )
    if before:
        created_at = jobs.job_named(session, before).created_at
        statement = statement.where(tuple_(*in_order) < (version, created_at, before))
    return session.execute(statement.order_by(*(column.desc() for column in in_order)).limit(limit)).all()


def _recalled(session: Session, rows: Sequence[Row[*tuple[Any, ...]]]) -> list[Recalled]:
    ids = [row.job_id for row in rows]
    objects: dict[str, list[str]] = {}
    for job_id, uid in session.execute(
        select(ResultRow.job_id, ResultRow.sop_instance_uid).where(ResultRow.job_id.in_(ids)).order_by(ResultRow.place)
    ):
        objects.setdefault(job_id, []).append(uid)
    have: dict[str, set[str]] = {}
    # the state is looked at here: SQLite would rather walk along all deliveries that arrived
    columns = (DeliveryRow.job_id, DeliveryRow.destination, DeliveryRow.state)
    for job_id, destination, state in session.execute(select(*columns).where(DeliveryRow.job_id.in_(ids))):
        if state in _ARRIVED:
            have.setdefault(job_id, set()).add(destination)
    return [
        Recalled(
            **row._asdict(),
            sop_instance_uids=tuple(objects.get(row.job_id, ())),
            destinations=tuple(sorted(have.get(row.job_id, ()))),
        )
        for row in rows
    ]


def without_result(
    record: Record, *, since: datetime | None = None, until: datetime | None = None, limit: int = 1000
) -> list[Unanswered]:
    """Studies that no result object was made for, the latest first, with the reasons.

    Args:
        record: The record.
        since: First received from this time on.
        until: First received before this time.
        limit: At most so many.
    """
    made = exists().where(
        JobRow.study_instance_uid == Study.study_instance_uid, ResultRow.job_id == JobRow.job_id
    )  # fmt: skip
    statement = select(Study).where(~made).order_by(Study.first_received_at.desc()).limit(limit)
    if since:
        statement = statement.where(Study.first_received_at >= since)
    if until:
        statement = statement.where(Study.first_received_at < until)
    with record.reading() as session:
        rows = session.scalars(statement).all()
        reasons = _reasons(session, [row.study_instance_uid for row in rows])
    return [
        Unanswered(
            row.study_instance_uid, row.state, row.first_received_at, row.completed_at,
            tuple(reasons.get(row.study_instance_uid, ())),
        )
        for row in rows
    ]  # fmt: skip


def _reasons(session: Session, uids: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    rows = session.scalars(select(JobRow).where(JobRow.study_instance_uid.in_(uids))).all()
    for row in study_lists.newest_jobs(rows):
        found.setdefault(row.study_instance_uid, []).append(f"{row.state}: {row.reason}" if row.reason else row.state)
    return found


def studies_of_patient(record: Record, patient_hash: str) -> list[PatientStudy]:
    """The studies of the patient with this pseudonym (``dicom_core.pseudonym``), the latest first."""
    if not patient_hash:  # that of every study whose header names no patient
        return []
    statement = select(Study).where(Study.patient_hash == patient_hash).order_by(Study.last_received_at.desc())
    with record.reading() as session:
        return [
            PatientStudy(row.study_instance_uid, row.state, row.first_received_at, row.last_received_at)
            for row in session.scalars(statement)
        ]


def log_state(record: Record) -> LogState:
    """How long the log is, and how far each repository that was ever sent to has been told."""
    first = select(AuditEvent.sequence).order_by(AuditEvent.sequence).limit(1)
    last = select(AuditEvent.sequence, AuditEvent.at, AuditEvent.row_hash).order_by(AuditEvent.sequence.desc()).limit(1)
    with record.reading() as session:
        begin = session.execute(first).scalar_one_or_none() or 0
        end = session.execute(last).one_or_none()
        told = session.scalars(select(AuditForwarding).order_by(AuditForwarding.repository)).all()
    head, at, row_hash = (end[0], readable(end[1]), readable(end[2])) if end else (0, "", "")
    repositories = [
        RepositoryState(
            row.repository, row.next_sequence - 1, max(0, head + 1 - row.next_sequence), row.last_sent_at,
            row.next_try_at, row.last_error,
        )
        for row in told
    ]  # fmt: skip
    return LogState(begin, head, at, row_hash, repositories)
