"""The audit log: append-only rows, each carrying the hash of the one before, in the transaction of what they tell.

How a row is hashed says ``db.audit_chain``; ``db.audit_verification`` walks along the chain, ``db.audit_checkpoints``
signs its end. Event identifiers are those of PS3.15 annex A.5.3; events of our own that the Standard has no message for
carry none.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum, IntEnum
from typing import Any

from sqlalchemy import Connection

from db.audit_chain import COLUMNS, FIRST_PREVIOUS_HASH, Row, canonical_detail, row_hash
from db.audit_verification import Verification, verify
from db.models import storable
from db.session import Record, Transaction, by_driver
from dicom_core.errors import AuditError

__all__ = ["FIRST_PREVIOUS_HASH", "Event", "Outcome", "Verification", "append", "parsed_time", "record_event", "verify"]
_QUOTED = ", ".join(f'"{name}"' for name in COLUMNS)
_INSERT = {
    mark: f"INSERT INTO audit_events ({_QUOTED}) VALUES ({', '.join([mark] * len(COLUMNS))})"  # noqa: S608  constants
    for mark in ("?", "%s")
}
_SELECT_LAST = "SELECT sequence, row_hash FROM audit_events ORDER BY sequence DESC LIMIT 1"


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
    AUDIT_EXPORTED = ("audit-exported", "110101", "", "R")
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
        address: The peer's network address; without a peer that of the person on whose behalf it is written.
        study_instance_uid: Which study it touches, "" for none.
        job_id: Which job it touches, "" for none.
        detail: JSON-ready facts; never patient data.

    Raises:
        AuditError: ``detail`` is no JSON.
    """
    connection = transaction.connection
    sequence, previous_hash = transaction.audit_head or _last_row(connection)
    row: Row = (
        sequence + 1,
        transaction.now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        event.word,
        event.event_id,
        event.event_type,
        event.action,
        int(outcome),
        storable(transaction.process, 64),
        storable(transaction.user, 128),
        storable(ae_title, 16),
        storable(address or ("" if ae_title else transaction.address), 64),
        study_instance_uid,
        job_id,
        _json(detail or {}),
        previous_hash,
        "",
    )
    row = (*row[:-1], row_hash(row))
    by_driver(connection, _INSERT["?" if connection.dialect.paramstyle == "qmark" else "%s"], row)
    transaction.audit_head = (row[0], row[-1])  # nobody else writes while the transaction lasts


def _last_row(connection: Connection) -> tuple[int, str]:
    last: tuple[int, Any] | None = by_driver(connection, _SELECT_LAST).fetchone()
    if last is None:
        return 0, FIRST_PREVIOUS_HASH
    sequence, row_hash = last
    # somebody wrote past this program: verifying names the row, and what happens from now on is written all the same
    return sequence, row_hash if isinstance(row_hash, str) else storable(bytes(row_hash).decode("ascii", "replace"), 64)


def _json(detail: Mapping[str, Any]) -> str:
    try:
        return _whole(canonical_detail(detail))
    except (TypeError, ValueError) as error:
        raise AuditError(f"the detail of an audit event is no JSON: {error}") from error


def _whole(text: str) -> str:
    """JSON text without halves of characters, which no page and no export could write: ``?`` instead."""
    if "\\ud" not in text:
        return text
    written = json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8", "replace")
    return canonical_detail(json.loads(written))


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


def parsed_time(at: str) -> datetime:
    """The time of a row as an aware datetime."""
    return datetime.fromisoformat(at)
