"""Audit messages as XML with the structure of PS3.15 section A.5.1."""

import base64
import ipaddress
import xml.etree.ElementTree as ET

from db.audit_export.message import Code, Message, Participant, ParticipantObject, clean

_APPLICATION_SERVER = "4"
_MACHINE_NAME, _IP_ADDRESS, _URI = "1", "2", "5"


def audit_message(message: Message) -> str:
    """The message as one line of XML, without declaration.

    Raises:
        ValueError: PS3.15 has no message for such an event (``Message.standard``).
    """
    if not message.standard:
        raise ValueError(f"PS3.15 has no audit message for {message.event.value}")
    root = ET.Element("AuditMessage")
    _event(root, message)
    for participant in message.participants:
        _participant(root, participant)
    attributes = {"AuditEnterpriseSiteID": message.enterprise_site_id} if message.enterprise_site_id else {}
    source = _element(root, "AuditSourceIdentification", {**attributes, "AuditSourceID": message.source_id})
    _element(source, "AuditSourceTypeCode", {"csd-code": _APPLICATION_SERVER})
    for one in message.objects:
        _object(root, one)
    return ET.tostring(root, encoding="unicode", short_empty_elements=True)


def _event(root: ET.Element, message: Message) -> None:
    event = _element(
        root,
        "EventIdentification",
        {
            "EventActionCode": message.action,
            "EventDateTime": message.at,
            "EventOutcomeIndicator": str(message.outcome),
        },
    )
    _coded(event, "EventID", message.event)
    for code in message.event_types:
        _coded(event, "EventTypeCode", code)
    if message.problem:
        _element(event, "EventOutcomeDescription").text = clean(message.problem)


def _participant(root: ET.Element, participant: Participant) -> None:
    attributes = {"UserID": participant.user_id, "UserIsRequestor": "true" if participant.requestor else "false"}
    if participant.ae_titles:
        attributes["AlternativeUserID"] = "AETITLES=" + ";".join(participant.ae_titles)  # section A.5.2.2
    if participant.address:
        attributes["NetworkAccessPointID"] = participant.address
        attributes["NetworkAccessPointTypeCode"] = network_type(participant.address)
    element = _element(root, "ActiveParticipant", attributes)
    if participant.role is not None:
        _coded(element, "RoleIDCode", participant.role)


def network_type(address: str) -> str:
    """NetworkAccessPointTypeCode of section A.5.1: IP address, URI or machine name."""
    try:
        ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return _URI if "://" in address else _MACHINE_NAME
    return _IP_ADDRESS


def _object(root: ET.Element, one: ParticipantObject) -> None:
    attributes = {
        "ParticipantObjectID": one.object_id,
        "ParticipantObjectTypeCode": one.object_type.value,
        "ParticipantObjectTypeCodeRole": one.role.value,
    }
    if one.life_cycle:
        attributes["ParticipantObjectDataLifeCycle"] = one.life_cycle
    element = _element(root, "ParticipantObjectIdentification", attributes)
    _coded(element, "ParticipantObjectIDTypeCode", one.id_type)
    _element(element, "ParticipantObjectName").text = clean(one.name)
    for name, value in one.details.items():
        encoded = base64.b64encode(value.encode("utf-8", "replace")).decode("ascii")
        _element(element, "ParticipantObjectDetail", {"type": name, "value": encoded})
    if one.sop_classes:
        description = _element(element, "ParticipantObjectDescription")
        for uid, number, instances in one.sop_classes:
            sop_class = _element(description, "SOPClass", {"UID": uid, "NumberOfInstances": str(number)})
            for instance in instances:
                _element(sop_class, "Instance", {"UID": instance})


def _coded(parent: ET.Element, name: str, code: Code) -> None:
    _element(parent, name, {"csd-code": code.value, "codeSystemName": code.system, "originalText": code.meaning})


def _element(parent: ET.Element, name: str, attributes: dict[str, str] | None = None) -> ET.Element:
    return ET.SubElement(parent, name, {key: clean(value) for key, value in (attributes or {}).items()})
