"""How long the questions of an auditor take in a log of ten million rows, on SQLite and on PostgreSQL.

Builds the record of a hospital that sent a thousand studies a day (stories of studies that overlap in time, people who
look at them, refused associations, failures; a dozen versions of models), by bulk insert, with the indices of this
release. Then every question is asked with many different values, frequent and rare and absent ones, through the same
functions as command line, API and page. Peer: the same rows with the same conditions in a table without indices, which
is what a log without queries would do. Goal: every question under 100 ms, the worst value included.

    python benchmarks/audit.py [--rows 10000000] [--asked 20] [--database sqlite] [--keep FOLDER] [--json]
"""

import sys
from pathlib import Path

# a script's own folder is the first on its path, where queue.py would hide the standard library's
sys.path[0] = str(Path(__file__).resolve().parents[1])


import argparse
import gc
import json
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Any

import psycopg
from sqlalchemy import Index, Table, text

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(1, str(ROOT / "tests" / "support"))

from audit_history import TABLES, History
from postgresql_server import BINARIES, PostgresqlServer

from db import audit_answers, migrate
from db.audit_queries import AuditQuery, as_text, audit_page
from db.models import Base
from db.session import Record

GOAL_MILLISECONDS = 100
PAGE = 100
Load = Callable[[History], None]
_STUDIES_AT_ONCE = 500
_FACTS = ("sequence", "studies", "jobs", "patients")


def main() -> None:
    """Build, ask and print."""
    arguments = _arguments()
    rows = []
    for name, opened in (("sqlite", _sqlite), ("postgresql", _postgresql)):
        if arguments.database in ("", name) and (name == "sqlite" or BINARIES is not None):
            with opened(arguments) as (record, load):
                rows.append({"database": name, **_measure(record, load, arguments)})
    if not arguments.json:
        _print(rows)
    worst = max(answer["worst_milliseconds"] for row in rows for answer in row["answers"].values())
    print(json.dumps({"stage": "audit", "goal_milliseconds": GOAL_MILLISECONDS, "worst": worst, "rows": rows}))


def _measure(record: Record, load: Load, arguments: argparse.Namespace) -> dict[str, Any]:
    history = History(arguments.rows)
    facts = arguments.keep / f"{record.engine.dialect.name}.json" if arguments.keep else None
    if facts is not None and facts.exists():
        built = _remembered(history, facts)
    else:
        built = _build(record, load, history)
        if facts is not None:
            _remember(history, built, facts)
    gc.freeze()  # a server does not hold the millions of UIDs that questions are drawn from, to be searched for garbage
    audit_page(record, AuditQuery(limit=1))  # a server has opened its connections and made its mappers long ago
    answers = {name: _asked(record, ask, values) for name, ask, values in _questions(history, arguments.asked)}
    scan = built["scan_without_index_milliseconds"]
    return {
        "audit_rows": history.sequence,
        "studies": len(history.studies),
        "bytes": _size(record),
        **built,
        "ratio_study_to_scan": round(scan / max(0.01, answers["study"]["median_milliseconds"])),
        "answers": answers,
    }


def _build(record: Record, load: Load, history: History) -> dict[str, float]:
    began = time.perf_counter()
    indices = _without_indices(record)
    load(history)
    loaded = time.perf_counter()
    scan = _milliseconds(lambda: _scanned(record, history.studies[7]))
    for index in indices:
        index.create(record.engine)
    if record.engine.dialect.name == "postgresql":  # what its autovacuum does by itself
        with record.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
    return {
        "load_seconds": round(loaded - began, 1),
        "index_seconds": round(time.perf_counter() - loaded, 1),
        "scan_without_index_milliseconds": scan,
    }


def _remember(history: History, built: dict[str, float], file: Path) -> None:
    """What the questions are made of, beside the database that stays."""
    facts = {name: getattr(history, name) for name in _FACTS} | {"end": history.end.isoformat()}
    file.write_text(json.dumps({"history": facts, "built": built}))


def _remembered(history: History, file: Path) -> dict[str, float]:
    kept = json.loads(file.read_text())
    for name in _FACTS:
        setattr(history, name, kept["history"][name])
    history.end = datetime.fromisoformat(kept["history"]["end"])
    built: dict[str, float] = kept["built"]
    return built


def _questions(history: History, asked: int) -> Iterator[tuple[str, Callable[..., Any], Sequence[Any]]]:
    draw = random.Random(7)  # noqa: S311  not for secrets

    def some(values: Sequence[Any]) -> list[Any]:
        return [draw.choice(values) for _ in range(asked)]

    def page(**wanted: Callable[[Any], Any] | Any) -> Callable[[Record, Any], Any]:
        def ask(record: Record, value: Any) -> Any:
            fixed = {name: one(value) if callable(one) else one for name, one in wanted.items()}
            return audit_page(record, AuditQuery(limit=PAGE, **fixed)).rows

        return ask

    day, month = timedelta(days=1), timedelta(days=30)
    moments = [history.begin + (history.end - history.begin) * draw.random() for _ in range(asked)]
    itself: Callable[[Any], Any] = lambda value: value  # noqa: E731
    peers = [*history.ae_titles, "NOBODY"]
    once = [0] * 5  # a question without values, to have a median of it
    yield "latest", page(), once
    yield "page_in_the_middle", page(before=itself), some(range(1, history.sequence))
    yield "study", page(study_instance_uid=itself), some(history.studies)
    yield "patient", page(patient_hash=itself), some(history.patients)
    yield "person", page(user=itself), [*history.people, "nobody"]
    yield "ae_title", page(ae_title=itself), peers
    yield "address", page(address=itself), [*history.addresses, "203.0.113.9"]
    yield "event", page(event=itself), history.events
    yield "failures_of_event", page(event=itself, failed_only=True), history.events
    yield "outcome", page(outcome=itself), [0, 4, 8, 12]
    yield "failures_of_last_day", page(failed_only=True, since=history.end - day), once
    yield "day", page(since=itself, until=lambda value: value + day), moments
    yield "month", page(since=itself, until=lambda value: value + month), moments
    yield "event_in_a_month", page(event="job-failed", since=itself, until=lambda value: value + month), moments
    yield "ae_title_in_a_month", page(ae_title=peers[0], since=itself, until=lambda value: value + month), moments
    yield "received_from_ae_title", page(ae_title=itself, event="instances-received"), peers
    yield "refused_ae_title", page(ae_title=itself, event="association-refused"), peers
    yield "person_viewed", page(user=itself, event="study-viewed"), [*history.people, "nobody"]
    yield "person_signed_in", page(user=itself, event="signed-in"), [*history.people, "nobody"]
    yield "failures_of_person", page(user=itself, failed_only=True), history.people
    yield "failures_of_ae_title", page(ae_title=itself, failed_only=True), peers
    yield "who_saw", audit_answers.who_saw, some(history.studies)
    yield "job", lambda record, job: audit_answers.job_story(record, job).events, some(history.jobs)
    yield "recall", lambda record, one: audit_answers.recall(record, *one, limit=PAGE).rows, history.models
    yield "studies_of_patient", audit_answers.studies_of_patient, some(history.patients)
    week = history.end - timedelta(days=7)
    yield "without_result_last_week", lambda record, _: _without(record, since=week), once
    yield "without_result_month", lambda record, at: _without(record, since=at, until=at + month), moments
    yield "state_of_the_log", lambda record, _: [audit_answers.log_state(record)], once


def _without(record: Record, **when: Any) -> Any:
    return audit_answers.without_result(record, limit=PAGE, **when)


def _asked(record: Record, ask: Callable[[Record, Any], Any], values: Sequence[Any]) -> dict[str, Any]:
    taken, found = [], []
    for value in values:
        began = time.perf_counter()
        found.append(len(ask(record, value)))
        taken.append((time.perf_counter() - began) * 1000)
    return {
        "median_milliseconds": round(statistics.median(taken), 2),
        "worst_milliseconds": round(max(taken), 2),
        "worst_value": str(values[taken.index(max(taken))]),
        "rows": round(statistics.mean(found), 1),
    }


def _without_indices(record: Record) -> list[Index]:
    """Drop what slows a bulk insert down; what was dropped, to be made again in the same order.

    Of two indices that serve a question as well SQLite takes the one that was made later, as the migrations foresee.
    """
    indices = [index for table in TABLES for index in Base.metadata.tables[table].indexes]
    if record.engine.dialect.name == "sqlite":
        with record.reading() as session:
            made = session.execute(text("SELECT name FROM sqlite_master WHERE type = 'index' ORDER BY rowid"))
            order = list(made.scalars())
        indices.sort(key=lambda index: order.index(str(index.name)))
    for index in indices:
        index.drop(record.engine)
    return indices


def _scanned(record: Record, study: str) -> None:
    with record.reading() as session:
        session.execute(
            text("SELECT count(*) FROM audit_events WHERE study_instance_uid = :study AND at < :at"),
            {"study": study, "at": as_text(record.now())},
        ).one()


def _milliseconds(action: Callable[[], object]) -> float:
    action()
    began = time.perf_counter()
    action()
    return round((time.perf_counter() - began) * 1000, 1)


def _size(record: Record) -> int:
    sqlite = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    other = "SELECT pg_database_size(current_database())"
    with record.reading() as session:
        return int(session.execute(text(sqlite if record.engine.dialect.name == "sqlite" else other)).scalar_one())


@contextmanager
def _sqlite(arguments: argparse.Namespace) -> Iterator[tuple[Record, Load]]:
    with ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(dir=arguments.folder)))
        file = folder / "vesselq.sqlite3"
        record = _migrated(f"sqlite:///{file}")

        def load(history: History) -> None:
            connection = sqlite3.connect(file, isolation_level=None)
            connection.execute("PRAGMA synchronous=OFF")
            for rows in history.batches(_STUDIES_AT_ONCE):
                connection.execute("BEGIN")
                for name, batch in rows.items():
                    table = Base.metadata.tables[name]
                    marks = ", ".join("?" for _ in TABLES[name])
                    connection.executemany(f"INSERT INTO {_into(table)} VALUES ({marks})", _for_sqlite(batch))  # noqa: S608
                connection.execute("COMMIT")
            connection.close()

        yield record, load
        record.close()


def _for_sqlite(batch: Iterable[Sequence[Any]]) -> Iterator[list[Any]]:
    for row in batch:
        yield [
            value.strftime("%Y-%m-%d %H:%M:%S.%f") if hasattr(value, "strftime") else value for value in row
        ]  # as SQLAlchemy writes times


@contextmanager
def _postgresql(arguments: argparse.Namespace) -> Iterator[tuple[Record, Load]]:
    folder = arguments.keep / "postgresql" if arguments.keep else None
    there = folder is not None and folder.exists()
    with PostgresqlServer(folder=folder) as server:
        record = _migrated(url := server.url("bench") if there else server.create_database("bench"))

        def load(history: History) -> None:
            with psycopg.connect(url.replace("+psycopg", "")) as connection:
                connection.execute("SET session_replication_role = replica")  # no checks of foreign keys
                for rows in history.batches(_STUDIES_AT_ONCE):
                    for name, batch in rows.items():
                        command = f"COPY {_into(Base.metadata.tables[name])} FROM STDIN"
                        with connection.cursor().copy(command.encode()) as copy:
                            for row in batch:
                                copy.write_row(row)
                    connection.commit()

        yield record, load
        record.close()


def _into(table: Table) -> str:
    columns = ", ".join(f'"{name}"' for name in TABLES[table.name])
    return f"{table.name} ({columns})"


def _migrated(url: str) -> Record:
    record = Record(url, process="bench")
    migrate.upgrade(record)
    return record


def _print(rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        answers = row.pop("answers")
        print("\n".join(f"{key:32} {value}" for key, value in row.items()))
        print(f"\n{'question':28} {'median ms':>10} {'worst ms':>10} {'rows':>7}  worst value")
        for name, found in answers.items():
            late = " !" if found["worst_milliseconds"] > GOAL_MILLISECONDS else ""
            print(
                f"{name:28} {found['median_milliseconds']:10.2f} {found['worst_milliseconds']:10.2f}"
                f" {found['rows']:7.1f}  {found['worst_value'][:40]}{late}"
            )
        print()
        row["answers"] = answers


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=10_000_000, help="audit events")
    parser.add_argument("--asked", type=int, default=20, help="values of each question")
    parser.add_argument("--database", choices=["", "sqlite", "postgresql"], default="", help="one of the two")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the SQLite file is made: 1.2 kB a row")
    parser.add_argument("--keep", type=Path, help="build the databases here and leave them, or ask those that are here")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    return parser.parse_args()


if __name__ == "__main__":
    main()
