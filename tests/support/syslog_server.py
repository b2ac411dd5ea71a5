"""A syslog server for the tests: TLS (RFC 5425), or UDP, with the ways in which such servers go wrong.

::

    with SyslogServer(authority) as server:
        ...
        server.messages      # bytes of every message that was read, in order
    with SyslogServer(authority, port=server.port, end="reset") as server: ...
"""

import socket
import ssl
import struct
import threading
from contextlib import suppress
from types import TracebackType

from certificates import Authority

from dicom_core import tls

_GOODBYE, _CLOSE, _RESET, _SILENT, _EARLY = "goodbye", "close", "reset", "silent", "early"


class SyslogServer:
    """Accepts one connection after the other, each with its own end.

    Args:
        authority: Whose certificate it shows; senders need one of the same authority.
        port: 0 takes a free one; the same one again is a restart.
        end: What it does when the sender has said goodbye: ``goodbye`` as RFC 5425 asks, ``close`` without, ``reset``
            before it has read anything, ``silent`` to keep the connection open, ``early`` to say goodbye at once.
    """

    def __init__(self, authority: Authority, *, port: int = 0, end: str = _GOODBYE) -> None:
        self.messages: list[bytes] = []
        self.connections = 0
        self.end = end
        owned = authority.vesselq
        self._context = tls.server_context(owned.certificate_file, owned.key_file, authority.ca_file)
        self._context.num_tickets = 2  # as other servers do
        self._over = threading.Event()
        self.said_goodbye = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="syslog server")

    def __enter__(self) -> "SyslogServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            with plain:
                plain.settimeout(5)
                self._one(plain)

    def _one(self, plain: socket.socket) -> None:
        try:
            connection = self._context.wrap_socket(plain, server_side=True, suppress_ragged_eofs=False)
        except OSError:
            return
        with connection:
            if self.end == _RESET:
                connection.recv(1)
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                return
            if self.end == _EARLY:
                connection.settimeout(0)
                with suppress(ssl.SSLError):  # it does not wait for the reply, whatever came before
                    connection.unwrap()
                self.said_goodbye.set()
                self._over.wait(5)
                return
            self._read(connection)
            if self.end == _GOODBYE:
                connection.unwrap().close()
            elif self.end == _SILENT:
                self._over.wait(5)

    def _read(self, connection: ssl.SSLSocket) -> None:
        buffer = b""
        while piece := connection.recv(65536):  # nothing: the sender has said goodbye
            buffer += piece
            while b" " in buffer:
                length, rest = buffer.split(b" ", 1)
                if len(rest) < int(length):
                    break
                self.messages.append(rest[: int(length)])
                buffer = rest[int(length) :]
        assert buffer == b"", "the last message was cut"
