"""When the dispatcher signs the audit log, and what it does when it cannot."""

from pathlib import Path

import pytest
import structlog
from audit_tampering import execute
from structlog.testing import LogCapture

from db import audit
from db.audit import Event
from db.audit_checkpoints import CheckpointFile
from db.session import Record
from dicom_core.errors import AuditError
from dicom_core.settings import Settings
from dicom_listener import checkpoint_duty
from dicom_listener.checkpoint_duty import CheckpointDuty


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_folder=tmp_path, audit={"checkpoint_seconds": 60, "checkpoint_rows": 10})


@pytest.fixture
def duty(settings: Settings, record: Record) -> CheckpointDuty:
    return CheckpointDuty(settings, record)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> LogCapture:
    capture = LogCapture()
    logger = structlog.wrap_logger(None, processors=[capture])
    monkeypatch.setattr(checkpoint_duty, "log", logger)
    return capture


def _fill(record: Record, rows: int) -> None:
    with record.writing() as transaction:
        for _ in range(rows):
            audit.append(transaction, Event.AUDIT_READ)


def _signed(settings: Settings) -> list[int]:
    return [checkpoint.sequence for checkpoint in CheckpointFile.of(settings).read()]


def test_signed_after_so_many_rows(record, settings, duty):
    """Not before; an empty log makes no file."""
    duty.sign_when_due()
    assert not settings.checkpoint_folder.exists()
    _fill(record, 9)
    duty.sign_when_due()
    assert _signed(settings) == []
    _fill(record, 1)
    duty.sign_when_due()
    duty.sign_when_due()
    assert _signed(settings) == [10]


def test_signed_before_a_row_has_waited_too_long(record, settings, duty, clock):
    """With the pause between two looks a row never waits longer than the setting says."""
    assert duty.pause_seconds == 5
    _fill(record, 1)
    clock.advance(50)
    duty.sign_when_due()
    assert _signed(settings) == []
    clock.advance(5)
    duty.sign_when_due()
    assert _signed(settings) == [1]


def test_a_clock_that_was_set_back_delays_nothing(record, settings, duty, clock, monkeypatch):
    """The own clock counts when that of the database says that a row is from the future."""
    _fill(record, 1)
    clock.advance(-7200)
    duty.sign_when_due()
    now = checkpoint_duty.time.monotonic()
    monkeypatch.setattr(checkpoint_duty.time, "monotonic", lambda: now + 56)
    duty.sign_when_due()
    assert _signed(settings) == [1]


def test_the_rest_is_signed_at_the_end(record, settings, duty, said):
    """Whatever waits; each checkpoint is told to the process's own log with all that is needed to check it."""
    _fill(record, 3)
    duty.sign_the_rest()
    duty.sign_the_rest()
    (made,) = CheckpointFile.of(settings).read()
    (entry,) = said.entries
    assert made.sequence == 3
    assert {entry[name] for name in ("row_hash", "signature", "key", "at")} == {
        made.row_hash, made.signature, made.key, made.at,
    }  # fmt: skip


def test_a_folder_that_takes_nothing_is_told_once_and_tried_again(record, settings, duty, said):
    """The alarm is one line until it works again; the audit log itself goes on."""
    settings.checkpoint_folder.parent.mkdir(exist_ok=True)
    settings.checkpoint_folder.write_text("in the way")
    _fill(record, 10)
    for _ in range(3):
        with pytest.raises(AuditError, match=r"checkpoints\.jsonl cannot be read: Not a directory"):
            duty.sign_when_due()
    assert [(entry["event"], entry["log_level"]) for entry in said.entries] == [("no-checkpoint", "critical")]
    duty.sign_the_rest()
    settings.checkpoint_folder.unlink()
    duty.sign_when_due()
    assert _signed(settings) == [10]


@pytest.mark.parametrize("left", [0, 8])
def test_a_cut_end_is_told_although_nothing_waits(record, settings, duty, said, left):
    """Within seconds, not at the next verification."""
    _fill(record, 10)
    duty.sign_when_due()
    execute(record, f"DELETE FROM audit_events WHERE sequence > {left}")  # noqa: S608  tampering is the test
    with pytest.raises(AuditError, match="the end was cut off"):
        duty.sign_when_due()
    assert said.entries[-1]["log_level"] == "critical"
    assert _signed(settings) == [10]
