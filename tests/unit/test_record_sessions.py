"""Transactions: one writer, the database's clock, waits that end, nothing half-read left behind."""

import threading
from datetime import UTC, datetime

import pytest
from record_story import events, listener, queued
from sqlalchemy import Result, select, text
from sqlalchemy.exc import IntegrityError

import db.session
from db import audit, jobs, processes, reports
from db.audit import Event
from db.models import AuditEvent, JobRow, Process
from db.session import Record, by_driver
from dicom_core.errors import NotFoundError, UnavailableError


def test_the_clock_is_the_databases_in_utc(record):
    """Aware, UTC, and near ours in this test."""
    now = record.now()
    assert now.tzinfo is UTC
    assert abs((now - datetime.now(UTC)).total_seconds()) < 5


def test_times_come_back_as_they_went_in(record):
    """Aware UTC times on both databases; a naive one is a programming error."""
    process = listener(record)
    with record.reading() as session:
        row = session.get_one(Process, process)
    assert row.started_at.utcoffset().total_seconds() == 0
    assert (record.now() - row.started_at).total_seconds() < 10
    with pytest.raises(Exception, match="without zone"), record.writing() as transaction:
        transaction.session.get_one(Process, process).last_seen_at = datetime(2024, 1, 1)  # noqa: DTZ001


def test_a_second_writer_waits_for_the_first(record):
    """The counter that both read and write ends at two, however long the first takes."""
    listener_id = listener(record)
    inside, order = threading.Event(), []

    def first() -> None:
        with record.writing() as transaction:
            inside.set()
            threading.Event().wait(0.2)
            transaction.session.get_one(Process, listener_id).doing += "1"
            order.append("first")

    def second() -> None:
        inside.wait()
        with record.writing() as transaction:
            transaction.session.get_one(Process, listener_id).doing += "2"
            order.append("second")

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order == ["first", "second"]
    with record.reading() as session:
        assert session.get_one(Process, listener_id).doing == "12"


def test_readers_wait_for_nobody(record):
    """While a writer is in the middle, reports answer, with what was committed."""
    queued(record)
    with record.writing() as transaction:
        transaction.session.execute(text("UPDATE jobs SET rule = 'changed'"))
        assert [job.rule for job in reports.jobs(record)] == ["all"]
    assert [job.rule for job in reports.jobs(record)] == ["changed"]


def test_a_writer_that_never_ends_does_not_hang_the_others(record_url, monkeypatch):
    """The wait for the writer's lock is bounded and ends in UnavailableError."""
    monkeypatch.setattr(db.session, "BUSY_TIMEOUT_SECONDS", 1)
    monkeypatch.setattr(db.session, "_POSTGRESQL_OPTIONS", db.session._POSTGRESQL_OPTIONS.replace("30s", "1s"))
    one, two = Record(record_url, process="one"), Record(record_url, process="two")
    with one.writing(), pytest.raises(UnavailableError, match="does not answer"):
        processes.beat(two, "0" * 32)
    processes.beat(two, "0" * 32)
    one.close()
    two.close()


def test_a_read_that_failed_half_way_leaves_no_old_view(record_url):
    """Its error, and with it its cursor, may be kept for long: later reads and writes see the present."""
    record, other = Record(record_url, process="one"), Record(record_url, process="two")
    for number in range(3):
        queued(record, f"1.2.{number}")
    half_read = _read_one_and_fail(record)
    before = len(events(record))
    listener(other)
    assert len(events(record)) == before + 2
    assert jobs.claim(record, "w", 60) is not None
    half_read.close()
    record.close()
    other.close()


def _read_one_and_fail(record: Record) -> Result[tuple[str]]:
    rows: list[Result[tuple[str]]] = []

    def fail() -> None:
        with record.reading() as session:
            rows.append(session.execute(select(JobRow.job_id).execution_options(yield_per=1)))
            _ = len(rows[0].fetchone()) / 0

    with pytest.raises(ZeroDivisionError):
        fail()
    return rows[0]


def test_an_error_of_the_program_is_no_unavailability(record):
    """Only a database that is away is called so; a wrong statement stays what it is."""
    with pytest.raises(Exception, match=r"(?i)no_such_table"), record.reading() as session:
        session.execute(text("SELECT * FROM no_such_table"))
    with pytest.raises(NotFoundError):
        jobs.get(record, "ffffffff")


def test_a_database_that_takes_no_changes_says_so(record_url):
    """A standby, or a file that nobody may write to: a sentence that names the cause, and trying again may help."""
    record = Record(record_url, process="test")
    read_only = "PRAGMA query_only=1" if record.engine.dialect.name == "sqlite" else "SET TRANSACTION READ ONLY"

    def write():
        with record.writing() as transaction:
            by_driver(transaction.connection, read_only)
            audit.append(transaction, Event.SIGNED_IN)

    with pytest.raises(UnavailableError, match=r"the database may only be read: .*read-?only"):
        write()
    record.close()


def test_commits_are_durable(record):
    """WAL with synchronous FULL on SQLite; synchronous_commit and READ COMMITTED on PostgreSQL."""
    fresh = Record(record.engine.url.render_as_string(hide_password=False), process="t")
    with fresh.engine.connect() as connection:
        if fresh.engine.dialect.name == "sqlite":
            asked = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
            assert {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in asked} == asked
        else:
            asked = {"synchronous_commit": "on", "transaction_isolation": "read committed", "TimeZone": "UTC"}
            assert {name: connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in asked} == asked
    fresh.close()


def test_foreign_keys_are_kept(record):
    """A job of a study that does not exist cannot be written."""
    job = queued(record)
    with pytest.raises(Exception, match=r"(?i)foreign key"), record.writing() as transaction:
        transaction.session.get_one(JobRow, job.job_id).study_instance_uid = "1.1"


def test_processes_announce_beat_and_stop(record, clock):
    """A start is two audit rows, a stop one, once; the list shows what each does."""
    worker = processes.start(record, "worker", version="0.1.0", configuration={"device": "cpu"})
    clock.advance(10)
    processes.beat(record, worker, "segments 1.2.3")
    (shown,) = reports.processes(record)
    assert (shown.kind, shown.version, shown.doing, shown.stopped_at) == ("worker", "0.1.0", "segments 1.2.3", None)
    assert (shown.last_seen_at - shown.started_at).total_seconds() >= 10
    processes.stop(record, worker)
    processes.stop(record, worker)
    processes.stop(record, "0" * 32)
    assert [(row.event, row.event_id, row.event_type) for row in events(record)] == [
        ("application-start", "110100", "110120"),
        ("configuration-loaded", "110113", "110131"),
        ("application-stop", "110100", "110121"),
    ]
    assert events(record)[1].detail == {"device": "cpu"}
    with record.reading() as session:
        assert session.scalars(select(AuditEvent.process)).all() == ["test/0"] * 3


def test_a_session_is_made_only_when_it_is_asked_for(record):
    """Two askers get the same; what it holds at the end of the block is written, after an error it is not."""
    listener_id = listener(record)
    with record.writing() as transaction:
        audit.append(transaction, Event.AUDIT_READ)
        assert transaction._session is None
        transaction.session.get_one(Process, listener_id).doing = "first"
        assert transaction.session is transaction.session

    def fail() -> None:
        with record.writing() as transaction:
            transaction.session.get_one(Process, listener_id).doing = "second"
            transaction.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with record.reading() as session:
        assert session.get_one(Process, listener_id).doing == "first"
    assert [event.event for event in events(record)].count("audit-read") == 1


def test_what_the_driver_refuses_is_told_as_by_sqlalchemy(record):
    """The kind of error, without the values; the transaction leaves nothing behind."""
    mark = "?" if record.engine.dialect.name == "sqlite" else "%s"
    statement = f"INSERT INTO processes (process_id, kind) VALUES ({mark}, {mark})"  # noqa: S608  constants

    def write() -> None:
        with record.writing() as transaction:
            audit.append(transaction, Event.AUDIT_READ)
            by_driver(transaction.connection, statement, ("p1", "SECRET"))

    with pytest.raises(IntegrityError) as refused:
        write()
    assert "[SQL: INSERT" in str(refused.value)
    assert "[parameters" not in str(refused.value)
    assert not events(record)
