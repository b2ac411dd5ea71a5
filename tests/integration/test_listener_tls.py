"""The listener over TLS, with each data path: objects come in, certificates count for their own AE title only."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dicom_sources
import pytest
from certificates import Authority, Owned
from listener_process import listener_thread
from loopback import wait_until
from typer.testing import CliRunner

from console.cli import app
from db.audit_queries import AuditQuery, audit_rows
from db.session import Record
from dicom_core import tls
from dicom_core.errors import DeliveryError, UnavailableError
from dicom_listener.storage_scu import Receiver, find_dicom_files, send_files, verify

pytestmark = [
    pytest.mark.usefixtures("closed_sockets"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <s.*ocket fd:pytest.PytestUnraisableExceptionWarning"),
]
ECHOSCU = shutil.which("echoscu")


@dataclass(frozen=True)
class Site:
    """A running listener that asks for certificates."""

    port: int
    record: Record
    authority: Authority

    def receiver(self, ae_title: str, owned: Owned, authority: Authority | None = None) -> Receiver:
        """The listener as seen by ``ae_title`` with the certificate ``owned``."""
        ca_file = (authority or self.authority).ca_file
        context = tls.client_context(ca_file, owned.certificate_file, owned.key_file)
        return Receiver("127.0.0.1", self.port, "VESSELQ", ae_title, 5, context)

    def refusals(self) -> list[str]:
        """The reasons of refused associations in the audit log."""
        return [row.detail["reason"] for row in audit_rows(self.record, AuditQuery(event="association-refused"))]


@pytest.fixture(scope="module", params=["own", "pynetdicom"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("listener")
    own = authority.vesselq
    files = {"certificate_file": own.certificate_file, "key_file": own.key_file, "ca_file": authority.ca_file}
    tables = {
        "listener": {
            "port": 0, "tls": files, "data_path": request.param, "low_water_bytes": 0, "critical_water_bytes": 0,
        },
        "peers": [
            {"name": "pacs", "ae_title": "PACS"},
            {"name": "ct", "ae_title": "CT1", "certificate_name": "vesselq"},
            {"name": "guest", "ae_title": "GUEST", "certificate_name": "*"},
        ],
    }  # fmt: skip
    with listener_thread(folder, **tables) as (port, _):
        record = Record(f"sqlite:///{folder / 'vesselq.sqlite3'}", process="test")
        yield Site(port, record, authority)
        record.close()


def test_objects_come_in_over_tls(site: Site, tmp_path: Path) -> None:
    """A sender with the certificate of its AE title stores, and the study is in the record."""
    source = dicom_sources.ct_series()[0]
    paths = dicom_sources.save([source], tmp_path)
    report = send_files(find_dicom_files(paths)[0], site.receiver("PACS", site.authority.pacs))
    assert (report.sent, report.problems) == (1, [])
    query = AuditQuery(study_instance_uid=str(source.StudyInstanceUID), event="instances-received")
    wait_until(lambda: bool(audit_rows(site.record, query)), "the study in the audit log")


def test_files_are_sent_over_tls_by_command(site: Site, tmp_path: Path) -> None:
    """``vesselq send`` with a certificate; half of a pair, or a pair without trust, is a mistake of usage."""
    dicom_sources.save(dicom_sources.ct_series()[:2], tmp_path)
    own = site.authority.pacs
    to = ["send", tmp_path, "--to", f"127.0.0.1:{site.port}", "--called", "VESSELQ", "--calling", "PACS"]
    pair = ["--certificate-file", own.certificate_file, "--key-file", own.key_file]
    done = CliRunner().invoke(app, [str(word) for word in (*to, *pair, "--ca-file", site.authority.ca_file)])
    assert (done.exit_code, "2 of 2 objects are stored" in done.output) == (0, True), done.output
    for wrong in (pair, pair[:2]):
        assert CliRunner().invoke(app, [str(word) for word in (*to, *wrong)]).exit_code == 2


def test_a_certificate_counts_for_its_own_ae_title(site: Site) -> None:
    """The certificate of one cannot speak as another; a peer may be bound to another name, or to none."""
    assert verify(site.receiver("PACS", site.authority.pacs)) < 5
    assert verify(site.receiver("CT1", site.authority.vesselq)) < 5
    assert verify(site.receiver("GUEST", site.authority.pacs)) < 5
    before = len(site.refusals())
    with pytest.raises(DeliveryError, match="refuses the association"):
        verify(site.receiver("PACS", site.authority.vesselq))
    wait_until(lambda: len(site.refusals()) > before, "the refusal in the audit log")
    assert site.refusals()[-1] == "the certificate is made out to another name than the peer's certificate_name"


def test_strangers_and_plain_dicom_get_no_answer(site: Site, stranger: Authority) -> None:
    """A certificate of another authority, and DICOM without TLS."""
    with pytest.raises(UnavailableError):
        verify(site.receiver("PACS", stranger.pacs, site.authority))
    with pytest.raises(UnavailableError):
        verify(Receiver("127.0.0.1", site.port, "VESSELQ", "PACS", 5))
    assert verify(site.receiver("PACS", site.authority.pacs)) < 5


@pytest.mark.skipif(ECHOSCU is None, reason="DCMTK is not installed")
def test_dcmtk_gets_in(site: Site) -> None:
    """Echoscu with a certificate of ours, which it checks against our authority."""
    own = site.authority.pacs
    command = [
        "echoscu", "+tls", own.key_file, own.certificate_file, "+cf", site.authority.ca_file, "-rc",
        "-aet", "PACS", "-aec", "VESSELQ", "127.0.0.1", site.port,
    ]  # fmt: skip
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
