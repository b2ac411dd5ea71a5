"""The plain data path, where pynetdicom meets intake: bounded PDUs, bounded command sets."""

import queue
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.pdu_primitives import P_DATA
from store_scu import store_command

from dicom_listener.handlers import Answer, Status, StoreRequest
from dicom_listener.refusals import RefusedContext
from dicom_listener.upper_layer import BoundedSocket, StoringProvider, no_association


@pytest.fixture
def pair() -> Iterator[tuple[BoundedSocket, socket.socket]]:
    """A bounded socket and its peer's end."""
    ours, peer = socket.socketpair()
    stand_in = SimpleNamespace(dul=SimpleNamespace(event_queue=queue.Queue()))
    yield BoundedSocket(stand_in, client_socket=ours), peer
    ours.close()
    peer.close()


def test_whole_pdu_in_one_piece(pair: tuple[BoundedSocket, socket.socket]) -> None:
    """What comes in many small pieces is given back as the one PDU that was asked for."""
    bounded, peer = pair
    sent = bytes(range(256)) * 400

    def trickle() -> None:
        for start in range(0, len(sent), 5000):
            peer.sendall(sent[start : start + 5000])

    sender = threading.Thread(target=trickle)
    sender.start()
    assert bounded.recv(len(sent)) == sent
    sender.join()


def test_closed_in_the_middle_gives_what_came(pair: tuple[BoundedSocket, socket.socket]) -> None:
    """A peer that closes in a PDU yields the shorter bytes, which pynetdicom takes for a closed connection."""
    bounded, peer = pair
    peer.sendall(b"abc")
    peer.shutdown(socket.SHUT_WR)
    assert bounded.recv(10) == b"abc"
    assert (bounded.first_bytes, bounded.fault) == (b"abc", "the connection ended within a PDU")


def test_header_of_the_first_pdu_is_remembered(pair: tuple[BoundedSocket, socket.socket]) -> None:
    """What the peer said first stays, however much follows; nothing is at fault with it."""
    bounded, peer = pair
    assert bounded.first_bytes == b""
    peer.sendall(b"abcdefghijkl")
    bounded.recv(6)
    bounded.recv(6)
    assert (bounded.first_bytes, bounded.fault) == (b"abcdef", "")


@pytest.mark.parametrize("first_bytes", [b"", b"\x01\x00", b"\x01\x00\x00\x00\x00\x50"])
def test_fault_tells_why_there_is_no_association(first_bytes: bytes) -> None:
    """Where the request itself looks right so far, what the socket saw is the reason."""
    assert no_association(first_bytes, "the PDU came slower than allowed") == "the PDU came slower than allowed"


@pytest.mark.parametrize("kind", [0, 8, 0x99])
def test_other_kinds_of_pdu(kind: int) -> None:
    """PS3.8 section 9.3.1 knows the types 1 to 7; nothing of what came is quoted."""
    assert no_association(bytes([kind]) + b"DoeXY", "") == "what came is no DICOM PDU"
    for known in range(2, 8):
        assert no_association(bytes([known]) + bytes(5), "") == "the first PDU is no A-ASSOCIATE-RQ"


def test_announced_length_is_bounded(pair: tuple[BoundedSocket, socket.socket]) -> None:
    """A longer PDU than allowed is refused before memory is taken for it."""
    bounded, _ = pair
    bounded.largest_pdu_bytes = 1000
    with pytest.raises(OSError, match="longer"):
        bounded.recv(1001)
    assert bounded.fault == "the PDU announces more bytes than allowed"


def test_trickled_pdu_ends_at_its_deadline(pair: tuple[BoundedSocket, socket.socket]) -> None:
    """One byte every 20 ms does not keep a connection: the whole PDU has one deadline."""
    bounded, peer = pair
    bounded.pdu_seconds = 0.2
    over = threading.Event()

    def trickle() -> None:
        while not over.wait(0.02):
            peer.send(b"x")

    sender = threading.Thread(target=trickle)
    sender.start()
    begun = time.monotonic()
    with pytest.raises(OSError, match=r"slower|timed out"):
        bounded.recv(10_000)
    over.set()
    sender.join()
    assert 0.15 < time.monotonic() - begun < 2
    assert (bounded.first_bytes[:1], bounded.fault) == (b"x", "the PDU came slower than allowed")


def test_refused_context_quotes_uids_alone() -> None:
    """What was proposed and is no UID is 'malformed'; of many transfer syntaxes eight are told."""
    context = RefusedContext.proposed("Doe^Jane", ["1.2.3", "1.2.03\n", *["1.2"] * 20], 3)
    assert context.abstract_syntax_uid == "malformed"
    assert context.transfer_syntax_uids == ("1.2.3", "malformed", *["1.2"] * 6)


class _Incoming:
    """Takes an object and remembers what was done with it."""

    def __init__(self) -> None:
        self.written = b""
        self.abandoned = False

    def write(self, *pieces: bytes) -> None:
        self.written += b"".join(pieces)

    def finish(self) -> Answer:
        return Answer(Status.SUCCESS)

    def abandon(self) -> None:
        self.abandoned = True


class _Provider:
    """A storing provider whose association is made of what it touches."""

    def __init__(self) -> None:
        self.sent: list[P_DATA] = []
        self.events: queue.Queue[str] = queue.Queue()
        self.begun: list[tuple[StoreRequest, _Incoming]] = []
        context = SimpleNamespace(
            context_id=1, abstract_syntax=CTImageStorage, transfer_syntax=[ExplicitVRLittleEndian]
        )
        dul = SimpleNamespace(
            event_queue=self.events, send_pdu=self.sent.append, socket=SimpleNamespace(wait_seconds=0.0)
        )
        self.provider = StoringProvider(SimpleNamespace(dul=dul, accepted_contexts=[context]), self._begin)

    def _begin(self, request: StoreRequest) -> _Incoming:
        self.begun.append((request, _Incoming()))
        return self.begun[-1][1]

    def receive(self, *fragments: bytes, context_id: int = 1) -> None:
        primitive = P_DATA()
        primitive.presentation_data_value_list = [[context_id, fragment] for fragment in fragments]
        self.provider.receive_primitive(primitive)


def test_object_streams_through() -> None:
    """Every fragment reaches intake when it comes; after the last one the answer is sent; then the next begins."""
    peer = _Provider()
    command = store_command(CTImageStorage, "1.2.3")
    for _ in range(2):
        peer.receive(b"\x01" + command[:20])
        peer.receive(b"\x03" + command[20:], b"\x00abc")
        assert peer.begun[-1][1].written == b"abc"
        peer.receive(b"\x00def")
        peer.receive(b"\x02ghi")
    assert [incoming.written for _, incoming in peer.begun] == [b"abcdefghi"] * 2
    assert peer.begun[0][0] == StoreRequest(CTImageStorage, "1.2.3", CTImageStorage, ExplicitVRLittleEndian)
    assert len(peer.sent) == 2
    assert peer.events.empty()


@pytest.mark.parametrize(
    "fragments",
    [
        [b"\x03garbage that is no command set at all"],
        [b"\x01" + bytes(40_000), b"\x01" + bytes(40_000)],
        [b"\x03" + store_command(CTImageStorage, "1.2.3").replace(b"\x01\x00", b"\x99\x99", 1)],
    ],
    ids=["garbage", "endless command set", "unknown command"],
)
def test_invalid_messages_abort(fragments: list[bytes]) -> None:
    """What is no message ends the association through the state machine, with no exception in the reactor."""
    peer = _Provider()
    for fragment in fragments:
        peer.receive(fragment)
    assert peer.events.get_nowait() == "Evt19"
    assert peer.sent == []


def test_context_that_was_not_accepted_aborts() -> None:
    """A C-STORE in an unknown presentation context is a protocol error (PS3.8 section 9.3.5.1)."""
    peer = _Provider()
    peer.receive(b"\x03" + store_command(CTImageStorage, "1.2.3"), b"\x02abc", context_id=77)
    assert peer.events.get_nowait() == "Evt19"
    assert peer.begun == []


def test_abandoned_in_the_middle() -> None:
    """The end of the association abandons the object that was on its way."""
    peer = _Provider()
    peer.receive(b"\x03" + store_command(CTImageStorage, "1.2.3"), b"\x00abc")
    peer.provider.abandon()
    assert peer.begun[0][1].abandoned
    assert peer.sent == []
