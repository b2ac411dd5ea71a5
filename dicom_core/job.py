"""Jobs and deliveries: their states, the changes allowed between them, their frozen forms. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from dicom_core.result import DEFAULT_RESULTS, ResultKind, ResultObject


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
    """Every destination has answered that it stored all objects that it gets."""
    COMMITTED = "COMMITTED"
    """Every destination that was asked has promised to keep it (PS3.4 annex J) or showed it on query."""
    DONE = "DONE"
    """Nothing is left to do."""
    PURGED = "PURGED"
    """It is over, and the retention policy has removed its source files, or a result that was never sent."""
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
    _S.SEND_FAILED: frozenset({_S.SENDING, _S.SUPERSEDED, _S.PURGED}),
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
RESENDABLE = frozenset({_S.DONE, _S.SEND_FAILED})
"""States in which an operator can have the kept objects sent once more."""
CANCELLABLE = frozenset({_S.QUEUED, _S.RUNNING, _S.SEG_READY, _S.SENDING})
HIGHEST_PRIORITY = 100
"""STAT; 0 is routine."""


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
        segmenter: Name of the segmenter, or of several joined by ``+`` (``dicom_core.chain``).
        prompt: What it is asked, as ``dicom_core.prompt.Prompt.stored`` writes it.
        destinations: Names of destinations in the order of the rule; ``"sender"`` stands for the calling AE.
        wanted: The kinds of object that each of them gets; one that is not named gets the SEG object.
        priority: Larger runs earlier; 100 is STAT, 0 routine.
        input_hash: Over the series' (SOP Instance UID, content hash) pairs.
        configuration_hash: Over rule, segmenter, its settings and prompt; not over ``wanted``, since the content of
            an object depends on its own kind only.
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
    wanted: Mapping[str, tuple[ResultKind, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """One job as the record knows it.

    Attributes:
        job_id: Ours, 32 hexadecimal digits.
        generation: Of the study, from 1.
        fence: Grows with every claim and every cancellation; a worker whose number is old writes nothing any more.
        attempts: Claims so far that were not handed back.
        reason: Why it is in its state, in words, without patient data.
        wanted: As in ``JobRequest``.
        results: The objects that were made, in the order in which they are sent.
        result: What the worker reported with them: frames, voxels, warnings, seconds by stage, versions.
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
    wanted: Mapping[str, tuple[ResultKind, ...]] = field(default_factory=dict)
    results: tuple[ResultObject, ...] = ()
    result: Mapping[str, object] = field(default_factory=dict)

    def results_for(self, destination: str) -> tuple[ResultKind, ...]:
        """The kinds of object that ``destination`` gets."""
        return self.wanted.get(destination, DEFAULT_RESULTS)

    @property
    def kinds(self) -> tuple[ResultKind, ...]:
        """The kinds of object to make: what any destination gets, and the SEG object, which is the truth of the job."""
        wanted = {ResultKind.SEG}.union(*(self.results_for(destination) for destination in self.destinations))
        return tuple(kind for kind in ResultKind if kind in wanted)

    @property
    def seg(self) -> ResultObject | None:
        """The SEG object of the first part that has one, None as long as there is no result."""
        return next((result for result in self.results if result.kind is ResultKind.SEG), None)


@dataclass(frozen=True, slots=True)
class KeptResult:
    """A result set that is durable in the results folder.

    Attributes:
        objects: At least the SEG object of one part.
        summary: JSON-ready facts for the record and the operator, without patient data.
    """

    objects: tuple[ResultObject, ...]
    summary: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One (result object, destination) as the record knows it.

    Attributes:
        result: The object that it carries.
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
    result: ResultObject
    calling_ae_title: str = ""
    peer_address: str = ""
    created_at: datetime | None = None
    finished_at: datetime | None = None
