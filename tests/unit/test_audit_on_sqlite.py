"""What SQLite alone shows of the questions to the audit log: its plans, and rows that PostgreSQL would not keep."""

from audit_tampering import execute
from sqlalchemy import event

from db import audit
from db.audit import Event
from db.audit_answers import log_state
from db.audit_chain import COLUMNS
from db.audit_queries import AuditQuery, audit_page, audit_rows, each_audit_row, rows_from

PATIENT = "a" * 64


def test_a_detail_that_is_no_json_does_not_hide_its_row(record):
    """It is shown as it is."""
    audit.record_event(record, Event.SIGNED_IN)
    execute(record, "UPDATE audit_events SET detail = '{'")
    (row,) = audit_rows(record, AuditQuery())
    assert row.detail == {"unreadable": "{"}


def test_a_damaged_hash_at_the_end_does_not_stop_the_log(record):
    """Octets where text belongs: the next event is written all the same, and verifying names the damaged row."""
    for _ in range(2):
        audit.record_event(record, Event.SIGNED_IN)
    execute(record, "UPDATE audit_events SET row_hash = CAST(row_hash AS BLOB) WHERE sequence = 2")
    audit.record_event(record, Event.SIGNED_OUT)
    execute(record, "UPDATE audit_events SET row_hash = x'ff00' WHERE sequence = 3")
    audit.record_event(record, Event.SIGNED_OUT)
    assert audit.verify(record).first_bad_sequence == 2
    execute(record, "UPDATE audit_events SET row_hash = CAST(row_hash AS TEXT) WHERE sequence = 2")
    assert audit.verify(record).first_bad_sequence == 3


def test_every_question_is_answered_by_an_index(record):
    """SQLite reads no table from end to end for any single question, and sorts nothing that is long."""
    for wanted in (
        {"study_instance_uid": "1.2"}, {"job_id": "f"}, {"patient_hash": PATIENT}, {"user": "anna"}, {"ae_title": "A"},
        {"address": "192.0.2.1"}, {"event": "job-failed"}, {"failed_only": True}, {"outcome": 8},
        {"event": "job-failed", "failed_only": True}, {"ae_title": "A", "event": "job-failed"},
        {"since": record.now()}, {"until": record.now(), "event": "job-failed"}, {},
    ):  # fmt: skip
        plan = _plan(record, AuditQuery(**wanted))
        assert "USING INDEX" in plan, f"{wanted}: {plan}"
        sorts = wanted.keys() & {"study_instance_uid", "job_id", "patient_hash"}
        assert bool(sorts) == ("TEMP B-TREE" in plan), f"{wanted}: {plan}"


def test_the_narrowest_index_is_chosen(record):
    """Where several fit: without statistics, which a site never makes, SQLite must not walk along a wide one."""
    for wanted, index in (
        ({"ae_title": "A", "event": "job-failed"}, "ae_title_event_at_sequence"),
        ({"user": "anna", "event": "signed-in"}, "user_event_at_sequence"),
        ({"ae_title": "A", "failed_only": True}, "ae_title_failures"),
        ({"user": "anna", "failed_only": True}, "user_failures"),
        ({"event": "job-failed", "failed_only": True}, "event_failures"),
        ({"failed_only": True, "since": record.now()}, "failures"),
        ({"outcome": 8}, "outcome_at_sequence"),
    ):
        assert f"ix_audit_events_{index} " in _plan(record, AuditQuery(**wanted)), wanted


def _plan(record, query):
    plans = []

    def explain(_connection, cursor, statement, parameters, _context, _executemany):
        if statement.startswith("SELECT audit_events"):
            plans.extend(row[-1] for row in cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall())

    event.listen(record.engine, "before_cursor_execute", explain)
    audit_page(record, query)
    event.remove(record.engine, "before_cursor_execute", explain)
    return " | ".join(plans)


def test_what_no_reader_can_take_is_named(record):
    """Octets that are no UTF-8, and JSON nested without end, are findings at their row; the page shows what it can."""
    for number in range(4):
        audit.record_event(record, Event.SIGNED_IN, detail={"number": number})
    execute(record, f"UPDATE audit_events SET detail = '{'[' * 100_000}' WHERE sequence = 4")  # noqa: S608  tampering is the test
    assert audit.verify(record).first_bad_sequence == 4
    assert "unreadable" in audit_rows(record, AuditQuery())[-1].detail
    execute(record, "UPDATE audit_events SET \"user\" = CAST(X'FF' AS TEXT) WHERE sequence = 3")
    found = audit.verify(record)
    assert (found.first_bad_sequence, found.rows) == (3, 2)
    assert audit_rows(record, AuditQuery())[2].user == "\\xff"
    with record.reading() as session:
        factories = {session.connection().connection.driver_connection.text_factory}
    assert factories == {str}, "the connection reads as before"


def test_octets_in_a_column_of_text_are_shown(record):
    """They are named as what they are, in every answer, and the row is the one that verifying names."""
    audit.record_event(record, Event.SIGNED_IN)
    names = [name for name in COLUMNS if name not in ("sequence", "outcome")]
    octets = ", ".join(f"\"{name}\" = X'FF41'" for name in names)
    execute(record, f"UPDATE audit_events SET {octets}, outcome = X'00'")  # noqa: S608  tampering is the test
    (row,) = audit_rows(record, AuditQuery())
    assert {getattr(row, name) for name in names if name != "detail"} == {"unreadable: \\xffA"}
    assert (row.sequence, row.outcome) == (1, 12)
    assert "unreadable" in row.detail
    assert list(each_audit_row(record, AuditQuery())) == rows_from(record, 1, 10) == [row]
    state = log_state(record)
    assert (state.head_sequence, state.head_at, state.head_hash) == (1, *["unreadable: \\xffA"] * 2)
    assert audit.verify(record).first_bad_sequence == 1


def test_an_event_of_archiving_that_cannot_be_read_vouches_for_nothing(record):
    """Rows that are gone are found, whatever is written into the event that should tell of them."""
    for happened in (Event.SIGNED_IN, Event.SIGNED_IN, Event.AUDIT_ARCHIVED):
        audit.record_event(record, happened)
    execute(record, "DELETE FROM audit_events WHERE sequence = 1")
    for detail in ("{", "[]", "[" * 100_000, '{"last_sequence": 1}'):
        execute(record, f"UPDATE audit_events SET detail = '{detail}' WHERE sequence = 3")  # noqa: S608  tampering is the test
        found = audit.verify(record)
        assert (found.first_bad_sequence, found.problem) == (2, "row 1 is missing"), detail[:20]
