"""The association server: accepts connections, asks the policy, and gives each association to intake.

``StorageServer`` is the interface. Its associations are of one of two kinds, by the setting ``listener.data_path``.
"""

import socket
import socketserver
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence, Sized
from typing import Any, Protocol

from pynetdicom import _config as pynetdicom_config
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.transport import AddressInformation

from db.audit import Event, Outcome
from dicom_core.errors import ConfigurationError
from dicom_core.identifiers import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_core.logs import get_logger
from dicom_core.setting_tables import ListenerSettings
from dicom_core.study import Association, AssociationOutcome
from dicom_listener.association_policy import (
    AssociationPolicy,
    AssociationRequest,
    Load,
    OfferedContext,
    Rejection,
    plain_address,
)
from dicom_listener.handlers import Intake, OpenAssociation, answer_echo
from dicom_listener.own_association import OwnAssociation
from dicom_listener.refusals import Refusal, RefusedContext, printable
from dicom_listener.served_association import ServedAssociation
from dicom_listener.tls import server_context
from dicom_listener.upper_layer import StoringAssociation, no_association

_SPARE_CONNECTIONS = 8
"""Connections beyond the allowed associations: room to answer with the right rejection."""
_ABORT_SECONDS = 1.0
_RECORD_SECONDS = 5.0
"""How long the record may take to be told that the last associations are over; else the dispatcher finds out."""
_FAILED = Rejection(2, 3, 1, "the request could not be judged")
log = get_logger("listener.server")

# explicit, whatever the library's defaults become
pynetdicom_config.LOG_HANDLER_LEVEL = "none"
pynetdicom_config.UNRESTRICTED_STORAGE_SERVICE = False
pynetdicom_config.STORE_RECV_CHUNKED_DATASET = False  # leaks its temporary file when the peer drops
# True would abort the association of a sender with one odd UID; intake checks UIDs and answers 0x0117
pynetdicom_config.ENFORCE_UID_CONFORMANCE = False

AssociationClosed = Callable[[OpenAssociation, AssociationOutcome], None]


class StorageServer(Protocol):
    """A Storage SCP on one port."""

    @property
    def open_associations(self) -> int:
        """Established associations at this moment."""

    def start(self) -> tuple[str, int]:
        """Bind and begin to accept; returns the bound address.

        Raises:
            ConfigurationError: The address cannot be bound.
        """

    def stop(self, grace_seconds: float) -> None:
        """Stop accepting, let open associations end for ``grace_seconds``, then abort them."""


class PynetdicomServer:
    """The Storage SCP with pynetdicom's upper layer.

    Args:
        settings: Address, limits, time limits.
        process_id: Of the listener in the record.
        policy: Who may connect.
        contexts: What is offered.
        intake: Takes the objects; its refusal audit takes refused associations as well.
        closed: Called once for every association that was established, after its last answer.
    """

    def __init__(
        self,
        settings: ListenerSettings,
        *,
        process_id: str,
        policy: AssociationPolicy,
        contexts: Sequence[OfferedContext],
        intake: Intake,
        closed: AssociationClosed,
    ) -> None:
        self._settings = settings
        self._process_id = process_id
        self._policy = policy
        self._contexts: list[PresentationContext] = [
            build_context(offered.abstract_syntax_uid, list(offered.transfer_syntax_uids)) for offered in contexts
        ]
        self._intake = intake
        self._closed = closed
        self._kind = OwnAssociation if settings.data_path == "own" else StoringAssociation
        self._tls = server_context(settings)
        self._entity = _entity(settings)
        self._lock = threading.Lock()
        self._connections: dict[ServedAssociation, str] = {}
        self._admitted: dict[ServedAssociation, OpenAssociation] = {}
        self._being_closed: set[ServedAssociation] = set()
        """Over, and free for the next one already, but not yet told of: stopping waits for these as well."""
        self._closing = False
        self._acceptor: _Acceptor | None = None

    @property
    def open_associations(self) -> int:
        """Established associations at this moment."""
        with self._lock:
            return len(self._admitted)

    def start(self) -> tuple[str, int]:
        """Bind and begin to accept; see ``StorageServer.start``."""
        address = (self._settings.host, self._settings.port)
        try:
            shared = self._settings.processes > 1
            self._acceptor = _Acceptor(address, self._connected, self._may_connect, shared=shared)
        except OSError as error:
            raise ConfigurationError(
                f"the listener cannot use {address[0]}:{address[1]} ({error.strerror}); change listener.host or "
                f"listener.port, or stop the program that holds it"
            ) from error
        threading.Thread(target=self._acceptor.serve_forever, args=(0.1,), name="acceptor", daemon=True).start()
        host, port = self._acceptor.server_address[:2]
        return str(host), int(port)

    def stop(self, grace_seconds: float) -> None:
        """Stop accepting and bring the associations to an end; see ``StorageServer.stop``."""
        self._closing = True
        if self._acceptor is not None:
            self._acceptor.shutdown()
            self._acceptor.server_close()
        self._wait_until_empty(self._admitted, grace_seconds)
        with self._lock:
            admitted, connected = list(self._admitted), list(self._connections)
        for association in admitted:
            association.stop()
        self._wait_until_empty(self._admitted, _ABORT_SECONDS)
        for association in connected:
            association.hang_up()
        self._wait_until_empty(self._admitted, _ABORT_SECONDS)
        self._wait_until_empty(self._being_closed, _RECORD_SECONDS)

    def _wait_until_empty(self, associations: Sized, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while len(associations) and time.monotonic() < deadline:
            time.sleep(0.02)

    # --- one connection -----------------------------------------------------------------------------------------------

    def _may_connect(self, address: str) -> bool:
        """Whether one more socket fits; beyond this there is no answer, only the end of the connection."""
        with self._lock:
            settings = self._settings
            of_address = sum(other == address for other in self._connections.values())
            fits = (
                len(self._connections) < settings.maximum_associations + _SPARE_CONNECTIONS
                and of_address < settings.maximum_associations_per_peer + _SPARE_CONNECTIONS
            )
        if not fits:
            self._note_refusal(AssociationRequest("", "", address), "closed", "too many connections are open")
        return fits

    def _connected(self, connection: socket.socket, address: tuple[Any, ...]) -> None:
        """Set up an association for a new connection and let it run in a thread of its own."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        association = self._kind(self._entity, connection, self._settings, self._tls, self._ended)
        association.name = "association"
        acceptor = association.acceptor
        acceptor.ae_title = self._entity.ae_title
        acceptor.maximum_length = self._settings.maximum_pdu_bytes
        acceptor.address_info = AddressInformation.from_tuple(connection.getsockname())
        acceptor.implementation_class_uid = self._entity.implementation_class_uid
        acceptor.implementation_version_name = self._entity.implementation_version_name
        acceptor.supported_contexts = self._contexts
        association.requestor.address_info = AddressInformation.from_tuple(address)
        association.bind(evt.EVT_REQUESTED, self._requested)
        association.bind(evt.EVT_ESTABLISHED, self._established)
        association.bind(evt.EVT_C_ECHO, _echoed)
        with self._lock:
            self._connections[association] = _address(association)
        association.start()

    def _requested(self, event: evt.Event) -> None:
        """Judge an A-ASSOCIATE-RQ. Fails closed: what cannot be judged is rejected."""
        association: ServedAssociation = event.assoc
        association.judged = True
        request = AssociationRequest("", "", _address(association))
        try:
            primitive = association.requestor.primitive
            request = AssociationRequest(
                primitive.calling_ae_title.strip(),
                primitive.called_ae_title.strip(),
                request.peer_address,
                association.certificate_names,
            )
            rejection = self._admit(association, request)
        except Exception as error:  # noqa: BLE001  the edge: pynetdicom would go on and accept
            log.warning("association-not-judged", error=type(error).__name__)
            rejection = _FAILED
        if rejection is None:
            return
        association.acse.send_reject(rejection.result, rejection.source, rejection.reason)
        association.kill()
        code = f"{rejection.result}/{rejection.source}/{rejection.reason}"
        self._note_refusal(request, code, rejection.sentence)

    def _admit(self, association: ServedAssociation, request: AssociationRequest) -> Rejection | None:
        with self._lock:  # counting and admitting are one step: two requests never share the last place
            addresses = [opened.association.peer_address for opened in self._admitted.values()]
            load = Load(
                associations=len(self._admitted),
                associations_of_peer=addresses.count(request.peer_address),
                free_bytes=self._intake.free_bytes(),
                closing=self._closing or self._intake.committer.failure is not None,
            )
            rejection = self._policy.verdict(request, load)
            if rejection is not None:
                return rejection
            opened = OpenAssociation(
                Association(
                    association_id=uuid.uuid4().hex,
                    process_id=self._process_id,
                    calling_ae_title=request.calling_ae_title,
                    called_ae_title=request.called_ae_title,
                    peer_address=request.peer_address,
                )
            )
            self._admitted[association] = opened
        association.admit(lambda store: self._intake.begin(opened, store))
        return None

    def _ended(self, association: ServedAssociation) -> None:
        """The thread of a connection is at its end, whether or not it became an association."""
        with self._lock:
            self._connections.pop(association, None)
            opened = self._admitted.pop(association, None)
            if opened is not None:
                self._being_closed.add(association)
        if opened is None:
            self._note_connection(association)
            return
        outcome = AssociationOutcome.RELEASED if association.is_released else AssociationOutcome.ABORTED
        try:
            self._closed(opened, outcome)
        finally:
            self._being_closed.discard(association)

    def _established(self, event: evt.Event) -> None:
        """Audit the presentation contexts that were not accepted: their objects never come, and no status tells why."""
        association: ServedAssociation = event.assoc
        refused = _refused_contexts(association)
        if not refused:
            return
        with self._lock:
            opened = self._admitted[association].association
        some = bool(association.accepted_contexts)
        self._intake.refusals.note(
            Refusal(
                Event.CONTEXT_REFUSED,
                calling_ae_title=printable(opened.calling_ae_title),
                peer_address=opened.peer_address,
                code=" ".join(str(result) for result in sorted({context.result for context in refused})),
                reason="some presentation contexts were refused" if some else "no presentation context was accepted",
                association_id=opened.association_id,
                contexts=refused,
                outcome=Outcome.SUCCESS if some else Outcome.MINOR_FAILURE,
            )
        )

    def _note_connection(self, association: ServedAssociation) -> None:
        """Audit a connection that said something else than an A-ASSOCIATE-RQ; load balancers say nothing at all."""
        if association.judged or not (association.first_bytes or association.fault):
            return
        self._intake.refusals.note(
            Refusal(
                Event.CONNECTION_REFUSED,
                calling_ae_title="",
                peer_address=_address(association),
                code="closed",
                reason=no_association(association.first_bytes, association.fault),
            )
        )

    def _note_refusal(self, request: AssociationRequest, code: str, reason: str) -> None:
        self._intake.refusals.note(
            Refusal(
                Event.ASSOCIATION_REFUSED,
                calling_ae_title=printable(request.calling_ae_title),
                called_ae_title=printable(request.called_ae_title),
                peer_address=request.peer_address,
                code=code,
                reason=reason,
            )
        )


class _Acceptor(socketserver.TCPServer):
    """The listening socket and its accept loop, which never waits for a peer."""

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        connected: Callable[[socket.socket, tuple[Any, ...]], None],
        may_connect: Callable[[str], bool],
        *,
        shared: bool,
    ) -> None:
        self.allow_reuse_port = shared
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._connected = connected
        self._may_connect = may_connect
        super().__init__(address, socketserver.BaseRequestHandler)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002  socketserver's signature
        return self._may_connect(plain_address(client_address[0]))

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connected(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  socketserver's signature
        # called by socketserver while the exception is being handled
        log.warning("connection-not-set-up", error=type(sys.exception()).__name__)


def _entity(settings: ListenerSettings) -> ApplicationEntity:
    entity = ApplicationEntity(settings.ae_title)
    entity.maximum_pdu_size = settings.maximum_pdu_bytes
    entity.acse_timeout = settings.acse_timeout_seconds
    entity.dimse_timeout = settings.network_timeout_seconds
    entity.network_timeout = settings.network_timeout_seconds
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    # the policy counts; this second limit of pynetdicom must never be the one that answers
    entity.maximum_associations = settings.maximum_associations + _SPARE_CONNECTIONS + 1
    return entity


def _refused_contexts(association: ServedAssociation) -> tuple[RefusedContext, ...]:
    """The refused presentation contexts with what was proposed; the answer names one transfer syntax only."""
    proposed = {
        context.context_id: context for context in association.requestor.primitive.presentation_context_definition_list
    }
    return tuple(
        RefusedContext.proposed(
            context.abstract_syntax, proposed[context.context_id].transfer_syntax, int(context.result)
        )
        for context in association.rejected_contexts
    )


def _address(association: ServedAssociation) -> str:
    return plain_address(association.requestor.address_info.address)


def _echoed(event: evt.Event) -> int:  # noqa: ARG001  pynetdicom's signature
    return answer_echo()
