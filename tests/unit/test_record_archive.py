"""Archiving old audit rows: verified files, an event that says so, and a chain that goes on behind them."""

import hashlib
import json
from pathlib import Path

import pytest
from audit_tampering import chain_anew, execute
from databases import owner_of
from record_story import events
from sqlalchemy import delete

from db import audit, audit_archive
from db.audit import Event
from db.audit_archive import archive, archived_rows, last_archivable
from db.audit_checkpoints import CheckpointFile
from db.audit_signing import sign_checkpoint
from db.models import AuditEvent, AuditForwarding
from db.session import Record
from dicom_core.errors import AuditError, ConfigurationError

DAY = 86400.0


@pytest.fixture
def checkpoints(tmp_path: Path) -> CheckpointFile:
    return CheckpointFile(tmp_path / "audit", tmp_path / "audit" / "signing_key.pem")


@pytest.fixture
def old_log(record: Record, checkpoints: CheckpointFile, clock) -> Record:
    """Ten rows of long ago, signed; two of today."""
    for number in range(10):
        audit.record_event(record, Event.AUDIT_READ, detail={"number": number, "text": "血管 é", "half": 0.5})
    sign_checkpoint(record, checkpoints)
    clock.advance(100 * DAY)
    for _ in range(2):
        audit.record_event(record, Event.AUDIT_READ)
    return record


def _archive(record: Record, folder: Path, checkpoints: CheckpointFile, **options) -> list[audit_archive.Archive]:
    with owner_of(record) as owner:
        return list(archive(owner, folder, **{"keep_days": 90, "checkpoints": checkpoints} | options))


def test_old_rows_move_into_a_file(old_log, checkpoints, tmp_path):
    """The young ones stay, the event says what went where, and the chain holds behind it."""
    (made,) = _archive(old_log, tmp_path / "archive", checkpoints)
    assert (made.first_sequence, made.last_sequence) == (1, 10)
    assert made.file == tmp_path / "archive" / "audit-000000000001-000000000010.jsonl"
    assert made.sha256 == hashlib.sha256(made.file.read_bytes()).hexdigest()
    left = events(old_log)
    assert [row.sequence for row in left] == [11, 12, 13]
    assert (left[-1].event, left[-1].action) == ("audit-archived", "D")
    assert left[-1].detail["sha256"] == made.sha256
    assert left[-1].detail["last_hash"] == left[0].previous_hash
    found = audit.verify(old_log, checkpoints.read())
    assert (found.problem, found.first_sequence, found.rows, found.signed_through) == ("", 11, 3, 10)


def test_the_whole_history_verifies_with_its_files(old_log, checkpoints, tmp_path, clock):
    """Files and log are one chain, every checkpoint agrees; one archived later holds the event of one before."""
    _archive(old_log, tmp_path, checkpoints)
    sign_checkpoint(old_log, checkpoints)
    clock.advance(100 * DAY)
    audit.record_event(old_log, Event.AUDIT_READ)
    _archive(old_log, tmp_path, checkpoints)
    files = sorted(tmp_path.glob("audit-*.jsonl"))
    assert [row.sequence for row in events(old_log)] == [14, 15]
    assert audit.verify(old_log, checkpoints.read()).first_sequence == 14
    found = audit.verify(old_log, checkpoints.read(), archived=archived_rows(files))
    assert (found.problem, found.first_sequence, found.rows, found.checkpoints) == ("", 1, 15, 2)
    missing = audit.verify(old_log, checkpoints.read(), archived=archived_rows(files[1:]))
    assert missing.problem == "rows 1 to 10 are missing"


def test_a_long_past_becomes_several_files(old_log, checkpoints, tmp_path):
    """Each is finished, and told of in the log, before the next begins."""
    made = _archive(old_log, tmp_path, checkpoints, rows_of_a_file=4)
    assert [(one.first_sequence, one.last_sequence) for one in made] == [(1, 4), (5, 8), (9, 10)]
    assert len(events(old_log, event="audit-archived")) == 3
    assert audit.verify(old_log, checkpoints.read(), archived=archived_rows(one.file for one in made)).rows == 15


def test_the_triggers_are_there_again(old_log, checkpoints, tmp_path):
    """After archiving the log refuses every change as before."""
    _archive(old_log, tmp_path, checkpoints)
    with (
        pytest.raises(Exception, match="only ever added to"),
        owner_of(old_log) as owner,
        owner.writing() as transaction,
    ):
        transaction.session.execute(delete(AuditEvent))
    assert len(events(old_log)) == 3


def test_young_rows_stay(old_log, checkpoints, tmp_path):
    """Nothing is old enough: no file, no event."""
    assert last_archivable(old_log, 101) == 0
    assert _archive(old_log, tmp_path / "archive", checkpoints, keep_days=101) == []
    assert not (tmp_path / "archive").exists()
    assert len(events(old_log)) == 12


def test_a_log_that_is_old_altogether_keeps_the_event(old_log, checkpoints, tmp_path, clock):
    """The sequence goes on where it was."""
    clock.advance(100 * DAY)
    _archive(old_log, tmp_path, checkpoints)
    assert [(row.sequence, row.event) for row in events(old_log)] == [(13, "audit-archived")]
    audit.record_event(old_log, Event.AUDIT_READ)
    assert audit.verify(old_log, checkpoints.read()).rows == 2
    assert sign_checkpoint(old_log, checkpoints).sequence == 14


def test_what_a_repository_has_not_got_stays(old_log, checkpoints, tmp_path):
    """Up to the cursor of the one that is furthest behind; one that was never told holds everything."""
    assert last_archivable(old_log, 90, ["siem"]) == 0
    with old_log.writing() as transaction:
        transaction.session.add(AuditForwarding(repository="siem", next_sequence=5))
    assert last_archivable(old_log, 90, ["siem"]) == 4
    assert last_archivable(old_log, 90) == 10
    (made,) = _archive(old_log, tmp_path, checkpoints, repositories=["siem"])
    assert made.last_sequence == 4


# --- what must not happen ---------------------------------------------------------------------------------------------


def test_rows_that_are_gone_without_an_archive_are_found(old_log, checkpoints):
    """Deleting the beginning is tampering, however old it is."""
    execute(old_log, "DELETE FROM audit_events WHERE sequence <= 10")
    assert audit.verify(old_log).problem == "rows 1 to 10 are missing"
    assert audit.verify(old_log, checkpoints.read()).first_bad_sequence == 11


@pytest.mark.parametrize("also", ["sequence = 11", "sequence <= 12"])
def test_an_archive_vouches_for_its_own_rows_alone(old_log, checkpoints, tmp_path, also):
    """Deleting more than was archived is found."""
    _archive(old_log, tmp_path, checkpoints)
    execute(old_log, f"DELETE FROM audit_events WHERE {also}")  # noqa: S608  tampering is the test
    assert "missing" in audit.verify(old_log, checkpoints.read()).problem


def test_a_broken_log_is_not_archived(old_log, checkpoints, tmp_path):
    """Neither a changed row nor a chain that was made anew is tidied away."""
    chain_anew(old_log, 3, user="mallory")
    with pytest.raises(AuditError, match="nothing is archived, the log is broken at row 1"):
        _archive(old_log, tmp_path / "archive", checkpoints)
    assert len(events(old_log)) == 12
    assert not (tmp_path / "archive").exists()


def test_a_file_that_cannot_be_written_removes_nothing(old_log, checkpoints, tmp_path):
    """The folder is in the way."""
    (tmp_path / "archive").write_text("a file")
    with pytest.raises(AuditError, match="cannot be written, nothing was removed: File exists"):
        _archive(old_log, tmp_path / "archive", checkpoints)
    assert len(events(old_log)) == 12


def test_a_file_that_does_not_hold_what_was_written_removes_nothing(old_log, checkpoints, tmp_path, monkeypatch):
    """It is read back before a row goes: a disk that lies costs nothing."""
    real = audit_archive._write

    def lying(file, lines):
        digest = real(file, lines)
        file.write_bytes(file.read_bytes().replace(b'"number": 7', b'"number": 8'))
        return digest

    monkeypatch.setattr(audit_archive, "_write", lying)
    with pytest.raises(AuditError, match="does not hold what was written, nothing was removed"):
        _archive(old_log, tmp_path, checkpoints)
    assert len(events(old_log)) == 12


def test_a_failure_in_the_middle_leaves_everything(old_log, checkpoints, tmp_path, monkeypatch):
    """Event, deletion and triggers are one transaction; the file that is left is replaced by the next try."""

    def fails(_):
        raise RuntimeError("power")

    with monkeypatch.context() as patched:
        patched.setattr(audit_archive, "guard", fails)
        with pytest.raises(RuntimeError, match="power"):
            _archive(old_log, tmp_path, checkpoints)
    assert len(events(old_log)) == 12
    assert audit.verify(old_log, checkpoints.read()).holds
    with (
        pytest.raises(Exception, match="only ever added to"),
        owner_of(old_log) as owner,
        owner.writing() as transaction,
    ):
        transaction.session.execute(delete(AuditEvent))
    assert len(_archive(old_log, tmp_path, checkpoints)) == 1


@pytest.mark.parametrize(
    ("old", "new", "first_bad"),
    [
        (b'"number": 4', b'"number": 5', 5),
        (b'"user": ""', b'"user": "eve"', 1),
        (b'"sequence": 10,', b'"sequence": 9,', 10),
    ],
)
def test_a_changed_archive_is_found(old_log, checkpoints, tmp_path, old, new, first_bad):
    """Its rows are hashed like those of the log."""
    (made,) = _archive(old_log, tmp_path, checkpoints)
    made.file.write_bytes(made.file.read_bytes().replace(old, new))
    found = audit.verify(old_log, checkpoints.read(), archived=archived_rows([made.file]))
    assert not found.holds
    assert found.rows == first_bad - 1


@pytest.mark.parametrize("line", [b"rubbish\n", b"[]\n", b'{"sequence": 1}\n', b"\xff\n", b"3\n", b"null\n"])
def test_what_is_no_archive_is_said_so(tmp_path, line):
    """With file and line; a file that is not there as well."""
    file = tmp_path / "archive.jsonl"
    file.write_bytes(line)
    with pytest.raises(AuditError, match=r"line 1 of .*archive.jsonl is no row"):
        list(archived_rows([file]))
    with pytest.raises(AuditError, match=r"nowhere.jsonl cannot be read"):
        list(archived_rows([tmp_path / "nowhere.jsonl"]))


def test_a_stranger_can_check_an_archive(old_log, checkpoints, tmp_path):
    """With nothing but JSON and SHA-256, as its first line says."""
    (made,) = _archive(old_log, tmp_path, checkpoints)
    _, *rows, end = map(json.loads, made.file.read_text().splitlines())
    previous = "0" * 64
    for row in rows:
        told = row.pop("row_hash")
        assert row["previous_hash"] == previous
        previous = hashlib.sha256(json.dumps(row, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
        assert previous == told
    assert end["end"]["head_hash"] == previous


def test_only_the_owner_of_the_log_archives(old_log, checkpoints, tmp_path):
    """On PostgreSQL the account of the processes is refused before anything is written."""
    if old_log.engine.dialect.name != "postgresql":
        pytest.skip("SQLite has no accounts")
    with pytest.raises(ConfigurationError, match="may only add to the audit log"):
        list(archive(old_log, tmp_path / "archive", keep_days=90, checkpoints=checkpoints))
    assert not (tmp_path / "archive").exists()
