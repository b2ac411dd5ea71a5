"""When waiting and running jobs will probably have their result: from how long the last ones took."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from sqlalchemy import Select, select

from db.models import JobRow
from db.queue_reports import processes
from db.session import Record
from db.throughput import stage_seconds
from dicom_core.job import JobState

MOST_JOBS = 1000
"""Of the queue; what comes after them has no estimate."""
_LAST_JOBS = 200
_ENDED_JOBS = 2000
"""Among the latest that ended, however they did, those that made something are looked for."""
_MADE = (JobState.DONE, JobState.NO_VESSEL_FOUND, JobState.SENT, JobState.COMMITTED, JobState.PURGED)


@dataclass(frozen=True, slots=True)
class _Waiting:
    job_id: str
    seconds: float
    """From now on for a job that runs."""


def seconds_to_result(record: Record) -> dict[str, float]:
    """Seconds until each queued or running job probably has its result, by job id.

    Jobs are spread over the living workers in the order of the queue. A job takes as long as the median of the last
    ones of its segmenter, or of all where there were none. Empty while nothing was ever finished or no worker lives.
    """
    workers = sum(one.alive for one in processes(record) if one.kind == "worker")
    now = record.now()
    with record.reading() as session:
        open_jobs = session.execute(
            select(JobRow.job_id, JobRow.segmenter, JobRow.state, JobRow.started_at)
            .where(JobRow.state.in_((JobState.RUNNING, JobState.QUEUED)))
            .order_by(JobRow.state.desc(), JobRow.queue_key)
            .limit(MOST_JOBS)
        ).all()
        if not workers or not open_jobs:
            return {}
        done = session.execute(_last_made()).all()
    usual = _usual_seconds([(segmenter, sum(stage_seconds(result or {}).values())) for segmenter, result in done])
    if not usual:
        return {}
    waiting = [
        _Waiting(job_id, _left(usual.get(segmenter, usual[""]), started_at if state == JobState.RUNNING else None, now))
        for job_id, segmenter, state, started_at in open_jobs
    ]
    return _spread(waiting, workers)


def _last_made() -> Select[tuple[str, dict[str, Any]]]:
    """Segmenter and result of the last jobs that made something.

    In two steps: asked at once, SQLite takes the index of the states and sorts all jobs that ever ended.
    """
    ended = (
        select(JobRow.job_id, JobRow.state)
        .where(JobRow.finished_at.is_not(None))
        .order_by(JobRow.finished_at.desc())
        .limit(_ENDED_JOBS)
        .subquery()
    )
    return (
        select(JobRow.segmenter, JobRow.result)
        .join(ended, ended.c.job_id == JobRow.job_id)
        .where(ended.c.state.in_(_MADE))
        .order_by(JobRow.finished_at.desc())
        .limit(_LAST_JOBS)
    )


def _usual_seconds(times: list[tuple[str, float]]) -> dict[str, float]:
    """The median of each segmenter, and under "" of all together."""
    by_segmenter: defaultdict[str, list[float]] = defaultdict(list)
    for segmenter, seconds in times:
        if seconds > 0:
            by_segmenter[segmenter].append(seconds)
            by_segmenter[""].append(seconds)
    return {segmenter: median(found) for segmenter, found in by_segmenter.items()}


def _left(usual: float, started_at: datetime | None, now: datetime) -> float:
    return usual if started_at is None else max(0.0, usual - (now - started_at).total_seconds())


def _spread(waiting: list[_Waiting], workers: int) -> dict[str, float]:
    """Each job goes to the worker that is free first."""
    free_in = [0.0] * workers
    ends = {}
    for job in waiting:
        first = free_in.index(min(free_in))
        free_in[first] += job.seconds
        ends[job.job_id] = free_in[first]
    return ends
