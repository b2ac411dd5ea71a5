"""Counters and histograms of what happened since this process was first asked, read from the audit log.

Every process of the site writes there, so that nothing has to be counted in each of them; Prometheus knows that
counters begin again when a process does.
"""

import threading
from collections.abc import Iterable, Iterator

from prometheus_client import Counter, Histogram, disable_created_metrics
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from db import metric_counts
from db.audit import Event, Outcome
from db.metric_counts import News
from db.session import Record

_STAGE_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_JOB_BUCKETS = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400)
_RECEIVED = {"stored": "stored", "duplicates": "duplicate", "conflicts": "conflict"}
disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series for each, which nobody asks for


class MetricsSinceStart(Collector):
    """Grows by what is new in the audit log each time it is asked."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._lock = threading.Lock()
        self._head: int | None = None
        self._events = Counter("vesselq_events_total", "Events of the audit log.", ["event", "outcome"], registry=None)
        self._instances = Counter(
            "vesselq_instances_received_total", "Instances of associations that ended, by what became of them.",
            ["result"], registry=None,
        )  # fmt: skip
        self._bytes = Counter("vesselq_received_bytes_total", "Bytes of stored instances.", registry=None)
        self._stages = Histogram(
            "vesselq_stage_seconds", "How long a stage of the work took.", ["stage"],
            buckets=_STAGE_BUCKETS, registry=None,
        )  # fmt: skip
        self._waits = Histogram(
            "vesselq_job_wait_seconds", "From the making of a job until a worker began the try that segmented it.",
            buckets=_JOB_BUCKETS, registry=None,
        )  # fmt: skip
        self._delivered = Histogram(
            "vesselq_job_delivered_seconds", "From the making of a job until every destination had its result.",
            buckets=_JOB_BUCKETS, registry=None,
        )  # fmt: skip
        self._show_zeros()

    def _show_zeros(self) -> None:
        """A counter that appears with its first event hides that event from ``increase()``."""
        for event in Event:
            for outcome in Outcome:
                self._events.labels(event.word, _word(outcome))
        for result in _RECEIVED.values():
            self._instances.labels(result)

    def describe(self) -> Iterator[Metric]:
        """Nothing in advance: registering must not touch the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """All metrics.

        Raises:
            UnavailableError: The database does not answer.
        """
        with self._lock:
            if self._head is None:
                self._head = metric_counts.head(self._record)
            else:
                self._add(metric_counts.since(self._record, self._head))
            families = (self._events, self._instances, self._bytes, self._stages, self._waits, self._delivered)
            return iter([metric for family in families for metric in family.collect()])

    def _add(self, news: News) -> None:
        self._head = news.head
        for (event, outcome), count in news.events.items():
            self._events.labels(event, _word(outcome)).inc(count)
        for amount, result in _RECEIVED.items():
            self._instances.labels(result).inc(news.received[amount])
        self._bytes.inc(news.received["size_bytes"])
        for times in news.segmented:
            for stage, seconds in times.stages.items():
                self._stages.labels(stage).observe(seconds)
        _observe(self._waits, (times.waited_seconds for times in news.segmented))
        _observe(self._delivered, (times.delivered_seconds for times in news.delivered))


def _observe(histogram: Histogram, values: Iterable[float | None]) -> None:
    for value in values:
        if value is not None:
            histogram.observe(value)


def _word(outcome: int) -> str:
    return Outcome(outcome).name.lower() if outcome in list(Outcome) else str(outcome)
