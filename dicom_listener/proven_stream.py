"""A TLS connection in one direction whose end proves that the other side has read everything.

``ssl.SSLSocket.unwrap`` proves less: OpenSSL takes a fatal alert, such as the refusal of our certificate that TLS 1.3
sends after the handshake, for the end as well. Here the reply to our close_notify is read like data, so that an alert
is an error. TLS over memory leaves the choice when to read to us.
"""

import errno
import fcntl
import socket
import ssl
import struct
import termios
from collections.abc import Callable
from contextlib import suppress

_CLOSE_WAIT = 8
"""Of the states of a connection in Linux: the other side ended it in order."""
_PIECE = 65_536


class ProvenStream:
    """Writes over a connected socket.

    All methods raise OSError (``ssl.SSLError`` is one) when the connection fails, TimeoutError after the socket's time.

    Args:
        connection: Connected, with a timeout; stays the caller's to close.
        context: Of a client.
        server_name: That the certificate must have.
    """

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, server_name: str) -> None:
        self._connection = connection
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_hostname=server_name)
        self._until_done(self._tls.do_handshake)

    def write(self, content: bytes) -> None:
        """Send all of ``content``."""
        self._tls.write(content)
        self._flush()

    def end(self) -> None:
        """Say goodbye and wait for the reply, which comes after all else was read (RFC 5425 section 4.4).

        Some servers close without a reply. That is proof as well when TCP ended in order: a host that closes a
        connection with unread bytes, or gets some afterwards, resets it (RFC 2525 section 2.17).
        """
        self._read_what_came()
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:  # always: the goodbye is written, and there is nothing to read
            self._flush()
        try:
            while True:
                self._until_done(self._tls.read)
        except ssl.SSLZeroReturnError:
            return
        except ssl.SSLEOFError:
            if not self._ended_in_order():
                raise

    def _read_what_came(self) -> None:
        """Take session tickets, refusals and an early goodbye, which proves nothing, out of the way of ours."""
        patience = self._connection.gettimeout()
        self._connection.settimeout(0)
        try:
            self._received.write(self._connection.recv(_PIECE))
        except BlockingIOError:
            pass  # nothing came
        finally:
            self._connection.settimeout(patience)
        while self._received.pending:
            with suppress(ssl.SSLWantReadError):  # after each session ticket
                if not self._tls.read():
                    break
        else:
            return
        raise ConnectionAbortedError(errno.ECONNABORTED, "the server said goodbye before it could have read all")

    def _until_done(self, act: Callable[[], object]) -> None:
        while True:
            try:
                act()
            except ssl.SSLWantReadError:
                self._flush()
                if self._received.pending:
                    continue  # it wanted to be asked again, after a session ticket for example
                piece = self._connection.recv(_PIECE)
                if piece:
                    self._received.write(piece)
                else:
                    self._received.write_eof()
            else:
                self._flush()
                return

    def _flush(self) -> None:
        self._connection.sendall(self._to_send.read())

    def _ended_in_order(self) -> bool:
        state = self._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        (unacknowledged,) = struct.unpack("i", fcntl.ioctl(self._connection, termios.TIOCOUTQ, b"\0" * 4))
        return bool(state == _CLOSE_WAIT and unacknowledged == 0)
