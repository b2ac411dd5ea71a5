"""An association in one thread: C-STORE over the own data path, everything else by pynetdicom's state machine.

pynetdicom keeps negotiation, release, abort, C-ECHO and the decoding of every PDU but P-DATA-TF. Its two sleeping loops
are replaced by one that waits for the peer.
"""

import socket
import ssl
import time
from collections.abc import Callable

from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.pdu_primitives import A_ASSOCIATE, A_RELEASE, P_DATA

from dicom_core.logs import get_logger
from dicom_core.setting_tables import ListenerSettings
from dicom_listener.association_request import RequestLimitError, check_request
from dicom_listener.connection import Connection, PDULimitError, UnknownPDUError
from dicom_listener.pynetdicom_internals import (
    ARTIM_EXPIRED,
    AWAITING_CLOSE,
    AWAITING_REQUEST,
    CONNECTION_CLOSED,
    ESTABLISHED,
    IDLE,
    INVALID_PDU,
    Internals,
)
from dicom_listener.served_association import ServedAssociation
from dicom_listener.store_messages import BeginInstance, InvalidMessageError, StoreMessages
from dicom_listener.tls import peer_names
from dicom_listener.upper_layer import StoringProvider

_LINGER_SECONDS = 1.0
"""How long a peer may take to close after its release, rejection or abort; PS3.8 section 9.1.5 leaves the time open."""
_ASSOCIATE_RQ, _P_DATA_TF = 1, 4
log = get_logger("listener.own_association")


class OwnAssociation(ServedAssociation):
    """An association over the own data path.

    Args:
        entity: Who we are.
        accepted: The connection.
        settings: See ``ServedAssociation``, as for the others.
        tls: See there.
        ended: See there.
    """

    def __init__(
        self,
        entity: ApplicationEntity,
        accepted: socket.socket,
        settings: ListenerSettings,
        tls: ssl.SSLContext | None,
        ended: "Callable[[OwnAssociation], None]",
    ) -> None:
        super().__init__(entity, settings, tls, ended)
        self._begun_at = time.monotonic()
        self._stopping = False
        self._begin: BeginInstance | None = None
        self._messages: StoreMessages | None = None
        self._internals = Internals(self)
        self._connection = Connection(accepted, self._internals.events)
        self._connection.pdu_seconds = self._connection.send_seconds = settings.acse_timeout_seconds
        self.dimse = StoringProvider(self)
        self.set_socket(self._connection)

    @property
    def first_bytes(self) -> bytes:
        """The header of the first PDU, as much of it as came."""
        return self._connection.first_bytes

    @property
    def fault(self) -> str:
        """Why the first PDU was not read to its end, "" for none."""
        return self._connection.fault

    def admit(self, begin: BeginInstance) -> None:
        """The policy lets this peer in: objects may come, and PDUs of the size that is offered."""
        self._begin = begin
        settings = self._settings
        self._connection.admitted(settings.maximum_pdu_bytes, settings.pdu_timeout_seconds)

    def stop(self) -> None:
        """Abort as soon as the object that is on its way has been answered; from any thread."""
        self._stopping = True
        self._connection.interrupt()

    def hang_up(self) -> None:
        """Close without a word; from any thread."""
        self._stopping = True
        self._connection.interrupt(socket.SHUT_RDWR)

    def run_reactor(self) -> None:
        """Live from the first byte to the end."""
        try:
            if self._secured():
                self._live()
        except Exception as error:  # noqa: BLE001  the edge: whatever a peer sends, its thread ends in order
            log.warning("association-failed", error=type(error).__name__)
        finally:
            self._abandon()
            self._connection.close()
            self._connection.release_buffer()
            self._ended(self)

    def _secured(self) -> bool:
        if self._tls is None:
            return True
        secured = self._connection.shake_hands(self._tls, self._settings.acse_timeout_seconds)
        if secured is None:
            return False
        self.certificate_names = peer_names(secured)
        return True

    def _live(self) -> None:
        self._internals.act()  # the connection is there: out of the state that is also the last one
        while self._internals.state != IDLE:
            self._read()
            self._settle()

    def _settle(self) -> None:
        """Carry out all that is due, until nothing is."""
        while self._internals.state != IDLE:
            if not (self._internals.act() or self._indicated() or self._internals.serve()):
                return

    def _indicated(self) -> bool:
        """React to the next primitive from the peer; False when there is none."""
        primitive = self._internals.indication()
        if primitive is None:
            return False
        if isinstance(primitive, A_ASSOCIATE):
            self._negotiate(primitive)
        elif isinstance(primitive, A_RELEASE):
            self.acse.send_release(is_response=True)
            self.is_released, self.is_established = True, False
        else:  # A-ABORT, A-P-ABORT
            self.is_aborted, self.is_established = True, False
        return True

    def _negotiate(self, request: A_ASSOCIATE) -> None:
        self.requestor.primitive = request
        evt.trigger(self, evt.EVT_REQUESTED, {})
        if self.is_aborted or self.is_rejected or self._begin is None:
            return
        self._internals.negotiate()
        contexts = {
            context.context_id: (str(context.abstract_syntax), str(context.transfer_syntax[0]))
            for context in self.accepted_contexts
        }
        self._messages = StoreMessages(
            contexts,
            begin=self._begin,
            send=self._connection.send,
            other=self._other_message,
            object_seconds=self._settings.object_timeout_seconds,
        )

    def _other_message(self, context_id: int, fragment: bytes) -> None:
        indication = P_DATA()
        indication.presentation_data_value_list = [[context_id, fragment]]
        self.dimse.receive_primitive(indication)

    # --- reading ------------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Wait for the peer and note what comes, or that nothing did."""
        events = self._internals.events
        try:
            if self._internals.state == AWAITING_CLOSE:
                self._linger()
            else:
                self._receive()
        except (UnknownPDUError, InvalidMessageError, RequestLimitError) as error:
            log.info("invalid-message", problem=str(error) or "what came is no DICOM PDU")
            self._abandon()
            events.put(INVALID_PDU)
        except PDULimitError:
            events.put(CONNECTION_CLOSED)
        except TimeoutError:
            self._too_late()

    def _receive(self) -> None:
        """Take PDUs until one of them needs more than intake."""
        while not self._stopping:
            pdu = self._connection.receive(self._deadline())
            messages = self._messages
            if pdu is None:
                break
            if pdu[0] != _P_DATA_TF or messages is None:
                if pdu[0] == _ASSOCIATE_RQ:
                    check_request(pdu)
                self._internals.take(bytes(pdu))
                return
            self._take_data(messages, pdu)
            if not self.dimse.msg_queue.empty() or not self._internals.events.empty():
                return
        if self._stopping and self._internals.state == ESTABLISHED:
            self.abort(block=False)
        else:
            self._internals.events.put(CONNECTION_CLOSED)

    def _take_data(self, messages: StoreMessages, pdu: memoryview) -> None:
        """Take a P-DATA-TF PDU and those right behind it that have come already."""
        following: memoryview | None = pdu
        try:
            while following is not None and following[0] == _P_DATA_TF:
                messages.take(following)
                following = None if self._stopping else self._connection.buffered()
        finally:
            messages.flush()
        if following is not None:
            self._internals.take(bytes(following))
        elif time.monotonic() > messages.deadline:
            raise TimeoutError

    def _deadline(self) -> float:
        if self._messages is None:
            return self._begun_at + self._settings.acse_timeout_seconds
        return min(time.monotonic() + self._settings.network_timeout_seconds, self._messages.deadline)

    def _too_late(self) -> None:
        if self._internals.state in (AWAITING_REQUEST, AWAITING_CLOSE):
            self._internals.events.put(ARTIM_EXPIRED)
        else:
            log.info("association-timed-out")
            self._abandon()
            self.abort(block=False)

    def _linger(self) -> None:
        """Let the peer read the last PDU: closing before it does may take that away from it."""
        self._connection.drain(time.monotonic() + _LINGER_SECONDS)
        self._internals.events.put(CONNECTION_CLOSED)

    def _abandon(self) -> None:
        if self._messages is not None:
            self._messages.abandon()
