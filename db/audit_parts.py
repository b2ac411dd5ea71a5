"""Reading a long chain by several processes: which parts of it hold, and the hashes of their rows.

To recompute the hashes of ten million rows keeps one core busy for minutes. Each row is hashed over its own content and
the hash of the row before as it is stored, so that parts can be looked at in any order and by anybody; whether they
continue each other is seen by who puts them together (``db.audit_verification``). A reader is this module as a program:
it gets the database over its standard input, never as an argument, and answers the parts that are its turn. At the
first that does not hold it says no more: to name what is wrong is left to the walk along the rows.
"""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

from db.audit_chain import SELECTED, Row, problem_of

if TYPE_CHECKING:  # a reader starts without it in a tenth of the time
    from sqlalchemy import Engine

ROWS_OF_A_PART = 20_000
_MOST_READERS = 4
_HASH_BYTES = 32
_HEAD = struct.Struct(">Q64s")
"""Of an answer: how many rows, and the hash that the first of them continues."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that follow each other and hold.

    Attributes:
        first: Sequence of the first.
        continues: The hash that it continues.
        hashes: Those of all rows, 32 bytes each.
    """

    first: int
    continues: str
    hashes: bytes

    @property
    def end(self) -> int:
        """Sequence of the row behind the last."""
        return self.first + len(self.hashes) // _HASH_BYTES

    def hash_of(self, sequence: int) -> str:
        """Of one of its rows, in hexadecimal."""
        begin = (sequence - self.first) * _HASH_BYTES
        return self.hashes[begin : begin + _HASH_BYTES].hex()


def readers_here() -> int:
    """How many readers are worth their start on this machine."""
    return min(_MOST_READERS, len(os.sched_getaffinity(0)))


def sound_parts(engine: "Engine", first: int, last: int, *, readers: int) -> Iterator[Part]:
    """The parts of the chain in their order, up to the first that does not hold or cannot be read.

    Args:
        engine: Says where the database is.
        first: Sequence of the first row.
        last: Of the last row.
        readers: How many processes read.
    """
    arguments, options = engine.dialect.create_connect_args(engine.url)
    # without what is no text: psycopg is given a table of types as well
    where = {name: value for name, value in options.items() if isinstance(value, str | int)}
    asked = {"driver": engine.dialect.name, "arguments": arguments, "options": where, "first": first, "last": last,
             "rows": ROWS_OF_A_PART, "readers": readers}  # fmt: skip
    with ExitStack() as stack:
        try:
            answers = [_started(stack, asked | {"turn": turn}) for turn in range(readers)]
        except OSError:  # no memory for a process, or it ended at once: the walk needs none
            return
        for turn, begin in enumerate(range(first, last + 1, ROWS_OF_A_PART)):
            part = _received(answers[turn % readers], begin)
            if part is None:
                return
            yield part


def _started(stack: ExitStack, asked: dict[str, Any]) -> IO[bytes]:
    program = [sys.executable, "-P", "-m", "db.audit_parts"]
    process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    stack.enter_context(process)
    stack.callback(process.kill)
    with cast("IO[bytes]", process.stdin) as question:
        question.write(json.dumps(asked).encode())
    return cast("IO[bytes]", process.stdout)


def _received(answers: IO[bytes], first: int) -> Part | None:
    head = answers.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    rows, continues = _HEAD.unpack(head)
    hashes = answers.read(rows * _HASH_BYTES)
    return Part(first, continues.decode("ascii"), hashes) if len(hashes) == rows * _HASH_BYTES else None


def main() -> None:
    """Answer, as a reader, the parts that are its turn."""
    asked = json.load(sys.stdin)
    with closing(_connected(asked)) as connection:
        for first in range(
            asked["first"] + asked["turn"] * asked["rows"], asked["last"] + 1, asked["readers"] * asked["rows"]
        ):
            last = min(first + asked["rows"] - 1, asked["last"])
            statement = f"SELECT {SELECTED} FROM audit_events WHERE sequence BETWEEN {first:d} AND {last:d} ORDER BY 1"  # noqa: S608  numbers
            answer = answered(connection.execute(statement), first, last)
            sys.stdout.buffer.write(answer)
            sys.stdout.buffer.flush()
            if not answer:
                return


def _connected(asked: dict[str, Any]) -> Any:
    if asked["driver"] == "sqlite":
        import sqlite3

        return sqlite3.connect(asked["arguments"][0], isolation_level=None)
    import psycopg

    return psycopg.connect(*asked["arguments"], **asked["options"], autocommit=True)


def answered(rows: Iterable[Row], first: int, last: int) -> bytes:
    """The answer for the rows from ``first`` to ``last``, nothing when they do not hold."""
    continues, previous, hashes = "", None, []
    for expected, row in enumerate(rows, first):
        previous = row[14] if previous is None else previous
        continues = continues or previous
        if row[0] != expected or row[14] != previous or problem_of(row):
            return b""
        previous = row[15]
        hashes.append(previous)
    if len(hashes) != last + 1 - first:
        return b""
    return _HEAD.pack(len(hashes), continues.encode("ascii")) + bytes.fromhex("".join(hashes))


if __name__ == "__main__":
    main()
