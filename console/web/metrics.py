"""``/metrics`` for Prometheus: asked of the record, so that every process of the site is in it.

Labels are states, kinds, priorities, names of the settings and short ids of processes: never a UID, an AE title or the
name of a person.
"""

from collections.abc import Iterator
from datetime import datetime

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from console.output import software_version
from console.site_state import spool_state
from console.web.access import MetricsReader
from console.web.metrics_since_start import MetricsSinceStart
from db import jobs, metric_counts, processes, queue_reports, stuck_work
from db.audit_checkpoints import CheckpointFile
from db.queue_reports import ProcessState
from db.session import Record
from dicom_core.errors import AuditError
from dicom_core.job import DeliveryState, JobState
from dicom_core.settings import Settings

_MEMORY = (
    ("device", "used", "device_memory_used_bytes"),
    ("device", "total", "device_memory_total_bytes"),
    ("child", "used", "child_resident_bytes"),
    ("worker", "used", "resident_bytes"),
)
"""Where, what, and the name in ``processes.resources``."""


class SiteMetrics(Collector):
    """What the record says now."""

    def __init__(self, settings: Settings, record: Record) -> None:
        self._settings = settings
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
        yield InfoMetricFamily("vesselq_build", "The release.", value={"version": software_version()})
        yield from self._jobs(now)
        yield from self._deliveries(now)
        yield from _processes(queue_reports.processes(self._record), now)
        yield self._stuck()
        yield from self._spool()
        yield from self._audit(now)

    def _jobs(self, now: datetime) -> Iterator[Metric]:
        counts = jobs.counts_by_state(self._record)
        by_state = GaugeMetricFamily("vesselq_jobs", "Jobs by state.", labels=["state"])
        for state in JobState:
            by_state.add_metric([state.value], counts.get(state.value, 0))
        yield by_state
        number = GaugeMetricFamily("vesselq_jobs_waiting", "Waiting jobs by priority.", labels=["priority"])
        age = GaugeMetricFamily(
            "vesselq_waiting_job_age_seconds", "How long the oldest waiting job has waited, by priority.",
            labels=["priority"],
        )  # fmt: skip
        waiting = queue_reports.waiting(self._record)
        for one in waiting:
            number.add_metric([str(one.priority)], one.jobs)
            age.add_metric([str(one.priority)], _age(now, one.oldest_since))
        yield number
        yield age
        yield GaugeMetricFamily(
            "vesselq_oldest_waiting_job_age_seconds",
            "How long the longest waiting job has been queued, 0 when none waits.",
            value=max((_age(now, one.oldest_since) for one in waiting), default=0.0),
        )
        running = queue_reports.running(self._record)
        yield GaugeMetricFamily(
            "vesselq_longest_running_job_seconds",
            "How long the longest running job has been running, 0 when none runs.",
            value=max((_age(now, one.started_at) for one in running), default=0.0),
        )
        yield GaugeMetricFamily(
            "vesselq_studies_receiving",
            "Studies that are being received.",
            value=queue_reports.studies_receiving(self._record),
        )

    def _deliveries(self, now: datetime) -> Iterator[Metric]:
        counts = queue_reports.delivery_counts(self._record)
        by_state = GaugeMetricFamily("vesselq_deliveries", "Objects on their way, by state.", labels=["state"])
        for state in DeliveryState:
            by_state.add_metric([state.value], counts.get(state.value, 0))
        yield by_state
        lanes = queue_reports.lanes(self._record)
        unfinished = GaugeMetricFamily(
            "vesselq_deliveries_unfinished", "Objects that a destination has not taken: waiting, sending or failed.",
            labels=["destination", "state"],
        )  # fmt: skip
        age = GaugeMetricFamily(
            "vesselq_waiting_delivery_age_seconds", "How long the oldest object has waited for a destination.",
            labels=["destination"],
        )  # fmt: skip
        for name in sorted({lane.destination for lane in lanes}):
            own = [lane for lane in lanes if lane.destination == name]
            for word in ("waiting", "sending", "failed"):
                unfinished.add_metric([name, word], sum(getattr(lane, word) for lane in own))
            age.add_metric([name], max(_age(now, lane.oldest_since) for lane in own))
        yield unfinished
        yield age

    def _stuck(self) -> Metric:
        found = stuck_work.find(self._record)
        stuck = GaugeMetricFamily("vesselq_stuck_work", "What does not go on by itself, by kind.", labels=["kind"])
        for kind in stuck_work.Kind:
            stuck.add_metric([kind.value], sum(one.kind is kind for one in found))
        return stuck

    def _spool(self) -> Iterator[Metric]:
        spool = spool_state(self._settings)
        free = GaugeMetricFamily("vesselq_spool_free_bytes", "Free space where received objects are stored.")
        if spool.free_bytes is not None:
            free.add_metric([], spool.free_bytes)
        yield free
        yield GaugeMetricFamily(
            "vesselq_spool_low_water_bytes", "Less free space than this: new associations are refused.",
            value=spool.low_water_bytes,
        )  # fmt: skip
        yield GaugeMetricFamily(
            "vesselq_spool_critical_water_bytes", "Less free space than this: objects are refused.",
            value=spool.critical_water_bytes,
        )  # fmt: skip

    def _audit(self, now: datetime) -> Iterator[Metric]:
        head = metric_counts.head(self._record)
        yield GaugeMetricFamily("vesselq_audit_rows", "Number of the last row of the audit log.", value=head)
        age = GaugeMetricFamily("vesselq_audit_checkpoint_age_seconds", "Since the last signed checkpoint.")
        behind = GaugeMetricFamily("vesselq_audit_rows_after_checkpoint", "Rows that no checkpoint covers.")
        try:
            last = CheckpointFile.of(self._settings).last()
        except AuditError:
            last = None  # seen by its absence: an alert asks for it
        else:
            behind.add_metric([], head - last.sequence if last else head)
        if last is not None:
            age.add_metric([], _age(now, datetime.fromisoformat(last.at)))
        yield age
        yield behind
        waiting = GaugeMetricFamily(
            "vesselq_audit_forwarding_waiting_rows", "Audit events that a repository was not sent.",
            labels=["repository"],
        )  # fmt: skip
        tries = GaugeMetricFamily(
            "vesselq_audit_forwarding_failed_tries", "Tries to reach a repository since the last that did.",
            labels=["repository"],
        )  # fmt: skip
        for one in metric_counts.forwarding(self._record):
            waiting.add_metric([one.repository], one.waiting)
            tries.add_metric([one.repository], one.attempts)
        yield waiting
        yield tries


def _age(now: datetime, since: datetime | None) -> float:
    return max(0.0, (now - since).total_seconds()) if since else 0.0


def _processes(states: list[ProcessState], now: datetime) -> Iterator[Metric]:
    running = [one for one in states if one.stopped_at is None]
    alive = GaugeMetricFamily("vesselq_processes_alive", "Processes that beat lately.", labels=["kind"])
    silence = GaugeMetricFamily(
        "vesselq_process_silence_seconds", "Since the last beat of the kind's latest process.", labels=["kind"]
    )
    for kind in sorted({one.kind for one in running}):
        ages = [_age(now, one.last_seen_at) for one in running if one.kind == kind]
        alive.add_metric([kind], sum(age < processes.SILENT_AFTER_SECONDS for age in ages))
        silence.add_metric([kind], min(ages))
    yield alive
    yield silence
    memory = GaugeMetricFamily(
        "vesselq_worker_memory_bytes",
        "Memory of a worker: of its device (used and total), of the child that runs the model, of itself.",
        labels=["worker", "where", "what", "device"],
    )
    for one in running:
        for where, what, name in _MEMORY:
            value = one.resources.get(name)
            if one.alive and isinstance(value, int | float):
                memory.add_metric([one.process_id[:8], where, what, str(one.resources.get("device", ""))], value)
    yield memory


def router(settings: Settings, record: Record) -> APIRouter:
    """``GET /metrics``."""
    registry = CollectorRegistry()
    registry.register(SiteMetrics(settings, record))
    registry.register(MetricsSinceStart(record))
    routes = APIRouter()

    @routes.get("/metrics", tags=["health"], response_class=Response)
    def show_metrics(_: MetricsReader) -> Response:
        """Prometheus text format; no patient data."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return routes
