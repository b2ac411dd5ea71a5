"""What arrives: associations, instances, series, studies. Frozen, no I/O."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class StudyState(StrEnum):
    """``RECEIVING -(quiet)-> COMPLETE -(late instance)-> RECEIVING``; every COMPLETE opens the next generation."""

    RECEIVING = "RECEIVING"
    COMPLETE = "COMPLETE"


class AssociationOutcome(StrEnum):
    """How an association ended (PS3.8 section 7)."""

    OPEN = "OPEN"
    RELEASED = "RELEASED"
    ABORTED = "ABORTED"
    LOST = "LOST"
    """The listener that held it ended without closing it."""


@dataclass(frozen=True, slots=True)
class Association:
    """One accepted association.

    Attributes:
        association_id: Ours, 32 hexadecimal digits.
        process_id: The listener process that holds it (``db.processes``).
        calling_ae_title: As the peer gave it, without padding.
        called_ae_title: As the peer gave it, without padding.
        peer_address: IP address of the peer.
    """

    association_id: str
    process_id: str
    calling_ae_title: str
    called_ae_title: str
    peer_address: str


@dataclass(frozen=True, slots=True)
class ReceivedInstance:
    """One instance whose bytes are durable in the spool and that is to be recorded.

    Attributes:
        association: By which association it came.
        study_instance_uid: (0020,000D).
        series_instance_uid: (0020,000E).
        sop_instance_uid: (0008,0018), equal to the affected SOP Instance UID of the C-STORE request.
        sop_class_uid: (0008,0016).
        transfer_syntax_uid: Of the presentation context that carried it.
        modality: (0008,0060), "" if absent.
        fingerprint: Of the data set as received, without preamble and file meta information.
        size_bytes: Size of the spool file.
        path: Of the spool file, relative to the spool folder.
        patient_hash: Pseudonym of the patient (``dicom_core.pseudonym``), "" if the header names none.
    """

    association: Association
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    modality: str
    fingerprint: str
    size_bytes: int
    path: str
    patient_hash: str = ""


class Registration(StrEnum):
    """What became of a received instance."""

    STORED = "STORED"
    DUPLICATE = "DUPLICATE"
    """The same SOP Instance UID with the same content was there already; answered 0x0000, counted."""
    CONFLICT = "CONFLICT"
    """The same SOP Instance UID with other content; the first one stays, this one is kept aside and audited."""


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An instance as the record knows it."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    fingerprint: str
    path: str


@dataclass(frozen=True, slots=True)
class StoredSeries:
    """A series of a complete study, with what a routing decision and a job need.

    Attributes:
        instances: Ordered by SOP Instance UID, so that the input hash does not depend on the order of arrival; empty
            when the files of all of them are missing.
        calling_ae_title: Of the association that brought its last instance; "back to the sender" goes there.
        absent: How many more instances it has whose files are gone: removed by the retention policy, or missing.
    """

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    instances: tuple[StoredInstance, ...]
    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    absent: int = 0


@dataclass(frozen=True, slots=True)
class QuietStudy:
    """A study that has had no instance and no open association for the quiet time.

    Attributes:
        generation: The last completed generation, 0 for a study that was never complete.
        series: Those that the retention policy has not emptied.
        revision: Guards the change to COMPLETE: an instance that arrives meanwhile raises it.
    """

    study_instance_uid: str
    generation: int
    last_received_at: datetime
    series: tuple[StoredSeries, ...]
    revision: int = 0


def input_hash(instances: Iterable[StoredInstance]) -> str:
    """Over the identity and content of every instance, in the order of ``StoredSeries``: what a job is to work on."""
    lines = [f"{instance.sop_instance_uid} {instance.fingerprint}" for instance in instances]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
