"""Writing rows of the audit log into a file, which is audited itself."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from db.audit import Event, record_event
from db.audit_export.facts import Site
from db.audit_export.forms import Form
from db.audit_queries import AuditQuery, AuditRow, as_text, each_audit_row
from db.models import AuditEvent
from db.session import Record
from dicom_core.errors import ConfigurationError


@dataclass(slots=True)
class Exported:
    """What was written.

    Attributes:
        rows: Of the log; those that the form has no place for are counted as well.
        first_sequence: Of the first row, 0 for none.
        last_sequence: Of the last row, 0 for none.
        sha256: Of the file, in hexadecimal.
    """

    rows: int = 0
    first_sequence: int = 0
    last_sequence: int = 0
    sha256: str = ""


def asked(query: AuditQuery) -> dict[str, Any]:
    """What a question asks for, as facts for the audit log."""
    facts = {name: value for name, value in asdict(query).items() if name not in ("limit", "before")}
    times = {name: as_text(value) for name, value in facts.items() if name in ("since", "until") and value}
    return {name: value for name, value in {**facts, **times}.items() if value not in ("", None, False)}


def export_to_file(
    record: Record,
    site: Site,
    query: AuditQuery,
    form: Form,
    file: Path,
    *,
    progress: Callable[[float], None] = lambda _share: None,
) -> Exported:
    """Write every row that fits; the file appears whole, for its owner only, after the audit log tells of it.

    Args:
        record: On behalf of who asks.
        site: Who reports.
        query: Which rows; its limit counts for nothing.
        form: In which form.
        file: Replaced if it is there.
        progress: Told which share of the log has been walked, 0 to 1.

    Raises:
        ConfigurationError: The file cannot be written.
        AuditError: The export cannot be audited: there is no file then.
        UnavailableError: The record does not answer.
    """
    exported = Exported()
    rows = _counted(each_audit_row(record, query), exported, _last_sequence(record), progress)
    part: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(".part", f".{file.name}.", file.parent)  # for its owner only
        part = Path(name)
        exported.sha256 = _write(descriptor, form.lines(record, site, rows))
        record_event(
            record, Event.AUDIT_EXPORTED, detail={"form": form.word, **asdict(exported), "asked": asked(query)}
        )
        part.replace(file)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}") from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    return exported


def _last_sequence(record: Record) -> int:
    with record.reading() as session:
        return session.scalar(select(func.max(AuditEvent.sequence))) or 1


def _counted(
    rows: Iterable[AuditRow], exported: Exported, last: int, progress: Callable[[float], None]
) -> Iterator[AuditRow]:
    for row in rows:
        exported.rows += 1
        exported.first_sequence = exported.first_sequence or row.sequence
        exported.last_sequence = row.sequence
        if exported.rows % 1000 == 0:
            progress(min(1.0, row.sequence / last))
        yield row


def _write(descriptor: int, pieces: Iterable[str]) -> str:
    digest = hashlib.sha256()
    with os.fdopen(descriptor, "wb") as out:
        for piece in pieces:
            encoded = piece.encode("utf-8")
            digest.update(encoded)
            out.write(encoded)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()
