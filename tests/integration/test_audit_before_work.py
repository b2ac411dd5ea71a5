"""The audit log opens before the first socket, and a listener that cannot write it takes nothing."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import uvicorn
from listener_process import listener_thread, settings_tables
from loopback import free_port
from sqlalchemy import text
from store_scu import association, data_set, store

import dicom_listener.dispatcher
import dicom_listener.process
import worker.app
from console.web import server
from db import migrate
from db.models import Instance
from db.session import Record
from dicom_core.errors import UnavailableError
from dicom_core.settings import Settings

BREAK, MEND = "ALTER TABLE audit_events RENAME TO lost", "ALTER TABLE lost RENAME TO audit_events"


def _execute(record: Record, statement: str) -> None:
    with record.engine.begin() as connection:
        connection.execute(text(statement))


def _forbidden(*_: object, **__: object) -> None:
    raise AssertionError("opened before the audit log")


@pytest.mark.parametrize(
    "run",
    [dicom_listener.process.run, dicom_listener.dispatcher.run, worker.app.run, server.run],
    ids=["listener", "dispatcher", "worker", "web"],
)
def test_no_process_begins_without_the_audit_log(
    run: Callable[[Settings], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each ends with an error before it binds a port, asks Redis for work or is known as alive."""
    port = free_port()
    settings = Settings(data_folder=tmp_path, listener={"port": port}, web={"port": port})
    record = Record(settings.effective_database_url, process="test")
    migrate.upgrade(record)
    _execute(record, BREAK)
    monkeypatch.setattr(dicom_listener.process, "_server", _forbidden)
    monkeypatch.setattr(dicom_listener.dispatcher, "Doorbell", _forbidden)
    monkeypatch.setattr(dicom_listener.dispatcher, "configure_logs", lambda *_: None)
    monkeypatch.setattr(worker.app, "Services", _forbidden)
    monkeypatch.setattr(worker.app, "configure_logs", lambda *_: None)
    monkeypatch.setattr(uvicorn, "Server", _forbidden)
    monkeypatch.setattr(socket.socket, "bind", _forbidden)
    with pytest.raises(UnavailableError, match="audit_events"):
        run(settings)
    with record.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM processes")) == 0
    record.close()


def test_a_listener_that_cannot_audit_takes_nothing(tmp_path: Path) -> None:
    """0xA700 and no row while the log is away; 0x0000 for the same object once it is back, without a restart."""
    folder = tmp_path / "data"
    uid, second = "1.2.826.0.1.3680043.10.901", "1.2.826.0.1.3680043.10.902"
    with listener_thread(folder, **settings_tables()) as (port, _):
        record = Record(f"sqlite:///{folder / 'vesselq.sqlite3'}", process="test")
        with association(port) as opened:
            _execute(record, BREAK)
            assert store(opened, uid, data_set(uid)).status == 0xA700
            _execute(record, MEND)
            assert store(opened, uid, data_set(uid)).status == 0x0000
        _execute(record, BREAK)
        with association(port) as opened:
            assert store(opened, second, data_set(second, study="1.2.826.0.1.3680043.10.2")).status == 0xA700
        with record.reading() as session:
            assert session.get(Instance, uid) is not None
            assert session.get(Instance, second) is None
        _execute(record, MEND)
        record.close()
