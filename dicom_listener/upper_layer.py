"""The plain data path: pynetdicom's association, message and socket classes, each with one change.

In place of the own data path by the setting ``listener.data_path = "pynetdicom"``. Ours are: object bytes go straight
to the spool as they arrive instead of into memory; C-STORE is answered in the thread that reads the socket, without the
two sleeping loops in between; a PDU has a largest size and a deadline.
"""

import queue
import select
import socket
import ssl
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association as UpperLayerAssociation
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket

from dicom_core.logs import get_logger
from dicom_core.setting_tables import ListenerSettings
from dicom_listener.command_set import LARGEST_COMMAND_BYTES, CommandSet, read_command_set, store_response, uid_text
from dicom_listener.connection import LARGEST_NEGOTIATION_BYTES, PDU_HEADER_BYTES, Connection
from dicom_listener.handlers import IncomingInstance, StoreRequest
from dicom_listener.pynetdicom_internals import PatientStateMachine
from dicom_listener.served_association import ServedAssociation
from dicom_listener.store_messages import BeginInstance
from dicom_listener.tls import peer_names

_ASSOCIATE_RQ, _ABORT = 1, 7
_HTTP_BEGINNINGS = (b"GET ", b"HEAD", b"POST", b"PUT ", b"OPTI", b"CONN", b"DELE", b"PATC", b"TRAC", b"PRI ")
_TLS_BEGINNING = b"\x16\x03"
_NEXT_OBJECT_WAIT_SECONDS = 0.002
_LAST_COMMAND_FRAGMENT = b"\x03"
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

    largest_pdu_bytes = LARGEST_NEGOTIATION_BYTES
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
            if isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
                return True
            poll = select.poll()
            poll.register(self.socket, select.POLLIN)
            return bool(poll.poll(self.wait_seconds * 1000))
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
        between_pdus = nr_bytes == PDU_HEADER_BYTES and not data
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
            if len(self.first_bytes) < PDU_HEADER_BYTES:  # at once: the thread that asks does not wait for this one
                self.first_bytes = bytes(view[: min(received, PDU_HEADER_BYTES)])
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
        if self.tell() + len(data) > LARGEST_COMMAND_BYTES:
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
            [message.context_id, _LAST_COMMAND_FRAGMENT + store_response(_command_set(message), answer)]
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
        command = _command_set(message)
        return StoreRequest(
            uid_text(command.sop_class_uid),
            uid_text(command.sop_instance_uid),
            str(abstract_syntax_uid),
            str(transfer_syntax_uid),
        )


def _command_set(message: DIMSEMessage) -> CommandSet:
    """The command set as it came: no conversion, no warning that quotes it."""
    return read_command_set(message.encoded_command_set.getvalue())


class StoringAssociation(ServedAssociation):
    """An association over the plain data path; its arguments are those of ``OwnAssociation``."""

    def __init__(
        self,
        entity: ApplicationEntity,
        accepted: socket.socket,
        settings: ListenerSettings,
        tls: ssl.SSLContext | None,
        ended: "Callable[[StoringAssociation], None]",
    ) -> None:
        super().__init__(entity, settings, tls, ended)
        self.dimse = StoringProvider(self)
        self.dul.daemon = True  # a peer that says nothing must not hold up the end of the process
        self.dul.state_machine = PatientStateMachine(self.dul)
        self._socket = BoundedSocket(self, client_socket=accepted)
        self._socket.pdu_seconds = settings.acse_timeout_seconds
        self.set_socket(self._socket)
        self.bind(evt.EVT_CONN_CLOSE, _stop_waiting)

    @property
    def first_bytes(self) -> bytes:
        """The header of the first PDU, as much of it as came."""
        return self._socket.first_bytes

    @property
    def fault(self) -> str:
        """Why the first PDU was not read to its end, "" for none."""
        return self._socket.fault

    def admit(self, begin: BeginInstance) -> None:
        """The policy lets this peer in: objects may come, and PDUs of the size that is offered."""
        self.dimse.begin = begin
        largest = self._settings.maximum_pdu_bytes + PDU_HEADER_BYTES
        self._socket.largest_pdu_bytes = max(largest, self._socket.largest_pdu_bytes)
        self._socket.pdu_seconds = self._settings.pdu_timeout_seconds

    def stop(self) -> None:
        """Abort; from any thread."""
        self.abort(block=False)

    def hang_up(self) -> None:
        """Close without a word; from any thread."""
        self._socket.close()

    def run_reactor(self) -> None:
        """Live from the first byte to the end."""
        try:
            if self._tls is None or self._secured(self._tls):
                super().run_reactor()
        finally:
            self.dimse.abandon()
            if self._socket.socket is not None:
                self._socket.close()
            self._ended(self)

    def _secured(self, context: ssl.SSLContext) -> bool:
        connection = Connection(self._socket.socket, queue.SimpleQueue())
        secured = connection.shake_hands(context, self._settings.acse_timeout_seconds)
        self._socket.socket = connection.socket
        if secured is None:
            self._socket.first_bytes, self._socket.fault = connection.first_bytes, connection.fault
            return False
        self.certificate_names = peer_names(secured)
        return True


def _stop_waiting(event: evt.Event) -> None:
    """Free the place of a connection that ended before its request: pynetdicom would wait out the time limit."""
    association: StoringAssociation = event.assoc
    dul = association.dul
    # in these states of PS3.8 table 9-10 no request is on its way to the thread that waits, or the queue holds more
    if dul.state_machine.current_state in ("Sta2", "Sta13") and not association.judged and dul.to_user_queue.empty():
        dul.to_user_queue.put(None)


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
    if len(first_bytes) < PDU_HEADER_BYTES:
        return fault or "the connection ended within a PDU"
    if not _ASSOCIATE_RQ <= first_bytes[0] <= _ABORT:
        return "what came is no DICOM PDU"
    if first_bytes[0] != _ASSOCIATE_RQ:
        return "the first PDU is no A-ASSOCIATE-RQ"
    return fault or "the A-ASSOCIATE-RQ is malformed or came too late"
