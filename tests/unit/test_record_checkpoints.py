"""Signed checkpoints: what a chain alone cannot show is found up to the last of them, and the file guards itself."""

import dataclasses
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from audit_tampering import chain_anew, execute
from record_story import events
from sqlalchemy import Text, cast, select

from db import audit
from db.audit import Event
from db.audit_chain import COLUMNS, Row, row_hash
from db.audit_checkpoints import Checkpoint, CheckpointFile
from db.audit_signing import sign_checkpoint, signing_state
from db.audit_verification import walk
from db.models import AuditEvent
from db.session import Record
from dicom_core.errors import AuditError, ConfigurationError


@pytest.fixture
def file(tmp_path: Path) -> CheckpointFile:
    return CheckpointFile(tmp_path / "audit", tmp_path / "keys" / "signing_key.pem")


def _fill(record: Record, rows: int) -> None:
    with record.writing() as transaction:
        for number in range(rows):
            audit.append(transaction, Event.AUDIT_READ, detail={"number": number})


@pytest.fixture
def signed(record: Record, file: CheckpointFile) -> CheckpointFile:
    """Checkpoints of the rows 4, 8 and 12, and three rows more."""
    for _ in range(3):
        _fill(record, 4)
        sign_checkpoint(record, file)
    _fill(record, 3)
    return file


def _found(record: Record, file: CheckpointFile) -> tuple[int | None, str]:
    found = audit.verify(record, file.read())
    assert found.holds == (found.problem == "")
    return found.first_bad_sequence, found.problem


def _lines(file: CheckpointFile) -> list[bytes]:
    return file.path.read_bytes().splitlines(keepends=True)


# --- what is found ----------------------------------------------------------------------------------------------------


def test_a_signed_log_holds(record, signed):
    """All checkpoints agree; the rows behind the last one are chained but not yet signed."""
    found = audit.verify(record, signed.read())
    assert found.holds
    assert (found.rows, found.head_sequence, found.checkpoints, found.signed_through) == (15, 15, 3, 12)
    assert found.head_hash == events(record)[-1].row_hash


@pytest.mark.parametrize(
    ("changed", "first_bad", "rows", "names"),
    [
        (1, 1, 0, "1 to 4"),
        (4, 1, 0, "1 to 4"),
        (5, 5, 4, "5 to 8"),
        (8, 5, 4, "5 to 8"),
        (9, 9, 8, "9 to 12"),
        (12, 9, 8, "9 to 12"),
    ],
)
def test_rows_that_were_chained_anew_are_found(record, signed, changed, first_bad, rows, names):
    """The chain alone holds; the first row that no earlier checkpoint vouches for is named."""
    chain_anew(record, changed, user="mallory")
    assert audit.verify(record).holds
    found = audit.verify(record, signed.read())
    assert (found.first_bad_sequence, found.rows, found.signed_through) == (first_bad, rows, first_bad - 1)
    assert f"rows {names} was replaced" in found.problem


def test_rows_behind_the_last_checkpoint_are_not_yet_safe(record, signed):
    """What the design cannot show is known: only the chain guards them until the next checkpoint."""
    chain_anew(record, 14, user="mallory")
    assert _found(record, signed) == (None, "")


@pytest.mark.parametrize("left", [0, 3, 4, 7, 11])
def test_an_end_that_was_cut_off_is_found(record, signed, left):
    """The chain alone holds; the first missing row is named."""
    execute(record, f"DELETE FROM audit_events WHERE sequence > {left}")  # noqa: S608  tampering is the test
    assert audit.verify(record).holds
    first_bad, problem = _found(record, signed)
    assert first_bad == left + 1
    assert f"row {left + 1} is missing: the end was cut off" in problem


def test_an_end_that_was_written_again_is_found(record, signed):
    """Cut off and filled up with other events: the checkpoint knows the difference."""
    execute(record, "DELETE FROM audit_events WHERE sequence > 9")
    _fill(record, 10)
    assert audit.verify(record).holds
    assert _found(record, signed)[0] == 9


def test_a_single_change_is_named_exactly_and_first(record, signed):
    """A row that is wrong before a checkpoint disagrees is what is told."""
    execute(record, "UPDATE audit_events SET outcome = 8 WHERE sequence = 6")
    assert _found(record, signed) == (6, "its content is not what was written")
    execute(record, "DELETE FROM audit_events WHERE sequence IN (2, 3)")
    assert _found(record, signed) == (4, "rows 2 to 3 are missing")


def _tampered(rows: list[Row]) -> Iterator[tuple[str, int, list[Row]]]:
    """Every single tampering with every row: what was done, the first row it touched, and what is there then."""
    for place, row in enumerate(rows):
        number = row[0]
        for column, name in enumerate(COLUMNS):
            other: Any = row[column] + 1 if isinstance(row[column], int) else f"{row[column]}x"
            yield f"change {name}", number, [*rows[:place], _with(row, column, other), *rows[place + 1 :]]
        yield "delete", number, rows[:place] + rows[place + 1 :]
        yield "cut", number, rows[:place]
        yield "repeat", number, [*rows[: place + 1], *rows[place:]]
        for later in range(place + 1, len(rows)):
            swapped = rows.copy()
            swapped[place], swapped[later] = _with(rows[later], 0, number), _with(row, 0, rows[later][0])
            yield f"exchange with {rows[later][0]}", number, swapped
        yield "chain anew", number, [*rows[:place], *_chained(_with(row, 8, "mallory"), rows[place + 1 :])]
        yield "delete and chain anew", number, [*rows[:place], *_renumbered(rows[:place], rows[place + 1 :])]


def _with(row: Row, column: int, value: Any) -> Row:
    changed: Any = (*row[:column], value, *row[column + 1 :])
    return changed


def _chained(first: Row, rest: list[Row]) -> Iterator[Row]:
    previous = ""
    for row in (first, *rest):
        linked = _with(row, 14, previous) if previous else row
        previous = row_hash(linked)
        yield _with(linked, 15, previous)


def _renumbered(before: list[Row], rest: list[Row]) -> list[Row]:
    moved = [_with(row, 0, row[0] - 1) for row in rest]
    if moved:
        moved[0] = _with(moved[0], 14, before[-1][15] if before else audit.FIRST_PREVIOUS_HASH)
    return list(_chained(moved[0], moved[1:])) if moved else []


def test_every_single_tampering_up_to_the_last_checkpoint_is_found(record, signed):
    """Of every column of every signed row, with the hashes recomputed and without; never named too late."""
    columns = [cast(AuditEvent.detail, Text) if name == "detail" else getattr(AuditEvent, name) for name in COLUMNS]
    with record.reading() as session:
        rows: Any = [tuple(row) for row in session.execute(select(*columns).order_by(AuditEvent.sequence))]
    checkpoints = list(signed.read())
    assert walk(rows, checkpoints).holds
    tried = 0
    for what, number, tampered in _tampered(rows):
        found = walk(tampered, checkpoints)
        tried += 1
        if number <= 12:
            assert not found.holds, f"{what} row {number}"
        if found.first_bad_sequence is not None:
            assert found.first_bad_sequence <= number + 1, f"{what} row {number}: {found.problem}"
    assert tried > 400


# --- the file guards itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"row_hash": "0" * 64}, "checkpoint 2 of row 8 is not what was signed"),
        ({"sequence": 7}, "checkpoint 2 of row 7 is not what was signed"),
        ({"at": "2020-01-01T00:00:00.000Z"}, "checkpoint 2 of row 8 is not what was signed"),
        ({"signature": "zz"}, "checkpoint 2 of row 8 is not what was signed"),
        ({"key": "0" * 64}, "was signed with another key"),
    ],
)
def test_a_changed_checkpoint_is_found(record, signed, change, problem):
    """Each field is signed; from the row behind the checkpoint before it nothing is vouched for."""
    lines = _lines(signed)
    lines[1] = json.dumps(json.loads(lines[1]) | change).encode() + b"\n"
    signed.path.write_bytes(b"".join(lines))
    first_bad, told = _found(record, signed)
    assert first_bad == 5
    assert problem in told


@pytest.mark.parametrize("order", [(0, 2), (1, 2), (0, 2, 1), (0, 0, 1, 2)])
def test_missing_and_reordered_checkpoints_are_found(record, signed, order):
    """Each names the one before it by its hash."""
    lines = _lines(signed)
    signed.path.write_bytes(b"".join(lines[place] for place in order))
    first_bad, problem = _found(record, signed)
    assert first_bad is not None
    assert "does not continue the checkpoint before it" in problem


def test_a_checkpoint_that_was_made_unreadable_is_missed(record, signed):
    """A line that cannot be read is left out, and the next one names it."""
    lines = _lines(signed)
    for rubbish in (b"\n", b"{}\n", b'{"number": 2}\n', lines[1].replace(b'"sequence":8', b'"sequence":"8"')):
        signed.path.write_bytes(lines[0] + rubbish + lines[2])
        assert "checkpoint 3 of row 12 does not continue" in _found(record, signed)[1]


def test_a_power_cut_in_the_middle_of_a_line_does_no_harm(record, signed):
    """The unfinished line is no checkpoint; the next one is appended behind it and continues the last whole one."""
    lines = _lines(signed)
    signed.path.write_bytes(b"".join(lines[:2]) + lines[2][:100])
    assert signed.last() == Checkpoint(**json.loads(lines[1]))
    assert audit.verify(record, signed.read()).signed_through == 8
    made = sign_checkpoint(record, signed)
    assert made is not None
    assert (made.number, made.sequence) == (3, 15)
    found = audit.verify(record, signed.read())
    assert (found.problem, found.checkpoints, found.signed_through) == ("", 3, 15)


def test_a_forger_needs_the_private_key(record, signed, tmp_path):
    """Rows chained anew and checkpoints made for them with another key: found with the key that one trusts."""
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes((signed.folder / "public_key.pem").read_bytes())
    chain_anew(record, 6, user="mallory")
    forged = CheckpointFile(tmp_path / "forged", tmp_path / "forged" / "key.pem")
    sign_checkpoint(record, forged)
    signed.path.write_bytes(forged.path.read_bytes())
    assert "was signed with another key" in _found(record, signed)[1]
    (signed.folder / "public_key.pem").write_bytes((forged.folder / "public_key.pem").read_bytes())
    found = audit.verify(record, signed.read(trusted))
    assert (found.first_bad_sequence, found.checkpoints) == (1, 0)
    assert "was signed with another key" in found.problem


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", None])
def test_without_the_public_key_nothing_is_vouched_for(record, signed, content):
    """A key that is gone or damaged is a finding and no stack trace."""
    public = signed.folder / "public_key.pem"
    public.unlink()
    if content is not None:
        public.write_bytes(content)
    first_bad, problem = _found(record, signed)
    assert first_bad == 1
    assert "public key of the checkpoints" in problem


# --- making them ------------------------------------------------------------------------------------------------------


def test_the_key_is_drawn_once_and_for_its_owner_alone(record, file, tmp_path):
    """0600 for the private key and the checkpoints; the public one lies beside them and stays the same."""
    _fill(record, 1)
    sign_checkpoint(record, file)
    key = tmp_path / "keys" / "signing_key.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.folder.stat().st_mode) == 0o700
    before = key.read_bytes(), (file.folder / "public_key.pem").read_bytes()
    _fill(record, 1)
    sign_checkpoint(record, CheckpointFile(file.folder, key))
    assert (key.read_bytes(), (file.folder / "public_key.pem").read_bytes()) == before
    assert sorted(path.name for path in file.folder.iterdir()) == ["checkpoints.jsonl", "public_key.pem"]
    assert audit.verify(record, file.read()).checkpoints == 2


def test_nothing_new_needs_no_checkpoint(record, signed):
    """An empty log and one that has not grown are not signed again."""
    assert sign_checkpoint(record, signed) is not None
    assert sign_checkpoint(record, signed) is None
    assert len(_lines(signed)) == 4


def test_an_empty_log_is_not_signed(record, file):
    """There is no last row."""
    assert sign_checkpoint(record, file) is None
    assert file.last() is None
    assert audit.verify(record, file.read()) == audit.Verification(0, None, "", audit.FIRST_PREVIOUS_HASH)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM audit_events WHERE sequence > 10",
        "DELETE FROM audit_events",
        "DELETE FROM audit_events WHERE sequence BETWEEN 10 AND 13",
        "UPDATE audit_events SET outcome = 8 WHERE sequence = 14",
        "UPDATE audit_events SET outcome = 8 WHERE sequence = 12",
    ],
)
def test_a_broken_log_is_never_signed(record, signed, statement):
    """What came since the last checkpoint is verified before it is signed: tampering shows within a minute."""
    execute(record, statement)
    with pytest.raises(AuditError, match="no checkpoint is signed, the audit log is broken at row 1"):
        sign_checkpoint(record, signed)
    assert len(_lines(signed)) == 3


def test_a_log_that_was_chained_anew_is_never_signed(record, signed):
    """Also when the last signed row was replaced by one that fits."""
    chain_anew(record, 12, user="mallory")
    with pytest.raises(AuditError, match="was replaced and the chain made anew"):
        sign_checkpoint(record, signed)


def test_a_folder_that_takes_nothing_is_an_alarm(record, file):
    """One sentence that names the file."""
    _fill(record, 1)
    file.folder.parent.mkdir(exist_ok=True)
    file.folder.write_text("a file, no folder")
    with pytest.raises(AuditError, match=r"no checkpoint can be written to .*File exists"):
        sign_checkpoint(record, file)


@pytest.mark.parametrize("content", [b"rubbish", b"rsa"])
def test_a_private_key_that_is_none_is_a_mistake_in_the_settings(record, file, tmp_path, content):
    """Rubbish, or a key of another kind."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    if content == b"rsa":
        content = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _fill(record, 1)
    key = tmp_path / "keys" / "signing_key.pem"
    key.parent.mkdir()
    key.write_bytes(content)
    with pytest.raises(ConfigurationError, match="is no "):
        sign_checkpoint(record, file)


def test_another_key_does_not_continue_a_file(record, signed, tmp_path):
    """Two keys in one file would make it impossible to say who signed."""
    with pytest.raises(ConfigurationError, match="signed with another key"):
        sign_checkpoint(record, CheckpointFile(signed.folder, tmp_path / "other.pem"))


# --- whether they are made in time ------------------------------------------------------------------------------------


def test_the_state_tells_what_waits(record, file, clock):
    """Rows and the age of the oldest one that no checkpoint vouches for."""
    assert signing_state(record, file).waiting_rows == 0
    _fill(record, 3)
    clock.advance(100)
    _fill(record, 2)
    state = signing_state(record, file)
    assert (state.last, state.head_sequence, state.waiting_rows) == (None, 5, 5)
    assert 99 < state.waiting_seconds < 110
    assert state.is_late(30)
    assert not state.is_late(60)
    made = sign_checkpoint(record, file)
    after = signing_state(record, file)
    assert (after.last, after.waiting_rows, after.waiting_seconds) == (made, 0, 0.0)
    assert dataclasses.replace(after, waiting_seconds=181).is_late(60)
