"""Audit rows for what is refused, bounded so that a stranger cannot fill the disk.

The first refusal of a kind is written at once. The same kind again within a minute is counted and written as one row
when the minute is over. A kind is (event, address, calling AE title unless it was rejected, reason, study). At most
``MAXIMUM_KINDS`` are told apart in a minute; all others share one row an event. So one address costs a few rows a
minute however fast it knocks, and all strangers of the world together some two hundred.

Refused presentation contexts make one row an association, not one each: many senders propose everything they know.
Associations with no accepted context and those with some are two kinds, told apart by the reason. A row lists at most
``MOST_CONTEXTS`` contexts, a count of repeated ones at most that many different ones.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from db.audit import Event, Outcome, record_event
from db.session import Record
from dicom_core.errors import AuditError
from dicom_core.identifiers import is_uid
from dicom_core.logs import get_logger

WINDOW_SECONDS = 60.0
MAXIMUM_KINDS = 100
MOST_CONTEXTS = 20
_MOST_INSTANCES = 20
_MOST_TRANSFER_SYNTAXES = 8
_AE_TITLE_LENGTH = 16
log = get_logger("listener.refusals")


@dataclass(frozen=True, slots=True)
class RefusedContext:
    """A presentation context that was proposed and not accepted.

    Attributes:
        abstract_syntax_uid: What was proposed, "malformed" for what is no UID.
        transfer_syntax_uids: The same; at most eight.
        result: PS3.8 table 9-18: 3 abstract syntax not supported, 4 transfer syntaxes not supported.
    """

    abstract_syntax_uid: str
    transfer_syntax_uids: tuple[str, ...]
    result: int

    @classmethod
    def proposed(cls, abstract_syntax: object, transfer_syntaxes: Iterable[object], result: int) -> "RefusedContext":
        """From the wire: whatever is no UID is not quoted."""
        first = islice(transfer_syntaxes, _MOST_TRANSFER_SYNTAXES)
        return cls(_uid_or_malformed(abstract_syntax), tuple(map(_uid_or_malformed, first)), result)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused connection, association or object, or the refused presentation contexts of one association.

    Attributes:
        event: ``CONNECTION_REFUSED``, ``ASSOCIATION_REFUSED``, ``CONTEXT_REFUSED`` or ``INSTANCE_REFUSED``.
        calling_ae_title: Printable (see ``printable``).
        called_ae_title: Printable; "" for objects.
        peer_address: IP address.
        code: The status (``0xA700``), result/source/reason (``1/1/3``) or results of contexts (``3 4``) that were
            answered; ``closed`` without an answer.
        reason: In words, nothing from the wire in it.
        study_instance_uid: A conformant UID or "".
        sop_instance_uid: A conformant UID or "".
        association_id: "" for refused associations.
        contexts: The refused presentation contexts.
        outcome: Success where the sender could send all the same: a PACS proposes everything it knows.
    """

    event: Event
    calling_ae_title: str
    peer_address: str
    code: str
    reason: str
    called_ae_title: str = ""
    study_instance_uid: str = ""
    sop_instance_uid: str = ""
    association_id: str = ""
    contexts: tuple[RefusedContext, ...] = ()
    outcome: Outcome = Outcome.MINOR_FAILURE

    @property
    def kind(self) -> tuple[str, ...]:
        """What makes two refusals the same for the audit log."""
        # a rejected stranger may call itself something else each time
        who = "" if self.event is Event.ASSOCIATION_REFUSED else self.calling_ae_title
        return self.event.word, self.peer_address, who, self.code, self.reason, self.study_instance_uid


@dataclass(slots=True)
class _Repeated:
    last: Refusal
    since: float
    count: int = 0
    sop_instance_uids: list[str] = field(default_factory=list)
    contexts: dict[RefusedContext, None] = field(default_factory=dict)

    def add(self, refusal: Refusal) -> None:
        """Count one more, and remember what it names as far as there is room."""
        self.last = refusal
        self.count += 1
        if refusal.sop_instance_uid and len(self.sop_instance_uids) < _MOST_INSTANCES:
            self.sop_instance_uids.append(refusal.sop_instance_uid)
        for context in refusal.contexts:
            if len(self.contexts) < MOST_CONTEXTS:
                self.contexts[context] = None


class RefusalAudit:
    """Writes refusals into the audit log, repeated ones as counts."""

    def __init__(self, record: Record, clock: Callable[[], float] = time.monotonic) -> None:
        self._record = record
        self._clock = clock
        self._lock = threading.Lock()
        self._kinds: dict[tuple[str, ...], _Repeated] = {}

    def note(self, refusal: Refusal) -> None:
        """Write or count one refusal. Never raises: the refusal itself stands whether or not it can be recorded."""
        self.flush()
        with self._lock:
            kind = refusal.kind
            if kind not in self._kinds and len(self._kinds) >= MAXIMUM_KINDS:
                kind = (refusal.event.word, "others")
            repeated = self._kinds.get(kind)
            if repeated is None:
                self._kinds[kind] = _Repeated(refusal, self._clock())
            else:
                repeated.add(refusal)
        if repeated is None:
            instances = [refusal.sop_instance_uid] if refusal.sop_instance_uid else []
            self._write(refusal, _named(instances, refusal.contexts))

    def flush(self, *, everything: bool = False) -> None:
        """Write the counts of kinds whose minute is over, or of all."""
        now = self._clock()
        with self._lock:
            over = [
                kind for kind, repeated in self._kinds.items() if everything or now - repeated.since >= WINDOW_SECONDS
            ]
            finished = [(kind, self._kinds.pop(kind)) for kind in over]
        for kind, repeated in finished:
            if repeated.count:
                facts: dict[str, Any] = {"repeated": repeated.count, "from_many": kind[-1] == "others"}
                self._write(repeated.last, facts | _named(repeated.sop_instance_uids, repeated.contexts))

    def _write(self, refusal: Refusal, facts: Mapping[str, Any]) -> None:
        detail = {"code": refusal.code, "reason": refusal.reason, **facts}
        if refusal.called_ae_title:
            detail["called_ae_title"] = refusal.called_ae_title
        if refusal.association_id:
            detail["association_id"] = refusal.association_id
        log.warning(
            refusal.event.word,
            calling_ae_title=refusal.calling_ae_title,
            peer_address=refusal.peer_address,
            study_instance_uid=refusal.study_instance_uid,
            **detail,
        )
        try:
            record_event(
                self._record,
                refusal.event,
                outcome=refusal.outcome,
                ae_title=refusal.calling_ae_title,
                address=refusal.peer_address,
                study_instance_uid=refusal.study_instance_uid,
                detail=detail,
            )
        except AuditError as error:
            log.warning("refusal-not-audited", problem=str(error))


def _named(sop_instance_uids: Collection[str], contexts: Collection[RefusedContext]) -> dict[str, Any]:
    """What a row lists by UID, as JSON-ready facts."""
    facts: dict[str, Any] = {}
    if sop_instance_uids:
        facts["sop_instance_uids"] = list(sop_instance_uids)
    if contexts:
        facts["contexts"] = [asdict(context) for context in islice(contexts, MOST_CONTEXTS)]
    if len(contexts) > MOST_CONTEXTS:
        facts["contexts_not_listed"] = len(contexts) - MOST_CONTEXTS
    return facts


def _uid_or_malformed(value: object) -> str:
    return str(value) if is_uid(str(value)) else "malformed"


def printable(ae_title: str) -> str:
    """An AE title from the wire, fit for logs and rows: printable ASCII only, at most 16 characters."""
    return "".join(char if " " <= char <= "~" else "?" for char in ae_title.strip())[:_AE_TITLE_LENGTH]
