"""Fixtures: a private authority with certificates for two AE titles, made once a run, and a stranger with another one.

``shake_hands`` brings both ends of a TLS connection together in memory. ``closed_sockets`` is for tests in which
associations fail.
"""

import gc
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Owned:
    """A certificate and its key."""

    certificate_file: Path
    key_file: Path


@dataclass(frozen=True)
class Authority:
    """Files of an authority and of those it vouches for."""

    folder: Path
    ca_file: Path
    vesselq: Owned
    pacs: Owned


def make(folder: Path) -> Authority:
    """An authority that vouches for VESSELQ and for PACS, both at 127.0.0.1 and localhost."""
    from console.private_authority import issue, make_authority

    made = [make_authority(folder, name="test authority", days=2)]
    made += [issue(folder, ae_title, hosts=("127.0.0.1", "localhost"), days=1) for ae_title in ("VESSELQ", "PACS")]
    ca, vesselq, pacs = (Owned(one.certificate_file, one.key_file) for one in made)
    return Authority(folder, ca.certificate_file, vesselq, pacs)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The one that both sides trust."""
    return make(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One with the same names that nobody trusts."""
    return make(tmp_path_factory.mktemp("stranger"))


@pytest.fixture
def closed_sockets() -> Iterator[None]:
    """Closes what pynetdicom leaves open: the sockets of connections that failed, which the log keeps alive."""
    before = {id(one) for one in _broken_sockets()}
    yield
    for one in _broken_sockets():
        if id(one) not in before:
            one.close()


def _broken_sockets() -> list[socket.socket]:
    # by type: to ask some objects of others for their class has them warn
    sockets = [one for one in gc.get_objects() if issubclass(type(one), socket.socket)]
    return [one for one in sockets if one.fileno() >= 0 and _is_broken(one)]


def _is_broken(one: socket.socket) -> bool:
    try:
        one.getpeername()
    except OSError:
        return True
    return False


def shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str = "127.0.0.1"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of a connection after its handshake, the server's first.

    Raises:
        ssl.SSLError: What the first of them says that does not want the other.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname=name),
    )
    waiting = list(ends)
    while waiting:
        for end in tuple(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
    return ends
