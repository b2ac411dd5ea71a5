"""From a row of the audit log to the message that tells of it (PS3.15 section A.5.3).

Patients are named by their pseudonym only. Events that the Standard has no message for get one of our own codes; they
go into the forms that allow for that, and not to audit repositories.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from db.audit_export.facts import Facts, Node, Site
from db.audit_export.message import (
    APPLICATION,
    DESTINATION,
    LAUNCHER,
    NODE_ID,
    PATIENT_NUMBER,
    SOURCE,
    STUDY_INSTANCE_UID,
    URI,
    USER_IDENTIFIER,
    Code,
    Message,
    ObjectRole,
    ObjectType,
    Participant,
    ParticipantObject,
    dcm,
    own,
)
from db.audit_queries import AuditRow

AUDIT_LOG_URI = "urn:vesselq:audit"
_APPLICATION_ACTIVITY, _AUDIT_LOG_USED, _SECURITY_ALERT, _USER_AUTHENTICATION = "110100", "110101", "110113", "110114"
_TRANSFERS = ("110102", "110104")
_FROM_US = frozenset({"transfer-begun", "instances-sent", "transfer-failed"})
_LIFE_CYCLES = {
    "instances-received": "2",  # import
    "instance-refused": "2",
    "job-running": "6",  # use
    "study-viewed": "6",
    "seg-created": "8",  # derivation
    "transfer-begun": "10",  # export
    "instances-sent": "10",
    "transfer-failed": "10",
    "sources-purged": "15",  # permanent erasure
}
_UNKNOWN = "unknown"


def message_of(row: AuditRow, site: Site, facts: Facts) -> Message:
    """The message that tells of one row."""
    return Message(
        sequence=row.sequence,
        standard=bool(row.event_id),
        event=dcm(row.event_id) if row.event_id else own(row.event),
        event_types=_event_types(row),
        action=row.action,
        at=row.at,
        process=row.process,
        outcome=row.outcome,
        problem=_problem(row),
        participants=_PARTICIPANTS.get(row.event_id, _those_who_acted)(row, site),
        source_id=site.source_id,
        enterprise_site_id=site.enterprise_site_id,
        objects=_objects(row, site, facts),
    )


def _event_types(row: AuditRow) -> tuple[Code, ...]:
    """The type of the Standard, and our word, which says more; a security alert must have one (section A.5.3.11)."""
    types = (dcm(row.event_type),) if row.event_type else ()
    return (*types, own(row.event)) if row.event_id else types


def _problem(row: AuditRow) -> str:
    if row.outcome == 0:
        return ""
    return str(row.detail.get("reason") or row.detail.get("answer") or row.event)


# --- who took part ----------------------------------------------------------------------------------------------------


def _our_process(row: AuditRow, site: Site, *, requestor: bool = False, role: Code = APPLICATION) -> Participant:
    return Participant(row.process, requestor, role, (site.ae_title,))


def _person(row: AuditRow, *, role: Code | None = None) -> Participant:
    return Participant(row.user, True, role, address="" if row.ae_title else row.address)


def _peer(row: AuditRow, *, requestor: bool, role: Code | None = None) -> Participant:
    ae_titles = (row.ae_title,) if row.ae_title else ()
    return Participant(row.ae_title or row.address or _UNKNOWN, requestor, role, ae_titles, row.address)


def _those_who_acted(row: AuditRow, site: Site) -> tuple[Participant, ...]:
    """The person or the peer that asked, and the process that did it."""
    if row.user:
        return _person(row), _our_process(row, site)
    if row.ae_title or row.address:
        return _peer(row, requestor=True), _our_process(row, site)
    return (_our_process(row, site, requestor=True),)


def _application(row: AuditRow, site: Site) -> tuple[Participant, ...]:
    """Section A.5.3.1: the application, and who started it where that is known."""
    launcher = (_person(row, role=LAUNCHER),) if row.user else ()
    return (_our_process(row, site), *launcher)


def _transfer(row: AuditRow, site: Site) -> tuple[Participant, ...]:
    """Sections A.5.3.3 and A.5.3.7: who sent and who took, the sender being the one that asked."""
    if row.event not in _FROM_US:
        return _peer(row, requestor=True, role=SOURCE), _our_process(row, site, role=DESTINATION)
    name = str(row.detail.get("destination", "")) or _UNKNOWN
    node = site.destinations.get(name, Node(name, (), ""))
    destination = Participant(node.user_id, False, DESTINATION, node.ae_titles, node.address)
    return _our_process(row, site, requestor=True, role=SOURCE), destination


def _authentication(row: AuditRow, site: Site) -> tuple[Participant, ...]:
    """Section A.5.3.12: the person with the place it came from, and the node that checked."""
    person = Participant(row.user or str(row.detail.get("account", "")) or _UNKNOWN, True, address=row.address)
    return person, _our_process(row, site)


_PARTICIPANTS: Mapping[str, Callable[[AuditRow, Site], tuple[Participant, ...]]] = {
    _APPLICATION_ACTIVITY: _application,
    _USER_AUTHENTICATION: _authentication,
    **dict.fromkeys(_TRANSFERS, _transfer),
}


# --- what it was done to ----------------------------------------------------------------------------------------------


def _objects(row: AuditRow, site: Site, facts: Facts) -> tuple[ParticipantObject, ...]:
    if row.event_id == _USER_AUTHENTICATION:
        return ()
    found: list[ParticipantObject] = []
    if row.event_id == _AUDIT_LOG_USED:
        found.append(
            ParticipantObject(
                AUDIT_LOG_URI, URI, ObjectType.SYSTEM_OBJECT, ObjectRole.SECURITY_RESOURCE, "Security Audit Log",
                details=_details(row),
            )
        )  # fmt: skip
    if row.event_id == _SECURITY_ALERT:
        found.append(_alert_subject(row, site))
    if row.study_instance_uid:
        found += [_study(row, facts), _patient(row, facts)]
    elif row.job_id or (not row.event_id and row.detail):
        found.append(_anything_else(row))
    return tuple(found)


def _details(row: AuditRow) -> dict[str, str]:
    facts = {"event": row.event, **({"job_id": row.job_id} if row.job_id else {}), **row.detail}
    return {name: _text(value) for name, value in facts.items() if value not in ("", None)}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _alert_subject(row: AuditRow, site: Site) -> ParticipantObject:
    """Section A.5.3.11: the node, account or object that the alert is about, and what happened in words."""
    described = str(row.detail.get("reason") or row.event.replace("-", " "))
    details = {"Alert Description": described, **_details(row)}
    account = row.detail.get("account") or row.detail.get("token")
    if account:
        return ParticipantObject(
            str(account), USER_IDENTIFIER, ObjectType.SYSTEM_OBJECT, ObjectRole.SECURITY_USER_ENTITY, "account",
            details=details,
        )  # fmt: skip
    if row.detail.get("sop_instance_uid"):
        uri = f"urn:oid:{row.detail['sop_instance_uid']}"
        return ParticipantObject(
            uri, URI, ObjectType.SYSTEM_OBJECT, ObjectRole.SECURITY_RESOURCE, "SOP Instance", details=details
        )
    node = row.ae_title or row.address or site.source_id
    return ParticipantObject(
        node, NODE_ID, ObjectType.SYSTEM_OBJECT, ObjectRole.SECURITY_RESOURCE, "node", details=details
    )


def _study(row: AuditRow, facts: Facts) -> ParticipantObject:
    instance = str(row.detail.get("sop_instance_uid", ""))
    classes: tuple[tuple[str, int, tuple[str, ...]], ...]
    if row.job_id and instance in facts.result_classes:
        classes = ((facts.result_classes[instance], 1, (instance,)),)
    else:
        known = facts.study_classes.get(row.study_instance_uid, ())
        classes = tuple((sop_class, number, ()) for sop_class, number in known)
    return ParticipantObject(
        row.study_instance_uid, STUDY_INSTANCE_UID, ObjectType.SYSTEM_OBJECT, ObjectRole.REPORT, "study",
        life_cycle=_LIFE_CYCLES.get(row.event, ""),
        details=_details(row),
        sop_classes=classes,
    )  # fmt: skip


def _patient(row: AuditRow, facts: Facts) -> ParticipantObject:
    pseudonym = facts.patients.get(row.study_instance_uid, "")
    return ParticipantObject(
        pseudonym or _UNKNOWN, PATIENT_NUMBER, ObjectType.PERSON, ObjectRole.PATIENT,
        "pseudonym" if pseudonym else _UNKNOWN,
    )  # fmt: skip


def _anything_else(row: AuditRow) -> ParticipantObject:
    """A job, or only the facts of an event of ours."""
    if row.job_id:
        return ParticipantObject(
            row.job_id, own("job"), ObjectType.SYSTEM_OBJECT, ObjectRole.JOB, "job", details=_details(row)
        )
    return ParticipantObject(
        row.event, own("event"), ObjectType.SYSTEM_OBJECT, ObjectRole.SECURITY_RESOURCE, "event", details=_details(row)
    )
