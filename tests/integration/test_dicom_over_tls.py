"""Results go out and peers are asked over TLS: with certificates on both sides, and with the reason when it fails."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority, Owned
from pynetdicom import AE, evt
from pynetdicom.sop_class import SegmentationStorage, Verification
from segmentation_files import SegmentationFile, segmentation_file

from dicom_core import tls
from dicom_core.errors import ConfigurationError, PermanentDeliveryError, TransientDeliveryError, UnavailableError
from dicom_core.setting_tables import ListenerSettings, ListenerTLSSettings, PeerSettings, StorageSCUSettings
from dicom_listener.storage_scu import Receiver, find_dicom_files, receiver_of, send_files, verify
from worker.destinations.registry import back_to_sender
from worker.destinations.storage_scu import StorageSCU

pytestmark = [
    pytest.mark.usefixtures("closed_sockets"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <s.*ocket fd:pytest.PytestUnraisableExceptionWarning"),
]


class SecureSCP:
    """A Storage SCP that asks for certificates; remembers what came and by whose certificate."""

    def __init__(self, authority: Authority) -> None:
        owned = authority.pacs
        context = tls.server_context(owned.certificate_file, owned.key_file, authority.ca_file)
        self.received: list[str] = []
        self.names: list[str] = []
        entity = AE("PACS")
        for sop_class in (Verification, SegmentationStorage):
            entity.add_supported_context(sop_class)
        self._server = entity.start_server(
            ("127.0.0.1", 0), block=False, ssl_context=context,
            evt_handlers=[(evt.EVT_C_STORE, self._store), (evt.EVT_ESTABLISHED, self._established)],
        )  # fmt: skip
        self.port: int = self._server.server_address[1]

    def _store(self, event: evt.Event) -> int:
        self.received.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    def _established(self, event: evt.Event) -> None:
        connection: ssl.SSLSocket = event.assoc.dul.socket.socket
        certificate: dict[str, Any] = dict(connection.getpeercert() or {})
        self.names += [value for part in certificate["subject"] for _, value in part]

    def stop(self) -> None:
        self._server.shutdown()


@pytest.fixture
def scp(authority: Authority) -> Iterator[SecureSCP]:
    server = SecureSCP(authority)
    yield server
    server.stop()


@pytest.fixture
def result(tmp_path: Path) -> SegmentationFile:
    return segmentation_file(tmp_path)


@contextmanager
def scu_to(port: int, authority: Authority, owned: Owned | None = None, **changes: Any) -> Iterator[StorageSCU]:
    own = owned or authority.vesselq
    values: dict[str, Any] = {
        "kind": "storage_scu", "name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": port,
        "timeout_seconds": 5, "tls": True, "ca_file": authority.ca_file,
        "certificate_file": own.certificate_file, "key_file": own.key_file,
    }  # fmt: skip
    destination = StorageSCU(StorageSCUSettings(**{**values, **changes}), own_ae_title="VESSELQ")
    try:
        yield destination
    finally:
        destination.close()


def test_a_result_goes_out_over_tls(scp: SecureSCP, authority: Authority, result: SegmentationFile) -> None:
    """Stored over one association that stays warm; C-ECHO as well; the other side sees our certificate."""
    with scu_to(scp.port, authority) as destination:
        assert destination.send(result.path, **result.uids) == "0x0000 stored"
        assert destination.send(result.path, **result.uids) == "0x0000 stored"
        assert destination.check() == "0x0000 C-ECHO"
        assert destination.describe() == f"Storage SCP PACS at 127.0.0.1:{scp.port} over TLS"
    assert scp.received == [result.sop_instance_uid] * 2
    assert scp.names == ["VESSELQ", "VESSELQ"]


def test_a_server_that_is_another_one_gets_nothing(
    scp: SecureSCP, authority: Authority, stranger: Authority, result: SegmentationFile
) -> None:
    """An unknown authority and a wrong name are told in words, and may be mended: the result waits."""
    with (
        scu_to(scp.port, authority, ca_file=stranger.ca_file) as destination,
        pytest.raises(TransientDeliveryError, match="its certificate is not trusted"),
    ):
        destination.send(result.path, **result.uids)
    with (
        scu_to(scp.port, authority, server_name="archive.example.org") as destination,
        pytest.raises(TransientDeliveryError, match="not trusted: Hostname mismatch"),
    ):
        destination.check()
    with scu_to(scp.port, authority, server_name="pacs") as destination:
        assert destination.check() == "0x0000 C-ECHO"
    assert scp.received == []


def test_a_server_that_does_not_know_us_says_so(
    scp: SecureSCP, authority: Authority, stranger: Authority, result: SegmentationFile
) -> None:
    """Plain DICOM, no certificate, one of another authority: refused by the server, nothing is stored."""
    for changes in ({"certificate_file": None, "key_file": None}, {"tls": False, "ca_file": None,
                    "certificate_file": None, "key_file": None}):  # fmt: skip
        with scu_to(scp.port, authority, **changes) as destination, pytest.raises(TransientDeliveryError):
            destination.send(result.path, **result.uids)
    with scu_to(scp.port, authority, stranger.vesselq) as destination, pytest.raises(TransientDeliveryError):
        destination.send(result.path, **result.uids)
    assert scp.received == []


def test_a_key_that_is_no_good_is_a_mistake_in_the_settings(authority: Authority) -> None:
    """Told when the destination is made, with the file."""
    with (
        pytest.raises(ConfigurationError, match="is not that of the certificate"),
        scu_to(104, authority, key_file=authority.pacs.key_file),
    ):
        pass


def test_results_go_back_to_a_sender_over_tls(scp: SecureSCP, authority: Authority, result: SegmentationFile) -> None:
    """A peer that speaks TLS gets them with the certificate of the listener."""
    own = authority.vesselq
    identity = ListenerTLSSettings(
        certificate_file=own.certificate_file, key_file=own.key_file, ca_file=authority.ca_file
    )
    peer = PeerSettings(name="pacs", ae_title="PACS", port=scp.port, tls=True)
    asked: dict[str, Any] = {"calling_ae_title": "PACS", "peer_address": "127.0.0.1", "own_ae_title": "VESSELQ"}
    destination = back_to_sender([peer], **asked, identity=identity)
    try:
        assert destination.send(result.path, **result.uids) == "0x0000 stored"
    finally:
        destination.close()
    assert scp.names == ["VESSELQ"]
    with pytest.raises(PermanentDeliveryError):
        back_to_sender([], **asked, identity=identity)


def test_peers_are_asked_over_tls(
    scp: SecureSCP, authority: Authority, stranger: Authority, result: SegmentationFile
) -> None:
    """C-ECHO and files from the command line side; the reason is told when the certificate is another one's."""
    own = authority.vesselq
    files = {"certificate_file": own.certificate_file, "key_file": own.key_file}
    listener = ListenerSettings(tls=ListenerTLSSettings(**files, ca_file=authority.ca_file))
    peer = PeerSettings(name="pacs", ae_title="PACS", port=scp.port, tls=True)
    receiver = receiver_of(peer, "127.0.0.1", listener, 5)
    assert verify(receiver) < 5
    assert send_files(find_dicom_files([result.path])[0], receiver).sent == 1
    assert scp.received == [result.sop_instance_uid]
    wrong = ListenerSettings(tls=ListenerTLSSettings(**files, ca_file=stranger.ca_file))
    with pytest.raises(UnavailableError, match="its certificate is not trusted"):
        verify(receiver_of(peer, "127.0.0.1", wrong, 5))
    with pytest.raises(UnavailableError, match="does not answer"):
        verify(Receiver("127.0.0.1", scp.port, "PACS", timeout_seconds=2))
