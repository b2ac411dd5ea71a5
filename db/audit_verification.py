"""Walking along the audit chain: which row is the first that is not what was written.

The chain alone shows changed, removed, inserted and reordered rows. Signed checkpoints (``db.audit_checkpoints``) show
what a chain cannot: an end that was cut off, and rows that were replaced and chained anew.
"""

import json
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Any
from typing import cast as typed

from sqlalchemy import CursorResult, Text, cast, func, select
from sqlalchemy.orm import Session

from db.audit_chain import FIRST_PREVIOUS_HASH, SELECTED, Row, problem_of
from db.audit_checkpoints import Checkpoint
from db.audit_parts import Part, readers_here, sound_parts
from db.models import AuditEvent
from db.session import Record, any_text
from dicom_core.errors import AuditError, ConflictError, UnavailableError

ARCHIVED = "audit-archived"
"""The event that vouches for rows which are no longer there (``db.audit_archive``)."""
_ROWS_AT_ONCE = 2000
LONG_CHAIN_ROWS = 500_000
"""A longer one is read by several processes (``db.audit_parts``)."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What a walk along the chain found.

    Attributes:
        rows: How many rows were read and found right.
        first_bad_sequence: The first row that does not fit, None when the chain holds. Of an end that was cut off it is
            the first row that is missing; of rows that were replaced and chained anew, and of checkpoints that were
            tampered with, the first row that no earlier checkpoint vouches for.
        problem: What is wrong with it, in words.
        head_hash: Hash of the last row that is right.
        first_sequence: The first row; larger than 1 when older ones were archived.
        checkpoints: How many checkpoints agree.
        signed_through: The last row that a checkpoint vouches for, 0 without checkpoints.
    """

    rows: int
    first_bad_sequence: int | None
    problem: str
    head_hash: str
    first_sequence: int = 1
    checkpoints: int = 0
    signed_through: int = 0

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return self.first_bad_sequence is None

    @property
    def head_sequence(self) -> int:
        """The last row that is right."""
        return self.first_sequence + self.rows - 1


def verify(
    record: Record,
    checkpoints: Iterable[Checkpoint] = (),
    *,
    start: int = 1,
    archived: Iterable[Row] = (),
    progress: Callable[[int], None] | None = None,
) -> Verification:
    """Walk along the whole chain, recompute every hash and compare with every checkpoint.

    Args:
        record: The record.
        checkpoints: In their order, from ``CheckpointFile.read``, which must be called before this.
        start: Begin at this row, which the first of the checkpoints vouches for.
        archived: Rows that were archived, from ``db.audit_archive.archived_rows``, to be walked along first.
        progress: Told now and then how many more rows were read.

    Returns:
        The findings; what is wrong is told, not raised.

    Raises:
        AuditError: An archive cannot be read.
        ConflictError: Old rows were archived meanwhile.
        UnavailableError: The database does not answer.
    """
    with record.reading() as session:
        of_archives = iter(archived)
        first = archived_first = next(of_archives, None)
        first = first or _first_row(session, start)
        begin = (start, FIRST_PREVIOUS_HASH)
        if first is not None and ((first[0] == start > 1) or (first[0] > start and _was_archived(session, first))):
            begin = (first[0], first[14])
        walk = _Walk(checkpoints, begin)
        left = start
        if archived_first is not None:
            walk.along(chain((archived_first,), of_archives))
        elif first is not None and first[0] == begin[0] and _head(session) - first[0] >= LONG_CHAIN_ROWS:
            last = _head(session)
            session.rollback()  # the readers take minutes, and PostgreSQL ends transactions in which nothing happens
            for part in sound_parts(record.engine, first[0], last, readers=readers_here()):
                if not walk.over(part):
                    break
                if progress is not None:
                    progress(part.end - part.first)
            left = walk.sequence
        # all of them, or what was added since the last part, or what is wrong with the next one
        walk.along(_rows(session, left, progress))
        if walk.problem and archived_first is None and first is not None and _first(session) > first[0]:
            raise ConflictError("old rows were archived while the chain was verified; verify it again")
        return walk.findings()


def walk(
    rows: Iterable[Row], checkpoints: Iterable[Checkpoint], *, begin: tuple[int, str] = (1, FIRST_PREVIOUS_HASH)
) -> Verification:
    """Walk along rows, wherever they come from.

    Args:
        rows: In their order.
        checkpoints: In their order.
        begin: Sequence of the first row and the hash that it must continue.
    """
    walk = _Walk(checkpoints, begin)
    walk.along(rows)
    return walk.findings()


class _Walk:
    """A walk along the chain, and how far it came.

    Attributes:
        sequence: The number that the next row must have.
        problem: What is wrong, "" for nothing so far.
    """

    def __init__(self, checkpoints: Iterable[Checkpoint], begin: tuple[int, str]) -> None:
        self._first, self._start_hash = self.sequence, self._previous = begin
        self._witnesses = _Witnesses(checkpoints)
        self._bad = self._first
        self.problem = self._witnesses.skip_to(self._first - 1, self._start_hash)

    def along(self, rows: Iterable[Row]) -> None:
        """Row by row, recomputing every hash."""
        if self.problem:
            return
        sequence, previous, witnesses = self.sequence, self._previous, self._witnesses
        for row in rows:
            if problem := _problem(row, sequence, previous):
                self.problem, self._bad = problem, row[0]
                break
            previous = row[15]
            if sequence == witnesses.watched and (problem := witnesses.compare(previous)):
                self._stop_at_replaced(problem)
                return
            sequence += 1
        self.sequence, self._previous = sequence, previous

    def over(self, part: Part) -> bool:
        """Over rows that are known to hold; whether they continue those before and agree with the checkpoints."""
        if self.problem or part.continues != self._previous:
            return False
        while part.first <= (watched := self._witnesses.watched) < part.end:
            if problem := self._witnesses.compare(part.hash_of(watched)):
                self._stop_at_replaced(problem)
                return False
        self.sequence, self._previous = part.end, part.hash_of(part.end - 1)
        return True

    def _stop_at_replaced(self, problem: str) -> None:
        self.problem = problem
        self._bad = self.sequence = max(self._witnesses.signed_through + 1, self._first)
        self._previous = self._witnesses.signed_hash or self._start_hash

    def findings(self) -> Verification:
        """At the end of the rows."""
        if not self.problem:
            self.problem, self._bad = self._witnesses.left_behind(self.sequence - 1), self.sequence
        return Verification(
            self.sequence - self._first,
            self._bad if self.problem else None,
            self.problem,
            self._previous,
            self._first,
            self._witnesses.agreed,
            self._witnesses.signed_through,
        )


class _Witnesses:
    """The checkpoints while rows go by. What is wrong with the file of checkpoints itself is a problem like others."""

    def __init__(self, checkpoints: Iterable[Checkpoint]) -> None:
        self._left = iter(checkpoints)
        self._next: Checkpoint | None = None
        self.watched = 0
        """Sequence of the next checkpoint, 0 when there is none."""
        self.agreed = self.signed_through = 0
        self.signed_hash = ""

    def skip_to(self, last_archived: int, row_hash: str) -> str:
        """Leave out those of archived rows, of which only the hash of the last one is known."""
        problem = self._advance()
        while not problem and self._next is not None and self.watched <= last_archived:
            problem = self._agree(self._next, row_hash if self.watched == last_archived else self._next.row_hash)
        return problem

    def compare(self, row_hash: str) -> str:
        """Compare the watched row with what was signed, and watch for the next."""
        problem, now = "", self.watched
        while not problem and self._next is not None and self.watched == now:
            problem = self._agree(self._next, row_hash)
        return problem

    def left_behind(self, last: int) -> str:
        """Whether a checkpoint vouches for rows behind the last one."""
        if self._next is None:
            return ""
        return (
            f"row {last + 1} is missing: the end was cut off, "
            f"the checkpoint of {self._next.at} vouches for rows up to {self.watched}"
        )

    def _agree(self, checkpoint: Checkpoint, row_hash: str) -> str:
        if row_hash != checkpoint.row_hash:
            return (
                f"at least one of the rows {self.signed_through + 1} to {checkpoint.sequence} was replaced and the "
                f"chain made anew: row {checkpoint.sequence} is not the one that was signed at {checkpoint.at}"
            )
        self.agreed += 1
        self.signed_through, self.signed_hash = checkpoint.sequence, row_hash
        return self._advance()

    def _advance(self) -> str:
        try:
            self._next = next(self._left, None)
        except AuditError as error:
            self._next, self.watched = None, 0
            return str(error)
        self.watched = self._next.sequence if self._next else 0
        return ""


def _problem(row: Row, expected: int, previous: str) -> str:
    if row[0] > expected:
        return (
            f"row {expected} is missing" if row[0] == expected + 1 else f"rows {expected} to {row[0] - 1} are missing"
        )
    if row[0] < expected:
        return "its number is not one of the chain"
    if row[14] != previous:
        return "it does not continue the row before it"
    return problem_of(row)


def _first_row(session: Session, start: int) -> Row | None:
    with closing(_rows(session, start, None)) as rows:
        return next(rows, None)


def _first(session: Session) -> int:
    return session.scalar(select(func.min(AuditEvent.sequence))) or 0


def _head(session: Session) -> int:
    return session.scalar(select(func.max(AuditEvent.sequence))) or 0


def _rows(session: Session, start: int, progress: Callable[[int], None] | None) -> Generator[Row]:
    statement = f"SELECT {SELECTED} FROM audit_events WHERE sequence >= {start:d} ORDER BY sequence"  # noqa: S608  a number
    if start == 1:  # a row with a number that is none of ours shall be seen
        statement = f"SELECT {SELECTED} FROM audit_events ORDER BY sequence"  # noqa: S608  constants
    with session.connection().exec_driver_sql(statement, execution_options={"yield_per": _ROWS_AT_ONCE}) as result:
        for part in (
            _sqlite_parts(result, start) if session.get_bind().dialect.name == "sqlite" else result.partitions()
        ):
            if progress is not None:
                progress(len(part))
            yield from typed("Sequence[Row]", part)


def _sqlite_parts(result: CursorResult[Any], start: int) -> Iterator[Sequence[Any]]:
    """The driver's own tuples: to make rows of them takes as long as to hash them."""
    cursor = typed("sqlite3.Cursor", result.cursor)
    last = start - 1 if start > 1 else None
    try:
        while part := cursor.fetchmany(_ROWS_AT_ONCE):
            yield part
            last = part[-1][0]
    except sqlite3.Error as error:
        if "decode" not in str(error):
            raise UnavailableError(f"the database does not answer: {error}") from error
        yield _with_what_is_no_text(cursor.connection, last)


def _with_what_is_no_text(connection: sqlite3.Connection, last: int | None) -> Sequence[Any]:
    """The rows after ``last``, among which is one with octets that are no UTF-8: the walk ends there and names it."""
    statement = f"SELECT {SELECTED} FROM audit_events WHERE ? IS NULL OR sequence > ? ORDER BY sequence LIMIT ?"  # noqa: S608  constants
    try:
        with any_text(connection, "surrogateescape"):
            return connection.execute(statement, (last, last, _ROWS_AT_ONCE)).fetchall()
    except sqlite3.Error as error:
        raise UnavailableError(f"the database does not answer: {error}") from error


def _was_archived(session: Session, first: Row) -> bool:
    """Whether an event of the chain says that what is before ``first`` was archived."""
    details = session.scalars(
        select(cast(AuditEvent.detail, Text)).where(AuditEvent.event == ARCHIVED, AuditEvent.sequence >= first[0])
    )
    return any(_vouches(detail, first) for detail in details)


def _vouches(detail: str, first: Row) -> bool:
    try:
        said = json.loads(detail)
    except (TypeError, ValueError, RecursionError):  # the walk will come to that row
        return False
    return isinstance(said, dict) and (said.get("last_sequence"), said.get("last_hash")) == (first[0] - 1, first[14])
