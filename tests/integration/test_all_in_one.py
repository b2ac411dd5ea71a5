"""`vesselq up` on one machine: it starts, serves, heals and stops, and nothing is left."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis
import requests
from loopback import is_listening, wait_until

from console.data_folder import sole_use
from console.up import AllInOne
from db import api_tokens, reports
from db.session import Record
from dicom_core.errors import ConflictError
from dicom_core.setting_tables import ListenerSettings, PeerSettings, WebSettings
from dicom_core.settings import Settings
from dicom_listener.storage_scu import Receiver, verify

CALLING = "TESTER"
KINDS = ["dispatcher", "listener", "web", "worker", "worker"]
pytestmark = pytest.mark.timeout(300)


def settings_for(folder: Path) -> Settings:
    """A site on free ports whose listener knows one peer."""
    return Settings(
        data_folder=folder,
        listener=ListenerSettings(port=0, low_water_bytes=1, critical_water_bytes=0),
        web=WebSettings(port=0),
        peers=(PeerSettings(name="tester", ae_title=CALLING, addresses=("127.0.0.1",)),),
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AllInOne]:
    folder = tmp_path_factory.mktemp("up")
    patch = pytest.MonkeyPatch()
    patch.delenv("VESSELQ_REDIS_URL", raising=False)
    try:
        with AllInOne(settings_for(folder / "data"), log_folder=folder / "logs") as site:
            site.wait_ready(200)
            yield site
    finally:
        patch.undo()


def echo(site: AllInOne) -> float:
    listener = site.settings.listener
    return verify(Receiver("127.0.0.1", listener.port, listener.ae_title, CALLING))


def alive_kinds(site: AllInOne) -> list[str]:
    record = Record(site.settings.effective_database_url, process="test")
    try:
        return sorted(row.kind for row in reports.processes(record) if row.stopped_at is None)
    finally:
        record.close()


def test_everything_runs(site: AllInOne) -> None:
    """All processes announce themselves, C-ECHO is answered, the web pages are healthy."""
    assert alive_kinds(site) == KINDS
    assert echo(site) < 10
    record = Record(site.settings.effective_database_url, process="test")
    _, token = api_tokens.create(record, "test", ["read"])
    record.close()
    address = f"http://127.0.0.1:{site.settings.web.port}/api/v1/health"
    assert requests.get(address, timeout=10).status_code == 401
    health = requests.get(address, headers={"Authorization": f"Bearer {token}"}, timeout=10)
    assert sorted(one["kind"] for one in health.json()["processes"] if one["alive"]) == KINDS


def test_redis_is_private(site: AllInOne) -> None:
    """Redis listens on a socket that only this user may open, on no port, keeps nothing and evicts nothing."""
    path = Path(site.settings.redis_url.removeprefix("unix://"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with redis.Redis.from_url(site.settings.redis_url) as client:
        values = {name: client.config_get(name)[name] for name in ("port", "maxmemory-policy", "save", "appendonly")}
    assert values == {"port": "0", "maxmemory-policy": "noeviction", "save": "", "appendonly": "no"}


def test_the_data_folder_is_private(site: AllInOne) -> None:
    """Nobody else may look into the data folder."""
    assert stat.S_IMODE(site.settings.data_folder.stat().st_mode) == 0o700


def test_a_second_one_is_refused(site: AllInOne) -> None:
    """Two of them on one data folder would fight over everything."""
    with pytest.raises(ConflictError, match="another `vesselq up`"):
        AllInOne(site.settings).start()
    with pytest.raises(ConflictError), sole_use(site.settings.data_folder):
        pass


@pytest.mark.parametrize("name", ["listener", "web"])
def test_a_killed_process_comes_back(site: AllInOne, name: str) -> None:
    """After kill -9 the process is started again on the same port and answers."""
    child = next(child for child in site.children if child.name == name)
    assert child.process is not None
    before = child.process.pid
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: child.process is not None and child.process.pid != before, f"another {name}", timeout_seconds=20)
    site.wait_ready(100)
    assert child.starts >= 2
    assert echo(site) < 10


def test_up_stops_clean(tmp_path: Path) -> None:
    """SIGTERM to `vesselq up` ends every process within bounded time, each with its stop recorded, exit code 0."""
    settings = settings_for(tmp_path / ("long" * 30))
    config = tmp_path / "vesselq.toml"
    config.write_text(
        "[listener]\nport = 0\nlow_water_bytes = 1\ncritical_water_bytes = 0\n[web]\nport = 0\n", encoding="utf-8"
    )
    log = (tmp_path / "log").open("wb")
    arguments = ["-m", "console.cli", "up", "--config", str(config), "--data-folder", str(settings.data_folder)]
    process = subprocess.Popen([sys.executable, *arguments], stderr=log, stdout=log)
    try:
        wait_until(lambda: b'"ready"' in (tmp_path / "log").read_bytes(), "up", timeout_seconds=150, process=process)
        everything = psutil.Process(process.pid).children(recursive=True)
        assert len(everything) >= 6
        begin = time.monotonic()
        process.terminate()
        assert process.wait(60) == 0
        assert time.monotonic() - begin < 45
    finally:
        if process.poll() is None:
            process.kill()
        log.close()
    assert [one for one in everything if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []
    record = Record(f"sqlite:///{settings.data_folder / 'vesselq.sqlite3'}", process="test")
    rows = reports.processes(record)
    record.close()
    assert sorted(row.kind for row in rows) == KINDS
    assert all(row.stopped_at is not None for row in rows)


def test_nothing_survives_a_killed_up(tmp_path: Path) -> None:
    """Kill -9 of `vesselq up` itself takes every child along."""
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from console.up import AllInOne\n"
        "from dicom_core.setting_tables import ListenerSettings, WebSettings\n"
        "from dicom_core.settings import Settings\n"
        "site = AllInOne(Settings(data_folder=Path(sys.argv[1]), listener=ListenerSettings(port=0, low_water_bytes=1,"
        " critical_water_bytes=0), web=WebSettings(port=0)), log_folder=Path(sys.argv[2]))\n"
        "site.start(); site.wait_ready(150); print(site.settings.listener.port, flush=True); time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "data"), str(tmp_path / "logs")], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        everything = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def left() -> list[psutil.Process]:
        return [one for one in everything if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]

    wait_until(lambda: not left(), "the end of all children", timeout_seconds=60)
    assert not is_listening(port)
