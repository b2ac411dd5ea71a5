"""What changed since one looked last, told by the audit log: every change of a state has its row there."""

from dataclasses import dataclass

from sqlalchemy import func, select

from db.audit import Event
from db.models import AuditEvent, JobProgress, JobRow
from db.session import Record
from dicom_core.job import JobState

MOST_ROWS = 500
"""Read at once; who has to catch up with more is told that anything may have changed."""
_CHANGE_NOTHING = frozenset(
    event.word
    for event in (Event.STUDY_VIEWED, Event.AUDIT_READ, Event.AUDIT_EXPORTED, Event.SIGNED_IN, Event.SIGNED_OUT)
)
"""Looking at something: a page that is fetched again because it was looked at would never rest."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What the audit log tells of a while.

    Attributes:
        head: Sequence number of the last row.
        anything: Whether anything changed.
        studies: Which studies were touched; None: any may have been.
    """

    head: int
    anything: bool
    studies: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running job is.

    Attributes:
        share: Of the stage, 0 to 1.
    """

    job_id: str
    study_instance_uid: str
    stage: str
    share: float
    device: str


def head(record: Record) -> int:
    """Sequence number of the last row of the audit log, 0 when it is empty."""
    with record.reading() as session:
        return session.scalar(select(func.max(AuditEvent.sequence))) or 0


def changes_since(record: Record, sequence: int) -> Changes:
    """What changed after the row with this number."""
    statement = (
        select(AuditEvent.sequence, AuditEvent.event, AuditEvent.study_instance_uid)
        .where(AuditEvent.sequence > sequence)
        .order_by(AuditEvent.sequence)
        .limit(MOST_ROWS + 1)
    )
    with record.reading() as session:
        rows = session.execute(statement).all()
    if len(rows) > MOST_ROWS:
        return Changes(head(record), True, None)
    touched = [row for row in rows if row.event not in _CHANGE_NOTHING]
    studies = sorted({row.study_instance_uid for row in touched} - {""})
    return Changes(rows[-1].sequence if rows else sequence, bool(touched), tuple(studies))


def running(record: Record) -> list[Progress]:
    """The progress of every job that runs now."""
    statement = (
        select(JobProgress, JobRow.study_instance_uid)
        .join(JobRow, (JobRow.job_id == JobProgress.job_id) & (JobRow.fence == JobProgress.fence))
        .where(JobRow.state == JobState.RUNNING)
        .order_by(JobProgress.job_id)
    )
    with record.reading() as session:
        return [Progress(row.job_id, uid, row.stage, row.share, row.device) for row, uid in session.execute(statement)]
