"""Fixtures: an empty record on SQLite, or on PostgreSQL for tests below ``tests/integration``, and a clock to turn.

``record`` is a migrated, empty record. ``database_url`` is an empty database without tables. ``clock.advance(seconds)``
turns the clock of every record of this process; the database's own clock goes on below it.
"""

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from postgresql_server import BINARIES, NOT_INSTALLED, OWNER, PostgresqlServer
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, text

import db.session
from db import migrate, roles
from db.audit_guard import guard, unguard
from db.models import Base
from db.session import Record

_TEMPLATE = "vesselq_template"
_numbers = itertools.count()
_owners: dict[URL, Engine] = {}
APPLICATION = "vesselq_application"
"""The role of the processes on PostgreSQL."""


@dataclass
class Clock:
    """How far the records of this process are ahead of the database's clock."""

    ahead: timedelta = timedelta()

    def advance(self, seconds: float) -> None:
        """Turn the clock; backwards as well."""
        self.ahead += timedelta(seconds=seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Turns the time that the record sees."""
    clock = Clock()
    real: Callable[[Connection], datetime] = db.session._clock
    monkeypatch.setattr(db.session, "_clock", lambda connection: real(connection) + clock.ahead)
    return clock


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """One private cluster for all tests; ``vesselq_template`` in it is a migrated, empty record."""
    if BINARIES is None:
        pytest.skip(NOT_INSTALLED)
    with PostgresqlServer() as server:
        record = Record(server.create_database(_TEMPLATE), process="test")
        migrate.upgrade(record)
        roles.grant(record, APPLICATION)
        record.close()
        yield server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file."""
    path = tmp_path_factory.mktemp("template") / "vesselq.sqlite3"
    record = Record(f"sqlite:///{path}", process="test")
    migrate.upgrade(record)
    record.close()
    return path


def _wants_postgresql(request: pytest.FixtureRequest) -> bool:
    return "integration" in request.path.parts


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database without tables."""
    if _wants_postgresql(request):
        server: PostgresqlServer = request.getfixturevalue("postgresql_server")
        return server.create_database(f"empty_{next(_numbers)}")
    return f"sqlite:///{tmp_path / 'empty.sqlite3'}"


@pytest.fixture
def empty_record(database_url: str) -> Iterator[Record]:
    """A record without tables."""
    record = Record(database_url, process="test/0")
    yield record
    record.close()


@pytest.fixture
def record_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a migrated, empty record."""
    if _wants_postgresql(request):
        server: PostgresqlServer = request.getfixturevalue("postgresql_server")
        return server.create_database(f"record_{next(_numbers)}", template=_TEMPLATE)
    path = tmp_path / "vesselq.sqlite3"
    shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def sqlite_record(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Record]:
    """The SQLite record that tests use one after the other: statements are compiled once, no waits for the disk."""
    path = tmp_path_factory.mktemp("record") / "vesselq.sqlite3"
    shutil.copyfile(sqlite_template, path)
    record = Record(f"sqlite:///{path}", process="test/0")
    event.listen(record.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    yield record
    record.close()


@pytest.fixture(scope="session")
def postgresql_record(postgresql_server: PostgresqlServer) -> Iterator[Record]:
    """The PostgreSQL record that tests use one after the other, under the account of the processes."""
    postgresql_server.create_database("record", template=_TEMPLATE)
    record = Record(postgresql_server.url("record", role=APPLICATION), process="test/0")
    yield record
    record.close()


@contextmanager
def as_owner(record: Record) -> Iterator[Connection]:
    """A transaction of the role that owns the tables, which may do what the processes may not."""
    if record.engine.dialect.name != "postgresql":
        with record.engine.begin() as connection:
            yield connection
        return
    engine = _owners.get(record.engine.url)
    if engine is None:
        engine = create_engine(record.engine.url.set(username=OWNER), poolclass=NullPool)
        _owners[record.engine.url] = engine
    with engine.begin() as connection:
        yield connection


@contextmanager
def owner_of(record: Record) -> Iterator[Record]:
    """The same record under the account that owns the tables."""
    if record.engine.dialect.name != "postgresql":
        yield record
        return
    owner = Record(record.engine.url.set(username=OWNER).render_as_string(hide_password=False), process="owner")
    try:
        yield owner
    finally:
        owner.close()


def empty_tables(record: Record) -> None:
    """Remove every row but that of the installation, the guarded audit log's as well."""
    with as_owner(record) as connection:
        postgresql = connection.dialect.name == "postgresql"
        if postgresql:  # triggers rest for this transaction: much quicker than to make them anew
            connection.execute(text("SET LOCAL session_replication_role = replica"))
        else:
            unguard(connection)
        for table in reversed(Base.metadata.sorted_tables):
            if table.name != "installation":
                connection.execute(table.delete())
        if not postgresql:
            guard(connection)


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """A migrated, empty record."""
    name = "postgresql_record" if _wants_postgresql(request) else "sqlite_record"
    record: Record = request.getfixturevalue(name)
    record.process, record.user = "test/0", ""
    empty_tables(record)
    return record
