"""How far each audit repository has been told. The audit log itself is the outbox: nothing is copied and nothing lost.

A repository has a cursor, the first row that it has not got. Whoever forwards takes a lease on it, so that two
dispatchers do not send the same rows at the same time; after a crash the lease runs out and the rows are sent again.
Each row arrives at least once, in order. Forwarding leaves no rows in the log: they would have to be forwarded.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select, update

from db.audit_queries import AuditRow, rows_from
from db.models import AuditEvent, AuditForwarding
from db.session import Record
from dicom_core.errors import LeaseLostError

FIRST_PAUSE_SECONDS = 5.0
"""After a first failure; doubles with each further one."""
LONGEST_PAUSE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are ours to send.

    Attributes:
        rows: At least one, in order.
    """

    repository: str
    owner: str
    rows: tuple[AuditRow, ...]


def claim(record: Record, repository: str, owner: str, *, lease_seconds: float, limit: int) -> Batch | None:
    """Take the next rows that ``repository`` has not got, None when there are none or it is not the time.

    Args:
        record: The record.
        repository: Its name in the settings; a new one gets the log from its beginning.
        owner: Who asks.
        lease_seconds: How long nobody else gets them.
        limit: At most so many.
    """
    if not _has_news(record, repository):
        return None  # found out without keeping other writers waiting
    with record.writing() as transaction:
        row = transaction.session.get(AuditForwarding, repository)
        if row is None:
            row = AuditForwarding(repository=repository, next_sequence=1)
            transaction.session.add(row)
        now = transaction.now
        held = row.lease_owner not in ("", owner) and row.lease_expires_at is not None and row.lease_expires_at > now
        if held or (row.next_try_at is not None and row.next_try_at > now):
            return None
        row.lease_owner, row.lease_expires_at = owner, now + timedelta(seconds=lease_seconds)
        first = row.next_sequence
    rows = rows_from(record, first, limit)
    return Batch(repository, owner, tuple(rows)) if rows else None


def _has_news(record: Record, repository: str) -> bool:
    with record.reading() as session:
        last = session.scalar(select(func.max(AuditEvent.sequence))) or 0
        told = session.scalar(select(AuditForwarding.next_sequence).where(AuditForwarding.repository == repository))
    return last >= (told or 1)


def sent(record: Record, batch: Batch) -> None:
    """The repository has the rows: the cursor moves behind them.

    Raises:
        LeaseLostError: Somebody else forwards now; the rows may be sent twice.
    """
    with record.writing() as transaction:
        told = transaction.session.scalars(
            update(AuditForwarding)
            .where(
                AuditForwarding.repository == batch.repository,
                AuditForwarding.lease_owner == batch.owner,
                AuditForwarding.next_sequence <= batch.rows[0].sequence,
            )
            .values(
                next_sequence=batch.rows[-1].sequence + 1,
                lease_owner="",
                lease_expires_at=None,
                attempts=0,
                next_try_at=None,
                last_sent_at=transaction.now,
                last_error="",
            )
            .returning(AuditForwarding.repository)
        ).all()
        if not told:
            raise LeaseLostError(f"another dispatcher forwards to the audit repository {batch.repository} now")


def failed(record: Record, batch: Batch, problem: str) -> None:
    """The repository did not take the rows, or nobody knows: they are sent again after a pause."""
    with record.writing() as transaction:
        row = transaction.session.get(AuditForwarding, batch.repository)
        if row is None or row.lease_owner != batch.owner:
            return
        pause = min(FIRST_PAUSE_SECONDS * 2 ** min(row.attempts, 16), LONGEST_PAUSE_SECONDS)
        row.attempts += 1
        row.lease_owner, row.lease_expires_at = "", None
        row.next_try_at = transaction.now + timedelta(seconds=pause)
        row.last_error = problem
