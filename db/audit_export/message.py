"""What an audit message says, whatever its form: the parts of PS3.15 section A.5.1 as plain values.

``dicom_xml`` and ``fhir`` write the same message, so that both forms always tell the same.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from dicom_core.identifiers import derived_uid

DCM = "DCM"
RFC_3881 = "RFC-3881"
OWN_CODES = f"urn:oid:{derived_uid('vesselq', 'audit codes')}"
"""Names the codes that are ours: the words of ``db.audit.Event``, where the Standard has none."""

_NO_TEXT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 section 2.2 has no place for, and UTF-8 and the strings of FHIR neither."""

MEANINGS = {
    "110100": "Application Activity",
    "110101": "Audit Log Used",
    "110102": "Begin Transferring DICOM Instances",
    "110103": "DICOM Instances Accessed",
    "110104": "DICOM Instances Transferred",
    "110105": "DICOM Study Deleted",
    "110106": "Export",
    "110113": "Security Alert",
    "110114": "User Authentication",
    "110120": "Application Start",
    "110121": "Application Stop",
    "110122": "Login",
    "110123": "Logout",
    "110126": "Node Authentication",
    "110131": "Software Configuration",
    "110132": "Use of Restricted Function",
    "110136": "Security Roles Changed",
    "110137": "User security Attributes Changed",
    "110150": "Application",
    "110151": "Application Launcher",
    "110152": "Destination Role ID",
    "110153": "Source Role ID",
    "110180": "Study Instance UID",
    "110182": "Node ID",
}
"""Code Meanings of the codes of DICOM (PS3.16 annex D) that audit messages use."""


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value."""

    value: str
    system: str
    meaning: str


def clean(text: str) -> str:
    """``text`` that every form has a place for; what none has becomes ``?``."""
    return _NO_TEXT.sub("?", text)


def dcm(value: str) -> Code:
    """A code of DICOM itself."""
    return Code(value, DCM, MEANINGS[value])


def own(word: str) -> Code:
    """A code of ours."""
    return Code(word, OWN_CODES, word)


APPLICATION, LAUNCHER = dcm("110150"), dcm("110151")
DESTINATION, SOURCE = dcm("110152"), dcm("110153")
STUDY_INSTANCE_UID, NODE_ID = dcm("110180"), dcm("110182")
PATIENT_NUMBER = Code("2", RFC_3881, "Patient Number")
USER_IDENTIFIER = Code("11", RFC_3881, "User Identifier")
URI = Code("12", RFC_3881, "URI")


class ObjectType(StrEnum):
    """ParticipantObjectTypeCode of section A.5.1."""

    PERSON = "1"
    SYSTEM_OBJECT = "2"


class ObjectRole(StrEnum):
    """ParticipantObjectTypeCodeRole of section A.5.1.2.2, those that we use."""

    PATIENT = "1"
    REPORT = "3"
    SECURITY_USER_ENTITY = "11"
    SECURITY_RESOURCE = "13"
    JOB = "20"


@dataclass(frozen=True, slots=True)
class Participant:
    """Who took part (ActiveParticipant).

    Attributes:
        user_id: A person's name, an AE title, or one of our processes.
        requestor: Whether this one started it; at most one of a message did.
        role: What part it had, None for a person.
        ae_titles: Under which it speaks DICOM.
        address: Network address, "" when it is not known.
    """

    user_id: str
    requestor: bool = False
    role: Code | None = None
    ae_titles: tuple[str, ...] = ()
    address: str = ""


@dataclass(frozen=True, slots=True)
class ParticipantObject:
    """What it was done to (ParticipantObjectIdentification).

    Attributes:
        object_id: What it is found by; its kind is ``id_type``.
        name: For people.
        life_cycle: ParticipantObjectDataLifeCycle of section A.5.1.2.3, "" for none.
        details: Facts by name.
        sop_classes: SOP Class UID, number of instances and the SOP Instance UIDs that are known, of a study.
    """

    object_id: str
    id_type: Code
    object_type: ObjectType
    role: ObjectRole
    name: str
    life_cycle: str = ""
    details: Mapping[str, str] = field(default_factory=dict)
    sop_classes: tuple[tuple[str, int, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """One audit message.

    Attributes:
        sequence: Of the row that it tells of.
        standard: Whether PS3.15 section A.5.3 has a message for it.
        at: ISO 8601, UTC.
        process: Which of ours wrote the row.
        outcome: 0, 4, 8 or 12 (section A.5.2).
        problem: Why it did not succeed, in words.
    """

    sequence: int
    standard: bool
    event: Code
    event_types: tuple[Code, ...]
    action: str
    at: str
    process: str
    outcome: int
    problem: str
    participants: tuple[Participant, ...]
    source_id: str
    enterprise_site_id: str
    objects: tuple[ParticipantObject, ...]
