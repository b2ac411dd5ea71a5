"""Jobs and deliveries: their states, the changes allowed between them, their frozen forms. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class JobState(StrEnum):
    """The life of one job: one series of one generation of a study, one segmenter."""

    QUEUED = "QUEUED"
    """Waits for a worker (or for its next try)."""
    RUNNING = "RUNNING"
    """A worker holds the lease."""
    SEG_READY = "SEG_READY"
    """The result is durable in the results folder; no destination has it yet."""
    SENDING = "SENDING"
    """At least one destination has been tried, not all have it."""
    SENT = "SENT"
    """Every destination has answered that it stored the object."""
    COMMITTED = "COMMITTED"
    """Every destination that was asked has promised to keep it (PS3.4 annex J) or showed it on query."""
    DONE = "DONE"
    """Nothing is left to do."""
    PURGED = "PURGED"
    """DONE, and the source files have been removed by the retention policy."""
    SKIPPED = "SKIPPED"
    """No rule wants this series, or a rule says skip; the reason is in words."""
    NO_VESSEL_FOUND = "NO_VESSEL_FOUND"
    """The segmenter looked and found nothing; no object is sent."""
    SUPERSEDED = "SUPERSEDED"
    """A later generation of the study replaced it before its result was sent."""
    FAILED = "FAILED"
    SEND_FAILED = "SEND_FAILED"
    """The result is kept, a destination refused it for good; an operator can have it sent again."""
    CANCELLED = "CANCELLED"


_S = JobState
TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    _S.QUEUED: frozenset({_S.RUNNING, _S.SUPERSEDED, _S.CANCELLED, _S.FAILED}),
    _S.RUNNING: frozenset(
        {_S.QUEUED, _S.SEG_READY, _S.NO_VESSEL_FOUND, _S.SKIPPED, _S.FAILED, _S.SUPERSEDED, _S.CANCELLED}
    ),
    _S.SEG_READY: frozenset({_S.SENDING, _S.SENT, _S.DONE, _S.SEND_FAILED, _S.SUPERSEDED, _S.CANCELLED}),
    _S.SENDING: frozenset({_S.SENT, _S.SEND_FAILED, _S.CANCELLED, _S.SUPERSEDED}),
    _S.SENT: frozenset({_S.COMMITTED, _S.DONE, _S.SENDING, _S.SEND_FAILED}),
    _S.COMMITTED: frozenset({_S.DONE}),
    _S.DONE: frozenset({_S.PURGED, _S.SENDING}),
    _S.NO_VESSEL_FOUND: frozenset({_S.QUEUED, _S.PURGED}),
    _S.SKIPPED: frozenset({_S.QUEUED, _S.PURGED}),
    _S.FAILED: frozenset({_S.QUEUED, _S.PURGED}),
    _S.SEND_FAILED: frozenset({_S.SENDING, _S.SUPERSEDED}),
    _S.CANCELLED: frozenset({_S.QUEUED, _S.SENDING, _S.PURGED}),
    _S.SUPERSEDED: frozenset({_S.PURGED}),
    _S.PURGED: frozenset(),
}
"""Every change of a job's state that may ever happen."""

FINISHED = frozenset(
    {_S.DONE, _S.PURGED, _S.SKIPPED, _S.NO_VESSEL_FOUND, _S.SUPERSEDED, _S.FAILED, _S.SEND_FAILED, _S.CANCELLED}
)
"""States in which nothing happens any more by itself."""
RETRYABLE_BY_OPERATOR = frozenset({_S.FAILED, _S.SEND_FAILED, _S.CANCELLED, _S.NO_VESSEL_FOUND, _S.SKIPPED})
CANCELLABLE = frozenset({_S.QUEUED, _S.RUNNING, _S.SEG_READY, _S.SENDING})


class DeliveryState(StrEnum):
    """The life of one (result object, destination)."""

    WAITING = "WAITING"
    SENDING = "SENDING"
    SENT = "SENT"
    COMMITTED = "COMMITTED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What the dispatcher decided for one series of a study that became complete.

    Attributes:
        state: QUEUED, or SKIPPED when no rule wants the series.
        reason: For SKIPPED, in words.
        rule: Name of the rule that matched, "" for none.
        segmenter: Name of the segmenter.
        prompt: Text for it.
        destinations: Names of destinations in the order of the rule; ``"sender"`` stands for the calling AE.
        priority: Larger runs earlier; 100 is STAT, 0 routine.
        input_hash: Over the series' (SOP Instance UID, content hash) pairs.
        configuration_hash: Over rule, segmenter, its settings and prompt.
    """

    series_instance_uid: str
    modality: str
    state: JobState
    reason: str
    rule: str
    segmenter: str
    prompt: str
    destinations: tuple[str, ...]
    priority: int
    input_hash: str
    configuration_hash: str


@dataclass(frozen=True, slots=True)
class Job:
    """One job as the record knows it.

    Attributes:
        job_id: Ours, 32 hexadecimal digits.
        generation: Of the study, from 1.
        fence: Grows with every claim and every cancellation; a worker whose number is old writes nothing any more.
        attempts: Claims so far that were not handed back.
        reason: Why it is in its state, in words, without patient data.
        result: What the worker reported with the result: frames, voxels, warnings, seconds by stage, versions.
    """

    job_id: str
    study_instance_uid: str
    series_instance_uid: str
    generation: int
    modality: str
    state: JobState
    reason: str
    rule: str
    segmenter: str
    prompt: str
    destinations: tuple[str, ...]
    priority: int
    attempts: int
    fence: int
    input_hash: str
    configuration_hash: str
    created_at: datetime
    updated_at: datetime
    calling_ae_title: str = ""
    lease_owner: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    result_path: str = ""
    result_sha256: str = ""
    result_sop_instance_uid: str = ""
    result_series_instance_uid: str = ""
    result: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KeptResult:
    """A result object that is durable in the results folder.

    Attributes:
        path: Relative to the results folder.
        sha256: Hex digest over the file.
        summary: JSON-ready facts for the record and the operator, without patient data.
    """

    path: str
    sha256: str
    sop_instance_uid: str
    series_instance_uid: str
    summary: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One (result object, destination) as the record knows it.

    Attributes:
        calling_ae_title: Of the association that brought the source: where ``"sender"`` goes.
        peer_address: Of the same association.
        answer: What the destination answered last, in words.
    """

    delivery_id: str
    job_id: str
    study_instance_uid: str
    destination: str
    state: DeliveryState
    attempts: int
    fence: int
    answer: str
    result_path: str
    result_sha256: str
    result_sop_instance_uid: str
    result_series_instance_uid: str
    calling_ae_title: str = ""
    peer_address: str = ""
    created_at: datetime | None = None
    finished_at: datetime | None = None
