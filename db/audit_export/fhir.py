"""Audit messages as FHIR R4 AuditEvent resources, close to the patterns of IHE BALP (Basic Audit Log Patterns)."""

import json
from typing import Any

from db.audit_export.dicom_xml import network_type
from db.audit_export.message import DCM, RFC_3881, Code, Message, ObjectRole, Participant, ParticipantObject, clean

_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_OBJECT_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
_LIFE_CYCLE = "http://terminology.hl7.org/CodeSystem/dicom-audit-lifecycle"
_SOURCE_TYPE = "http://terminology.hl7.org/CodeSystem/security-source-type"
_SYSTEMS = {DCM: _DCM, RFC_3881: "urn:ietf:rfc:3881"}


def audit_event(message: Message) -> str:
    """The message as one line of JSON."""
    return json.dumps(_cleaned(_resource(message)), ensure_ascii=False, separators=(",", ":"))


def _cleaned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _cleaned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    return clean(value) if isinstance(value, str) else value


def _resource(message: Message) -> dict[str, Any]:
    resource: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "id": f"{_id_part(message.source_id)}-{message.sequence}",
        "type": _coding(message.event),
        "action": message.action,
        "recorded": message.at,
        "outcome": str(message.outcome),
        "agent": [_agent(participant) for participant in message.participants],
        "source": {
            "observer": {"display": message.source_id},
            "type": [{"system": _SOURCE_TYPE, "code": "4", "display": "Application Server"}],
        },
    }
    if message.event_types:
        resource["subtype"] = [_coding(code) for code in message.event_types]
    if message.problem:
        resource["outcomeDesc"] = message.problem
    if message.enterprise_site_id:
        resource["source"]["site"] = message.enterprise_site_id
    if message.objects:
        resource["entity"] = [_entity(one) for one in message.objects]
    return resource


def _id_part(text: str) -> str:
    """What may stand in a resource id: letters, digits, hyphen and full stop, 64 with the number."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in text)[:40]


def _coding(code: Code) -> dict[str, str]:
    return {"system": _SYSTEMS.get(code.system, code.system), "code": code.value, "display": code.meaning}


def _agent(participant: Participant) -> dict[str, Any]:
    agent: dict[str, Any] = {
        "who": {"identifier": {"value": participant.user_id}},
        "requestor": participant.requestor,
    }
    if participant.role is not None:
        agent["type"] = {"coding": [_coding(participant.role)]}
    if participant.ae_titles:
        agent["altId"] = ";".join(participant.ae_titles)
    if participant.address:
        agent["network"] = {"address": participant.address, "type": network_type(participant.address)}
    return agent


def _entity(one: ParticipantObject) -> dict[str, Any]:
    identifier: dict[str, Any] = {"type": {"coding": [_coding(one.id_type)]}, "value": one.object_id}
    if one.role is ObjectRole.PATIENT:
        what: dict[str, Any] = {"type": "Patient", "identifier": identifier}
    else:
        what = {"identifier": identifier}
    entity: dict[str, Any] = {
        "what": what,
        "type": {"system": _ENTITY_TYPE, "code": one.object_type.value},
        "role": {"system": _OBJECT_ROLE, "code": one.role.value},
        "name": one.name,
    }
    if one.life_cycle:
        entity["lifecycle"] = {"system": _LIFE_CYCLE, "code": one.life_cycle}
    details = [{"type": name, "valueString": value} for name, value in one.details.items()]
    for uid, number, instances in one.sop_classes:
        details.append({"type": "SOPClass", "valueString": uid})
        details.append({"type": "NumberOfInstances", "valueString": str(number)})
        details += [{"type": "Instance", "valueString": instance} for instance in instances]
    if details:
        entity["detail"] = details
    return entity
