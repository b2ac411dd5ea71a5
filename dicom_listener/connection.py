"""An accepted connection: whole PDUs in, bytes out, each within its size and its time.

The socket never blocks; waiting is poll with a deadline. PDUs are handed out as views into one buffer that is read into
directly, so that the bytes of an object are copied by nobody between the kernel and the spool.
"""

import queue
import select
import socket
import ssl
import struct
import time
from contextlib import suppress

from dicom_core.logs import get_logger

LARGEST_NEGOTIATION_BYTES = 1024 * 1024
"""An A-ASSOCIATE-RQ with 128 presentation contexts of 40 transfer syntaxes has a third of this."""
PDU_HEADER_BYTES = 6
_PDU_HEADER = struct.Struct(">BBL")
_FIRST_BUFFER_BYTES = 16 * 1024
_BUFFER_BYTES = 1024 * 1024
_TLS_RECORD = 0x16
_READABLE, _WRITABLE = select.POLLIN, select.POLLOUT
log = get_logger("listener.connection")


class PDULimitError(Exception):
    """A PDU is longer or came slower than allowed; the connection is not worth an answer."""


class UnknownPDUError(Exception):
    """The type of a PDU is none of PS3.8 section 9.3.1."""


class Connection:
    """One TCP or TLS connection of an association. Used by the thread of the association, but for ``interrupt``.

    It stands where pynetdicom's state machine expects its own socket: ``send`` and ``close`` are what that calls.

    Attributes:
        socket: None once it is closed.
        largest_pdu_bytes: Longer PDUs raise before any memory is taken for them.
        pdu_seconds: How long one PDU may take from its first byte.
        send_seconds: How long the peer may take to take what we send.
        first_bytes: The header of the first PDU, as much of it as came.
        fault: Why the first PDU that was not read to its end was not, "" for none.
    """

    def __init__(self, accepted: socket.socket, events: "queue.SimpleQueue[str] | queue.Queue[str]") -> None:
        accepted.setblocking(False)
        self.socket: socket.socket | None = accepted
        self.largest_pdu_bytes = LARGEST_NEGOTIATION_BYTES
        self.pdu_seconds = 10.0
        self.send_seconds = 10.0
        self.first_bytes = b""
        self.fault = ""
        self._events = events
        self._buffer = memoryview(bytearray(_FIRST_BUFFER_BYTES))
        self._start = self._end = 0
        self._wanted = PDU_HEADER_BYTES
        self._pdu_begun = 0.0
        events.put("Evt5")  # transport connection indication (PS3.8 table 9-10)

    def admitted(self, largest_pdu_bytes: int, pdu_seconds: float) -> None:
        """The peer may send objects now: have a large buffer and other limits."""
        self.largest_pdu_bytes = max(self.largest_pdu_bytes, largest_pdu_bytes)
        self.pdu_seconds = self.send_seconds = pdu_seconds
        self._make_room(_BUFFER_BYTES)

    # --- TLS ----------------------------------------------------------------------------------------------------------

    def shake_hands(self, context: ssl.SSLContext, seconds: float) -> ssl.SSLSocket | None:
        """Speak TLS from here on.

        Returns:
            The TLS socket, None when the peer closed or did not manage it in time; ``fault`` says why.
        """
        deadline = time.monotonic() + seconds
        try:
            if not self._peek(deadline):
                return None
            self.socket = secured = context.wrap_socket(
                self._open_socket(), server_side=True, do_handshake_on_connect=False
            )
            while True:
                try:
                    secured.do_handshake()
                except ssl.SSLWantReadError:
                    self._wait(_READABLE, deadline)
                except ssl.SSLWantWriteError:
                    self._wait(_WRITABLE, deadline)
                else:
                    return secured
        except TimeoutError:
            self.fault = "the TLS handshake came slower than allowed"
        except OSError as error:  # ssl.SSLError is one
            self.fault = "the TLS handshake failed"
            log.info("tls-handshake-failed", reason=getattr(error, "reason", None) or type(error).__name__)
        return None

    def _peek(self, deadline: float) -> bool:
        """Wait for the first bytes: who only connects, as load balancers do, is no failed handshake."""
        try:
            self._wait(_READABLE, deadline)
        except TimeoutError:
            return False
        beginning = self._open_socket().recv(PDU_HEADER_BYTES, socket.MSG_PEEK)
        if beginning and beginning[0] != _TLS_RECORD:
            self.first_bytes = beginning
            self.fault = "the peer does not speak TLS, and this port takes nothing else"
        return bool(beginning) and not self.fault

    # --- reading ------------------------------------------------------------------------------------------------------

    def receive(self, until: float) -> memoryview | None:
        """The next whole PDU, its header included; valid until the next call. None when the peer has closed.

        Args:
            until: Moment (``time.monotonic``) until which a PDU may begin.

        Raises:
            TimeoutError: Nothing came until then.
            PDULimitError: The PDU is too long or too slow.
            UnknownPDUError: What came is no PDU.
        """
        while (pdu := self.buffered()) is None:
            if not self._fill(until):
                if self._end > self._start:
                    self.fault = self.fault or "the connection ended within a PDU"
                return None
        return pdu

    def buffered(self) -> memoryview | None:
        """The next whole PDU of those that were read already, None without one.

        Raises:
            PDULimitError: Its header announces more bytes than allowed.
            UnknownPDUError: What came is no PDU.
        """
        held = self._end - self._start
        if held < PDU_HEADER_BYTES:
            self._wanted = PDU_HEADER_BYTES
            return None
        kind, _, length = _PDU_HEADER.unpack_from(self._buffer, self._start)
        if not 1 <= kind <= 7:
            raise UnknownPDUError
        if length > self.largest_pdu_bytes:
            self.fault = self.fault or "the PDU announces more bytes than allowed"
            raise PDULimitError
        self._wanted = PDU_HEADER_BYTES + length
        if held < self._wanted:
            return None
        begin = self._start
        self._start += self._wanted
        return self._buffer[begin : self._start]

    def drain(self, until: float) -> None:
        """Read and throw away until the peer closes.

        Raises:
            TimeoutError: It did not until then.
        """
        self._start = self._end = 0
        while self._read(self._buffer, until):
            pass

    def _fill(self, until: float) -> bool:
        """Read some more of the PDU that begins; False when the peer has closed."""
        self._make_room(self._wanted)
        begun = self._end > self._start
        deadline = self._pdu_begun + self.pdu_seconds if begun else until
        try:
            count = self._read(self._buffer[self._end :], deadline)
        except TimeoutError:
            if not begun:
                raise
            self.fault = self.fault or "the PDU came slower than allowed"
            raise PDULimitError from None
        if not begun:
            self._pdu_begun = time.monotonic()
        self._end += count
        if len(self.first_bytes) < PDU_HEADER_BYTES:
            self.first_bytes += bytes(self._buffer[self._start + len(self.first_bytes) : self._end])
            self.first_bytes = self.first_bytes[:PDU_HEADER_BYTES]
        return count > 0

    def _make_room(self, wanted: int) -> None:
        """Have the PDU that begins at the front of the buffer, and a buffer that grows with what has come."""
        held = self._end - self._start
        if wanted > len(self._buffer):
            # not at once to what is announced: memory is taken for bytes that came
            larger = memoryview(bytearray(min(wanted, 2 * len(self._buffer)) if held else wanted))
            larger[:held] = self._buffer[self._start : self._end]
            self._buffer = larger
        elif self._start and self._start + wanted > len(self._buffer):
            self._buffer[:held] = self._buffer[self._start : self._end]
        elif self._start < self._end:
            return
        self._start, self._end = 0, held

    def _read(self, room: memoryview, deadline: float) -> int:
        """Bytes that came, 0 for the end of the connection.

        Raises:
            TimeoutError: None came until ``deadline``.
        """
        while True:
            if time.monotonic() >= deadline:
                raise TimeoutError
            try:
                return self._open_socket().recv_into(room)
            except (BlockingIOError, ssl.SSLWantReadError):
                wanted = _READABLE
            except ssl.SSLWantWriteError:
                wanted = _WRITABLE
            except OSError:
                return 0
            self._wait(wanted, deadline)

    # --- writing and ending -------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send all of ``data``; a peer that does not take it in time has closed the connection (Evt17)."""
        deadline = time.monotonic() + self.send_seconds
        view = memoryview(data)
        try:
            while view:
                try:
                    view = view[self._open_socket().send(view) :]
                except (BlockingIOError, ssl.SSLWantWriteError):
                    self._wait(_WRITABLE, deadline)
                except ssl.SSLWantReadError:
                    self._wait(_READABLE, deadline)
        except OSError:  # TimeoutError is one
            self._events.put("Evt17")  # transport connection closed

    def close(self) -> None:
        """Close the connection; harmless when it is closed already."""
        connection, self.socket = self.socket, None
        if connection is None:
            return
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()
        self._events.put("Evt17")

    def release_buffer(self) -> None:
        """Give the memory of the buffer back; nothing can be read after this.

        An association and its parts refer to each other, so that they stay until the next search for garbage.
        """
        self._buffer = memoryview(b"")
        self._start = self._end = 0

    def interrupt(self, how: int = socket.SHUT_RD) -> None:
        """Have ``receive`` come to its end; from any thread.

        Args:
            how: ``SHUT_RD`` leaves a last PDU to be sent, ``SHUT_RDWR`` does not.
        """
        connection = self.socket
        if connection is not None:
            with suppress(OSError):
                # not SSLSocket's own, which would have everything after it sent in the clear
                socket.socket.shutdown(connection, how)

    def _open_socket(self) -> socket.socket:
        if self.socket is None:
            raise ConnectionAbortedError("it is closed")
        return self.socket

    def _wait(self, wanted: int, deadline: float) -> None:
        remaining = deadline - time.monotonic()
        poll = select.poll()
        poll.register(self._open_socket(), wanted)
        if remaining <= 0 or not poll.poll(remaining * 1000):
            raise TimeoutError
