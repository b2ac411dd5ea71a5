"""``/metrics`` for Prometheus: counted in the record when asked, so that every process of the site is in it."""

from collections.abc import Iterator

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from console.web.access import MetricsReader
from db import jobs, processes, reports
from db.session import Record
from dicom_core.job import JobState
from dicom_core.study import StudyState

_MOST_STUDIES = 1000


class SiteMetrics(Collector):
    """What the record says now. Labels are states and kinds of process: never a UID, an AE title or a name."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def describe(self) -> Iterator[Metric]:
        """Nothing in advance: registering must not touch the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """All metrics.

        Raises:
            UnavailableError: The database does not answer.
        """
        now = self._record.now()
        counts = jobs.counts_by_state(self._record)
        by_state = GaugeMetricFamily("vesselq_jobs", "Jobs by state.", labels=["state"])
        for state in JobState:
            by_state.add_metric([state.value], counts.get(state.value, 0))
        yield by_state
        oldest = jobs.oldest_waiting(self._record)
        yield GaugeMetricFamily(
            "vesselq_oldest_waiting_job_age_seconds",
            "How long the longest waiting job has been queued, 0 when none waits.",
            value=max(0.0, (now - oldest).total_seconds()) if oldest else 0.0,
        )
        yield GaugeMetricFamily(
            "vesselq_studies_receiving",
            f"Studies that are being received, up to {_MOST_STUDIES}.",
            value=len(reports.studies(self._record, state=StudyState.RECEIVING.value, limit=_MOST_STUDIES)),
        )
        running = [one for one in reports.processes(self._record) if one.stopped_at is None]
        alive = GaugeMetricFamily("vesselq_processes_alive", "Processes that beat lately.", labels=["kind"])
        silence = GaugeMetricFamily(
            "vesselq_process_silence_seconds", "Since the last beat of the kind's latest process.", labels=["kind"]
        )
        for kind in sorted({one.kind for one in running}):
            ages = [(now - one.last_seen_at).total_seconds() for one in running if one.kind == kind]
            alive.add_metric([kind], sum(age < processes.SILENT_AFTER_SECONDS for age in ages))
            silence.add_metric([kind], max(0.0, min(ages)))
        yield alive
        yield silence


def router(record: Record) -> APIRouter:
    """``GET /metrics``."""
    registry = CollectorRegistry()
    registry.register(SiteMetrics(record))
    routes = APIRouter()

    @routes.get("/metrics", tags=["health"], response_class=Response)
    def show_metrics(_: MetricsReader) -> Response:
        """Prometheus text format; no patient data."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return routes
