"""Who looked at which study: written into the audit log once for a while, not at every refresh of a page."""

from datetime import timedelta

from db import audit
from db.audit import Event
from db.audit_queries import AuditQuery, audit_rows
from db.session import Record
from dicom_core.errors import AuditError

ONE_VIEWING = timedelta(minutes=10)
"""For so long the same person at the same address is still looking at the same study."""


def note_viewing(record: Record, study_instance_uid: str, *, address: str, by: str, with_trail: bool = False) -> None:
    """Write that a person sees a study, unless that was written within the last ten minutes.

    Args:
        record: On behalf of that person.
        study_instance_uid: Received.
        address: Where the person is.
        by: What is used: ``web``, ``api``.
        with_trail: Whether the audit trail of the study is seen as well (PS3.15 section A.5.3.2).

    Raises:
        AuditError: It cannot be written, so the study must not be shown.
    """
    if _is_noted(record, study_instance_uid, address, with_trail):
        return
    try:
        with record.writing() as transaction:
            for event in (Event.STUDY_VIEWED, *((Event.AUDIT_READ,) if with_trail else ())):
                audit.append(
                    transaction, event, address=address, study_instance_uid=study_instance_uid, detail={"by": by}
                )
    except Exception as error:  # any failure to audit has one meaning for the caller
        raise AuditError(f"the audit log cannot be written: {error}") from error


def _is_noted(record: Record, study_instance_uid: str, address: str, with_trail: bool) -> bool:
    event = Event.AUDIT_READ if with_trail else Event.STUDY_VIEWED
    query = AuditQuery(
        study_instance_uid=study_instance_uid,
        event=event.word,
        user=record.user,
        address=address,
        since=record.now() - ONE_VIEWING,
        limit=1,
    )
    return bool(audit_rows(record, query))
