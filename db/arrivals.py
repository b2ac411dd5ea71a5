"""Received instances in the record: the busiest statements of a listener, so they go past the ORM and its compiler.

A new instance of a known series costs one INSERT, and its group three UPDATEs. Everything else goes through
``db.arrival_cases``.
"""

from collections import Counter
from typing import Any

from sqlalchemy import BigInteger, BindParameter, String, bindparam, exists, insert, literal, or_, select, update

from db.arrival_cases import Arrival
from db.instance_states import RECEIVED
from db.models import AssociationRow, AssociationStudy, Instance, Series, Study, UtcDateTime
from db.prepared import Prepared
from db.session import Transaction
from dicom_core.study import AssociationOutcome, ReceivedInstance, Registration, StudyState


def _text(name: str) -> BindParameter[str]:
    return bindparam(name, type_=String)


_ASSOCIATION, _STUDY, _SERIES, _INSTANCE = _text("association"), _text("study"), _text("series"), _text("instance")
_ROW: dict[str, Any] = {
    "sop_instance_uid": _INSTANCE,
    "study_instance_uid": _STUDY,
    "series_instance_uid": _SERIES,
    "sop_class_uid": _text("sop_class"),
    "transfer_syntax_uid": _text("transfer_syntax"),
    "state": literal(RECEIVED),
    "fingerprint": _text("fingerprint"),
    "size_bytes": bindparam("size", type_=BigInteger),
    "path": _text("path"),
    "association_id": _ASSOCIATION,
    "generation": Study.generation + 1,
    "received_at": bindparam("now", type_=UtcDateTime),
}
_ADD_TO_KNOWN_SERIES = Prepared(
    insert(Instance).from_select(
        list(_ROW),
        select(*_ROW.values())
        .select_from(Study)
        .join(Series, Series.study_instance_uid == Study.study_instance_uid)
        .join(AssociationStudy, AssociationStudy.study_instance_uid == Study.study_instance_uid)
        .join(AssociationRow, AssociationRow.association_id == AssociationStudy.association_id)
        .where(
            Study.study_instance_uid == _STUDY,
            Study.state == StudyState.RECEIVING.value,
            or_(Study.patient_hash != "", _text("pseudonym") == ""),
            Series.series_instance_uid == _SERIES,
            AssociationRow.association_id == _ASSOCIATION,
            AssociationRow.outcome != AssociationOutcome.LOST.value,
            ~exists().where(Instance.sop_instance_uid == _INSTANCE),
        ),
    )
)
"""Adds one row where nothing but that row is new, none otherwise."""
_GROW_STUDY = Prepared(
    update(Study)
    .where(Study.study_instance_uid == _STUDY)
    .values(last_received_at=bindparam("now"), revision=Study.revision + bindparam("more"))
)
_LAST_OF_SERIES = Prepared(
    update(Series)
    .where(
        Series.study_instance_uid == _STUDY,
        Series.series_instance_uid == _SERIES,
        Series.last_association_id != _ASSOCIATION,
    )
    .values(last_association_id=_ASSOCIATION)
)
_COUNT = Prepared(
    update(AssociationStudy)
    .where(AssociationStudy.association_id == _ASSOCIATION, AssociationStudy.study_instance_uid == _STUDY)
    .values(
        stored=AssociationStudy.stored + bindparam("more_stored"),
        duplicates=AssociationStudy.duplicates + bindparam("more_duplicates"),
        conflicts=AssociationStudy.conflicts + bindparam("more_conflicts"),
        size_bytes=AssociationStudy.size_bytes + bindparam("more_bytes"),
    )
)


class Arrivals:
    """A group of durable instances on their way into the record.

    Args:
        transaction: Where the group is written.
    """

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._grown: Counter[str] = Counter()
        self._last: dict[tuple[str, str], str] = {}
        self._counts: dict[tuple[str, str], Counter[str]] = {}

    def record(self, received: ReceivedInstance) -> Registration:
        """Record one instance; ``count`` comes after the last one."""
        if self._add_to_known_series(received):
            registration = Registration.STORED
        else:
            registration = Arrival(self._transaction, received).record()
        pair = (received.association.association_id, received.study_instance_uid)
        counts = self._counts.setdefault(pair, Counter())
        counts[registration] += 1
        if registration is Registration.STORED:
            counts["bytes"] += received.size_bytes
            self._grown[received.study_instance_uid] += 1
            self._last[received.study_instance_uid, received.series_instance_uid] = pair[0]
        return registration

    def _add_to_known_series(self, received: ReceivedInstance) -> bool:
        """Add an instance of which nothing else is new; False when there is more to do."""
        added = _ADD_TO_KNOWN_SERIES.execute(
            self._transaction.connection,
            association=received.association.association_id,
            study=received.study_instance_uid,
            series=received.series_instance_uid,
            instance=received.sop_instance_uid,
            sop_class=received.sop_class_uid,
            transfer_syntax=received.transfer_syntax_uid,
            fingerprint=received.fingerprint,
            size=received.size_bytes,
            path=received.path,
            pseudonym=received.patient_hash,
            now=self._transaction.now,
        )
        return bool(added.rowcount == 1)

    def count(self) -> None:
        """Note how the studies grew, who brought the last of each series, and what each association brought."""
        connection = self._transaction.connection
        for study, number in self._grown.items():
            _GROW_STUDY.execute(connection, study=study, more=number, now=self._transaction.now)
        for (study, series), by in self._last.items():
            _LAST_OF_SERIES.execute(connection, study=study, series=series, association=by)
        for (by, study), counts in self._counts.items():
            _COUNT.execute(
                connection,
                association=by,
                study=study,
                more_stored=counts[Registration.STORED],
                more_duplicates=counts[Registration.DUPLICATE],
                more_conflicts=counts[Registration.CONFLICT],
                more_bytes=counts["bytes"],
            )
