"""What somebody who owns the database can do to the audit log: any statement, and a chain that is made anew."""

from collections.abc import Mapping
from typing import Any

from databases import as_owner
from sqlalchemy import select, text, update

from db.audit_chain import COLUMNS, Row, canonical_detail, row_hash
from db.audit_guard import guard, unguard
from db.models import AuditEvent
from db.session import Record


def execute(record: Record, *statements: str) -> None:
    """Statements in one transaction in which no trigger watches."""
    with as_owner(record) as connection:
        unguard(connection)
        for statement in statements:
            connection.execute(text(statement))
        guard(connection)


def rehashed(row: AuditEvent, **changes: object) -> str:
    """The hash that the row would have with other content."""
    return row_hash(_values(row, changes))


def chain_anew(record: Record, sequence: int, **changes: object) -> None:
    """Change one row and recompute its hash and those of all rows after it: the chain alone shows nothing of it."""
    with as_owner(record) as connection:
        unguard(connection)
        statement = select(AuditEvent.__table__).where(AuditEvent.sequence >= sequence).order_by(AuditEvent.sequence)
        previous = ""
        for row in connection.execute(statement).all():
            new: dict[str, object] = dict(changes) if row.sequence == sequence else {"previous_hash": previous}
            previous = row_hash(_values(row, new))
            connection.execute(
                update(AuditEvent).where(AuditEvent.sequence == row.sequence).values(**new, row_hash=previous)
            )
        guard(connection)


def _values(row: Any, changes: Mapping[str, object]) -> Row:
    values = {name: getattr(row, name) for name in COLUMNS} | changes
    values["detail"] = canonical_detail(values["detail"])
    made: Any = tuple(values[name] for name in COLUMNS)
    return made
