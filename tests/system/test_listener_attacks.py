"""Attacks on a real listener, bounded and on loopback: a healthy peer is served on, nothing grows, nothing is left.

Attackers call from 127.0.0.2, so that limits per address leave the healthy peer on 127.0.0.1 alone.
"""

import contextlib
import os
import random
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from certificates import Authority, authority  # noqa: F401  a fixture
from hostile_peer import (
    ABORT,
    ATTACKER_ADDRESS,
    RELEASE_REQUEST,
    RELEASE_RESPONSE,
    associate_request,
    associated,
    connected,
    data_pdu,
    echo,
    item,
    receive_pdu,
    store_pdus,
    until_closed,
)
from listener_process import listener_process, settings_tables
from loopback import wait_until
from pydicom.uid import CTImageStorage, generate_uid
from store_scu import data_set, store_command

from dicom_core import tls

SHARED = Path(os.environ.get("VESSELQ_SHARED", "../shared")).resolve()
FUZZED = SHARED / "data" / "dicom" / "pwnlab_fuzz"
MIB = 1024**2
ACSE_SECONDS = 2.0
LISTENER_THREADS = 2
"""Without associations: the one that beats and the one that accepts."""
STATUSES = {0x0000, 0x0110, 0x0111, 0x0117, 0x0122, 0xA700, 0xA900, 0xC000}


class Victim:
    """A listener under attack, and how it was before."""

    def __init__(self, port: int, pid: int, folder: Path, context: ssl.SSLContext | None = None) -> None:
        self.port = port
        self._context = context
        self._folder = folder
        self._process = psutil.Process(pid)
        assert self.serves()
        wait_until(lambda: self._process.num_threads() == LISTENER_THREADS, "the first association to end")
        self._files = self._process.num_fds()
        self._rss = self._process.memory_info().rss

    def serves(self) -> bool:
        """Whether the healthy peer's C-ECHO succeeds within a second; three tries, since other work may run here."""
        for _ in range(3):
            begun = time.monotonic()
            assert echo(self.port, self._context)
            if time.monotonic() - begun < 1:
                return True
        return False

    def recovered(self) -> None:
        """Check that the attack left nothing."""
        assert self.serves()
        wait_until(lambda: self._process.num_threads() == LISTENER_THREADS, "the threads to end")
        # a few connections of the database stay open in their pool
        wait_until(lambda: self._process.num_fds() <= self._files + 12, "the sockets and files to be closed")
        assert self._peak_rss() - self._rss < 100 * MIB
        assert list((self._folder / "spool" / "tmp").iterdir()) == []
        log = (self._folder / "listener.log").read_text()
        assert "Traceback" not in log
        assert "association-failed" not in log

    def _peak_rss(self) -> int:
        """The most memory that it ever had, in bytes: also in the middle of an attack."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024


def _tables(**listener: object) -> dict[str, object]:
    tables = dict(settings_tables(acse_timeout_seconds=ACSE_SECONDS, network_timeout_seconds=5, **listener))
    attacker = {"name": "attacker", "ae_title": "ATTACKER", "addresses": [ATTACKER_ADDRESS]}
    return {**tables, "peers": [*tables["peers"], attacker]}


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    folder = tmp_path_factory.mktemp("victim")
    with listener_process(folder, **_tables(pdu_timeout_seconds=2, object_timeout_seconds=4)) as listener:
        yield Victim(listener.port, listener.process.pid, folder)


@pytest.fixture
def victim(listening: Victim) -> Iterator[Victim]:
    """The listener; after the attack it must be as it was."""
    yield listening
    listening.recovered()


def test_three_hundred_idle_sockets(victim: Victim) -> None:
    """Sockets that say nothing are closed, those beyond the limit of their address at once."""
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connected(victim.port)) for _ in range(300)]
        assert victim.serves()
        for opened in idle:
            with contextlib.suppress(ConnectionError):
                assert opened.recv(1) == b""


def test_fifty_idle_tls_sockets(tmp_path: Path, authority: Authority) -> None:  # noqa: F811  the fixture
    """Whoever never begins its TLS handshake, or stops within, holds up no other association."""
    own = authority.vesselq
    files = {"certificate_file": str(own.certificate_file), "key_file": str(own.key_file)}
    tables = _tables(tls={**files, "ca_file": str(authority.ca_file)})
    tables["peers"][0]["certificate_name"] = "PACS"  # type: ignore[index]
    context = tls.client_context(authority.ca_file, authority.pacs.certificate_file, authority.pacs.key_file)
    with listener_process(tmp_path, **tables) as listener, contextlib.ExitStack() as stack:
        victim = Victim(listener.port, listener.process.pid, tmp_path, context)
        idle = [stack.enter_context(connected(victim.port)) for _ in range(50)]
        for opened in idle[:10]:
            opened.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert victim.serves()
        with connected(victim.port) as plain:
            with contextlib.suppress(ConnectionError):
                plain.sendall(associate_request())
            assert until_closed(plain) == []
        for opened in idle:
            with contextlib.suppress(ConnectionError):
                assert opened.recv(1) == b""
        victim.recovered()


def test_a_byte_now_and_then(victim: Victim) -> None:
    """One byte every 0.3 s keeps no connection beyond the deadline of its first PDU."""
    request = associate_request()
    with connected(victim.port) as opened:
        begun = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in request[:60]:
                opened.sendall(bytes([byte]))
                time.sleep(0.3)
        assert time.monotonic() - begun < 60 * 0.3 - 1
        assert until_closed(opened) in ([], [7])
        assert victim.serves()


@pytest.mark.parametrize("within", [False, True], ids=["at once", "in an association"])
def test_four_gibibytes_announced(victim: Victim, within: bool) -> None:
    """A PDU that announces 4 GiB ends the connection before memory is taken."""
    with (associated if within else connected)(victim.port) as opened:
        with contextlib.suppress(ConnectionError):
            opened.sendall((b"\x04" if within else b"\x01") + b"\0\xff\xff\xff\xff" + bytes(100_000))
        assert until_closed(opened) in ([], [7])


@pytest.mark.parametrize("control", [0, 1], ids=["data set", "command set"])
def test_endless_empty_fragments(victim: Victim, control: int) -> None:
    """A message that is cut into fragments without content, for ever, is aborted."""
    empty = data_pdu(*[(control, b"")] * 500)
    with associated(victim.port) as opened:
        if control == 0:
            opened.sendall(data_pdu((3, store_command(CTImageStorage, generate_uid()))))
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                opened.sendall(empty)
            assert 7 in until_closed(opened)


def test_an_object_that_never_ends(victim: Victim) -> None:
    """A sender that trickles an object is aborted when the time for one object is over; nothing of it stays."""
    with associated(victim.port) as opened:
        opened.sendall(data_pdu((3, store_command(CTImageStorage, generate_uid()))))
        begun = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - begun < 15:
                opened.sendall(data_pdu((0, bytes(300))))
                time.sleep(0.2)
        assert time.monotonic() - begun < 12


def test_long_requests(victim: Victim) -> None:
    """128 contexts with long user information are answered; more contexts or items than anybody needs are not."""
    contexts = [(f"1.2.826.0.1.3680043.10.{number}", ("1.2.840.10008.1.2",) * 40) for number in range(128)]
    long = b"".join(item(0x56, struct.pack(">H", 17) + b"1.2.840.10008.1.1" + bytes(100)) for _ in range(300))
    with connected(victim.port) as opened:
        opened.sendall(associate_request(contexts=contexts, user_items=long))
        assert receive_pdu(opened)[:1] in (b"\x02", b"\x07")
    many_items = associate_request(user_items=item(0x5F, b"") * 10_000)
    many_contexts = associate_request(contexts=[("1.2.3", ("1.2.840.10008.1.2",))] * 600)
    for request in (many_items, many_contexts):
        with connected(victim.port) as opened:
            opened.sendall(request)
            assert until_closed(opened) == [7]
    with connected(victim.port) as opened:
        with contextlib.suppress(ConnectionError):
            opened.sendall(b"\x01\0" + struct.pack(">L", 900_000) + associate_request()[6:] + item(0x5F, b"") * 200_000)
        assert until_closed(opened) in ([], [7])


def _states() -> dict[str, list[bytes]]:
    """What has been sent when the attacker goes, by the state of PS3.8 section 9.2 in which it does."""
    store = store_pdus(generate_uid())
    return {
        "Sta2": [],
        "Sta2, half a request": [associate_request()[:50]],
        "Sta6": [associate_request()],
        "Sta6, half a command": [associate_request(), store[0][:30]],
        "Sta6, no data set yet": [associate_request(), store[0]],
        "Sta6, half an object": [associate_request(), *store[:2]],
        "Sta6, half a fragment": [associate_request(), *store[:2], store[2][:20]],
        "Sta6, a whole object": [associate_request(), *store],
        "Sta13, released": [associate_request(), RELEASE_REQUEST],
        "Sta13, rejected": [associate_request(called="OTHER")],
        "Sta13, invalid": [associate_request(), associate_request()],
        "Sta13, impossible": [associate_request(), RELEASE_RESPONSE],
    }


def _abort(opened: socket.socket) -> None:
    opened.sendall(ABORT)


def _reset(opened: socket.socket) -> None:
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    opened.close()


def _half_close(opened: socket.socket) -> None:
    opened.shutdown(socket.SHUT_WR)
    until_closed(opened)


@pytest.mark.parametrize("leave", [_abort, _reset, _half_close, socket.socket.close])
def test_leaving_in_every_state(victim: Victim, leave: Callable[[socket.socket], None]) -> None:
    """Abort, reset, half-closing and closing, in every state: each ends that association and no other."""
    with associated(victim.port, address="127.0.0.1", calling="TESTER") as healthy:
        for state, sent in _states().items():
            with connected(victim.port) as opened, contextlib.suppress(ConnectionError):
                for pdu in sent:
                    opened.sendall(pdu)
                leave(opened)
            name = generate_uid()
            for pdu in store_pdus(name, data_set(name)):
                healthy.sendall(pdu)
            assert receive_pdu(healthy)[:1] == b"\x04", state


def test_a_thousand_bare_connects(victim: Victim) -> None:
    """Load balancers look whether the port is open, and say nothing: this is no refused connection."""
    for _ in range(1000):
        with connected(victim.port):
            pass
    assert victim.serves()


def _mutated(pdu: bytes, chance: random.Random) -> bytes:
    changed = bytearray(pdu)
    for _ in range(chance.randint(1, 6)):
        kind, place = chance.randrange(4), chance.randrange(len(changed))
        if kind == 0:
            changed[place] = chance.randrange(256)
        elif kind == 1:
            del changed[place : place + chance.randint(1, 8)]
        elif kind == 2:
            changed[place:place] = chance.randbytes(chance.randint(1, 8))
        else:
            changed[place : place + 4] = b"\xff\xff\xff\xff"
        changed = changed or bytearray(1)
    return bytes(changed)


def test_ten_thousand_mutated_pdus(victim: Victim) -> None:
    """Requests, messages and releases with a few bytes changed: no exception, and the healthy peer is served on."""
    chance = random.Random(67)
    name = generate_uid()
    messages = [*store_pdus(name), RELEASE_REQUEST, ABORT, associate_request()]
    sent = 0
    while sent < 10_000:
        request = associate_request()
        spoiled = chance.random() < 0.3
        pdus = [_mutated(chance.choice(messages), chance) for _ in range(30)]
        with connected(victim.port, seconds=5) as opened, contextlib.suppress(OSError):
            opened.sendall(_mutated(request, chance) if spoiled else request)
            sent += 1
            opened.sendall(b"".join(pdus))
            sent += len(pdus)
    assert victim.serves()


def _fuzzed_files() -> list[Path]:
    return sorted(FUZZED.rglob("*.dcm")) if FUZZED.is_dir() else []


@pytest.mark.skipif(not FUZZED.is_dir(), reason="the corpus is not in the shared folder")
def test_fuzzed_files_as_objects(victim: Victim) -> None:
    """Every file of the corpus, sent as the data set it claims to be, gets a status; the association lives on."""
    files = _fuzzed_files()
    assert files
    answered = 0
    with associated(victim.port) as opened:
        for file in files:
            content = file.read_bytes()
            for data in (content, _without_meta(content)):
                for pdu in store_pdus(generate_uid(), data):
                    opened.sendall(pdu)
                answer = receive_pdu(opened)
                (status,) = struct.unpack("<H", answer.split(struct.pack("<HHL", 0, 0x0900, 2))[1][:2])
                assert status in STATUSES, file.name
                answered += 1
    assert answered == 2 * len(files)


def _without_meta(content: bytes) -> bytes:
    """What follows preamble and group 0002, as far as its length can be believed."""
    if content[128:132] != b"DICM" or len(content) < 144:
        return content[132:]
    return content[144 + struct.unpack("<L", content[140:144])[0] % max(len(content) - 144, 1) :]
