"""Recording what arrives: groups of instances, the end of the associations that brought them, lost files."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import islice

from sqlalchemy import String, bindparam, or_, select, update
from sqlalchemy.orm import Session

from db import audit
from db.arrivals import Arrivals
from db.audit import Event, Outcome
from db.instance_states import MISSING, PURGED, RECEIVED
from db.models import AssociationRow, AssociationStudy, ConflictingInstance, Installation, Instance, Process
from db.prepared import Prepared
from db.session import Record, Transaction, translated
from dicom_core.fingerprint import is_older
from dicom_core.study import Association, AssociationOutcome, ReceivedInstance, Registration

_PATHS_AT_ONCE = 1000
_FINGERPRINT = Prepared(
    select(Instance.fingerprint).where(Instance.sop_instance_uid == bindparam("instance", type_=String))
)


def record_instances(record: Record, instances: Sequence[ReceivedInstance]) -> list[Registration]:
    """Record a group of durable instances in one transaction: all of them or none.

    Returns:
        What became of each, in the order given.

    Raises:
        UnavailableError: The database does not take them; none may be acknowledged.
    """
    with record.writing() as transaction:
        arrivals = Arrivals(transaction)
        registrations = [arrivals.record(instance) for instance in instances]
        arrivals.count()
        return registrations


def close_association(record: Record, association: Association, outcome: AssociationOutcome) -> None:
    """Note the end of an association and, for each study it brought, what it brought (PS3.15 A.5.3.11)."""
    with record.writing() as transaction:
        row = transaction.session.get(AssociationRow, association.association_id)
        if row is not None and row.closed_at is None:
            _close(transaction, row, outcome)


def close_lost_associations(record: Record, silent_after_seconds: float) -> int:
    """Close associations whose listener stopped or fell silent; they would hold studies open for ever."""
    with record.writing() as transaction:
        limit = transaction.now - timedelta(seconds=silent_after_seconds)
        rows = transaction.session.scalars(
            select(AssociationRow)
            .outerjoin(Process, Process.process_id == AssociationRow.process_id)
            .where(
                AssociationRow.closed_at.is_(None),
                or_(Process.process_id.is_(None), Process.stopped_at.is_not(None), Process.last_seen_at < limit),
            )
        ).all()
        for row in rows:
            _close(transaction, row, AssociationOutcome.LOST)
        return len(rows)


def _close(transaction: Transaction, row: AssociationRow, outcome: AssociationOutcome) -> None:
    row.closed_at, row.outcome = transaction.now, outcome
    for counts in transaction.session.scalars(
        select(AssociationStudy)
        .where(AssociationStudy.association_id == row.association_id)
        .order_by(AssociationStudy.study_instance_uid)
    ).all():
        audit.append(
            transaction,
            Event.INSTANCES_RECEIVED,
            outcome=Outcome.SUCCESS if outcome is AssociationOutcome.RELEASED else Outcome.MINOR_FAILURE,
            ae_title=row.calling_ae_title,
            address=row.peer_address,
            study_instance_uid=counts.study_instance_uid,
            detail={
                "association": outcome.value,
                "stored": counts.stored,
                "duplicates": counts.duplicates,
                "conflicts": counts.conflicts,
                "size_bytes": counts.size_bytes,
            },
        )


def unrecorded_paths(record: Record, paths: Iterable[str]) -> list[str]:
    """Which spool files no row knows: received, but never acknowledged."""
    with record.reading() as session:
        return [path for group in _in_groups(paths) for path in _unknown(session, group)]


def _in_groups(paths: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(paths)
    while group := list(islice(iterator, _PATHS_AT_ONCE)):
        yield group


def _unknown(session: Session, paths: Sequence[str]) -> list[str]:
    known = set(session.scalars(select(Instance.path).where(Instance.path.in_(paths), Instance.state != PURGED)))
    known |= set(session.scalars(select(ConflictingInstance.path).where(ConflictingInstance.path.in_(paths))))
    return [path for path in paths if path not in known]


def recorded_files(record: Record) -> list[tuple[str, str, str]]:
    """``(SOPInstanceUID, path, fingerprint)`` of every instance whose file should be in the spool."""
    with record.reading() as session:
        rows = session.execute(
            select(Instance.sop_instance_uid, Instance.path, Instance.fingerprint).where(Instance.state == RECEIVED)
        )
        return [(row.sop_instance_uid, row.path, row.fingerprint) for row in rows]


def older_fingerprints(record: Record) -> Callable[[str], str]:
    """Finds the fingerprint under which an older release knows an instance, by SOP Instance UID; "" for none.

    A record that is younger than this release holds none, and finding that costs nothing.
    """
    with record.reading() as session:
        if not session.scalar(select(Installation.older_fingerprints)):
            return lambda _: ""

    def find(sop_instance_uid: str) -> str:
        with translated(), record.engine.connect() as connection:
            known = _FINGERPRINT.execute(connection, instance=sop_instance_uid).fetchone()
        return known[0] if known is not None and is_older(known[0]) else ""

    return find


def mark_missing(record: Record, sop_instance_uid: str, reason: str) -> None:
    """Raise the alarm for a stored instance whose file is gone or damaged."""
    with record.writing() as transaction:
        changed = transaction.session.execute(
            update(Instance)
            .where(Instance.sop_instance_uid == sop_instance_uid, Instance.state == RECEIVED)
            .values(state=MISSING)
            .returning(Instance.study_instance_uid)
        ).scalar_one_or_none()
        if changed is not None:
            audit.append(
                transaction,
                Event.INSTANCE_MISSING,
                outcome=Outcome.MAJOR_FAILURE,
                study_instance_uid=changed,
                detail={"sop_instance_uid": sop_instance_uid, "reason": reason},
            )
