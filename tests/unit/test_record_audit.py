"""The audit chain: it holds, every tampering is found at the right row, and writers never fork it."""

import hashlib
import json
import multiprocessing
import threading

import pytest
from audit_tampering import execute, rehashed
from record_story import assert_sound, events, listener, ready

from db import audit
from db.audit import FIRST_PREVIOUS_HASH, Event, Outcome
from db.audit_chain import COLUMNS
from db.models import AuditEvent
from db.session import Record, Transaction
from dicom_core.errors import AuditError, UnavailableError

ROWS = 12


def _fill(record: Record, rows: int = ROWS) -> None:
    for number in range(rows):
        audit.record_event(record, Event.AUDIT_READ, detail={"number": number})


def _insert_copy(record: Record, *, of: int, sequence: int, previous_hash: str) -> None:
    columns = [column.name for column in AuditEvent.__table__.columns]
    values = {"sequence": str(sequence), "previous_hash": previous_hash}
    quoted = [values.get(name, f'"{name}"') for name in columns]
    execute(record, f"INSERT INTO audit_events SELECT {', '.join(quoted)} FROM audit_events WHERE sequence = {of}")  # noqa: S608  tampering is the test


def _append_and_fail(transaction: Transaction) -> None:
    audit.append(transaction, Event.AUDIT_READ)
    _ = 1 / 0


def _append_both(transaction: Transaction, *details: dict[str, object]) -> None:
    for detail in details:
        audit.append(transaction, Event.AUDIT_READ, detail=detail)


def test_an_empty_chain_holds(record):
    """No rows, nothing wrong, the head is the hash before the first row."""
    assert audit.verify(record) == audit.Verification(0, None, "", FIRST_PREVIOUS_HASH)


def test_rows_are_numbered_and_chained(record):
    """Sequence from 1 without gaps, each row continues the one before, the head is the last hash."""
    _fill(record)
    rows = events(record)
    assert [row.sequence for row in rows] == list(range(1, ROWS + 1))
    assert [row.previous_hash for row in rows] == [FIRST_PREVIOUS_HASH, *(row.row_hash for row in rows[:-1])]
    assert audit.verify(record) == audit.Verification(ROWS, None, "", rows[-1].row_hash)


def test_a_long_chain_is_read_in_parts(record):
    """More rows than are fetched at once."""
    with record.writing() as transaction:
        for number in range(1203):
            audit.append(transaction, Event.AUDIT_READ, detail={"number": number})
    assert audit.verify(record).rows == 1203


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("at", "'2020-01-01T00:00:00.000Z'"),
        ("event", "'job-done'"),
        ("event_id", "'110101x'"),
        ("event_type", "'x'"),
        ("action", "'Z'"),
        ("outcome", "8"),
        ("process", "'worker/1'"),
        ('"user"', "'eve'"),
        ("ae_title", "'EVIL'"),
        ("address", "'10.9.9.9'"),
        ("study_instance_uid", "'1.2.3'"),
        ("job_id", "'abc'"),
        ("detail", "'{\"number\": 99}'"),
        ("detail", "'null'"),
    ],
)
def test_a_change_of_any_column_is_found_at_its_row(record, column, value):
    """Every column is under the hash."""
    _fill(record)
    execute(record, f"UPDATE audit_events SET {column} = {value} WHERE sequence = 7")  # noqa: S608  tampering is the test
    found = audit.verify(record)
    assert (found.rows, found.first_bad_sequence, found.problem) == (6, 7, "its content is not what was written")


def test_a_detail_that_is_no_json_is_a_finding(record):
    """A damaged detail does not break the verification itself."""
    if record.engine.dialect.name == "postgresql":
        pytest.skip("PostgreSQL stores only valid JSON")
    _fill(record)
    execute(record, "UPDATE audit_events SET detail = '{broken' WHERE sequence = 3")
    assert audit.verify(record).first_bad_sequence == 3
    assert "cannot be read" in audit.verify(record).problem


@pytest.mark.parametrize(("gone", "first_bad"), [(1, 2), (5, 6), (ROWS - 1, ROWS)])
def test_a_deleted_row_is_found_at_the_row_after_it(record, gone, first_bad):
    """The gap in the sequence shows."""
    _fill(record)
    execute(record, f"DELETE FROM audit_events WHERE sequence = {gone}")  # noqa: S608  tampering is the test
    found = audit.verify(record)
    assert (found.first_bad_sequence, found.problem) == (first_bad, f"row {gone} is missing")


def test_a_deleted_row_with_the_rest_renumbered_is_found(record):
    """Closing the gap does not help: the row does not continue the one before."""
    _fill(record)
    execute(record, "DELETE FROM audit_events WHERE sequence = 5")
    for number in range(6, ROWS + 1):
        execute(record, f"UPDATE audit_events SET sequence = {number - 1} WHERE sequence = {number}")  # noqa: S608  tampering is the test
    found = audit.verify(record)
    assert (found.first_bad_sequence, found.problem) == (5, "it does not continue the row before it")


def test_two_exchanged_rows_are_found(record):
    """Reordering shows at the first of the two."""
    _fill(record)
    execute(
        record,
        "UPDATE audit_events SET sequence = 1000 WHERE sequence = 4",
        "UPDATE audit_events SET sequence = 4 WHERE sequence = 8",
        "UPDATE audit_events SET sequence = 8 WHERE sequence = 1000",
    )
    assert audit.verify(record).first_bad_sequence == 4


def test_an_inserted_row_is_found(record):
    """A made-up row between two, with the rest moved up, does not continue the chain, or the next one does not."""
    _fill(record)
    for number in range(ROWS, 5, -1):
        execute(record, f"UPDATE audit_events SET sequence = {number + 1} WHERE sequence = {number}")  # noqa: S608  tampering is the test
    _insert_copy(record, of=5, sequence=6, previous_hash="row_hash")
    found = audit.verify(record)
    assert found.first_bad_sequence == 6
    assert found.problem == "its content is not what was written"


def test_a_row_before_the_first_is_found(record):
    """Sequence 0 is no row of ours."""
    _fill(record)
    _insert_copy(record, of=1, sequence=0, previous_hash="previous_hash")
    assert audit.verify(record).first_bad_sequence == 0


def test_a_row_with_a_recomputed_hash_is_found_at_the_next(record):
    """Who changes a row and its hash breaks the next row's link."""
    _fill(record)
    row = events(record)[4]
    changed = rehashed(row, outcome=8)
    execute(record, f"UPDATE audit_events SET outcome = 8, row_hash = '{changed}' WHERE sequence = 5")  # noqa: S608  tampering is the test
    found = audit.verify(record)
    assert (found.first_bad_sequence, found.problem) == (6, "it does not continue the row before it")


def test_the_hash_is_over_canonical_json(record):
    """Sorted keys, no spaces, ASCII: anybody can recompute it from an export with these rules."""
    audit.record_event(record, Event.AUDIT_READ, ae_title="AE", detail={"z": 1, "a": "é", "list": [1.5, None, True]})
    (row,) = events(record)
    content = {name: getattr(row, name) for name in COLUMNS if name != "row_hash"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    assert hashlib.sha256(canonical.encode()).hexdigest() == row.row_hash
    assert "\\u00e9" in canonical


@pytest.mark.parametrize(
    "detail",
    [
        {"float": 0.1, "large": 1e22, "small": 5e-324, "negative": -0.0, "whole": 1.0},
        {"integer": 2**70, "text": 'äöü 血管 \u2028 \x00 \ud800 " \\ / \n', "empty": {}},
        {"tuple": (1, 2, (3,)), "nested": {"b": [{"d": 1, "c": 2}], "a": None}},
        {2: "two", 10: "ten", "3": "three", True: "yes"},
        {},
    ],
)
def test_details_survive_the_database(record, detail):
    """Whatever JSON can say comes back such that the hash stands, on every database; half a character as ``?``."""
    audit.record_event(record, Event.AUDIT_READ, detail=detail)
    assert_sound(record)
    assert events(record)[0].detail == json.loads(json.dumps(detail).replace("\\ud800", "?"))


@pytest.mark.parametrize("detail", [{"nan": float("nan")}, {"infinite": float("inf")}, {"object": object()}])
def test_a_detail_that_is_no_json_is_refused_with_all_that_it_tells_of(record, detail):
    """AuditError, and nothing of the transaction stays."""
    with pytest.raises(AuditError), record.writing() as transaction:
        _append_both(transaction, {"fine": 1}, detail)
    assert events(record) == []


def test_hostile_peers_can_be_audited(record):
    """An AE title from the wire of any length and content is cut and cleaned; the row is written."""
    audit.record_event(
        record,
        Event.ASSOCIATION_REFUSED,
        outcome=Outcome.MINOR_FAILURE,
        ae_title="EVIL\x00\r\nAE" + "\ud800" * 40,
        address="f" * 200,
    )
    (row,) = events(record)
    assert (row.ae_title, len(row.address), row.event_id, row.event_type) == (
        "EVIL???AE" + "?" * 7,
        64,
        "110113",
        "110126",
    )
    assert_sound(record)


def test_a_row_says_who_when_and_on_whose_behalf(record, clock):
    """Process and user of the record, the database's time in UTC."""
    record.process, record.user = "web/1234", "ada"
    clock.advance(3600)
    before = record.now()
    audit.record_event(record, Event.AUDIT_READ)
    (row,) = events(record)
    assert (row.process, row.user) == ("web/1234", "ada")
    assert abs((audit.parsed_time(row.at) - before).total_seconds()) < 5
    assert row.at.endswith("Z")


def test_a_row_says_where_its_person_is(record):
    """The address of the person, unless a peer is told of, whose address it would seem to be."""
    asked = record.on_behalf_of("ada", "192.0.2.7")
    audit.record_event(asked, Event.JOB_RETRIED)
    audit.record_event(asked.on_behalf_of("bob"), Event.JOB_RETRIED)
    audit.record_event(asked, Event.PEER_CHECKED, ae_title="PACS")
    audit.record_event(asked, Event.SIGNED_IN, address="192.0.2.8")
    audit.record_event(record, Event.JOB_RETRIED)
    assert [(row.user, row.ae_title, row.address) for row in events(record)] == [
        ("ada", "", "192.0.2.7"), ("bob", "", "192.0.2.7"), ("ada", "PACS", ""), ("ada", "", "192.0.2.8"), ("", "", ""),
    ]  # fmt: skip


def test_an_audit_log_that_cannot_be_written_refuses_the_work(record):
    """Any failure to audit has one name."""
    with pytest.raises(AuditError, match="cannot be written"):
        audit.record_event(record, Event.AUDIT_READ, detail={"nan": float("nan")})


def test_what_is_rolled_back_leaves_no_row(record):
    """A change that fails leaves neither itself nor its audit row, and the next row continues the chain."""
    _fill(record, 2)
    with pytest.raises(ZeroDivisionError), record.writing() as transaction:
        _append_and_fail(transaction)
    _fill(record, 1)
    assert [row.sequence for row in events(record)] == [1, 2, 3]
    assert_sound(record)


def test_threads_never_fork_the_chain(record):
    """Four threads write at once; verification runs beside them and always holds."""
    threads = [threading.Thread(target=_fill, args=(record, 15)) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert_sound(record)
    for thread in threads:
        thread.join()
    assert audit.verify(record).rows == 60


def _write_in_a_process(url: str, rows: int, start: "multiprocessing.synchronize.Barrier") -> None:
    record = Record(url, process="writer")
    start.wait(60)
    _fill(record, rows)
    record.close()


def test_processes_never_fork_the_chain(record, record_url):
    """Four processes write at once."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(4)
    record.engine.dispose()
    writers = [context.Process(target=_write_in_a_process, args=(record_url, 10, start)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 4
    other = Record(record_url, process="reader")
    found = audit.verify(other)
    other.close()
    assert (found.rows, found.first_bad_sequence) == (40, None)


def test_every_event_has_a_word_of_its_own():
    """Words are unique and fit their column; codes are those of PS3.15 A.5 or empty."""
    assert len({event.word for event in Event}) == len(Event)
    assert all(len(event.word) <= 32 for event in Event)
    assert {event.action for event in Event} <= set("CRUDE")
    assert {event.event_id for event in Event} <= {"", *(str(number) for number in range(110100, 110115))}


def test_a_whole_story_verifies(record):
    """From the listener's start to a kept result."""
    listener(record)
    ready(record)
    assert_sound(record)
    assert [row.event for row in events(record)][:2] == ["application-start", "configuration-loaded"]


def test_a_database_that_is_away_is_unavailable(tmp_path):
    """A folder that is not there, a file that is none: a sentence, no stack of the driver."""
    with pytest.raises(UnavailableError, match="does not answer"):
        audit.verify(Record(f"sqlite:///{tmp_path}/missing/x.sqlite3", process="t"))
    (tmp_path / "rubbish").write_bytes(b"no database at all" * 100)
    with pytest.raises(UnavailableError, match="does not answer"):
        audit.verify(Record(f"sqlite:///{tmp_path}/rubbish", process="t"))
    with pytest.raises(UnavailableError, match="does not answer"):
        audit.verify(Record("postgresql://nobody@127.0.0.1:1/none", process="t"))
