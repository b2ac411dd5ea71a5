"""An accepted connection: whole PDUs out of any pieces, limits of size and time, TLS, ends."""

import queue
import socket
import ssl
import struct
import threading
import time
import tracemalloc
from collections.abc import Iterator

import pytest
from certificates import Authority, authority  # noqa: F401  a fixture
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_core import tls
from dicom_listener.connection import LARGEST_NEGOTIATION_BYTES, Connection, PDULimitError, UnknownPDUError


def _pdu(size: int, kind: int = 4) -> bytes:
    return struct.pack(">BBL", kind, 0, size) + bytes(number % 251 for number in range(size))


def _soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


Pair = tuple[Connection, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A connection and its peer's end."""
    ours, peer = socket.socketpair()
    connection = Connection(ours, queue.SimpleQueue())
    yield connection, peer
    connection.close()
    peer.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=12), st.lists(st.integers(1, 700), min_size=1, max_size=40))
def test_pdus_are_whole_however_they_are_cut(sizes: list[int], cuts: list[int]) -> None:
    """Whatever the pieces in which they come, the PDUs are those that were sent, in order."""
    ours, peer = socket.socketpair()
    connection = Connection(ours, queue.SimpleQueue())
    sent = [_pdu(size) for size in sizes]
    stream = b"".join(sent)

    def send() -> None:
        position = 0
        for cut in [*cuts, len(stream)]:
            peer.sendall(stream[position : position + cut])
            position += cut

    sender = threading.Thread(target=send)
    sender.start()
    received = [bytes(connection.receive(_soon()) or b"") for _ in sent]
    sender.join()
    peer.close()
    connection.close()
    assert received == sent


def test_large_pdus_grow_the_buffer_and_many_share_it(pair: Pair) -> None:
    """A PDU larger than the first buffer comes whole; PDUs that came together need no further read."""
    connection, peer = pair
    sent = [_pdu(500_000), *[_pdu(1000) for _ in range(20)], _pdu(60_000)]
    sender = threading.Thread(target=peer.sendall, args=(b"".join(sent),))
    sender.start()
    assert bytes(connection.receive(_soon()) or b"") == sent[0]
    connection.admitted(131_072, 5.0)
    assert [bytes(connection.receive(_soon()) or b"") for _ in sent[1:]] == sent[1:]
    sender.join()
    peer.sendall(_pdu(10) + _pdu(20) + _pdu(30)[:7])
    assert connection.receive(_soon()) == _pdu(10)
    assert connection.buffered() == _pdu(20)
    assert connection.buffered() is None


def test_the_peer_closes(pair: Pair) -> None:
    """Between PDUs this is the end; within one it is a fault as well."""
    connection, peer = pair
    peer.sendall(_pdu(3) + _pdu(9)[:8])
    peer.shutdown(socket.SHUT_WR)
    assert connection.receive(_soon()) == _pdu(3)
    assert connection.fault == ""
    assert connection.receive(_soon()) is None
    assert connection.fault == "the connection ended within a PDU"
    assert connection.first_bytes == _pdu(3)[:6]


def test_the_buffer_is_given_back_at_the_end(pair: Pair) -> None:
    """Its megabyte is free while the connection, which others still refer to, is not."""
    connection, _ = pair
    tracemalloc.start()
    try:
        connection.admitted(2**20, 1.0)
        held, _ = tracemalloc.get_traced_memory()
        connection.close()
        connection.release_buffer()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held - left > 900_000


def test_first_bytes_are_there_as_they_come(pair: Pair) -> None:
    """Of a header that never becomes whole, what came."""
    connection, peer = pair
    peer.sendall(b"\x01\0")
    peer.shutdown(socket.SHUT_WR)
    assert connection.receive(_soon()) is None
    assert (connection.first_bytes, connection.fault) == (b"\x01\0", "the connection ended within a PDU")


def test_lengths_are_bounded(pair: Pair) -> None:
    """What is announced beyond the limit is refused with its header; nothing was allocated for it."""
    connection, peer = pair
    peer.sendall(struct.pack(">BBL", 1, 0, LARGEST_NEGOTIATION_BYTES + 1))
    with pytest.raises(PDULimitError):
        connection.receive(_soon())
    assert connection.fault == "the PDU announces more bytes than allowed"


@pytest.mark.parametrize("kind", [0, 8, 0x47, 0xFF])
def test_unknown_kinds(pair: Pair, kind: int) -> None:
    """PS3.8 section 9.3.1 knows the types 1 to 7."""
    connection, peer = pair
    peer.sendall(bytes([kind]) + bytes(5))
    with pytest.raises(UnknownPDUError):
        connection.receive(_soon())


def test_silence_and_slowness_differ(pair: Pair) -> None:
    """No PDU until the moment given is TimeoutError; one that began has its own deadline, however it trickles."""
    connection, peer = pair
    with pytest.raises(TimeoutError):
        connection.receive(time.monotonic() + 0.01)
    connection.pdu_seconds = 0.1
    over = threading.Event()

    def trickle() -> None:
        peer.sendall(_pdu(1000)[:7])
        while not over.wait(0.01):
            peer.send(b"x")

    sender = threading.Thread(target=trickle)
    sender.start()
    with pytest.raises(PDULimitError):
        connection.receive(_soon())
    over.set()
    sender.join()
    assert connection.fault == "the PDU came slower than allowed"


def test_a_peer_that_reads_nothing_is_given_up(pair: Pair) -> None:
    """An answer that is not taken in time ends the connection (Evt17 of PS3.8 table 9-10)."""
    connection, peer = pair
    events = connection._events
    assert events.get_nowait() == "Evt5"
    connection.send(b"small")
    assert peer.recv(10) == b"small"
    connection.send_seconds = 0.05
    connection.send(bytes(10_000_000))
    assert events.get_nowait() == "Evt17"


def test_interrupt_ends_a_wait(pair: Pair) -> None:
    """From another thread; what must still be said can be."""
    connection, peer = pair
    timer = threading.Timer(0.02, connection.interrupt)
    timer.start()
    assert connection.receive(_soon()) is None
    timer.join()
    connection.send(b"abort")
    assert peer.recv(10) == b"abort"


def test_drain_ends_with_the_peer(pair: Pair) -> None:
    """Rubbish is thrown away until the peer closes, or the time is over."""
    connection, peer = pair
    peer.sendall(bytes(100_000))
    with pytest.raises(TimeoutError):
        connection.drain(time.monotonic() + 0.02)
    peer.close()
    connection.drain(_soon())


def test_close_is_told_once(pair: Pair) -> None:
    """Closing twice is one event, and reading afterwards is the end."""
    connection, _ = pair
    connection.close()
    connection.close()
    assert [connection._events.get_nowait() for _ in range(2)] == ["Evt5", "Evt17"]
    assert connection._events.empty()
    assert connection.receive(_soon()) is None


def _client(peer: socket.socket, authority: Authority, said: list[bytes]) -> threading.Thread:  # noqa: F811
    def talk() -> None:
        context = tls.client_context(authority.ca_file, authority.pacs.certificate_file, authority.pacs.key_file)
        with context.wrap_socket(peer, server_hostname="127.0.0.1") as secured:
            secured.sendall(_pdu(70_000) + _pdu(5))
            said.append(secured.recv(10))

    thread = threading.Thread(target=talk)
    thread.start()
    return thread


def _server(authority: Authority) -> ssl.SSLContext:  # noqa: F811
    return tls.server_context(authority.vesselq.certificate_file, authority.vesselq.key_file, authority.ca_file)


def test_tls(pair: Pair, authority: Authority) -> None:  # noqa: F811
    """After the handshake PDUs and answers go over TLS, records that wait inside the library included."""
    connection, peer = pair
    said: list[bytes] = []
    client = _client(peer, authority, said)
    secured = connection.shake_hands(_server(authority), 5.0)
    assert isinstance(secured, ssl.SSLSocket)
    assert connection.receive(_soon()) == _pdu(70_000)
    assert connection.receive(_soon()) == _pdu(5)
    connection.send(b"answer")
    client.join()
    assert said == [b"answer"]


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (b"", ""),
        (b"\x01\0\0\0\0\x50" + bytes(80), "the peer does not speak TLS, and this port takes nothing else"),
        (b"\x16\x03\x01\0\x05hello", "the TLS handshake failed"),
        (b"\x16\x03\x01\x02\0\x01", "the TLS handshake came slower than allowed"),
    ],
    ids=["nothing", "plain DICOM", "no handshake", "stops within"],
)
def test_handshakes_that_fail(pair: Pair, authority: Authority, sent: bytes, fault: str) -> None:  # noqa: F811
    """Each has its reason; who says nothing at all has none."""
    connection, peer = pair
    peer.sendall(sent)
    assert connection.shake_hands(_server(authority), 0.05) is None
    assert connection.fault == fault
