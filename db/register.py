"""Recording what arrives: instances, the associations that brought them, the studies they open again."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import islice

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from db import audit
from db.audit import Event, Outcome
from db.models import AssociationRow, AssociationStudy, ConflictingInstance, Instance, Process, Series, Study, storable
from db.session import Record, Transaction
from dicom_core.study import Association, AssociationOutcome, ReceivedInstance, Registration, StudyState

RECEIVED, MISSING, PURGED = "RECEIVED", "MISSING", "PURGED"
"""States of a stored instance: its file is there, is unexpectedly not there, was removed by the retention policy."""
_PATHS_AT_ONCE = 1000


def record_instances(record: Record, instances: Sequence[ReceivedInstance]) -> list[Registration]:
    """Record a group of durable instances in one transaction: all of them or none.

    Returns:
        What became of each, in the order given.

    Raises:
        UnavailableError: The database does not take them; none may be acknowledged.
    """
    with record.writing() as transaction:
        return [_record(transaction, instance) for instance in instances]


def _record(transaction: Transaction, received: ReceivedInstance) -> Registration:
    session = transaction.session
    counts = _association_study(transaction, received)
    known = session.get(Instance, received.sop_instance_uid)
    if known is not None and known.sha256 != received.sha256:
        _keep_aside(transaction, received)
        counts.conflicts += 1
        return Registration.CONFLICT
    if known is not None and known.state == RECEIVED:
        counts.duplicates += 1
        return Registration.DUPLICATE
    study = _open_study(transaction, received)
    if known is None:
        session.add(
            Instance(
                sop_instance_uid=received.sop_instance_uid,
                study_instance_uid=received.study_instance_uid,
                series_instance_uid=received.series_instance_uid,
                sop_class_uid=received.sop_class_uid,
                transfer_syntax_uid=received.transfer_syntax_uid,
                state=RECEIVED,
                sha256=received.sha256,
                size_bytes=received.size_bytes,
                path=received.path,
                association_id=received.association.association_id,
                generation=study.generation + 1,
                received_at=transaction.now,
            )
        )
    else:
        # the same content is back: every generation that held it holds it again
        known.state, known.path, known.received_at = RECEIVED, received.path, transaction.now
    counts.stored += 1
    counts.size_bytes += received.size_bytes
    return Registration.STORED


def _association_study(transaction: Transaction, received: ReceivedInstance) -> AssociationStudy:
    session, association = transaction.session, received.association
    key = (association.association_id, received.study_instance_uid)
    row = session.get(AssociationRow, association.association_id)
    if row is not None and row.outcome == AssociationOutcome.LOST:
        _reopen(transaction, row)
    if (counts := session.get(AssociationStudy, key)) is not None:
        return counts
    if row is None:
        session.add(
            AssociationRow(
                association_id=association.association_id,
                process_id=association.process_id,
                calling_ae_title=storable(association.calling_ae_title, 16),
                called_ae_title=storable(association.called_ae_title, 16),
                peer_address=storable(association.peer_address, 64),
                opened_at=transaction.now,
                outcome=AssociationOutcome.OPEN,
            )
        )
        session.flush()
    counts = AssociationStudy(
        association_id=key[0], study_instance_uid=key[1], stored=0, duplicates=0, conflicts=0, size_bytes=0
    )
    session.add(counts)
    return counts


def _reopen(transaction: Transaction, row: AssociationRow) -> None:
    """The listener was silent, not dead: count anew, since what it brought before is in the audit log already."""
    row.closed_at, row.outcome = None, AssociationOutcome.OPEN
    for counts in transaction.session.scalars(
        select(AssociationStudy).where(AssociationStudy.association_id == row.association_id)
    ).all():
        counts.stored = counts.duplicates = counts.conflicts = counts.size_bytes = 0


def _open_study(transaction: Transaction, received: ReceivedInstance) -> Study:
    """Have the study in state RECEIVING and its series known."""
    session = transaction.session
    study = session.get(Study, received.study_instance_uid)
    if study is None:
        study = Study(
            study_instance_uid=received.study_instance_uid,
            state=StudyState.RECEIVING,
            generation=0,
            first_received_at=transaction.now,
            last_received_at=transaction.now,
            revision=0,
            patient_hash=received.patient_hash,
        )
        session.add(study)
        session.flush()
        _audit_receiving(transaction, received, late=False)
    elif study.state == StudyState.COMPLETE:
        study.state = StudyState.RECEIVING
        _audit_receiving(transaction, received, late=True)
    study.patient_hash = study.patient_hash or received.patient_hash
    study.last_received_at = transaction.now
    study.revision += 1
    key = (received.study_instance_uid, received.series_instance_uid)
    series = session.get(Series, key)
    if series is None:
        session.add(
            Series(
                study_instance_uid=key[0],
                series_instance_uid=key[1],
                modality=storable(received.modality, 16),
                last_association_id=received.association.association_id,
            )
        )
    else:
        series.last_association_id = received.association.association_id
    return study


def _audit_receiving(transaction: Transaction, received: ReceivedInstance, *, late: bool) -> None:
    audit.append(
        transaction,
        Event.STUDY_RECEIVING,
        ae_title=received.association.calling_ae_title,
        address=received.association.peer_address,
        study_instance_uid=received.study_instance_uid,
        detail={"late_instance": late, "patient_hash": received.patient_hash},
    )


def _keep_aside(transaction: Transaction, received: ReceivedInstance) -> None:
    session = transaction.session
    seen = session.scalar(
        select(ConflictingInstance.id).where(
            ConflictingInstance.sop_instance_uid == received.sop_instance_uid,
            ConflictingInstance.sha256 == received.sha256,
        )
    )
    if seen is None:
        session.add(
            ConflictingInstance(
                sop_instance_uid=received.sop_instance_uid,
                study_instance_uid=received.study_instance_uid,
                sha256=received.sha256,
                path=received.path,
                association_id=received.association.association_id,
                received_at=transaction.now,
            )
        )
    audit.append(
        transaction,
        Event.INSTANCE_CONFLICT,
        outcome=Outcome.MINOR_FAILURE,
        ae_title=received.association.calling_ae_title,
        address=received.association.peer_address,
        study_instance_uid=received.study_instance_uid,
        detail={"sop_instance_uid": received.sop_instance_uid, "seen_before": seen is not None},
    )


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
    """``(SOPInstanceUID, path, sha256)`` of every instance whose file should be in the spool."""
    with record.reading() as session:
        rows = session.execute(
            select(Instance.sop_instance_uid, Instance.path, Instance.sha256).where(Instance.state == RECEIVED)
        )
        return [(row.sop_instance_uid, row.path, row.sha256) for row in rows]


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
