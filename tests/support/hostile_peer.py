"""A peer that says anything: PDUs made by hand, right or wrong, from an address of its own on loopback."""

import contextlib
import socket
import ssl
import struct
from collections.abc import Iterator, Sequence

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from store_scu import data_set, store_command

ATTACKER_ADDRESS = "127.0.0.2"
VERIFICATION = "1.2.840.10008.1.1"
CT = ((CTImageStorage, (ExplicitVRLittleEndian,)),)
RELEASE_REQUEST = b"\x05\0\0\0\0\x04" + bytes(4)
RELEASE_RESPONSE = b"\x06\0\0\0\0\x04" + bytes(4)
ABORT = b"\x07\0\0\0\0\x04" + bytes(4)


def item(kind: int, value: bytes) -> bytes:
    """One item of an association PDU (PS3.8 section 9.3.1)."""
    return struct.pack(">BBH", kind, 0, len(value)) + value


def associate_request(
    *,
    calling: str = "ATTACKER",
    called: str = "VESSELQ",
    contexts: Sequence[tuple[str, Sequence[str]]] = CT,
    user_items: bytes = b"",
) -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 section 9.3.2)."""
    body = struct.pack(">HH", 1, 0) + called.ljust(16).encode() + calling.ljust(16).encode() + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1")
    for index, (abstract, transfers) in enumerate(contexts):
        syntaxes = item(0x30, abstract.encode()) + b"".join(item(0x40, syntax.encode()) for syntax in transfers)
        body += item(0x20, bytes([(2 * index + 1) % 256, 0, 0, 0]) + syntaxes)
    user = item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.826.0.1.3680043.10.9") + user_items
    body += item(0x50, user)
    return struct.pack(">BBL", 1, 0, len(body)) + body


def data_pdu(*fragments: tuple[int, bytes], context_id: int = 1) -> bytes:
    """A P-DATA-TF PDU of fragments: message control header and payload."""
    values = b"".join(
        struct.pack(">LBB", len(payload) + 2, context_id, control) + payload for control, payload in fragments
    )
    return struct.pack(">BBL", 4, 0, len(values)) + values


def echo_pdu(context_id: int = 1) -> bytes:
    """A C-ECHO-RQ (PS3.7 table 9.3-12)."""
    elements = b"".join(
        struct.pack("<HHL", 0, number, len(value)) + value
        for number, value in (
            (0x0002, b"1.2.840.10008.1.1\0"),
            (0x0100, b"\x30\0"),
            (0x0110, b"\x01\0"),
            (0x0800, b"\x01\x01"),
        )
    )
    command = struct.pack("<HHLL", 0, 0, 4, len(elements)) + elements
    return data_pdu((3, command), context_id=context_id)


def store_pdus(sop_instance_uid: str, data: bytes | None = None) -> list[bytes]:
    """A C-STORE-RQ: its command, and its data set in two PDUs."""
    content = data_set(sop_instance_uid) if data is None else data
    half = len(content) // 2
    return [
        data_pdu((3, store_command(CTImageStorage, sop_instance_uid))),
        data_pdu((0, content[:half])),
        data_pdu((2, content[half:])),
    ]


@contextlib.contextmanager
def connected(port: int, *, address: str = ATTACKER_ADDRESS, seconds: float = 20.0) -> Iterator[socket.socket]:
    """A connection from ``address``."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds, source_address=(address, 0)) as opened:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield opened


def receive_pdu(opened: socket.socket) -> bytes:
    """The next PDU, b"" when the listener has closed."""
    with contextlib.suppress(ConnectionError):
        header = _exactly(opened, 6)
        if len(header) == 6:
            return header + _exactly(opened, struct.unpack(">L", header[2:])[0])
    return b""


def _exactly(opened: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count and (more := opened.recv(count - len(received))):
        received += more
    return received


def until_closed(opened: socket.socket) -> list[int]:
    """Types of the PDUs that still come before the listener closes."""
    kinds = []
    while pdu := receive_pdu(opened):
        kinds.append(pdu[0])
    return kinds


@contextlib.contextmanager
def associated(port: int, *, address: str = ATTACKER_ADDRESS, calling: str = "ATTACKER") -> Iterator[socket.socket]:
    """An association for CT images."""
    with connected(port, address=address) as opened:
        opened.sendall(associate_request(calling=calling))
        assert receive_pdu(opened)[:1] == b"\x02", "the association was not accepted"
        yield opened


def echo(port: int, context: ssl.SSLContext | None = None, *, calling: str = "TESTER") -> bool:
    """Whether C-ECHO succeeds for the healthy peer, which calls from 127.0.0.1."""
    with connected(port, address="127.0.0.1") as plain:
        opened = context.wrap_socket(plain, server_hostname="127.0.0.1") if context else plain
        with opened:
            opened.sendall(associate_request(calling=calling, contexts=((VERIFICATION, ("1.2.840.10008.1.2",)),)))
            if receive_pdu(opened)[:1] != b"\x02":
                return False
            opened.sendall(echo_pdu())
            answer = receive_pdu(opened)
            opened.sendall(RELEASE_REQUEST)
            return answer.endswith(struct.pack("<HHLH", 0, 0x0900, 2, 0)) and receive_pdu(opened)[:1] == b"\x06"
