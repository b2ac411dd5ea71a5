"""How fast rows are chained, and how fast a chain is verified.

Append: one row a transaction (single) and many in one (batched), over the record. Peer: the plainest transaction that
could carry a row (one INSERT with the raw driver) on the same database and durability, in turns with the subject.
Verify: the whole chain with a checkpoint every thousand rows; a chain of more than half a million rows is read by
several processes. Goals: 5,000 rows/s appended, 200,000 rows/s verified. A single append waits for the disk: in a
folder in memory (``--folder /dev/shm``) it is seen what the program itself needs.

    python benchmarks/audit_chain.py [--rows 1000000] [--single 2000] [--rounds 3] [--folder FOLDER] [--json]
"""

import sys
from pathlib import Path

# a script's own folder is the first on its path, where queue.py would hide the standard library's
sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import json
import sqlite3
import statistics
import tempfile
import time

from db import audit, migrate
from db.audit import Event
from db.audit_checkpoints import CheckpointFile
from db.audit_signing import sign_checkpoint
from db.session import Record

GOAL_APPENDED, GOAL_VERIFIED = 5000, 200_000
ROWS_OF_A_CHECKPOINT = 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000, help="length of the chain that is verified")
    parser.add_argument("--single", type=int, default=2000, help="rows with a transaction of their own")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of measurements")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the database is made: 700 bytes a row")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        result = _measure(Path(folder), arguments)
    if not arguments.json:
        print("\n".join(f"{key:38} {value}" for key, value in result.items()), end="\n\n")
    print(json.dumps({"stage": "audit_chain", **result}))


def _measure(folder: Path, arguments: argparse.Namespace) -> dict[str, float | int]:
    record = Record(f"sqlite:///{folder / 'vesselq.sqlite3'}", process="bench/00000000")
    migrate.upgrade(record)
    pairs = [(_single(record, arguments.single), _plain(folder, arguments.single)) for _ in range(arguments.rounds)]
    checkpoints = CheckpointFile(folder / "audit", folder / "audit" / "signing_key.pem")
    appended = 0.0
    for first in range(0, arguments.rows, ROWS_OF_A_CHECKPOINT):
        appended += _batch(record, min(ROWS_OF_A_CHECKPOINT, arguments.rows - first))
        sign_checkpoint(record, checkpoints)
    verified = []
    for _ in range(arguments.rounds):
        began = time.perf_counter()
        found = audit.verify(record, checkpoints.read())
        verified.append(found.rows / (time.perf_counter() - began))
        assert found.holds, found
    record.close()
    return {
        "single_rows_per_second": round(statistics.median(own for own, _ in pairs)),
        "plain_transactions_per_second": round(statistics.median(peer for _, peer in pairs)),
        "ratio_to_plain_transactions": round(statistics.median(own / peer for own, peer in pairs), 3),
        "batched_rows_per_second": round(arguments.rows / appended),
        "goal_rows_per_second": GOAL_APPENDED,
        "verified_rows_per_second": round(statistics.median(verified)),
        "goal_verified_rows_per_second": GOAL_VERIFIED,
        "rows": found.rows,
        "checkpoints": found.checkpoints,
        "bytes_per_row": round((folder / "vesselq.sqlite3").stat().st_size / found.rows),
    }


def _single(record: Record, rows: int) -> float:
    began = time.perf_counter()
    for number in range(rows):
        audit.record_event(record, Event.JOB_STATE, **_facts(number))
    return rows / (time.perf_counter() - began)


def _batch(record: Record, rows: int) -> float:
    began = time.perf_counter()
    with record.writing() as transaction:
        for number in range(rows):
            audit.append(transaction, Event.JOB_STATE, **_facts(number))
    return time.perf_counter() - began


def _facts(number: int) -> dict[str, object]:
    return {
        "study_instance_uid": f"1.2.826.0.1.3680043.10.{number // 7}",
        "job_id": f"{number // 7:032x}",
        "detail": {"from": "QUEUED", "to": "RUNNING", "attempt": 1, "owner": "worker-1"},
    }


def _plain(folder: Path, rows: int) -> float:
    """The peer: raw driver, one INSERT a commit."""
    connection = sqlite3.connect(folder / "plain.sqlite3", isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE IF NOT EXISTS plain (id INTEGER PRIMARY KEY, word TEXT)")
    began = time.perf_counter()
    for _ in range(rows):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO plain (word) VALUES (?)", ("x" * 300,))
        connection.execute("COMMIT")
    seconds = time.perf_counter() - began
    connection.close()
    return rows / seconds


if __name__ == "__main__":
    main()
