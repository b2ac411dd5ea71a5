"""A Storage SCU that sends exactly the bytes and identifiers it is told to, right or wrong."""

import contextlib
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydicom import config
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import P_DATA

from dicom_core.fingerprint import Fingerprint
from dicom_core.kept_answers import keep_answers


@dataclass(frozen=True, slots=True)
class StoreAnswer:
    """Status and Error Comment of a C-STORE-RSP; status -1 when none came."""

    status: int
    comment: str = ""


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    """One element in Explicit VR little endian; OB, OW, SQ and UN with the long length."""
    if vr in (b"OB", b"OW", b"SQ", b"UN"):
        return struct.pack("<HH2sHL", group, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def _uid(value: str) -> bytes:
    return value.encode() + b"\0" * (len(value) % 2)


def data_set(
    sop_instance_uid: str,
    *,
    study: str = "1.2.826.0.1.3680043.10.1",
    series: str = "1.2.826.0.1.3680043.10.1.1",
    sop_class: str = CTImageStorage,
    modality: bytes = b"CT",
    character_set: bytes = b"ISO_IR 100",
    patient_name: bytes = b"Doe^Jane",
    patient_id: bytes = b"",
    pixels: bytes = b"\1\2\3\4",
) -> bytes:
    """A small CT data set in Explicit VR little endian; an empty identifier leaves its element out."""
    parts = [element(0x0008, 0x0005, b"CS", character_set)]
    for number, value in ((0x0016, sop_class), (0x0018, sop_instance_uid)):
        if value:
            parts.append(element(0x0008, number, b"UI", _uid(value)))
    parts.append(element(0x0008, 0x0060, b"CS", modality))
    parts.append(element(0x0010, 0x0010, b"PN", patient_name + b" " * (len(patient_name) % 2)))
    if patient_id:
        parts.append(element(0x0010, 0x0020, b"LO", patient_id + b" " * (len(patient_id) % 2)))
    for number, value in ((0x000D, study), (0x000E, series)):
        if value:
            parts.append(element(0x0020, number, b"UI", _uid(value)))
    parts.append(element(0x7FE0, 0x0010, b"OW", pixels))
    return b"".join(parts)


def fingerprint(data: bytes) -> str:
    """What the record keeps of a data set."""
    made = Fingerprint()
    made.update(data)
    return str(made)


@contextlib.contextmanager
def association(
    port: int,
    *,
    calling: str = "TESTER",
    called: str = "VESSELQ",
    contexts: Sequence[tuple[str, Sequence[str]]] = ((CTImageStorage, (ExplicitVRLittleEndian,)),),
) -> Iterator[Association]:
    """Open an association, established or not; released at the end when it still stands."""
    entity = ApplicationEntity(calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 30
    for sop_class, syntaxes in contexts:
        entity.add_requested_context(sop_class, list(syntaxes))
    connections: list[socket.socket] = []
    handlers = [(evt.EVT_CONN_OPEN, lambda event: connections.append(event.assoc.dul.socket.socket))]
    opened = entity.associate("127.0.0.1", port, ae_title=called, evt_handlers=handlers)
    keep_answers(opened)
    try:
        yield opened
    finally:
        if opened.is_established:
            opened.release()
        for connection in connections:
            connection.close()  # pynetdicom forgets it when the peer was quicker


def store(
    opened: Association,
    sop_instance_uid: str,
    data: bytes,
    *,
    sop_class: str = CTImageStorage,
    context: int = 0,
) -> StoreAnswer:
    """Send one C-STORE-RQ with these bytes and wait for the answer.

    Args:
        opened: An established association.
        sop_instance_uid: Affected SOP Instance UID of the command, conformant or not.
        data: The data set as it shall go over the wire.
        sop_class: Affected SOP Class UID of the command.
        context: Index of the accepted presentation context to use.
    """
    context_id = opened.accepted_contexts[context].context_id
    opened._reactor_checkpoint.clear()
    while not opened._is_paused:
        time.sleep(0.0005)
    with _any_uid():
        _send(opened, context_id, b"\x01", store_command(sop_class, sop_instance_uid))
        _send(opened, context_id, b"\x00", data)
        _, response = opened.dimse.get_msg(block=True)
    opened._reactor_checkpoint.set()
    if response is None:
        return StoreAnswer(-1)
    return StoreAnswer(int(response.Status), str(response.ErrorComment or ""))


def store_command(sop_class: str, sop_instance_uid: str) -> bytes:
    """The command set of a C-STORE-RQ (PS3.7 table 9.3-1), encoded."""
    elements = b"".join(
        struct.pack("<HHL", 0, number, len(value)) + value
        for number, value in (
            (0x0002, _uid(sop_class)),
            (0x0100, b"\x01\x00"),
            (0x0110, b"\x01\x00"),
            (0x0700, b"\x02\x00"),
            (0x0800, b"\x01\x00"),
            (0x1000, _uid(sop_instance_uid)),
        )
    )
    return struct.pack("<HHLL", 0, 0, 4, len(elements)) + elements


def _send(opened: Association, context_id: int, kind: bytes, data: bytes) -> None:
    """Send one message part in fragments; ``kind`` is 1 for the command set, 0 for the data set."""
    largest = 16 * 1024
    pieces = [data[start : start + largest] for start in range(0, len(data), largest)]
    for index, piece in enumerate(pieces):
        last = 2 if index == len(pieces) - 1 else 0
        fragment = P_DATA()
        fragment.presentation_data_value_list = [[context_id, bytes([kind[0] | last]) + piece]]
        opened.dul.send_pdu(fragment)


@contextlib.contextmanager
def _any_uid() -> Iterator[None]:
    """Have pydicom say nothing about the UIDs that come back."""
    before = config.settings.reading_validation_mode
    config.settings.reading_validation_mode = config.IGNORE
    try:
        yield
    finally:
        config.settings.reading_validation_mode = before
