"""Searching the audit log: what to look for, pages of rows, all rows in the order in which they were written.

Every question that names one thing (a study, a job, a patient, a person, an AE title, an address, an event, failures, a
range of time) is answered by one index walked from its newest entry; ``benchmarks/audit.py`` measures them at ten
million rows. Clocks are set back now and then, so that the order of times is not that of the sequence numbers: pages
follow the time and then the number, and every row is found.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, Text, cast, literal_column, select, tuple_
from sqlalchemy.orm import Session

from db.models import AuditEvent, Study, storable
from db.session import Record, any_text

_ROWS_AT_ONCE = 1000
_NOTHING: ColumnElement[str] = literal_column("''")
"""Written out: a parameter would keep SQLite from using an index of the rows that have a value."""
_SUCCESS: ColumnElement[int] = literal_column("0")


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One audit event with every column, so that a reader can recompute its hash (``db.audit``)."""

    sequence: int
    at: str
    event: str
    event_id: str
    event_type: str
    action: str
    outcome: int
    process: str
    user: str
    ae_title: str
    address: str
    study_instance_uid: str
    job_id: str
    detail: dict[str, Any]
    previous_hash: str
    row_hash: str

    @property
    def by(self) -> str:
        """Who did it: the person, else the peer as AE@address, else the process."""
        peer = f"{self.ae_title}@{self.address}" if self.ae_title and self.address else self.ae_title or self.address
        return self.user or peer or self.process


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """What to look for; empty fields match everything.

    Attributes:
        patient_hash: Pseudonym of a patient (``dicom_core.pseudonym``): everything about the studies of that patient.
        outcome: EventOutcomeIndicator of PS3.15 section A.5.2, None for every one.
        failed_only: Only what did not succeed.
        since: From this time on.
        until: Before this time.
        before: Sequence number of a row: only what comes before it, for the next page.
        limit: At most so many, the latest.
    """

    study_instance_uid: str = ""
    job_id: str = ""
    patient_hash: str = ""
    user: str = ""
    ae_title: str = ""
    address: str = ""
    event: str = ""
    outcome: int | None = None
    failed_only: bool = False
    since: datetime | None = None
    until: datetime | None = None
    before: int = 0
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Some rows, in the order in which they were written.

    Attributes:
        rows: The latest that fit.
        before: ``AuditQuery.before`` of the next page, 0 when there is none.
    """

    rows: list[AuditRow]
    before: int


_COLUMNS = tuple(
    # as text: a detail that is no JSON any more must not hide its row
    cast(AuditEvent.detail, Text) if field.name == "detail" else getattr(AuditEvent, field.name)
    for field in fields(AuditRow)
)
_NAMES = tuple(field.name for field in fields(AuditRow))
_MAJOR_FAILURE = 12
"""What an outcome that is no number counts as (``db.audit.Outcome``)."""
_NEWEST_FIRST = (AuditEvent.at.desc(), AuditEvent.sequence.desc())


def audit_page(record: Record, query: AuditQuery) -> AuditPage:
    """The latest rows that fit, and where the page of those before them begins."""
    with record.reading() as session:
        statement = _fitting(query).order_by(*_NEWEST_FIRST).limit(query.limit + 1)
        if query.before:
            statement = statement.where(_earlier(session, query.before))
        with _whatever_is_there(session):
            found = session.execute(statement).all()
    rows = [_as_row(row) for row in found[: query.limit]]
    before = rows[-1].sequence if rows and len(found) > query.limit else 0
    return AuditPage(sorted(rows, key=lambda row: row.sequence), before)


def audit_rows(record: Record, query: AuditQuery) -> list[AuditRow]:
    """Audit events that fit, in the order in which they were written; the latest when there are more than the limit."""
    return audit_page(record, query).rows


def each_audit_row(record: Record, query: AuditQuery) -> Iterator[AuditRow]:
    """Every row that fits, in the order in which they were written, without holding all of them.

    ``before`` and ``limit`` of the query count for nothing. The rows are those of one moment; the connection is held
    until the last of them was taken.
    """
    statement = _fitting(query).order_by(AuditEvent.sequence).execution_options(yield_per=_ROWS_AT_ONCE)
    with record.reading() as session, _whatever_is_there(session), session.execute(statement) as rows:
        for row in rows:
            yield _as_row(row)


def rows_from(record: Record, sequence: int, limit: int) -> list[AuditRow]:
    """The rows from ``sequence`` on, at most ``limit``, in the order in which they were written."""
    statement = select(*_COLUMNS).where(AuditEvent.sequence >= sequence).order_by(AuditEvent.sequence).limit(limit)
    with record.reading() as session, _whatever_is_there(session):
        return [_as_row(row) for row in session.execute(statement)]


def _fitting(query: AuditQuery) -> Select[Any]:
    return select(*_COLUMNS).where(*_conditions(query))


def _conditions(query: AuditQuery) -> Iterator[ColumnElement[bool]]:
    for column, wanted in (
        (AuditEvent.study_instance_uid, query.study_instance_uid),
        (AuditEvent.job_id, query.job_id),
        (AuditEvent.event, query.event),
    ):
        if wanted:
            yield column == wanted
    for column, wanted in (
        (AuditEvent.user, query.user),
        (AuditEvent.ae_title, query.ae_title),
        (AuditEvent.address, query.address),
    ):
        if wanted:
            yield column == wanted
            yield column != _NOTHING
    if query.patient_hash:
        of_patient = select(Study.study_instance_uid).where(Study.patient_hash == query.patient_hash)
        yield AuditEvent.study_instance_uid.in_(of_patient)
    if query.failed_only or query.outcome:
        yield AuditEvent.outcome > _SUCCESS
    if query.outcome is not None:
        yield AuditEvent.outcome == query.outcome
    if query.since:
        yield AuditEvent.at >= as_text(query.since)
    if query.until:
        yield AuditEvent.at < as_text(query.until)


def _earlier(session: Session, before: int) -> ColumnElement[bool]:
    """What comes before the row ``before``, or before where it was if it is kept in an archive now."""
    at = session.execute(select(AuditEvent.at).where(AuditEvent.sequence == before)).scalar_one_or_none()
    if at is None:
        return AuditEvent.sequence < before
    return tuple_(AuditEvent.at, AuditEvent.sequence) < (at, before)


def _as_row(row: Row[Any]) -> AuditRow:
    values = dict(zip(_NAMES, row, strict=True))
    for name, value in values.items():
        if not isinstance(value, str | int):  # SQLite keeps whatever somebody wrote past this program
            values[name] = readable(value)
    if not isinstance(values["outcome"], int):
        values["outcome"] = _MAJOR_FAILURE
    return AuditRow(**{**values, "detail": _detail(values["detail"])})


@contextmanager
def _whatever_is_there(session: Session) -> Iterator[None]:
    """Read text of SQLite that is no UTF-8 as well: one row that was tampered with must not hide the others."""
    connection = session.connection()
    if connection.dialect.name != "sqlite":
        yield
        return
    driver: Any = connection.connection.driver_connection
    with any_text(driver, "backslashreplace"):
        yield


def readable(value: Any) -> str:
    r"""What stands in a column of text, as text: octets that are none are shown as ``\xff``."""
    if isinstance(value, bytes):
        return f"unreadable: {storable(value.decode('ascii', 'backslashreplace'))}"
    return str(value)


def _detail(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):  # somebody wrote past this program; verifying names the row
        return {"unreadable": str(text)}
    return found if isinstance(found, dict) else {"unreadable": text}


def as_text(moment: datetime) -> str:
    """A time as the rows have it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
