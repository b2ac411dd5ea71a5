"""A Storage SCP that does what a test tells it, and a peer that writes given bytes to whoever connects.

::

    with ScriptedSCP(script=[0xA700, 0x0000]) as scp:      # statuses, "abort" or "hang", the last one repeats
        ...scp.port
    scp.received[0].data_set                               # bytes as they came over the wire
"""

import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from loopback import LOOPBACK, free_port
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, SegmentationStorage
from pynetdicom import AE, evt

VERIFICATION = "1.2.840.10008.1.1"
BOTH = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


@dataclass(frozen=True)
class Received:
    """One C-STORE request."""

    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set: bytes
    association: int
    """Counts from 1."""


class ScriptedSCP:
    """A Storage SCP in threads of this process.

    Attributes:
        port: On loopback.
        received: Requests that were read to the end.
        associations: How many were established so far.
        calling_ae_titles: Of those.
    """

    def __init__(
        self,
        script: Sequence[int | str] = (0x0000,),
        *,
        sop_classes: Sequence[str] = (VERIFICATION, SegmentationStorage),
        transfer_syntaxes: Sequence[str] = BOTH,
        ae_title: str = "RESULTS",
        called_ae_title_required: bool = False,
        maximum_associations: int = 10,
        echo_status: int = 0x0000,
        port: int = 0,
    ) -> None:
        self.port = port or free_port()
        self.received: list[Received] = []
        self.associations = 0
        self.calling_ae_titles: list[str] = []
        self._script = list(script)
        self._echo_status = echo_status
        self._end = threading.Event()
        self._entity = AE(ae_title=ae_title)
        self._entity.require_called_aet = called_ae_title_required
        self._entity.maximum_associations = maximum_associations
        for sop_class in sop_classes:
            self._entity.add_supported_context(sop_class, list(transfer_syntaxes))
        self._server: Any = None
        self._connections: list[socket.socket] = []

    def _on_open(self, event: evt.Event) -> None:
        self._connections.append(event.assoc.dul.socket.socket)

    def _on_established(self, event: evt.Event) -> None:
        self.associations += 1
        self.calling_ae_titles.append(event.assoc.requestor.ae_title.strip())

    def _on_store(self, event: evt.Event) -> int:
        step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        request = event.request
        self.received.append(
            Received(
                str(request.AffectedSOPInstanceUID),
                str(event.context.transfer_syntax),
                request.DataSet.getvalue(),
                self.associations,
            )
        )
        if step == "abort":
            event.assoc.abort()
            return 0x0000
        if step == "hang":
            self._end.wait(30)
            return 0x0000
        return int(step)

    def _on_echo(self, _event: evt.Event) -> int:
        return self._echo_status

    def start(self) -> None:
        """Listen."""
        self._end.clear()
        self._server = self._entity.start_server(
            (LOOPBACK, self.port),
            block=False,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, self._on_open),
                (evt.EVT_ESTABLISHED, self._on_established),
                (evt.EVT_C_STORE, self._on_store),
                (evt.EVT_C_ECHO, self._on_echo),
            ],
        )

    def stop(self) -> None:
        """Abort what is open and stop listening; ``start`` listens on the same port again."""
        self._end.set()
        if self._server is None:
            return
        associations = self._server.active_associations
        for association in associations:
            if association.is_established:
                association.abort()
        self._server.shutdown()
        self._server = None
        for association in associations:
            association.join(5)
        # pynetdicom forgets the connections of peers that went away before they were answered
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def open_associations(self) -> int:
        """How many are open now."""
        return len(self._server.active_associations)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class RawPeer:
    """Answers the first bytes of every connection with ``answer``; without one it stays silent until the end."""

    def __init__(self, answer: bytes = b"") -> None:
        self._answer = answer
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = int(self._listener.getsockname()[1])
        self.connections = 0
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            if self._answer:
                connection.recv(65536)
                connection.sendall(self._answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        for connection in self._open:
            connection.close()


def association_rejection(result: int, source: int, reason: int) -> bytes:
    """An A-ASSOCIATE-RJ PDU (PS3.8 section 9.3.4)."""
    return bytes([3, 0, 0, 0, 0, 4, 0, result, source, reason])
