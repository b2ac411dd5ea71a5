"""What the doctor says about the checkpoints of the audit log."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from audit_tampering import execute
from console_site import ConsoleSite

from console.checkpoint_checks import audit_checkpoints
from console.findings import Finding, Health
from db.audit_checkpoints import CheckpointFile
from db.audit_signing import sign_checkpoint
from dicom_core.settings import Settings


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ConsoleSite]:
    """Two audit rows of now."""
    site = ConsoleSite(tmp_path / "data")
    site.receive("1.2.4")
    yield site
    site.close()


def _found(site: ConsoleSite, seconds: float = 60) -> Finding:
    (finding,) = audit_checkpoints(_settings(site, seconds))
    return finding


def _settings(site: ConsoleSite, seconds: float = 60) -> Settings:
    return Settings(data_folder=site.folder, audit={"checkpoint_seconds": seconds})


def test_a_log_that_is_signed_is_well(site: ConsoleSite) -> None:
    """With how far, and where."""
    sign_checkpoint(site.record, CheckpointFile.of(_settings(site)))
    finding = _found(site)
    assert (finding.health, finding.advice) == (Health.OK, "")
    assert "row 2 of 2 is signed" in finding.found


def test_a_young_log_is_well_before_its_first_checkpoint(site: ConsoleSite) -> None:
    """Rows may wait for a while."""
    assert _found(site).health is Health.OK


def test_a_log_that_nobody_signs_is_a_warning(site: ConsoleSite) -> None:
    """When the oldest unsigned row has waited three times as long as it may."""
    finding = _found(site, seconds=1e-6)
    assert finding.health is Health.WARNING
    assert "row 0 of 2 is signed" in finding.found
    assert "start the dispatcher" in finding.advice


def test_an_end_that_is_gone_fails(site: ConsoleSite) -> None:
    """The doctor sees at once that more was signed than is there."""
    sign_checkpoint(site.record, CheckpointFile.of(_settings(site)))
    execute(site.record, "DELETE FROM audit_events WHERE sequence = 2")
    finding = _found(site)
    assert finding.health is Health.FAILS
    assert "vesselq audit verify" in finding.advice


def test_checkpoints_that_cannot_be_read_are_a_warning(site: ConsoleSite) -> None:
    """A file in the place of the folder."""
    _settings(site).checkpoint_folder.write_text("in the way")
    assert _found(site).health is Health.WARNING


def test_without_a_database_there_is_nothing_to_say(tmp_path: Path) -> None:
    """Neither none at all, nor one without tables, nor one that does not answer."""
    settings = Settings(data_folder=tmp_path)
    assert list(audit_checkpoints(settings)) == []
    (tmp_path / "vesselq.sqlite3").touch()
    assert list(audit_checkpoints(settings)) == []
    away = Settings(data_folder=tmp_path, database_url=f"sqlite:///{tmp_path}/missing/x.sqlite3")
    assert list(audit_checkpoints(away)) == []
