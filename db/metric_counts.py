"""What was written into the audit log since a scrape: counters and times that only ever grow, without counting anew.

The audit log has one writer at a time and its numbers have no gaps, so that everything after a number is new and
nothing that comes later has a smaller one. A scrape costs what happened since the last one, however long the log is.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.audit import Event
from db.models import AuditEvent, AuditForwarding, JobRow
from db.session import Record
from db.throughput import stage_seconds
from dicom_core.job import JobState

MOST_AT_ONCE = 20_000
"""Rows of one look; the rest comes with the next."""
_AMOUNTS = ("stored", "duplicates", "conflicts", "size_bytes")
_MADE = (Event.SEG_CREATED.word, Event.JOB_NO_VESSEL_FOUND.word)
_RECEIVED, _JOB_STATE = Event.INSTANCES_RECEIVED.word, Event.JOB_STATE.word
_TOLD = (_RECEIVED, _JOB_STATE, *_MADE)


@dataclass(frozen=True, slots=True)
class JobTimes:
    """How long one job took.

    Attributes:
        waited_seconds: From its making until a worker began the last try, None when it is not known.
        stages: Seconds by stage.
        delivered_seconds: From its making until every destination had the result, None while one has not.
    """

    waited_seconds: float | None
    stages: Mapping[str, float]
    delivered_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class News:
    """What happened between two looks.

    Attributes:
        head: Number of the last row that was looked at.
        events: How often, by word and outcome.
        received: Stored, duplicate and conflicting instances and bytes, of the associations that ended.
        segmented: Jobs that were segmented.
        delivered: Jobs whose result is with all destinations.
    """

    head: int
    events: Counter[tuple[str, int]] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    segmented: tuple[JobTimes, ...] = ()
    delivered: tuple[JobTimes, ...] = ()


@dataclass(frozen=True, slots=True)
class Forwarding:
    """How far an audit repository is behind.

    Attributes:
        waiting: Rows that it was not sent.
        attempts: Tries since the last success.
    """

    repository: str
    waiting: int
    attempts: int
    last_sent_at: datetime | None
    last_error: str


def head(record: Record) -> int:
    """Number of the last row of the audit log, 0 when there is none."""
    with record.reading() as session:
        return _head(session)


def _head(session: Session) -> int:
    return session.scalar(select(func.max(AuditEvent.sequence))) or 0


def since(record: Record, sequence: int) -> News:
    """What happened after the row ``sequence``."""
    with record.reading() as session:
        last = min(_head(session), sequence + MOST_AT_ONCE)
        if last <= sequence:
            return News(sequence)
        new = (AuditEvent.sequence > sequence, AuditEvent.sequence <= last)
        counted = session.execute(
            select(AuditEvent.event, AuditEvent.outcome, func.count())
            .where(*new)
            .group_by(AuditEvent.event, AuditEvent.outcome)
        )
        events = Counter({(event, outcome): count for event, outcome, count in counted})
        told = session.execute(
            select(AuditEvent.event, AuditEvent.job_id, AuditEvent.detail).where(*new, AuditEvent.event.in_(_TOLD))
        ).all()
        made = [job_id for event, job_id, _ in told if event in _MADE]
        done = [job_id for event, job_id, detail in told if event == _JOB_STATE and detail.get("to") == JobState.DONE]
        return News(
            head=last,
            events=events,
            received=_received([detail for event, _, detail in told if event == _RECEIVED]),
            segmented=_times(session, made),
            delivered=_times(session, done),
        )


def _received(details: list[dict[str, Any]]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for detail in details:
        sums.update({name: int(detail.get(name, 0)) for name in _AMOUNTS})
    return sums


def _times(session: Session, job_ids: list[str]) -> tuple[JobTimes, ...]:
    found = []
    for begin in range(0, len(job_ids), 500):
        rows = session.execute(
            select(JobRow.created_at, JobRow.started_at, JobRow.finished_at, JobRow.result).where(
                JobRow.job_id.in_(job_ids[begin : begin + 500])
            )
        )
        found += [
            JobTimes(_seconds(created, started), stage_seconds(result), _seconds(created, finished))
            for created, started, finished, result in rows
        ]
    return tuple(found)


def _seconds(begin: datetime, end: datetime | None) -> float | None:
    return max(0.0, (end - begin).total_seconds()) if end else None


def forwarding(record: Record) -> list[Forwarding]:
    """How far each audit repository is behind; nothing for one that was never tried."""
    with record.reading() as session:
        last = _head(session)
        rows = session.scalars(select(AuditForwarding).order_by(AuditForwarding.repository)).all()
    return [
        Forwarding(row.repository, max(0, last + 1 - row.next_sequence), row.attempts, row.last_sent_at, row.last_error)
        for row in rows
    ]
