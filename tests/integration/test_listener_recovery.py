"""Crashes and failing disks: what was acknowledged is there, what was not leaves nothing behind."""

import contextlib
import errno
import os
import random
import signal
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from listener_process import crash_points, listener_process, listener_thread, settings_tables
from loopback import wait_until
from pydicom.uid import generate_uid
from sqlalchemy import select, update
from store_scu import StoreAnswer, association, data_set, store

import db.session
from db import audit, migrate, models, register
from db.session import Record
from dicom_core.errors import ConfigurationError, SpoolDamagedError, SpoolError
from dicom_core.spool import Spool, SpooledFile
from dicom_core.study import Association, ReceivedInstance
from dicom_listener.file_meta import file_meta
from dicom_listener.recovery import SpoolLock, recover

STEPS = (*range(1, 17), 19, 24, 29, 40)
"""Every step of the first object, some of the second, and one that is never reached."""


@contextlib.contextmanager
def opened_record(folder: Path) -> Iterator[Record]:
    record = Record(f"sqlite:///{folder / 'vesselq.sqlite3'}", process="test")
    try:
        yield record
    finally:
        record.close()


def send_until_it_breaks(
    port: int, names: Iterable[str], study: str, acknowledged: list[str] | None = None
) -> list[str]:
    """Send objects over one association until it breaks; those that got 0x0000 are added to ``acknowledged``."""
    acknowledged = [] if acknowledged is None else acknowledged
    with association(port) as opened:
        for name in names:
            if not opened.is_established or store(opened, name, data_set(name, study=study)) != StoreAnswer(0):
                break
            acknowledged.append(name)
    return acknowledged


def check_agreement(record: Record, spool: Spool, acknowledged: list[str]) -> None:
    """Everything acknowledged is recorded with equal bytes, rows and files agree, nothing is unfinished."""
    recorded = {name: (path, fingerprint) for name, path, fingerprint in register.recorded_files(record)}
    assert set(acknowledged) <= set(recorded)
    for path, fingerprint in recorded.values():
        spool.verify(path, fingerprint)
    assert register.unrecorded_paths(record, spool.kept_paths()) == []
    assert list(spool.unfinished_paths()) == []
    assert audit.verify(record).problem == ""


def test_killed_at_every_step_of_storing(tmp_path: Path) -> None:
    """Kill -9 before or after each step of storing two objects: acknowledged instances are there, nothing else is."""
    folder = tmp_path / "data"
    names = [[generate_uid(), generate_uid()] for _ in STEPS]
    acknowledged: list[str] = []
    killed = 0
    with crash_points(folder, STEPS, **settings_tables()) as ports:
        for port, pair in zip(ports, names, strict=True):
            before = len(acknowledged)
            send_until_it_breaks(port, pair, generate_uid(), acknowledged)
            killed += len(acknowledged) - before < 2
    spool = Spool(folder / "spool")
    assert list(spool.unfinished_paths()), "no crash left an unfinished file: the test tests nothing"
    with opened_record(folder) as record:
        assert register.unrecorded_paths(record, spool.kept_paths()), "no crash left a file without row"
        recovered = recover(record, spool, alone=True)
        assert recovered.parts_removed
        assert recovered.orphans_removed
        assert recovered.missing == recovered.damaged == 0
        check_agreement(record, spool, acknowledged)
    assert killed == len(STEPS) - 1, "the steps of storing have changed: adapt STEPS"
    assert len(acknowledged) == 3 + 2


def test_killed_in_the_middle_of_a_load(tmp_path: Path) -> None:
    """Killed while four associations send: after the restart all that was acknowledged is there and sending goes on."""
    acknowledged: list[str] = []
    study = generate_uid()
    with listener_process(tmp_path, **settings_tables()) as listener:
        senders = [
            threading.Thread(
                target=send_until_it_breaks,
                args=(listener.port, (generate_uid() for _ in range(100_000)), study, acknowledged),
            )
            for _ in range(4)
        ]
        for sender in senders:
            sender.start()
        enough = random.Random(os.getpid()).randint(10, 80)
        wait_until(lambda: len(acknowledged) > enough, "some objects to be acknowledged")
        listener.process.send_signal(signal.SIGKILL)
        for sender in senders:
            sender.join()
    with listener_process(tmp_path, **settings_tables()) as listener, opened_record(tmp_path) as record:
        check_agreement(record, Spool(tmp_path / "spool"), acknowledged)
        assert len(send_until_it_breaks(listener.port, [generate_uid()], study)) == 1


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Record, Spool]]:
    """A record with its tables and a prepared spool."""
    spool = Spool(tmp_path / "spool")
    spool.prepare()
    with opened_record(tmp_path) as record:
        migrate.upgrade(record)
        yield record, spool


def _received(spool: Spool, name: str, like: str = "") -> ReceivedInstance:
    data = data_set(name, study="1.2.3")
    with spool.receive(file_meta("1.2.840.10008.5.1.4.1.1.2", name, "1.2.840.10008.1.2.1")) as file:
        file.write(data)
        kept: SpooledFile = file.keep(name, like)
    return ReceivedInstance(
        Association("a" * 32, "b" * 32, "TESTER", "VESSELQ", "127.0.0.1"),
        "1.2.3", "1.2.3.4", name, "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", "CT",
        kept.fingerprint, kept.size_bytes, kept.path,
    )  # fmt: skip


def _state(record: Record, name: str) -> str:
    with record.reading() as session:
        return str(session.scalars(select(models.Instance.state).where(models.Instance.sop_instance_uid == name)).one())


def test_recovery_finds_missing_and_damaged_files(place: tuple[Record, Spool]) -> None:
    """A recorded instance whose file is gone or changed is marked and audited once; orphans and parts go."""
    record, spool = place
    good, gone, changed, orphan = (_received(spool, f"1.2.3.4.{index}") for index in range(4))
    register.record_instances(record, [good, gone, changed])
    spool.path(gone.path).unlink()
    content = spool.path(changed.path).read_bytes()
    spool.path(changed.path).write_bytes(content[:-1] + b"\xff")
    (spool.folder / "tmp" / "0123.part").write_bytes(b"half")
    recovered = recover(record, spool, alone=True)
    assert (recovered.parts_removed, recovered.orphans_removed) == (1, 1)
    assert (recovered.missing, recovered.damaged) == (1, 1)
    assert not spool.path(orphan.path).exists()
    assert spool.path(good.path).exists()
    assert [_state(record, item.sop_instance_uid) for item in (good, gone, changed)] == [
        "RECEIVED", "MISSING", "MISSING",
    ]  # fmt: skip
    again = recover(record, spool, alone=True)
    assert (again.missing, again.damaged) == (0, 0)
    with record.reading() as session:
        alarms = session.scalars(select(models.AuditEvent).where(models.AuditEvent.event == "instance-missing")).all()
    assert sorted(alarm.detail["sop_instance_uid"] for alarm in alarms) == ["1.2.3.4.1", "1.2.3.4.2"]
    assert {alarm.outcome for alarm in alarms} == {12}


def test_recovery_beside_a_living_listener_removes_nothing(place: tuple[Record, Spool]) -> None:
    """With another listener on the spool its unfinished and unrecorded files are left alone."""
    record, spool = place
    orphan = _received(spool, "1.2.3.4.9")
    part = spool.folder / "tmp" / "0123.part"
    part.write_bytes(b"half")
    recovered = recover(record, spool, alone=False)
    assert (recovered.parts_removed, recovered.orphans_removed) == (0, 0)
    assert part.exists()
    assert spool.path(orphan.path).exists()


def test_only_the_first_listener_is_alone(place: tuple[Record, Spool]) -> None:
    """The lock tells the second listener that it is not alone, and is free again when all are gone."""
    _, spool = place
    first = SpoolLock(spool)
    assert first.alone
    during_recovery = SpoolLock(spool)
    assert not during_recovery.alone
    first.share()
    second = SpoolLock(spool)
    assert not second.alone
    second.share()
    for lock in (first, second, during_recovery):
        lock.close()
    last = SpoolLock(spool)
    assert last.alone
    last.close()


def test_unmounted_spool_stops_the_start(place: tuple[Record, Spool]) -> None:
    """When not one of many recorded files is there, nothing is marked and the error says what to do."""
    record, spool = place
    received = [_received(spool, f"1.2.3.4.{index}") for index in range(12)]
    register.record_instances(record, received)
    for item in received:
        spool.path(item.path).unlink()
    with pytest.raises(SpoolDamagedError, match="mount the volume"):
        recover(record, spool, alone=True)
    assert {_state(record, item.sop_instance_uid) for item in received} == {"RECEIVED"}


def test_files_of_another_record_are_kept(place: tuple[Record, Spool]) -> None:
    """Far more unknown files than a crash leaves mean an old or wrong database: they are kept."""
    record, spool = place
    received = [_received(spool, f"1.2.3.4.{index}") for index in range(120)]
    recovered = recover(record, spool, alone=True)
    assert (recovered.orphans_removed, recovered.orphans_kept) == (0, 120)
    assert all(spool.path(item.path).exists() for item in received)


def test_a_missing_instance_is_healed_by_the_sender(tmp_path: Path) -> None:
    """An instance that was lost from the spool is stored again when the sender repeats it."""
    name = generate_uid()
    with listener_thread(tmp_path, **settings_tables()) as (port, _), opened_record(tmp_path) as record:
        assert send_until_it_breaks(port, [name], "1.2.3") == [name]
        spool = Spool(tmp_path / "spool")
        ((_, path, _),) = register.recorded_files(record)
        spool.path(path).unlink()
        recover(record, spool, alone=False)
        assert _state(record, name) == "MISSING"
        assert send_until_it_breaks(port, [name], "1.2.3") == [name]
        assert _state(record, name) == "RECEIVED"
        check_agreement(record, spool, [name])


def test_locked_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another program locks the database objects get 0xA700; afterwards the same objects are taken."""
    monkeypatch.setattr(db.session, "BUSY_TIMEOUT_SECONDS", 0.2)
    name = generate_uid()
    with listener_thread(tmp_path, **settings_tables()) as (port, _), opened_record(tmp_path) as record:
        blocker = sqlite3.connect(tmp_path / "vesselq.sqlite3", isolation_level=None)
        try:
            with association(port) as opened:
                blocker.execute("BEGIN IMMEDIATE")
                answer = store(opened, name, data_set(name))
                assert (answer.status, answer.comment) == (0xA700, "the database does not answer")
                blocker.execute("ROLLBACK")
                assert store(opened, name, data_set(name)).status == 0x0000
        finally:
            blocker.close()
        check_agreement(record, Spool(tmp_path / "spool"), [name])


def test_what_an_older_release_received_comes_again(place: tuple[Record, Spool], tmp_path: Path) -> None:
    """A record of SHA-256: equal bytes are a duplicate, other bytes a conflict, what is gone is stored again."""
    record, spool = place
    there, purged, missing, new = (generate_uid() for _ in range(4))
    received = [_received(spool, name, like="0" * 64) for name in (there, purged, missing)]
    register.record_instances(record, received)
    with record.writing() as transaction:
        transaction.connection.execute(update(models.Installation).values(older_fingerprints=True))
        transaction.connection.execute(
            update(models.Instance).where(models.Instance.sop_instance_uid == purged).values(state="PURGED")
        )
    for gone in received[1:]:  # the listener notes at its start that the second of them is missing
        spool.remove(gone.path)
    other = data_set(there, study="1.2.3", pixels=b"\x09\x09")
    with listener_thread(tmp_path, **settings_tables()) as (port, _), association(port) as opened:
        for name in (there, purged, missing, new):
            assert store(opened, name, data_set(name, study="1.2.3")) == StoreAnswer(0)
        assert store(opened, there, other).status == 0x0111
    check_agreement(record, spool, [there, purged, missing, new])
    assert len(list(spool.kept_paths())) == 5, "each content has one file"
    recorded = {name: (path, fingerprint) for name, path, fingerprint in register.recorded_files(record)}
    assert [recorded[one.sop_instance_uid] for one in received] == [(one.path, one.fingerprint) for one in received]
    assert recorded[new][1].startswith("blake3-")


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC while writing is 0xA700, leaves no part, and the next object after the cure is taken."""
    name = generate_uid()
    with listener_thread(tmp_path, **settings_tables()) as (port, _), association(port) as opened:
        with monkeypatch.context() as patch:
            _fail_fsync(patch, errno.ENOSPC)
            answer = store(opened, name, data_set(name))
            assert answer.status == 0xA700
            assert "No space left" in answer.comment
        assert list(Spool(tmp_path / "spool").unfinished_paths()) == []
        assert store(opened, name, data_set(name)).status == 0x0000


def _fail_fsync(patch: pytest.MonkeyPatch, code: int) -> None:
    real = os.fsync

    def failing(descriptor: int) -> None:
        if "/spool/" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(code, os.strerror(code))
        real(descriptor)

    patch.setattr(os, "fsync", failing)


def test_input_output_error_stops_the_listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO of fsync: 0xA700, new associations are turned away, and the process ends with the error."""
    name = generate_uid()

    def fail() -> None:
        with listener_thread(tmp_path, **settings_tables()) as (port, stop):
            with association(port) as opened, monkeypatch.context() as patch:
                _fail_fsync(patch, errno.EIO)
                assert store(opened, name, data_set(name)).status == 0xA700
            wait_until(stop.is_set, "the listener to stop itself")

    with pytest.raises(SpoolError, match="Input/output error"):
        fail()
    with opened_record(tmp_path) as record:
        assert register.recorded_files(record) == []


def test_start_is_refused_without_schema(tmp_path: Path) -> None:
    """A database of another release stops the start before any port is opened, with the command that helps."""
    from dicom_core.settings import Settings
    from dicom_listener import process

    settings = Settings(data_folder=tmp_path, **settings_tables())
    with pytest.raises(ConfigurationError, match="vesselq db upgrade"):
        process.run(settings, ready=lambda *_: pytest.fail("it listened"))


def test_port_in_use(tmp_path: Path) -> None:
    """A taken port is a configuration error that names it, and the process is recorded as stopped."""
    with (
        listener_thread(tmp_path / "first", **settings_tables()) as (port, _),
        pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}"),
        listener_thread(tmp_path / "second", **settings_tables(port=port)),
    ):
        pytest.fail("it listened")
    with opened_record(tmp_path / "second") as record, record.reading() as session:
        assert session.scalars(select(models.Process.stopped_at)).one() is not None


def test_start_is_audited_before_the_port_opens(tmp_path: Path) -> None:
    """The rows of start and configuration are there when ready is called; the stop follows."""
    with listener_thread(tmp_path, **settings_tables()), opened_record(tmp_path) as record:
        assert _words(record) == ["application-start", "configuration-loaded"]
    with opened_record(tmp_path) as record:
        assert _words(record) == ["application-start", "configuration-loaded", "application-stop"]


def _words(record: Record) -> list[str]:
    with record.reading() as session:
        return list(session.scalars(select(models.AuditEvent.event).order_by(models.AuditEvent.sequence)))
