"""Audit rows for what is refused, bounded so that a stranger cannot fill the disk.

The first refusal of a kind is written at once. The same kind again within a minute is counted and written as one row
when the minute is over. A kind is (event, address, calling AE title for objects, reason, study). At most
``MAXIMUM_KINDS`` are told apart in a minute; all others share one row an event. So one address costs a few rows a
minute however fast it knocks, and all strangers of the world together some two hundred.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from db.audit import Event, Outcome, record_event
from db.session import Record
from dicom_core.errors import AuditError
from dicom_core.logs import get_logger

WINDOW_SECONDS = 60.0
MAXIMUM_KINDS = 100
_MOST_INSTANCES = 20
_AE_TITLE_LENGTH = 16
log = get_logger("listener.refusals")


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused association or object.

    Attributes:
        event: ``ASSOCIATION_REFUSED`` or ``INSTANCE_REFUSED``.
        calling_ae_title: Printable (see ``printable``).
        called_ae_title: Printable; "" for objects.
        peer_address: IP address.
        code: The status (``0xA700``) or result/source/reason (``1/1/3``) that was answered.
        reason: In words, nothing from the wire in it.
        study_instance_uid: A conformant UID or "".
        sop_instance_uid: A conformant UID or "".
        association_id: "" for refused associations.
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

    @property
    def kind(self) -> tuple[str, ...]:
        """What makes two refusals the same for the audit log."""
        who = self.calling_ae_title if self.event is Event.INSTANCE_REFUSED else ""
        return self.event.word, self.peer_address, who, self.code, self.reason, self.study_instance_uid


@dataclass(slots=True)
class _Repeated:
    last: Refusal
    since: float
    count: int = 0
    sop_instance_uids: list[str] = field(default_factory=list)


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
                repeated.last = refusal
                repeated.count += 1
                if refusal.sop_instance_uid and len(repeated.sop_instance_uids) < _MOST_INSTANCES:
                    repeated.sop_instance_uids.append(refusal.sop_instance_uid)
        if repeated is None:
            instances = [refusal.sop_instance_uid] if refusal.sop_instance_uid else []
            self._write(refusal, {"sop_instance_uids": instances} if instances else {})

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
                if repeated.sop_instance_uids:
                    facts["sop_instance_uids"] = repeated.sop_instance_uids
                self._write(repeated.last, facts)

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
                outcome=Outcome.MINOR_FAILURE,
                ae_title=refusal.calling_ae_title,
                address=refusal.peer_address,
                study_instance_uid=refusal.study_instance_uid,
                detail=detail,
            )
        except AuditError as error:
            log.warning("refusal-not-audited", problem=str(error))


def printable(ae_title: str) -> str:
    """An AE title from the wire, fit for logs and rows: printable ASCII only, at most 16 characters."""
    return "".join(char if " " <= char <= "~" else "?" for char in ae_title.strip())[:_AE_TITLE_LENGTH]
