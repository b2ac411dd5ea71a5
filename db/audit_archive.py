"""Taking old rows out of the audit log: into files that prove themselves, and never silently.

A part of the log is written as JSON lines with the proof of its chain, read back and verified; only then the rows are
removed, in one transaction with the event that says so. The chain goes on behind them: the event holds the hash that
its first remaining row continues.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from sqlalchemy import delete, func, select

from db import audit
from db.audit import Event
from db.audit_chain import COLUMNS, Row, canonical_detail
from db.audit_checkpoints import CheckpointFile
from db.audit_export.json_lines import FORMAT, json_lines
from db.audit_guard import guard, unguard
from db.audit_queries import AuditRow, rows_from
from db.audit_verification import verify, walk
from db.models import AuditEvent, AuditForwarding
from db.roles import require_owner
from db.session import Record
from dicom_core.errors import AuditError
from dicom_core.spool import sync_folder

ROWS_OF_A_FILE = 100_000
"""Other writers wait while the rows of one file are removed."""
_ROWS_AT_ONCE = 2000


@dataclass(frozen=True, slots=True)
class Archive:
    """One file of archived rows.

    Attributes:
        file: JSON lines (``db.audit_export.json_lines``).
        first_sequence: Of its first row.
        last_sequence: Of its last row.
        sha256: Over the whole file.
    """

    file: Path
    first_sequence: int
    last_sequence: int
    sha256: str


def last_archivable(record: Record, keep_days: float, repositories: Collection[str] = ()) -> int:
    """The last row that may be archived, 0 for none.

    Args:
        record: The record.
        keep_days: Younger rows stay.
        repositories: Names of audit repositories; what one of them has not got yet stays.
    """
    oldest_kept = (record.now() - timedelta(days=keep_days)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    with record.reading() as session:
        first_kept: int | None = session.scalar(
            select(func.min(AuditEvent.sequence)).where(AuditEvent.at >= oldest_kept)
        )
        head: int = session.scalar(select(func.max(AuditEvent.sequence))) or 0
        cursors = select(AuditForwarding.repository, AuditForwarding.next_sequence)
        told: dict[str, int] = {row.repository: row.next_sequence for row in session.execute(cursors)}
    limits = [first_kept if first_kept is not None else head + 1, *(told.get(name, 1) for name in repositories)]
    return min(limits) - 1


def archive(
    record: Record,
    folder: Path,
    *,
    keep_days: float,
    checkpoints: CheckpointFile,
    repositories: Collection[str] = (),
    rows_of_a_file: int = ROWS_OF_A_FILE,
) -> Iterator[Archive]:
    """Move old rows into files, one after the other; each is finished when it is told of.

    Args:
        record: As the owner of the tables.
        folder: Where the files go.
        keep_days: Younger rows stay.
        checkpoints: The whole log is compared with them first.
        repositories: What one of these audit repositories has not got yet stays.
        rows_of_a_file: At most so many.

    Raises:
        AuditError: The log does not verify, or a file cannot be written: nothing was removed for it.
        ConfigurationError: This account may not remove rows.
    """
    require_owner(record)
    found = verify(record, checkpoints.read())
    if not found.holds:
        raise AuditError(f"nothing is archived, the log is broken at row {found.first_bad_sequence}: {found.problem}")
    last = last_archivable(record, keep_days, repositories)
    for first in range(found.first_sequence, last + 1, rows_of_a_file):
        yield _archive_part(record, folder, first, min(first + rows_of_a_file - 1, last), keep_days)


def _archive_part(record: Record, folder: Path, first: int, last: int, keep_days: float) -> Archive:
    file = folder / f"audit-{first:012}-{last:012}.jsonl"
    try:
        sha256 = _write(file, json_lines(_rows(record, first, last)))
    except OSError as error:
        raise AuditError(f"{file} cannot be written, nothing was removed: {error.strerror}") from error
    (first_row,) = rows_from(record, first, 1)
    (last_row,) = rows_from(record, last, 1)
    found = walk(archived_rows([file]), (), begin=(first, first_row.previous_hash))
    if not found.holds or (found.rows, found.head_hash) != (last - first + 1, last_row.row_hash):
        raise AuditError(f"{file} does not hold what was written, nothing was removed: {found.problem}")
    with record.writing() as transaction:
        audit.append(
            transaction,
            Event.AUDIT_ARCHIVED,
            detail={
                "first_sequence": first,
                "last_sequence": last,
                "continues_hash": first_row.previous_hash,
                "last_hash": last_row.row_hash,
                "last_at": last_row.at,
                "file": file.name,
                "sha256": sha256,
                "keep_days": keep_days,
            },
        )
        connection = transaction.connection
        unguard(connection)
        connection.execute(delete(AuditEvent).where(AuditEvent.sequence <= last))
        guard(connection)
    return Archive(file, first, last, sha256)


def _rows(record: Record, first: int, last: int) -> Iterator[AuditRow]:
    for start in range(first, last + 1, _ROWS_AT_ONCE):
        yield from rows_from(record, start, min(_ROWS_AT_ONCE, last + 1 - start))


def _write(file: Path, lines: Iterable[str]) -> str:
    """Durable under its name before it returns. A file of the same rows, left by a crash, is replaced."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as out:
            for line in lines:
                data = line.encode()
                digest.update(data)
                out.write(data)
            out.flush()
            os.fsync(descriptor)
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(file.parent)
    return digest.hexdigest()


def archived_rows(files: Iterable[Path]) -> Iterator[Row]:
    """The rows of archives, for ``db.audit_verification.verify``.

    Args:
        files: Oldest first.

    Raises:
        AuditError: A file cannot be read or is no archive.
    """
    for file in files:
        try:
            with file.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    if (row := _parsed(line, file, number)) is not None:
                        yield row
        except OSError as error:
            raise AuditError(f"the archive {file} cannot be read: {error.strerror}") from error


def _parsed(line: bytes, file: Path, number: int) -> Row | None:
    try:
        values: dict[str, Any] = json.loads(line)
        if values.get("format") == FORMAT or "end" in values or "checkpoint" in values:
            return None
        values["detail"] = canonical_detail(values["detail"])
        return cast("Row", tuple(values[name] for name in COLUMNS))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise AuditError(f"line {number} of {file} is no row of an audit log") from error
