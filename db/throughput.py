"""How much was done in the last hours, and how long the stages of the work took."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import quantiles
from typing import Any

from sqlalchemy import ColumnElement, Integer, case, cast, extract, func, select
from sqlalchemy.orm import Session

from db.models import AssociationRow, AssociationStudy, DeliveryRow, JobRow
from db.session import Record
from dicom_core.job import DeliveryState, JobState

MOST_JOBS_TIMED = 1000
"""Newest first; more would change no median."""
_DONE = frozenset({JobState.DONE, JobState.PURGED, JobState.NO_VESSEL_FOUND})
_FAILED = frozenset({JobState.FAILED, JobState.SEND_FAILED})


@dataclass(frozen=True, slots=True)
class Span:
    """What happened from ``begin`` on, for the length of the span.

    Attributes:
        instances: Stored, by the associations that ended.
        size_bytes: Of these.
        done: Jobs that ended well, with or without a vessel found.
        failed: Jobs that failed, or whose result was refused.
        left_out: Jobs that were skipped, superseded or cancelled.
        sent: Objects that a destination took, of jobs that are over.
    """

    begin: datetime
    instances: int = 0
    size_bytes: int = 0
    done: int = 0
    failed: int = 0
    left_out: int = 0
    sent: int = 0


@dataclass(frozen=True, slots=True)
class StageTime:
    """How long one stage took in the jobs that were looked at.

    Attributes:
        jobs: How many.
        median_seconds: Half of them were faster.
        slow_seconds: One in ten was slower.
    """

    stage: str
    jobs: int
    median_seconds: float
    slow_seconds: float


def throughput(record: Record, *, hours: int = 24, span_seconds: int = 3600) -> list[Span]:
    """What was done in the last hours, in spans that begin at whole multiples of their length; the last is under way.

    Args:
        record: The record.
        hours: How far back.
        span_seconds: Length of one span.
    """
    last = int(record.now().timestamp()) // span_seconds
    first = last - hours * 3600 // span_seconds + 1
    since = datetime.fromtimestamp(first * span_seconds, UTC)
    sums: defaultdict[int, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    with record.reading() as session:
        for source in (_received, _ended, _sent):
            for number, name, amount in source(session, since, span_seconds):
                sums[min(number, last)][name] += amount
    return [
        Span(datetime.fromtimestamp(number * span_seconds, UTC), **sums[number]) for number in range(first, last + 1)
    ]


def _number(column: Any, span_seconds: int) -> ColumnElement[int]:
    """Of the span in which a time lies."""
    return cast(extract("epoch", column), Integer) // span_seconds


_Amounts = list[tuple[int, str, int]]


def _received(session: Session, since: datetime, span_seconds: int) -> _Amounts:
    number = _number(AssociationRow.closed_at, span_seconds).label("number")
    rows = session.execute(
        select(
            number,
            func.coalesce(func.sum(AssociationStudy.stored), 0),
            func.coalesce(func.sum(AssociationStudy.size_bytes), 0),
        )
        # outer, so that SQLite begins with the few associations of these hours and not with all that ever was
        .outerjoin(AssociationStudy, AssociationStudy.association_id == AssociationRow.association_id)
        .where(AssociationRow.closed_at >= since)
        .group_by(number)
    )
    return [
        amount
        for at, stored, size in rows
        for amount in ((at, "instances", int(stored)), (at, "size_bytes", int(size)))
    ]


def _ended(session: Session, since: datetime, span_seconds: int) -> _Amounts:
    number = _number(JobRow.finished_at, span_seconds).label("number")
    rows = session.execute(
        select(number, JobRow.state, func.count()).where(JobRow.finished_at >= since).group_by(number, JobRow.state)
    )
    return [
        (at, "done" if state in _DONE else "failed" if state in _FAILED else "left_out", count)
        for at, state, count in rows
    ]


def _sent(session: Session, since: datetime, span_seconds: int) -> _Amounts:
    number = _number(DeliveryRow.finished_at, span_seconds).label("number")
    taken = case((DeliveryRow.state.in_([DeliveryState.SENT, DeliveryState.COMMITTED]), 1), else_=0)
    rows = session.execute(
        # by way of the jobs, whose end has an index; asked for in the condition, the state would win with its own
        select(number, func.sum(taken))
        .join(JobRow, JobRow.job_id == DeliveryRow.job_id)
        .where(JobRow.finished_at >= since, DeliveryRow.finished_at >= since)
        .group_by(number)
    )
    return [(at, "sent", int(count)) for at, count in rows]


def stage_times(record: Record, *, hours: int = 24) -> list[StageTime]:
    """Seconds by stage of the newest jobs that ended within the last hours, in the order of the work."""
    since = record.now() - timedelta(hours=hours)
    with record.reading() as session:
        results = session.scalars(
            select(JobRow.result)
            .where(JobRow.finished_at >= since)
            .order_by(JobRow.finished_at.desc())
            .limit(MOST_JOBS_TIMED)
        ).all()
    seconds: dict[str, list[float]] = {}
    for result in results:
        for stage, spent in stage_seconds(result).items():
            seconds.setdefault(stage, []).append(spent)
    return [_stage_time(stage, sorted(values)) for stage, values in seconds.items()]


def _stage_time(stage: str, values: list[float]) -> StageTime:
    slow = quantiles(values, n=10, method="inclusive")[8] if len(values) > 1 else values[0]
    return StageTime(stage, len(values), values[len(values) // 2], slow)


def stage_seconds(result: Mapping[str, Any]) -> dict[str, float]:
    """Seconds by stage out of what a worker reported, nothing of what is no time."""
    told = result.get("timings") or result.get("seconds")
    if not isinstance(told, Mapping):
        return {}
    return {
        str(stage): float(spent)
        for stage, spent in told.items()
        if isinstance(spent, int | float) and not isinstance(spent, bool) and spent >= 0
    }
