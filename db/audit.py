"""The audit log: append-only rows, each carrying the hash of the one before, in the transaction of what they tell.

``row_hash`` is SHA-256 over the canonical JSON of every other column, the previous hash among them. A changed, removed
or reordered row breaks every hash after it. Event identifiers are those of PS3.15 annex A.5.3; events of our own that
the Standard has no message for carry none.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, IntEnum
from typing import Any

from sqlalchemy import Text, cast, insert, select

from db.models import AuditEvent, storable
from db.session import Record, Transaction
from dicom_core.errors import AuditError

FIRST_PREVIOUS_HASH = "0" * 64
"""What the first row continues."""
_HASHED = (
    "sequence", "at", "event", "event_id", "event_type", "action", "outcome", "process", "user", "ae_title", "address",
    "study_instance_uid", "job_id", "detail", "previous_hash",
)  # fmt: skip
_STORED = (*_HASHED, "row_hash")
_INSERT = insert(AuditEvent)
_SELECT_LAST = select(AuditEvent.sequence, AuditEvent.row_hash).order_by(AuditEvent.sequence.desc()).limit(1)
_HEAD = "audit_head"
"""Where a transaction, the only writer while it lasts, remembers the last row it wrote."""


class Outcome(IntEnum):
    """EventOutcomeIndicator of PS3.15 A.5.2."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8
    MAJOR_FAILURE = 12


class Event(Enum):
    """What can happen: our word, EventID, EventTypeCode (DCM codes, "" where there is none) and EventActionCode."""

    APPLICATION_START = ("application-start", "110100", "110120", "E")
    APPLICATION_STOP = ("application-stop", "110100", "110121", "E")
    CONFIGURATION_LOADED = ("configuration-loaded", "110113", "110131", "E")
    ASSOCIATION_REFUSED = ("association-refused", "110113", "110126", "E")
    CONNECTION_REFUSED = ("connection-refused", "110113", "110126", "E")
    CONTEXT_REFUSED = ("context-refused", "", "", "E")
    INSTANCE_REFUSED = ("instance-refused", "110104", "", "C")
    INSTANCE_CONFLICT = ("instance-conflict", "110113", "", "E")
    INSTANCES_RECEIVED = ("instances-received", "110104", "", "C")
    INSTANCE_MISSING = ("instance-missing", "110113", "", "E")
    STUDY_RECEIVING = ("study-receiving", "", "", "C")
    STUDY_COMPLETE = ("study-complete", "", "", "U")
    RUN_REQUESTED = ("run-requested", "", "", "E")
    JOB_QUEUED = ("job-queued", "", "", "C")
    JOB_SKIPPED = ("job-skipped", "", "", "C")
    JOB_RUNNING = ("job-running", "110103", "", "R")
    JOB_HANDED_BACK = ("job-handed-back", "", "", "U")
    JOB_ATTEMPT_FAILED = ("job-attempt-failed", "", "", "U")
    JOB_FAILED = ("job-failed", "", "", "U")
    JOB_NO_VESSEL_FOUND = ("job-no-vessel-found", "", "", "U")
    JOB_SUPERSEDED = ("job-superseded", "", "", "U")
    JOB_CANCELLED = ("job-cancelled", "", "", "U")
    JOB_RETRIED = ("job-retried", "", "", "U")
    JOB_STATE = ("job-state", "", "", "U")
    SEG_CREATED = ("seg-created", "110103", "", "C")
    TRANSFER_BEGUN = ("transfer-begun", "110102", "", "E")
    INSTANCES_SENT = ("instances-sent", "110104", "", "C")
    TRANSFER_HANDED_BACK = ("transfer-handed-back", "", "", "U")
    TRANSFER_FAILED = ("transfer-failed", "110104", "", "C")
    SOURCES_PURGED = ("sources-purged", "110105", "", "D")
    RESULT_REMOVED = ("result-removed", "", "", "D")
    AUDIT_READ = ("audit-read", "110101", "", "R")
    AUDIT_EXPORTED = ("audit-exported", "110106", "", "R")
    AUDIT_VERIFIED = ("audit-verified", "110101", "", "R")
    AUDIT_ARCHIVED = ("audit-archived", "110101", "", "D")
    STUDY_VIEWED = ("study-viewed", "110103", "", "R")
    SIGNED_IN = ("signed-in", "110114", "110122", "E")
    SIGNED_OUT = ("signed-out", "110114", "110123", "E")
    ACCESS_REFUSED = ("access-refused", "110113", "110132", "E")
    ACCOUNT_CHANGED = ("account-changed", "110113", "110137", "E")
    ROLES_CHANGED = ("roles-changed", "110113", "110136", "E")
    TOKEN_CREATED = ("token-created", "110113", "110137", "E")
    TOKEN_REVOKED = ("token-revoked", "110113", "110137", "E")
    PRIORITY_CHANGED = ("priority-changed", "", "", "U")
    TRANSFER_REPEATED = ("transfer-repeated", "", "", "U")
    PEER_CHECKED = ("peer-checked", "", "", "E")

    def __init__(self, word: str, event_id: str, event_type: str, action: str) -> None:
        self.word = word
        self.event_id = event_id
        self.event_type = event_type
        self.action = action


@dataclass(frozen=True, slots=True)
class Verification:
    """What a walk along the chain found.

    Attributes:
        rows: How many rows were read.
        first_bad_sequence: The first row that does not fit, None when the chain holds.
        problem: What is wrong with it, in words.
        head_hash: Hash of the last row.
    """

    rows: int
    first_bad_sequence: int | None
    problem: str
    head_hash: str


def append(
    transaction: Transaction,
    event: Event,
    *,
    outcome: Outcome = Outcome.SUCCESS,
    ae_title: str = "",
    address: str = "",
    study_instance_uid: str = "",
    job_id: str = "",
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Add one row to the chain, inside a writing transaction (the only writer at this moment).

    Args:
        transaction: From ``Record.writing``.
        event: What happened.
        outcome: How it went.
        ae_title: The peer's AE title or the destination's.
        address: The peer's network address.
        study_instance_uid: Which study it touches, "" for none.
        job_id: Which job it touches, "" for none.
        detail: JSON-ready facts; never patient data.

    Raises:
        AuditError: ``detail`` is no JSON.
    """
    sequence, previous_hash = transaction.session.info.get(_HEAD) or _last_row(transaction)
    content = {
        "sequence": sequence + 1,
        "at": transaction.now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "event": event.word,
        "event_id": event.event_id,
        "event_type": event.event_type,
        "action": event.action,
        "outcome": int(outcome),
        "process": storable(transaction.process, 64),
        "user": storable(transaction.user, 128),
        "ae_title": storable(ae_title, 16),
        "address": storable(address, 64),
        "study_instance_uid": study_instance_uid,
        "job_id": job_id,
        "detail": _json_ready(detail or {}),
        "previous_hash": previous_hash,
    }
    row_hash = _hash(content)
    # past the unit of work of the ORM: every change of a state writes a row, so this is the busiest statement of all
    transaction.session.connection().execute(_INSERT, {**content, "row_hash": row_hash})
    transaction.session.info[_HEAD] = (sequence + 1, row_hash)


def _last_row(transaction: Transaction) -> tuple[int, str]:
    last = transaction.session.connection().execute(_SELECT_LAST).one_or_none()
    return (last.sequence, last.row_hash) if last else (0, FIRST_PREVIOUS_HASH)


def record_event(record: Record, event: Event, **facts: Any) -> None:
    """Write one event that changes nothing else, in a transaction of its own.

    Raises:
        AuditError: It could not be written; the caller must refuse the work that it tells of.
    """
    try:
        with record.writing() as transaction:
            append(transaction, event, **facts)
    except Exception as error:  # any failure to audit has one meaning for the caller
        raise AuditError(f"the audit log cannot be written: {error}") from error


def verify(record: Record) -> Verification:
    """Walk the whole chain and recompute every hash."""
    # as text, and not as objects: a detail that is no JSON any more is a finding, not an error
    columns = [cast(AuditEvent.detail, Text) if name == "detail" else getattr(AuditEvent, name) for name in _STORED]
    previous, expected = FIRST_PREVIOUS_HASH, 1
    with record.reading() as session:
        statement = select(*columns).order_by(AuditEvent.sequence).execution_options(yield_per=1000)
        with session.execute(statement) as rows:
            for values in rows:
                content = dict(zip(_STORED, values, strict=True))
                row_hash = content.pop("row_hash")
                problem = _problem(content, row_hash, expected, previous)
                if problem:
                    return Verification(expected - 1, content["sequence"], problem, previous)
                previous, expected = row_hash, expected + 1
    return Verification(expected - 1, None, "", previous)


def _problem(content: dict[str, Any], row_hash: str, expected: int, previous: str) -> str:
    """What is wrong with one row, "" for nothing. Turns the text of its detail into the value."""
    if content["sequence"] != expected:
        return f"row {expected} is missing"
    if content["previous_hash"] != previous:
        return "it does not continue the row before it"
    try:
        content["detail"] = json.loads(content["detail"])
    except (TypeError, ValueError):
        return "its detail cannot be read"
    return "" if row_hash == _hash(content) else "its content is not what was written"


def _json_ready(detail: Mapping[str, Any]) -> dict[str, Any]:
    """``detail`` as it comes back from the database, so that the hash is taken over what is stored."""
    try:
        ready: dict[str, Any] = json.loads(json.dumps(dict(detail), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AuditError(f"the detail of an audit event is no JSON: {error}") from error
    return ready


def _hash(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def parsed_time(at: str) -> datetime:
    """The time of a row as an aware datetime."""
    return datetime.fromisoformat(at)
