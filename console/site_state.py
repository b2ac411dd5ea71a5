"""Everything about the work under way in one look: what ``vesselq top``, the queue page and the JSON API show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from db import jobs, queue_reports, stuck_work, throughput
from db.queue_reports import Lane, ProcessState, RunningJob, WaitingJobs
from db.session import Record
from db.stuck_work import StuckWork
from db.throughput import Span, StageTime
from dicom_core.settings import Settings
from dicom_core.spool import Spool

HOURS = 24


@dataclass(frozen=True, slots=True)
class SpoolState:
    """The disk that takes what is received.

    Attributes:
        free_bytes: None when the folder is not on this machine, or cannot be asked.
        low_water_bytes: Below it no association is accepted.
        critical_water_bytes: Below it no object is.
    """

    free_bytes: int | None
    low_water_bytes: int
    critical_water_bytes: int


@dataclass(frozen=True, slots=True)
class SiteState:
    """The work under way.

    Attributes:
        at: The database's clock.
        jobs: How many are in each state.
        deliveries: How many are in each state.
        studies_receiving: How many.
        spans: What was done in the last hours.
        stages: How long the stages of the work took.
    """

    at: datetime
    jobs: Mapping[str, int]
    deliveries: Mapping[str, int]
    studies_receiving: int
    waiting: Sequence[WaitingJobs]
    running: Sequence[RunningJob]
    lanes: Sequence[Lane]
    processes: Sequence[ProcessState]
    stuck: Sequence[StuckWork]
    spans: Sequence[Span]
    stages: Sequence[StageTime]
    spool: SpoolState


def site_state(settings: Settings, record: Record, *, hours: int = HOURS) -> SiteState:
    """Look once.

    Args:
        settings: For the spool.
        record: Read only.
        hours: How far back the work that was done is told.

    Raises:
        UnavailableError: The record does not answer.
    """
    return SiteState(
        at=record.now(),
        jobs=jobs.counts_by_state(record),
        deliveries=queue_reports.delivery_counts(record),
        studies_receiving=queue_reports.studies_receiving(record),
        waiting=queue_reports.waiting(record),
        running=queue_reports.running(record),
        lanes=queue_reports.lanes(record),
        processes=queue_reports.processes(record),
        stuck=stuck_work.find(record),
        spans=throughput.throughput(record, hours=hours),
        stages=throughput.stage_times(record, hours=hours),
        spool=spool_state(settings),
    )


def spool_state(settings: Settings) -> SpoolState:
    """The free space of the spool, as this process sees it."""
    try:
        free_bytes = Spool(settings.spool_folder).free_bytes()
    except OSError:
        free_bytes = None
    return SpoolState(free_bytes, settings.listener.low_water_bytes, settings.listener.critical_water_bytes)
