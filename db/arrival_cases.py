"""An arriving instance that needs more than a row of its own.

It may be the first of its association, study or series, it may have been here before with the same bytes or with
others: a SELECT finds out, and what is new is added on the way, once.
"""

from sqlalchemy import BindParameter, Row, and_, bindparam, insert, literal, select, update

from db import audit
from db.audit import Event, Outcome
from db.instance_states import RECEIVED
from db.models import (
    AssociationRow,
    AssociationStudy,
    ConflictingInstance,
    Instance,
    Series,
    Study,
    storable,
)
from db.session import Transaction
from dicom_core.study import AssociationOutcome, ReceivedInstance, Registration, StudyState

_ASSOCIATION: BindParameter[str] = bindparam("by")
_STUDY: BindParameter[str] = bindparam("study")
_SERIES: BindParameter[str] = bindparam("in_series")
_INSTANCE: BindParameter[str] = bindparam("instance")
_ONE = select(literal(1).label("one")).subquery("one")
_SELECT_KNOWN = select(
    AssociationRow.outcome,
    AssociationStudy.association_id.label("counted"),
    Study.state.label("study_state"),
    Study.generation,
    Study.patient_hash,
    Series.last_association_id,
    Instance.state,
    Instance.fingerprint,
).select_from(
    _ONE.outerjoin(AssociationRow, AssociationRow.association_id == _ASSOCIATION)
    .outerjoin(
        AssociationStudy,
        and_(AssociationStudy.association_id == _ASSOCIATION, AssociationStudy.study_instance_uid == _STUDY),
    )
    .outerjoin(Study, Study.study_instance_uid == _STUDY)
    .outerjoin(Series, and_(Series.study_instance_uid == _STUDY, Series.series_instance_uid == _SERIES))
    .outerjoin(Instance, Instance.sop_instance_uid == _INSTANCE)
)
Known = Row[str, str, str, int, str, str, str, str]
"""What the record knows of the four; each may be None, which the outer joins do not tell the types."""
_INSERT_ASSOCIATION, _INSERT_COUNTS = insert(AssociationRow), insert(AssociationStudy)
_INSERT_STUDY, _INSERT_SERIES, _INSERT_INSTANCE = insert(Study), insert(Series), insert(Instance)
_THIS_STUDY = Study.study_instance_uid == _STUDY
_OPEN_STUDY = update(Study).where(_THIS_STUDY).values(state=StudyState.RECEIVING.value)
_NAME_PATIENT = update(Study).where(_THIS_STUDY).values(patient_hash=bindparam("pseudonym"))
_RESTORE_INSTANCE = (
    update(Instance)
    .where(Instance.sop_instance_uid == _INSTANCE)
    .values(state=RECEIVED, path=bindparam("new_path"), received_at=bindparam("now"))
)
_REOPEN_ASSOCIATION = (
    update(AssociationRow)
    .where(AssociationRow.association_id == _ASSOCIATION)
    .values(closed_at=None, outcome=AssociationOutcome.OPEN.value)
)
_COUNT_ANEW = (
    update(AssociationStudy)
    .where(AssociationStudy.association_id == _ASSOCIATION)
    .values(stored=0, duplicates=0, conflicts=0, size_bytes=0)
)
_INSERT_ASIDE = insert(ConflictingInstance)
_SELECT_ASIDE = select(ConflictingInstance.id).where(
    ConflictingInstance.sop_instance_uid == _INSTANCE, ConflictingInstance.fingerprint == bindparam("content")
)


class Arrival:
    """One durable instance that brings more than a row of its own.

    Args:
        transaction: Where its group of instances is written.
        received: What came.
    """

    def __init__(self, transaction: Transaction, received: ReceivedInstance) -> None:
        self._transaction = transaction
        self._connection = transaction.connection
        self._received = received
        self._by = {"by": received.association.association_id}
        self._study = {"study": received.study_instance_uid}
        self._series = {**self._study, "in_series": received.series_instance_uid}
        self._instance = {"instance": received.sop_instance_uid}

    def record(self) -> Registration:
        """Add what is new; returns what became of the instance. Counting is left to ``Arrivals``."""
        known = self._connection.execute(_SELECT_KNOWN, self._by | self._series | self._instance).one()
        if known.outcome == AssociationOutcome.LOST:
            self._reopen_association()
        if known.counted is None:
            self._add_association(known)
        registration = _registration(known, self._received)
        if registration is Registration.CONFLICT:
            self._keep_aside()
        elif registration is Registration.STORED:
            self._store(known)
        return registration

    def _reopen_association(self) -> None:
        """The listener was silent, not dead: count anew, since what it brought before is in the audit log already."""
        self._connection.execute(_REOPEN_ASSOCIATION, self._by)
        self._connection.execute(_COUNT_ANEW, self._by)

    def _add_association(self, known: Known) -> None:
        """Have a row for what this association brings of this study, and one for itself."""
        association = self._received.association
        if known.outcome is None:
            row = {
                "association_id": association.association_id,
                "process_id": association.process_id,
                "calling_ae_title": storable(association.calling_ae_title, 16),
                "called_ae_title": storable(association.called_ae_title, 16),
                "peer_address": storable(association.peer_address, 64),
                "opened_at": self._transaction.now,
                "outcome": AssociationOutcome.OPEN.value,
            }
            self._connection.execute(_INSERT_ASSOCIATION, row)
        self._connection.execute(
            _INSERT_COUNTS,
            {
                "association_id": association.association_id,
                "study_instance_uid": self._received.study_instance_uid,
                "stored": 0,
                "duplicates": 0,
                "conflicts": 0,
                "size_bytes": 0,
            },
        )

    def _store(self, known: Known) -> None:
        self._open_study(known)
        self._note_series(known)
        received, now = self._received, self._transaction.now
        if known.state is not None:
            # the same content is back: every generation that held it holds it again
            self._connection.execute(_RESTORE_INSTANCE, self._instance | {"new_path": received.path, "now": now})
            return
        row = {
            "sop_instance_uid": received.sop_instance_uid,
            "study_instance_uid": received.study_instance_uid,
            "series_instance_uid": received.series_instance_uid,
            "sop_class_uid": received.sop_class_uid,
            "transfer_syntax_uid": received.transfer_syntax_uid,
            "state": RECEIVED,
            "fingerprint": received.fingerprint,
            "size_bytes": received.size_bytes,
            "path": received.path,
            "association_id": received.association.association_id,
            "generation": (known.generation or 0) + 1,
            "received_at": now,
        }
        self._connection.execute(_INSERT_INSTANCE, row)

    def _open_study(self, known: Known) -> None:
        """Have the study in state RECEIVING, with the first pseudonym that it was told."""
        received, now = self._received, self._transaction.now
        if known.study_state is None:
            row = {
                "study_instance_uid": received.study_instance_uid,
                "state": StudyState.RECEIVING.value,
                "generation": 0,
                "first_received_at": now,
                "last_received_at": now,
                "revision": 0,
                "close_requested": False,
                "patient_hash": received.patient_hash,
            }
            self._connection.execute(_INSERT_STUDY, row)
            self._audit_receiving(late=False)
            return
        if known.study_state == StudyState.COMPLETE:
            self._connection.execute(_OPEN_STUDY, self._study)
            self._audit_receiving(late=True)
        if received.patient_hash and not known.patient_hash:
            self._connection.execute(_NAME_PATIENT, self._study | {"pseudonym": received.patient_hash})

    def _note_series(self, known: Known) -> None:
        received = self._received
        if known.last_association_id is None:
            row = {
                "study_instance_uid": received.study_instance_uid,
                "series_instance_uid": received.series_instance_uid,
                "modality": storable(received.modality, 16),
                "last_association_id": received.association.association_id,
            }
            self._connection.execute(_INSERT_SERIES, row)

    def _audit_receiving(self, *, late: bool) -> None:
        received = self._received
        audit.append(
            self._transaction,
            Event.STUDY_RECEIVING,
            ae_title=received.association.calling_ae_title,
            address=received.association.peer_address,
            study_instance_uid=received.study_instance_uid,
            detail={"late_instance": late, "patient_hash": received.patient_hash},
        )

    def _keep_aside(self) -> None:
        received = self._received
        seen = self._connection.execute(_SELECT_ASIDE, self._instance | {"content": received.fingerprint}).first()
        if seen is None:
            row = {
                "sop_instance_uid": received.sop_instance_uid,
                "study_instance_uid": received.study_instance_uid,
                "fingerprint": received.fingerprint,
                "path": received.path,
                "association_id": received.association.association_id,
                "received_at": self._transaction.now,
            }
            self._connection.execute(_INSERT_ASIDE, row)
        audit.append(
            self._transaction,
            Event.INSTANCE_CONFLICT,
            outcome=Outcome.MINOR_FAILURE,
            ae_title=received.association.calling_ae_title,
            address=received.association.peer_address,
            study_instance_uid=received.study_instance_uid,
            detail={"sop_instance_uid": received.sop_instance_uid, "seen_before": seen is not None},
        )


def _registration(known: Known, received: ReceivedInstance) -> Registration:
    if known.fingerprint is not None and known.fingerprint != received.fingerprint:
        return Registration.CONFLICT
    return Registration.DUPLICATE if known.state == RECEIVED else Registration.STORED
