"""Making checkpoints of the audit log, and telling whether they are made in time."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select

from db.audit_checkpoints import Checkpoint, CheckpointFile
from db.audit_verification import verify
from db.models import AuditEvent
from db.session import Record
from dicom_core.errors import AuditError


def sign_checkpoint(record: Record, file: CheckpointFile) -> Checkpoint | None:
    """Verify what was added since the last checkpoint and sign the last row.

    Returns:
        The new checkpoint, None when no row was added.

    Raises:
        AuditError: The log does not continue the last checkpoint, or the file cannot be written.
        ConfigurationError: The private key cannot be used.
        UnavailableError: The database does not answer.
    """
    with file.extending() as writer:
        before = writer.last
        found = verify(record, (before,) if before else (), start=before.sequence if before else 1)
        if not found.holds:
            raise AuditError(
                f"no checkpoint is signed, the audit log is broken at row {found.first_bad_sequence}: {found.problem}"
            )
        if found.head_sequence == (before.sequence if before else 0):
            return None
        at = record.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return writer.append(found.head_sequence, found.head_hash, at)


@dataclass(frozen=True, slots=True)
class SigningState:
    """Whether checkpoints are made in time.

    Attributes:
        last: The last checkpoint, None when there is none.
        head_sequence: The last row of the log, 0 when it is empty.
        waiting_rows: How many rows no checkpoint vouches for yet.
        waiting_seconds: The age of the oldest of these, 0 when there are none.
    """

    last: Checkpoint | None
    head_sequence: int
    waiting_rows: int
    waiting_seconds: float

    def is_late(self, checkpoint_seconds: float) -> bool:
        """Whether the rows wait much longer than they may."""
        return self.waiting_seconds > 3 * checkpoint_seconds


def signing_state(record: Record, file: CheckpointFile) -> SigningState:
    """How far the log is signed; cheap enough to be asked at every scrape of the metrics.

    Raises:
        AuditError: The checkpoints cannot be read.
        UnavailableError: The database does not answer.
    """
    last = file.last()
    signed = last.sequence if last else 0
    with record.reading() as session:
        head = session.scalar(select(func.max(AuditEvent.sequence))) or 0
        oldest = session.scalar(
            select(AuditEvent.at).where(AuditEvent.sequence > signed).order_by(AuditEvent.sequence).limit(1)
        )
    age = (record.now() - datetime.fromisoformat(oldest).astimezone(UTC)).total_seconds() if oldest else 0.0
    return SigningState(last, head, max(0, head - signed), max(0.0, age))
