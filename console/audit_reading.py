"""Reading the audit log, by whatever way: that it is read is written into it first (PS3.15 section A.5.3.2)."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.output import jsonable
from db import audit, migrate
from db.audit import Verification
from db.audit_answers import LogState, log_state
from db.audit_archive import archived_rows
from db.audit_checkpoints import Checkpoint, CheckpointFile
from db.audit_queries import AuditPage, AuditQuery, audit_page
from db.session import Record
from dicom_core.errors import AuditError, ConflictError
from dicom_core.pseudonym import patient_hash
from dicom_core.settings import Settings

_verifying = threading.Lock()


def note_reading(record: Record, asked: Mapping[str, Any], *, by: str = "", address: str = "") -> None:
    """Write into the audit log who is about to read it, and what was asked.

    Args:
        record: On behalf of who asks.
        asked: What is looked for; empty values are left out. Never patient data.
        by: ``web`` where it is not a command.
        address: Network address of who asks.

    Raises:
        AuditError: It cannot be written, so nothing may be read.
    """
    facts = {"by": by, **jsonable(asked)}
    detail = {name: value for name, value in facts.items() if value or (name == "outcome" and value is not None)}
    audit.record_event(record, audit.Event.AUDIT_READ, address=address, detail=detail)


def read_page(record: Record, query: AuditQuery, *, by: str = "", address: str = "") -> AuditPage:
    """Audit rows that fit.

    Raises:
        AuditError: The reading cannot be recorded, so it does not happen.
    """
    note_reading(record, jsonable(query), by=by, address=address)
    return audit_page(record, query)


def pseudonym(record: Record, patient_id: str, issuer_of_patient_id: str = "") -> str:
    """The pseudonym under which the record knows a patient, "" for an empty identifier."""
    return patient_hash(migrate.site_key(record), patient_id, issuer_of_patient_id)


def verify_chain(
    record: Record,
    settings: Settings,
    *,
    by: str = "",
    address: str = "",
    public_key_file: Path | None = None,
    archives: Iterable[Path] = (),
    progress: Callable[[int], None] | None = None,
) -> Verification:
    """Walk the whole chain, compare it with the checkpoints, and write into it that this was done and what was found.

    Args:
        record: On behalf of who asks.
        settings: Say where the checkpoints are.
        by: ``web`` where it is not a command.
        address: Network address of who asks.
        public_key_file: The key that one trusts; else the one beside the checkpoints.
        archives: Files of archived rows to be walked along first, oldest first.
        progress: Told now and then how many more rows were read.

    Raises:
        ConflictError: It is being walked by this process already.
        AuditError: The checkpoints cannot be read, or the finding cannot be written.
    """
    if not _verifying.acquire(blocking=False):
        raise ConflictError("the chain is being verified already; wait for the answer")
    try:
        found = audit.verify(
            record,
            CheckpointFile.of(settings).read(public_key_file),
            archived=archived_rows(archives),
            progress=progress,
        )
    finally:
        _verifying.release()
    detail = {
        "by": by,
        "rows": found.rows,
        "head_hash": found.head_hash,
        "first_bad_sequence": found.first_bad_sequence,
        "problem": found.problem,
    }
    audit.record_event(
        record,
        audit.Event.AUDIT_VERIFIED,
        outcome=audit.Outcome.SUCCESS if found.holds else audit.Outcome.MAJOR_FAILURE,
        address=address,
        detail={name: value for name, value in detail.items() if value},
    )
    return found


@dataclass(frozen=True, slots=True)
class ChainState:
    """How long the log is, and what vouches for it.

    Attributes:
        log: The ends of the log and how far the repositories have been told.
        checkpoint: The last one, its signature not checked; None where there is none yet.
        problem: Why the checkpoints cannot be read, in words; "" when they can.
    """

    log: LogState
    checkpoint: Checkpoint | None
    problem: str


def chain_state(record: Record, settings: Settings) -> ChainState:
    """The state of the chain, without walking it."""
    try:
        checkpoint, problem = CheckpointFile.of(settings).last(), ""
    except AuditError as error:
        checkpoint, problem = None, str(error)
    return ChainState(log_state(record), checkpoint, problem)
