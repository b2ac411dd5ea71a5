"""The record: one engine, short transactions, one writer at a time, and the database's own clock.

Every function of this room that changes something opens exactly one writing transaction: the guarded change and its
audit rows commit together or not at all. Writers are serialised (SQLite: BEGIN IMMEDIATE; PostgreSQL: an advisory
lock), since each audit row continues the hash of the one before.
"""

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, DBAPIError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from dicom_core.errors import ConfigurationError, UnavailableError

BUSY_TIMEOUT_SECONDS = 30
"""How long a writer waits for the others before it gives up."""
_CONNECT_TIMEOUT_SECONDS = 10
_PAUSE_SECONDS = 0.02
_POSTGRESQL_OPTIONS = " ".join(
    f"-c {option}"
    for option in (
        f"lock_timeout={BUSY_TIMEOUT_SECONDS}s",
        # a process that is stopped in the middle of writing must not stop all others for ever
        f"idle_in_transaction_session_timeout={2 * BUSY_TIMEOUT_SECONDS}s",
        "synchronous_commit=on",
        # every statement is answered from an index in milliseconds; other processes and a compiler take longer to start
        "max_parallel_workers_per_gather=0",
        "jit=off",
        "timezone=UTC",
    )
)
_INSUFFICIENT_PRIVILEGE = "42501"
"""SQLSTATE of PostgreSQL."""
_READ_ONLY = ("readonly database", "read-only transaction")
"""What SQLite says of a file or folder, and PostgreSQL of a standby, that nobody may write to."""
_strict_json = partial(json.dumps, allow_nan=False)
"""Not-a-number is no JSON: PostgreSQL refuses it, so SQLite does as well."""
_WRITER_LOCK = 0x76_65_73_73
"""Key of the PostgreSQL advisory lock: "vess"."""


@dataclass(slots=True)
class Transaction:
    """A writing transaction.

    Attributes:
        connection: For statements past the ORM; committed by ``Record.writing`` when the block ends.
        now: The database's clock when the transaction began to write.
        process: Who writes, for the audit log.
        user: On whose behalf.
        address: Where that person is in the network, "" where it is not known.
        audit_head: Sequence and hash of the last row of the audit log that it wrote.
    """

    connection: Connection
    now: datetime
    process: str
    user: str
    address: str = ""
    audit_head: tuple[int, str] | None = None
    _session: Session | None = None

    @property
    def session(self) -> Session:
        """The ORM session on the connection. Made when it is first asked for: the busiest transactions need none."""
        if self._session is None:
            self._session = Session(self.connection, expire_on_commit=False, join_transaction_mode="rollback_only")
        return self._session

    def flush(self) -> None:
        """Write what the session has not written yet."""
        if self._session is not None:
            self._session.flush()

    def close(self) -> None:
        """Let go of the session; ends nothing on the connection."""
        if self._session is not None:
            self._session.close()


class Record:
    """A connection to the record. Safe to share between threads, not between processes.

    Attributes:
        process: Who writes, for the audit log: the kind of process and its id, for example ``listener/4f1c``.
        user: The person on whose behalf it writes, "" for the system itself.
        address: Where that person is in the network, "" where it is not known.
    """

    def __init__(self, url: str, *, process: str, user: str = "") -> None:
        self.process = process
        self.user = user
        self.address = ""
        self._engine = _engine(url)

    def on_behalf_of(self, user: str, address: str = "") -> "Record":
        """The same connections, with another person in what is written; only the original is closed.

        Args:
            user: Who it is.
            address: Where from in the network; without it that of this record.
        """
        other = copy(self)
        other.user, other.address = user, address or self.address
        return other

    @property
    def engine(self) -> Engine:
        """The engine, for migrations."""
        return self._engine

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """One transaction that may change rows and that is the only such at this moment.

        Raises:
            UnavailableError: The database does not answer, is locked or full.
        """
        with translated(), self._engine.begin() as connection:
            _lock(connection)
            transaction = Transaction(connection, _clock(connection), self.process, self.user, self.address)
            try:
                yield transaction
                transaction.flush()
            finally:
                transaction.close()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that only reads; it waits for nobody.

        Raises:
            UnavailableError: The database does not answer.
        """
        with translated(), Session(self._engine, expire_on_commit=False) as session:
            try:
                yield session
            except BaseException:
                # a traceback may keep a cursor half read; on SQLite it would pin its connection to this moment's rows
                session.invalidate()
                raise

    def now(self) -> datetime:
        """The database's clock."""
        with translated(), self._engine.connect() as connection:
            return _clock(connection)

    def close(self) -> None:
        """Let all connections go."""
        self._engine.dispose()


@contextmanager
def translated() -> Iterator[None]:
    """Turn what a driver says when the database is away or forbids something into our words; other errors stay."""
    try:
        yield
    except SQLAlchemyError as error:
        if getattr(getattr(error, "orig", None), "sqlstate", "") == _INSUFFICIENT_PRIVILEGE:
            raise ConfigurationError(
                f"the account of database_url may not do this ({_first_line(error)}): use the one that owns the tables"
            ) from error
        # DatabaseError itself, not one of its kinds: a damaged SQLite file
        # InternalError: PostgreSQL became a standby, or ended a session that was idle for too long
        away = isinstance(error, OperationalError | InternalError | PoolTimeoutError) or type(error) is DatabaseError
        if away or (isinstance(error, DBAPIError) and error.connection_invalidated):
            # the driver's text only: the statement and its parameters stay out of logs
            said = _first_line(error)
            problem = "may only be read" if any(word in said for word in _READ_ONLY) else "does not answer"
            raise UnavailableError(f"the database {problem}: {said}") from error
        raise


def _first_line(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", error)).strip().splitlines()[0]


def by_driver(connection: Connection, statement: str, values: tuple[Any, ...] | Mapping[str, Any] = ()) -> Any:
    """Run a statement that every transaction needs, and give the driver's cursor: SQLAlchemy takes longer than it does.

    Args:
        connection: Of the engine.
        statement: In the dialect of the driver.
        values: In their order, or by their names where the driver takes those.

    Raises:
        DBAPIError: What ``Connection.execute`` would raise.
    """
    driver = connection.dialect.loaded_dbapi
    connected: Any = connection.connection.driver_connection
    try:
        return connected.execute(statement, values)
    except driver.Error as error:
        raise DBAPIError.instance(
            statement, None, error, driver.Error, hide_parameters=True, dialect=connection.dialect
        ) from error


@contextmanager
def any_text(connection: sqlite3.Connection, errors: str) -> Iterator[None]:
    """Within the block text that is no UTF-8 is read as well: SQLite keeps whatever somebody wrote past this program.

    Args:
        connection: The driver's.
        errors: What becomes of octets that are none (``bytes.decode``).
    """
    usual, connection.text_factory = connection.text_factory, lambda octets: octets.decode(errors=errors)
    try:
        yield
    finally:
        connection.text_factory = usual


def _lock(connection: Connection) -> None:
    postgresql = connection.dialect.name == "postgresql"
    by_driver(connection, f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})" if postgresql else "BEGIN IMMEDIATE")


def _clock(connection: Connection) -> datetime:
    if connection.dialect.name == "postgresql":
        moment: datetime = by_driver(connection, "SELECT clock_timestamp()").fetchone()[0]
        return moment.astimezone(UTC)
    return datetime.now(UTC)  # what SQLite would say: it runs in this process and has no clock of its own


def _engine(url: str) -> Engine:
    if url.startswith("sqlite"):
        return _sqlite_engine(url)
    return create_engine(
        url,
        hide_parameters=True,  # an error that nobody foresaw is logged as well: with the statement, not with values
        # each statement must see what the holder of the writer lock before it committed
        isolation_level="READ COMMITTED",
        connect_args={"connect_timeout": _CONNECT_TIMEOUT_SECONDS, "options": _POSTGRESQL_OPTIONS},
        json_serializer=_strict_json,
        pool_pre_ping=True,
        pool_size=10,
        max_overflow=20,
    )


def _sqlite_engine(url: str) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
        json_serializer=_strict_json,
        pool_size=10,
        max_overflow=40,
        pool_use_lifo=True,  # what the last one who wrote has in memory need not be read again
    )

    @event.listens_for(engine, "connect")
    def _durable(connection: Any, _: object) -> None:
        # transactions are begun by hand (BEGIN IMMEDIATE), never by the driver
        connection.isolation_level = None
        _write_ahead(connection)
        for pragma in (
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={BUSY_TIMEOUT_SECONDS * 1000}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Have the file use a write-ahead log, which SQLite remembers.

    Two processes that open a new file at once refuse each other this change without waiting, so that the patience must
    be ours.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return
