"""A long chain is read by several processes: they see what a walk along its rows sees, and never more than that."""

import io
from pathlib import Path

import pytest
from audit_tampering import chain_anew, execute
from databases import owner_of
from sqlalchemy import text

import db.audit_parts
import db.audit_verification
from db import audit
from db.audit import Event
from db.audit_archive import archive
from db.audit_checkpoints import CheckpointFile
from db.audit_parts import Part, answered, readers_here, sound_parts
from db.audit_signing import sign_checkpoint
from db.audit_verification import SELECTED
from db.session import Record
from dicom_core.errors import ConflictError

ROWS, OF_A_PART = 23, 5


@pytest.fixture
def long_chain(record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CheckpointFile:
    """23 rows, of which 7, 10 and 16 are signed, and which count as many; five are a part."""
    file = CheckpointFile(tmp_path / "audit", tmp_path / "keys" / "signing_key.pem")
    monkeypatch.setattr(db.audit_parts, "ROWS_OF_A_PART", OF_A_PART)
    for until, since in ((7, 0), (10, 7), (16, 10), (ROWS, 16)):
        with record.writing() as transaction:
            for number in range(since, until):
                audit.append(transaction, Event.AUDIT_READ, detail={"number": number})
        if until != ROWS:
            sign_checkpoint(record, file)
    monkeypatch.setattr(db.audit_verification, "LONG_CHAIN_ROWS", 1)
    return file


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch, record: Record) -> list[int]:
    """The work of the readers without processes; the first rows of the parts that they found sound."""
    sound: list[int] = []

    def parts(_engine, first, last, *, readers):
        assert readers == readers_here()
        with record.reading() as session:
            for begin in range(first, last + 1, OF_A_PART):
                end = min(begin + OF_A_PART - 1, last)
                statement = f"SELECT {SELECTED} FROM audit_events WHERE sequence BETWEEN {begin} AND {end} ORDER BY 1"  # noqa: S608  numbers
                part = db.audit_parts._received(
                    io.BytesIO(answered(session.execute(text(statement)), begin, end)), begin
                )
                if part is None:
                    return
                sound.append(begin)
                yield part

    monkeypatch.setattr(db.audit_verification, "sound_parts", parts)
    return sound


def _row_by_row(record, file, monkeypatch):
    monkeypatch.setattr(db.audit_verification, "LONG_CHAIN_ROWS", ROWS + 1)
    return audit.verify(record, file.read())


def test_processes_find_a_sound_chain_sound(record, long_chain):
    """Two readers answer in turn; the caller is told of every row, those after the parts among them."""
    told = []
    found = audit.verify(record, long_chain.read(), progress=told.append)
    assert (found.holds, found.rows, found.checkpoints, found.signed_through) == (True, ROWS, 3, 16)
    assert sum(told) == ROWS
    parts = list(sound_parts(record.engine, 1, ROWS, readers=2))
    assert [(part.first, part.end) for part in parts] == [(1, 6), (6, 11), (11, 16), (16, 21), (21, 24)]
    assert parts[-1].hash_of(ROWS) == found.head_hash


def test_readers_stop_at_what_does_not_hold(record, long_chain):
    """They say nothing of the part with the changed row, and the walk names it."""
    execute(record, "UPDATE audit_events SET outcome = 8 WHERE sequence = 14")
    assert [part.first for part in sound_parts(record.engine, 1, ROWS, readers=2)] == [1, 6]
    found = audit.verify(record, long_chain.read())
    assert (found.rows, found.first_bad_sequence, found.problem) == (13, 14, "its content is not what was written")


def test_a_database_that_readers_cannot_open_is_left_to_the_walk(record, long_chain, monkeypatch):
    """No parts, the same answer."""
    monkeypatch.setattr(db.audit_parts, "SELECTED", "nothing")
    monkeypatch.setattr(db.audit_parts.sys, "executable", "/bin/false")
    assert audit.verify(record, long_chain.read()).holds


@pytest.mark.parametrize("sequence", [1, 16, 20])
@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE audit_events SET outcome = 8 WHERE sequence = {0}",
        "UPDATE audit_events SET previous_hash = row_hash WHERE sequence = {0}",
        "UPDATE audit_events SET row_hash = previous_hash WHERE sequence = {0}",
        "DELETE FROM audit_events WHERE sequence = {0}",
        "DELETE FROM audit_events WHERE sequence >= {0}",
        "UPDATE audit_events SET sequence = sequence - 100 WHERE sequence = {0}",
        "UPDATE audit_events SET sequence = sequence + 100 WHERE sequence = {0}",
    ],
)
def test_both_ways_find_the_same(record, long_chain, in_this_process, monkeypatch, sequence, tampering):
    """Whatever was done to whichever row, first and last of parts and signed ones among them."""
    execute(record, tampering.format(sequence))
    found = audit.verify(record, long_chain.read())
    assert not found.holds or (sequence > 16 and "DELETE" in tampering)
    assert found == _row_by_row(record, long_chain, monkeypatch)
    assert all(begin + OF_A_PART <= max(sequence, OF_A_PART) + OF_A_PART for begin in in_this_process)


@pytest.mark.parametrize("sequence", [1, 10, 17])
def test_rows_that_were_replaced_are_found_by_their_checkpoint(
    record, long_chain, in_this_process, monkeypatch, sequence
):
    """Every part of a chain that was made anew holds: only what was signed tells."""
    chain_anew(record, sequence, outcome=8)
    found = audit.verify(record, long_chain.read())
    assert len(in_this_process) >= min(2, sequence)
    assert found.holds == (sequence > 16)
    assert found == _row_by_row(record, long_chain, monkeypatch)


def test_rows_behind_the_parts_are_walked_along(record, long_chain, in_this_process, monkeypatch):
    """What is written while the readers read is part of the answer."""
    parts = db.audit_verification.sound_parts

    def slow(*arguments, **options):
        yield from parts(*arguments, **options)
        audit.record_event(record, Event.AUDIT_READ)

    monkeypatch.setattr(db.audit_verification, "sound_parts", slow)
    assert audit.verify(record, long_chain.read()).rows == ROWS + 1
    assert len(in_this_process) == 5


def test_archiving_meanwhile_is_no_finding(record, long_chain, monkeypatch):
    """Rows that went into an archive while the readers read are not called missing."""

    def slow(*_arguments, **_options):
        monkeypatch.setattr(db.audit_verification, "LONG_CHAIN_ROWS", 100)
        with owner_of(record) as owner:
            list(archive(owner, long_chain.folder, keep_days=-1, checkpoints=long_chain))
        return iter(())

    monkeypatch.setattr(db.audit_verification, "sound_parts", slow)
    with pytest.raises(ConflictError, match="verify it again"):
        audit.verify(record, long_chain.read())
    assert audit.verify(record, long_chain.read()).holds


def test_a_part_knows_its_rows():
    """Its end, and the hash of each row by its number."""
    part = Part(11, "0" * 64, bytes(32) + b"\x01" * 32)
    assert part.end == 13
    assert (part.hash_of(11), part.hash_of(12)) == ("00" * 32, "01" * 32)


@pytest.mark.parametrize("cut", [0, 1, 71, 72, 73, 103])
def test_an_answer_that_is_cut_off_is_none(cut):
    """A reader that died says nothing."""
    whole = db.audit_parts._HEAD.pack(1, b"0" * 64) + bytes(32)
    assert db.audit_parts._received(io.BytesIO(whole), 1) is not None
    assert db.audit_parts._received(io.BytesIO(whole[:cut]), 1) is None
