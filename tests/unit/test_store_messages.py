"""C-STORE from P-DATA-TF PDUs: fragments in any shape reach intake, what is no message is refused."""

import struct
import time
from itertools import pairwise

import pytest
from hostile_peer import data_pdu, echo_pdu
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from store_scu import store_command

from dicom_listener.command_set import read_command_set
from dicom_listener.handlers import Answer, Status, StoreRequest
from dicom_listener.store_messages import InvalidMessageError, StoreMessages

COMMAND = store_command(CTImageStorage, "1.2.3")


class _Incoming:
    """Takes an object and remembers what was done with it."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.calls = 0
        self.abandoned = False

    def write(self, *pieces: memoryview) -> None:
        self.calls += 1
        self.pieces += map(bytes, pieces)

    def finish(self) -> Answer:
        return Answer(Status.SUCCESS)

    def abandon(self) -> None:
        self.abandoned = True


class _Peer:
    """Messages of one association whose intake is a list."""

    def __init__(self, object_seconds: float = 60.0) -> None:
        self.begun: list[tuple[StoreRequest, _Incoming]] = []
        self.sent: list[bytes] = []
        self.others: list[tuple[int, bytes]] = []
        self.messages = StoreMessages(
            {1: (CTImageStorage, ExplicitVRLittleEndian), 3: ("1.2.840.10008.1.1", "1.2.840.10008.1.2")},
            begin=self._begin,  # type: ignore[arg-type]
            send=self.sent.append,
            other=lambda context_id, fragment: self.others.append((context_id, fragment)),
            object_seconds=object_seconds,
        )

    def _begin(self, request: StoreRequest) -> _Incoming:
        self.begun.append((request, _Incoming()))
        return self.begun[-1][1]

    def take(self, *fragments: tuple[int, bytes], context_id: int = 1) -> None:
        pdu = bytearray(data_pdu(*fragments, context_id=context_id))
        try:
            self.messages.take(memoryview(pdu))
        finally:
            self.messages.flush()
        pdu[:] = bytes(len(pdu))  # the buffer is used again

    @property
    def objects(self) -> list[bytes]:
        return [b"".join(incoming.pieces) for _, incoming in self.begun]


def test_an_object_streams_through() -> None:
    """Fragments reach intake when they come; after the last one the answer is sent; then the next object begins."""
    peer = _Peer()
    for number in range(1, 3):
        peer.take((1, COMMAND[:20]))
        peer.take((3, COMMAND[20:]), (0, b"abc"))
        assert peer.objects[-1] == b"abc"
        assert len(peer.sent) == number - 1
        peer.take((0, b"def"))
        peer.take((2, b"ghi"))
        assert len(peer.sent) == number
    assert peer.objects == [b"abcdefghi"] * 2
    assert peer.begun[0][0] == StoreRequest(CTImageStorage, "1.2.3", CTImageStorage, ExplicitVRLittleEndian)
    header, response = peer.sent[0][:12], peer.sent[0][12:]
    assert struct.unpack(">BBLLBB", header) == (4, 0, len(response) + 6, len(response) + 2, 1, 3)
    assert read_command_set(response).command_field == 0x8001


@given(st.binary(max_size=600), st.lists(st.integers(0, 600), max_size=8), st.data())
def test_any_fragments_are_the_same_object(content: bytes, cuts: list[int], data: st.DataObject) -> None:
    """However data set and fragments are cut and put into PDUs, the bytes are the same (PS3.8 annex E)."""
    places = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    pieces = [content[begin:end] for begin, end in pairwise(places)] or [b""]
    fragments = [(3, COMMAND), *((0, piece) for piece in pieces[:-1]), (2, pieces[-1])]
    peer = _Peer()
    while fragments:
        count = data.draw(st.integers(1, len(fragments)))
        peer.take(*fragments[:count])
        fragments = fragments[count:]
    assert peer.objects == [content]
    assert len(peer.sent) == 1


def test_fragments_that_lie_together_are_one_write() -> None:
    """Many short fragments in one buffer cost one call of intake, not one each."""
    peer = _Peer()
    peer.take((3, COMMAND), *[(0, b"x" * 300)] * 400, (2, b"end"))
    assert peer.objects == [b"x" * 120_000 + b"end"]
    assert peer.begun[0][1].calls == 1


def test_two_objects_in_one_pdu() -> None:
    """The last fragment of one message and the next command may share a PDU."""
    peer = _Peer()
    peer.take((3, COMMAND), (2, b"one"), (3, COMMAND), (2, b"two"))
    assert peer.objects == [b"one", b"two"]
    assert len(peer.sent) == 2


def test_an_object_without_data_set_is_finished_at_once() -> None:
    """Command Data Set Type 0x0101: intake refuses it, the peer gets its status."""
    peer = _Peer()
    nothing = COMMAND.replace(struct.pack("<HHLH", 0, 0x0800, 2, 1), struct.pack("<HHLH", 0, 0x0800, 2, 0x0101))
    peer.take((3, nothing))
    assert peer.objects == [b""]
    assert len(peer.sent) == 1


def test_other_messages_are_passed_on_whole() -> None:
    """C-ECHO goes to pynetdicom with its command set in one piece; then objects are taken again."""
    peer = _Peer()
    echo = echo_pdu()[12:]
    peer.take((1, echo[:10]), context_id=3)
    peer.take((3, echo[10:]), context_id=3)
    assert peer.others == [(3, b"\x03" + echo)]
    peer.take((3, COMMAND), (2, b"one"))
    assert peer.objects == [b"one"]


def test_the_data_set_of_another_message_is_passed_on() -> None:
    """It belongs to that message and not to the next."""
    peer = _Peer()
    find = COMMAND.replace(b"\x00\x01\x02\x00\x00\x00\x01\x00", b"\x00\x01\x02\x00\x00\x00\x20\x00", 1)
    assert read_command_set(find).command_field == 0x0020
    peer.take((3, find), (0, b"ab"), (2, b"cd"))
    assert peer.others == [(1, b"\x03" + find), (1, b"\0ab"), (1, b"\2cd")]
    peer.take((3, COMMAND), (2, b"one"))
    assert peer.objects == [b"one"]


@pytest.mark.parametrize(
    ("fragments", "context_id"),
    [
        ([(3, b"garbage that is no command set at all")], 1),
        ([(1, bytes(40_000)), (1, bytes(40_000))], 1),
        ([(0, b"data")], 1),
        ([(3, COMMAND), (1, COMMAND)], 1),
        ([(3, COMMAND), (2, b"abc")], 77),
        ([(3, COMMAND)] + [(0, b"")] * 5000, 1),
        ([(1, b"")] * 5000, 1),
    ],
    ids=["garbage", "endless command", "data first", "two commands", "context", "empty fragments", "empty commands"],
)
def test_invalid_messages(fragments: list[tuple[int, bytes]], context_id: int) -> None:
    """What is no message, or one without end, is refused for the association to be aborted."""
    peer = _Peer()

    def take_all() -> None:
        for fragment in fragments:
            peer.take(fragment, context_id=context_id)

    with pytest.raises(InvalidMessageError):
        take_all()
    assert peer.sent == []


def test_another_context_within_a_message() -> None:
    """Fragments of two presentation contexts cannot be mixed."""
    peer = _Peer()
    peer.take((3, COMMAND), (0, b"abc"))
    with pytest.raises(InvalidMessageError):
        peer.take((0, b"def"), context_id=3)


@pytest.mark.parametrize("tail", [b"\0\0", b"\0\0\0\1\1", b"\0\0\0\x63\1\2abc", b"\xff\xff\xff\xff\1\2abc"])
def test_fragments_that_do_not_fit_their_pdu(tail: bytes) -> None:
    """Lengths of PDVs are checked against the PDU that holds them."""
    peer = _Peer()
    pdu = struct.pack(">BBL", 4, 0, len(tail)) + tail
    with pytest.raises(InvalidMessageError):
        peer.messages.take(memoryview(pdu))


def test_many_fragments_are_fine_when_they_carry_something() -> None:
    """A sender with very small PDUs is no attacker."""
    peer = _Peer()
    peer.take((3, COMMAND))
    for _ in range(30):
        peer.take(*[(0, b"x" * 300)] * 500)
    peer.take((2, b""))
    assert len(peer.objects[0]) == 30 * 500 * 300


def test_an_object_has_a_deadline_while_it_is_on_its_way() -> None:
    """From its command to its answer; between objects there is none."""
    peer = _Peer(object_seconds=100.0)
    assert peer.messages.deadline == float("inf")
    peer.take((1, COMMAND[:10]))
    assert 90 < peer.messages.deadline - time.monotonic() < 101
    peer.take((3, COMMAND[10:]), (2, b"abc"))
    assert peer.messages.deadline == float("inf")


def test_abandoned_in_the_middle() -> None:
    """The end of the association abandons the object that was on its way."""
    peer = _Peer()
    peer.take((3, COMMAND), (0, b"abc"))
    peer.messages.abandon()
    assert peer.begun[0][1].abandoned
    assert peer.sent == []
