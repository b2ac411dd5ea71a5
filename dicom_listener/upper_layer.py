"""Where pynetdicom's upper layer meets intake: its association, message and socket classes, each with one change.

pynetdicom keeps negotiation, state machine, release, abort and C-ECHO. Ours are: object bytes go straight to the spool
as they arrive instead of into memory; C-STORE is answered in the thread that reads the socket, without the two sleeping
loops in between; a PDU has a largest size and a deadline.
"""

import select
import socket
import struct
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association as UpperLayerAssociation
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket

from dicom_core.logs import get_logger
from dicom_listener.handlers import Answer, IncomingInstance, StoreRequest

BeginInstance = Callable[[StoreRequest], IncomingInstance]
_LARGEST_NEGOTIATION_BYTES = 1024 * 1024
"""An A-ASSOCIATE-RQ with 128 presentation contexts of 40 transfer syntaxes has a third of this."""
_LARGEST_COMMAND_BYTES = 64 * 1024
_PDU_HEADER_BYTES = 6
_ASSOCIATE_RQ, _ABORT = 1, 7
_HTTP_BEGINNINGS = (b"GET ", b"HEAD", b"POST", b"PUT ", b"OPTI", b"CONN", b"DELE", b"PATC", b"TRAC", b"PRI ")
_TLS_BEGINNING = b"\x16\x03"
_NEXT_OBJECT_WAIT_SECONDS = 0.002
_LAST_COMMAND_FRAGMENT = b"\x03"
_AFFECTED_SOP_CLASS_UID, _AFFECTED_SOP_INSTANCE_UID, _MESSAGE_ID = 0x00000002, 0x00001000, 0x00000110
log = get_logger("listener.upper_layer")


class BoundedSocket(AssociationSocket):  # type: ignore[misc]  # pynetdicom is not typed for us
    """A connection whose PDUs have a largest size and a deadline, read in one piece instead of 4 KiB ones.

    Attributes:
        largest_pdu_bytes: Longer PDUs end the connection before any memory is taken for them.
        pdu_seconds: How long one PDU may take from its first byte.
        wait_seconds: How long ``ready`` waits for data. The reactor sleeps a whole millisecond after each look.
        first_bytes: The header of the first PDU, as much of it as came.
        fault: Why the first PDU that was not read to its end was not, "" for none.
    """

    largest_pdu_bytes = _LARGEST_NEGOTIATION_BYTES
    pdu_seconds = 10.0
    wait_seconds = 0.0
    first_bytes = b""
    fault = ""

    @property
    def ready(self) -> bool:
        """Whether there is data to read."""
        if self.socket is None:
            return False
        try:
            return bool(select.select([self.socket], [], [], self.wait_seconds)[0])
        except (OSError, ValueError):
            self.event_queue.put("Evt17")  # transport connection closed (PS3.8 table 9-10)
            return False

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly ``nr_bytes``, fewer if the peer closes.

        Raises:
            OSError: The PDU is too long or too slow; the caller takes the connection for closed.
        """
        try:
            data = self._received(nr_bytes)
        except TimeoutError:
            self.fault = self.fault or "the PDU came slower than allowed"
            raise
        between_pdus = nr_bytes == _PDU_HEADER_BYTES and not data
        if len(data) < nr_bytes and not between_pdus:
            self.fault = self.fault or "the connection ended within a PDU"
        return data

    def _received(self, nr_bytes: int) -> bytearray:
        if nr_bytes > self.largest_pdu_bytes or self.socket is None:
            self.fault = self.fault or "the PDU announces more bytes than allowed"
            raise ConnectionAbortedError("PDU longer than allowed")
        deadline = time.monotonic() + self.pdu_seconds
        buffer = bytearray(nr_bytes)
        view, received = memoryview(buffer), 0
        while received < nr_bytes:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError("PDU slower than allowed")
            self.socket.settimeout(remaining)
            count = self.socket.recv_into(view[received:])
            if not count:
                break
            received += count
            if len(self.first_bytes) < _PDU_HEADER_BYTES:  # at once: the thread that asks does not wait for this one
                self.first_bytes = bytes(view[: min(received, _PDU_HEADER_BYTES)])
        self.socket.settimeout(self.pdu_seconds)
        return buffer if received == nr_bytes else bytearray(view[:received])

    def close(self) -> None:
        """Close the connection, also when the peer was quicker: pynetdicom then forgets the socket without closing."""
        connection: socket.socket | None = self.socket
        super().close()
        if connection is not None:
            connection.close()


class _CommandSet(BytesIO):
    """The encoded command set while it gathers; endless ones are an error."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > _LARGEST_COMMAND_BYTES:
            raise ValueError("the command set is too long")
        return super().write(data)


class _DataSet(BytesIO):
    """Stands where pynetdicom gathers a data set in memory, and passes it on to intake."""

    def __init__(self, message: DIMSEMessage, provider: "StoringProvider") -> None:
        super().__init__()
        self._message = message
        self._provider = provider

    def write(self, data: Any) -> int:
        incoming = self._provider.incoming(self._message)
        if incoming is not None:
            incoming.write(data)
        # data sets of other messages than C-STORE serve nobody here: none is negotiated that has one
        return len(data)


class StoringProvider(DIMSEServiceProvider):  # type: ignore[misc]  # pynetdicom is not typed for us
    """Receives messages: C-STORE goes to intake, everything else the way pynetdicom has it."""

    def __init__(self, association: UpperLayerAssociation, begin: BeginInstance | None = None) -> None:
        super().__init__(association)
        self.begin = begin
        self._gathering: DIMSEMessage | None = None
        self._incoming: IncomingInstance | None = None
        self._syntaxes: dict[int, tuple[str, str]] | None = None

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take one P-DATA indication (PS3.8 section 9.3.5)."""
        try:
            message = self._gathering = self._gathering or self._new_message()
            if not message.decode_msg(primitive, self.assoc):
                return
            self._gathering = None
            if isinstance(message, C_STORE_RQ):
                self._answer(message)
            else:
                self.msg_queue.put((message.context_id, message.message_to_primitive()))
        except Exception as error:  # noqa: BLE001  the edge: any bytes may come
            log.warning("invalid-message", error=type(error).__name__)
            self.abandon()
            self.dul.event_queue.put("Evt19")  # invalid PDU: the association is aborted (PS3.8 table 9-10)

    def incoming(self, message: DIMSEMessage) -> IncomingInstance | None:
        """The object that the message carries, begun with its first bytes; None for another message."""
        if self._incoming is None and isinstance(message, C_STORE_RQ) and self.begin is not None:
            self._incoming = self.begin(self._request(message))
        return self._incoming

    def abandon(self) -> None:
        """Leave nothing behind of an object that will not be received to the end."""
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.abandon()

    def _new_message(self) -> DIMSEMessage:
        message = DIMSEMessage()
        message.encoded_command_set = _CommandSet()
        message.data_set = _DataSet(message, self)
        return message

    def _answer(self, message: C_STORE_RQ) -> None:
        incoming = self.incoming(message)  # an object without any data set begins here
        if incoming is None:
            return
        answer = incoming.finish()
        self._incoming = None
        response = P_DATA()
        response.presentation_data_value_list = [
            [message.context_id, _LAST_COMMAND_FRAGMENT + store_response(message.command_set, answer)]
        ]
        self.dul.send_pdu(response)
        self.dul.socket.wait_seconds = _NEXT_OBJECT_WAIT_SECONDS

    def _request(self, message: C_STORE_RQ) -> StoreRequest:
        if self._syntaxes is None:
            self._syntaxes = {
                context.context_id: (context.abstract_syntax, context.transfer_syntax[0])
                for context in self.assoc.accepted_contexts
            }
        # KeyError: a presentation context that was not accepted (PS3.8 section 9.3.5.1)
        abstract_syntax_uid, transfer_syntax_uid = self._syntaxes[message.context_id]
        return StoreRequest(
            _uid(message.command_set, _AFFECTED_SOP_CLASS_UID),
            _uid(message.command_set, _AFFECTED_SOP_INSTANCE_UID),
            str(abstract_syntax_uid),
            str(transfer_syntax_uid),
        )


class StoringAssociation(UpperLayerAssociation):  # type: ignore[misc]  # pynetdicom is not typed for us
    """An association of an acceptor; tells once that it is over, however it ended."""

    def __init__(self, entity: ApplicationEntity, ended: "Callable[[StoringAssociation], None]") -> None:
        super().__init__(entity, "acceptor")
        self.dimse = StoringProvider(self)
        self.dul.daemon = True  # a peer that says nothing must not hold up the end of the process
        self._ended = ended
        self.judged = False
        """Whether an A-ASSOCIATE-RQ came that was accepted or rejected; the server sets it."""

    def run_reactor(self) -> None:
        """Live from the first byte to the end."""
        try:
            super().run_reactor()
        finally:
            self.dimse.abandon()
            connection: socket.socket | None = self.dul.socket.socket
            if connection is not None:
                self.dul.socket.close()
            self._ended(self)


def no_association(first_bytes: bytes, fault: str) -> str:
    """Why a connection became no association, in words of ours; nothing from the wire is quoted.

    Args:
        first_bytes: The header of its first PDU (PS3.8 section 9.3.1), as much of it as came.
        fault: Of the socket, see ``BoundedSocket``.
    """
    if first_bytes.startswith(_HTTP_BEGINNINGS):
        return "the peer speaks HTTP, not DICOM"
    if first_bytes.startswith(_TLS_BEGINNING):
        return "the peer speaks TLS, and this port takes DICOM without TLS"
    if len(first_bytes) < _PDU_HEADER_BYTES:
        return fault or "the connection ended within a PDU"
    if not _ASSOCIATE_RQ <= first_bytes[0] <= _ABORT:
        return "what came is no DICOM PDU"
    if first_bytes[0] != _ASSOCIATE_RQ:
        return "the first PDU is no A-ASSOCIATE-RQ"
    return fault or "the A-ASSOCIATE-RQ is malformed or came too late"


def store_response(command_set: Dataset, answer: Answer) -> bytes:
    """Encode a C-STORE-RSP command set (PS3.7 table 9.3-2), Implicit VR little endian as PS3.7 section 6.3.1 has it."""
    sop_class = _raw(command_set, _AFFECTED_SOP_CLASS_UID)
    sop_instance = _raw(command_set, _AFFECTED_SOP_INSTANCE_UID)
    comment = answer.comment.encode("ascii", "replace")
    elements = (
        _element(0x0002, sop_class)
        + _element(0x0100, b"\x01\x80")
        + _element(0x0120, _raw(command_set, _MESSAGE_ID))
        + _element(0x0800, b"\x01\x01")  # no data set follows
        + _element(0x0900, struct.pack("<H", answer.status))
        + (_element(0x0902, comment + b" " * (len(comment) % 2)) if comment else b"")
        + _element(0x1000, sop_instance)
    )
    return _element(0x0000, struct.pack("<L", len(elements))) + elements


def _element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0, number, len(value)) + value


def _raw(command_set: Dataset, tag: int) -> bytes:
    """The bytes of a command element as they came: no conversion, no warning that quotes them."""
    element = command_set.get_item(tag)
    value = element.value if element is not None else None
    return value if isinstance(value, bytes) else b""


def _uid(command_set: Dataset, tag: int) -> str:
    return _raw(command_set, tag).decode("ascii", "replace").rstrip(" \0")
