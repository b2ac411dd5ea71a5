"""How fast jobs go through the record, and what a pass of the dispatcher costs while ten thousand wait.

Subject: one job through claim, kept result, claim of its delivery, sent: four transactions with their audit rows, with
no work between them. Peer: the same number of the plainest transactions that could carry it (one INSERT, one UPDATE) on
the same database, driver and durability, in turns with the subject. The ratio says how much of the database's own speed
is left to the queue. Goals: 300 jobs/s on SQLite, 1,000 on PostgreSQL, a pass over 10,000 waiting jobs within 100 ms.

    python benchmarks/queue.py [--jobs 200] [--waiting 10000] [--rounds 3] [--json]
"""

import sys
from pathlib import Path

# a script's own folder is the first on its path, where queue.py would hide the standard library's
sys.path[0] = str(Path(__file__).resolve().parents[1])


import argparse
import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from sqlalchemy import insert, text

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(1, str(ROOT / "tests" / "support"))

from postgresql_server import BINARIES, PostgresqlServer

from db import deliveries, jobs, migrate, studies
from db.models import AssociationRow, AssociationStudy, DeliveryRow, JobRow, Series, Study
from db.session import Record
from dicom_core.job import JobState, KeptResult
from dicom_core.result import ResultKind, ResultObject

TRANSACTIONS_OF_A_JOB = 4
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
GOALS = {"sqlite": 300, "postgresql": 1000}
GOAL_PASS_SECONDS = 0.1


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    rows = []
    for name, open_record in (("sqlite", _sqlite), ("postgresql", _postgresql)):
        if name == "postgresql" and BINARIES is None:
            continue
        with open_record() as record:
            rows.append({"database": name, **_measure(record, arguments), "goal_jobs_per_second": GOALS[name]})
    if not arguments.json:
        for row in rows:
            print("\n".join(f"{key:38} {value}" for key, value in row.items()), end="\n\n")
    print(json.dumps({"stage": "queue", "goal_pass_seconds": GOAL_PASS_SECONDS, "rows": rows}))


def _measure(record: Record, arguments: argparse.Namespace) -> dict[str, Any]:
    pairs = []
    for number in range(arguments.rounds):
        _add_jobs(record, arguments.jobs, f"1.{number + 1}")
        measured = [lambda: _drain(record), lambda: _plain_transactions(record, arguments.jobs * TRANSACTIONS_OF_A_JOB)]
        if number % 2:
            peer, own = measured[1](), measured[0]()
        else:
            own, peer = measured[0](), measured[1]()
        pairs.append((own / arguments.jobs, peer / arguments.jobs))
    own, peer = (statistics.median(pair[index] for pair in pairs) for index in (0, 1))
    result = {
        "jobs_per_second": round(1 / own, 1),
        "plain_transactions_per_second": round(TRANSACTIONS_OF_A_JOB / peer, 1),
        "ratio_to_plain_transactions": round(statistics.median(peer / own for own, peer in pairs), 3),
    }
    return result | _costs_of_waiting(record, arguments.waiting)


def _costs_of_waiting(record: Record, waiting: int) -> dict[str, float]:
    _add_jobs(record, waiting, "2")
    _add_deliveries(record, waiting, "3")
    _add_open_studies(record, waiting)
    with record.engine.begin() as connection:
        connection.execute(text("ANALYZE"))
    ring: Callable[[], object] = lambda: jobs.mark_rung(record, jobs.due(record, 10, 100))  # noqa: E731
    passes = {
        "jobs_due": lambda: jobs.due(record, 10, 100),
        "ring_100_jobs": ring,
        "deliveries_due": lambda: deliveries.due(record, 10, 100),
        "quiet_studies": lambda: studies.quiet_studies(record, 30),
        "reap": lambda: (jobs.reap_expired(record, 3, 5), deliveries.reap_expired(record, 72)),
        "claim_job": lambda: jobs.claim(record, "bench", 60),
        "claim_and_send_delivery": lambda: _send_one(record),
    }
    costs = {f"{name}_milliseconds": round(_median_seconds(action) * 1000, 2) for name, action in passes.items()}
    passed = sum(costs[f"{name}_milliseconds"] for name in ("ring_100_jobs", "deliveries_due", "quiet_studies", "reap"))
    return {"waiting": waiting, **costs, "dispatcher_pass_seconds": round(passed / 1000, 4)}


def _median_seconds(action: Callable[[], object], times: int = 15) -> float:
    action()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _drain(record: Record) -> float:
    began = time.perf_counter()
    while (job := jobs.claim(record, "bench", 60)) is not None:
        made = ResultObject(
            ResultKind.SEG, 1, "ab/seg.dcm", "0" * 64, SEGMENTATION, f"2.25.{int(job.job_id, 16)}", "2.25.1", 1000
        )
        jobs.keep_result(record, job, KeptResult((made,), {"model": "none"}))
        _send_one(record)
    return time.perf_counter() - began


def _send_one(record: Record) -> None:
    delivery = deliveries.claim(record, "bench", 60)
    assert delivery is not None
    deliveries.sent(record, delivery, "0x0000")


def _plain_transactions(record: Record, number: int) -> float:
    """The peer: raw driver, one INSERT and one UPDATE a commit."""
    with record.engine.connect() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS plain (id INTEGER PRIMARY KEY, word VARCHAR(200))"))
        connection.execute(text("DELETE FROM plain"))
        connection.commit()
        driver = connection.connection.driver_connection
        assert driver is not None
        cursor = driver.cursor()
        mark = "?" if record.engine.dialect.name == "sqlite" else "%s"
        began = time.perf_counter()
        for key in range(number):
            if mark == "?":
                cursor.execute("BEGIN IMMEDIATE")  # psycopg begins by itself
            cursor.execute(f"INSERT INTO plain VALUES ({mark}, {mark})", (key, "x" * 200))  # noqa: S608
            cursor.execute(f"UPDATE plain SET word = {mark} WHERE id = {mark}", ("y" * 200, key))  # noqa: S608
            driver.commit()
        return time.perf_counter() - began


def _add_jobs(record: Record, number: int, root: str, state: JobState = JobState.QUEUED) -> list[str]:
    with record.writing() as transaction:
        now = transaction.now
        uids = [f"{root}.{index}" for index in range(number)]
        received = {"first_received_at": now, "last_received_at": now, "close_requested": False, "revision": 1}
        transaction.session.execute(
            insert(Study),
            [{"study_instance_uid": uid, "state": "COMPLETE", "generation": 1, **received} for uid in uids],
        )
        common = {
            "generation": 1, "modality": "CT", "rule": "all", "segmenter": "ridge", "prompt": "", "priority": 0,
            "destinations": ["pacs"], "input_hash": "0" * 64, "configuration_hash": "0" * 64, "calling_ae_title": "A",
            "peer_address": "10.0.0.1", "state": state, "created_at": now, "updated_at": now,
        }  # fmt: skip
        rows = [
            {
                **common, "job_id": uuid.uuid4().hex, "study_instance_uid": uid, "series_instance_uid": f"{uid}.1",
                "queue_key": now.timestamp() + index / 1000,
            }
            for index, uid in enumerate(uids)
        ]  # fmt: skip
        transaction.session.execute(insert(JobRow), rows)
        return [str(row["job_id"]) for row in rows]


def _add_deliveries(record: Record, number: int, root: str) -> None:
    """Results that wait for four destinations."""
    ids = _add_jobs(record, number, root, JobState.SENDING)
    with record.writing() as transaction:
        now = transaction.now
        transaction.session.execute(
            insert(DeliveryRow),
            [
                {
                    "delivery_id": job_id[::-1], "job_id": job_id, "destination": "pacs", "lane": f"pacs{index % 4}",
                    "state": "WAITING", "created_at": now, "next_try_at": now + timedelta(milliseconds=index - number),
                }
                for index, job_id in enumerate(ids)
            ],
        )  # fmt: skip


def _add_open_studies(record: Record, number: int) -> None:
    """Studies that are still being received, half of them by open associations."""
    with record.writing() as transaction:
        now = transaction.now
        before = now - timedelta(hours=1)
        uids = [f"4.{index}" for index in range(number)]
        transaction.session.execute(
            insert(AssociationRow),
            [
                {
                    "association_id": f"{index:032x}", "process_id": "0" * 32, "calling_ae_title": "A",
                    "called_ae_title": "V", "peer_address": "10.0.0.1", "opened_at": before, "outcome": "OPEN",
                }
                for index in range(20)
            ],
        )  # fmt: skip
        transaction.session.execute(
            insert(Study),
            [
                {
                    "study_instance_uid": uid, "state": "RECEIVING", "generation": 0, "first_received_at": before,
                    "last_received_at": before if index % 2 else now + timedelta(hours=1), "close_requested": False,
                    "revision": 1,
                }
                for index, uid in enumerate(uids)
            ],
        )  # fmt: skip
        by = [{"association_id": f"{index % 20:032x}", "study_instance_uid": uid} for index, uid in enumerate(uids)]
        transaction.session.execute(insert(AssociationStudy), by)
        series = [
            {"study_instance_uid": uid, "series_instance_uid": f"{uid}.1", "modality": "CT", "last_association_id": "0"}
            for uid in uids
        ]
        transaction.session.execute(insert(Series), series)


@contextmanager
def _sqlite() -> Iterator[Record]:
    with tempfile.TemporaryDirectory() as folder:
        yield from _migrated(f"sqlite:///{folder}/vesselq.sqlite3")


@contextmanager
def _postgresql() -> Iterator[Record]:
    with PostgresqlServer(durable=True) as server:
        yield from _migrated(server.create_database("bench"))


def _migrated(url: str) -> Iterator[Record]:
    record = Record(url, process="bench")
    migrate.upgrade(record)
    try:
        yield record
    finally:
        record.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=200, help="jobs of one round")
    parser.add_argument("--waiting", type=int, default=10_000, help="jobs, deliveries and studies that wait")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of measurements")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    return parser.parse_args()


if __name__ == "__main__":
    main()
