"""Several listener processes on one port: connections are dealt out, a dead one is replaced, all end together."""

import signal
from pathlib import Path

import psutil
from listener_process import listener_process, settings_tables
from loopback import wait_until
from pydicom.uid import generate_uid
from sqlalchemy import select
from store_scu import StoreAnswer, association, data_set, store

from db import audit, models, register
from db.session import Record
from dicom_core.spool import Spool


def _siblings(pid: int) -> list[psutil.Process]:
    """The further listeners; the helper that multiprocessing starts beside them is none."""
    return [child for child in psutil.Process(pid).children() if "spawn_main" in " ".join(child.cmdline())]


def _listening(record: Record) -> list[models.Process]:
    with record.reading() as session:
        return list(session.scalars(select(models.Process).where(models.Process.stopped_at.is_(None))))


def _send(port: int, study: str, associations: int) -> list[str]:
    names = [generate_uid() for _ in range(associations)]
    for name in names:
        with association(port) as opened:
            assert store(opened, name, data_set(name, study=study)) == StoreAnswer(0)
    return names


def test_two_processes_on_one_port(tmp_path: Path) -> None:
    """One study over twenty associations reaches both; killed, the second comes back; the first takes it along."""
    study = generate_uid()
    with listener_process(tmp_path, **settings_tables(processes=2)) as listener:
        record = Record(f"sqlite:///{tmp_path / 'vesselq.sqlite3'}", process="test")
        wait_until(lambda: listener.log.read_text().count('"listening"') == 2, "the second process")
        assert len(_listening(record)) == 2
        names = _send(listener.port, study, 20)
        with record.reading() as session:
            by = set(session.scalars(select(models.AssociationRow.process_id)))
        assert len(by) == 2, "all associations went to one process"
        (second,) = _siblings(listener.process.pid)
        second.send_signal(signal.SIGKILL)
        wait_until(lambda: listener.log.read_text().count('"listening"') == 3, "a new second process")
        names += _send(listener.port, study, 5)
        recorded = {name: (path, fingerprint) for name, path, fingerprint in register.recorded_files(record)}
        assert set(names) == set(recorded)
        for path, fingerprint in recorded.values():
            Spool(tmp_path / "spool").verify(path, fingerprint)
        assert audit.verify(record).problem == ""
        (second,) = _siblings(listener.process.pid)
        listener.process.send_signal(signal.SIGKILL)
        wait_until(lambda: not second.is_running() or second.status() == psutil.STATUS_ZOMBIE, "the second to follow")
        record.close()
