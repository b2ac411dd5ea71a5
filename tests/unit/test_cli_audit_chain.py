"""`vesselq audit verify` and `checkpoint`: what they find, and that the finding is in the log."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from audit_tampering import chain_anew, execute
from console_site import ConsoleSite
from record_story import events
from typer.testing import CliRunner, Result

from console.cli import app

Run = Callable[..., Result]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ConsoleSite]:
    """Two studies: four audit rows."""
    site = ConsoleSite(tmp_path / "data")
    site.receive("1.2.4")
    site.receive("1.2.5")
    yield site
    site.close()


@pytest.fixture
def run(site: ConsoleSite, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(site.folder)
    return lambda *arguments: CliRunner().invoke(app, ["audit", *arguments, "--data-folder", str(site.folder)])


def _answer(result: Result, exit_code: int = 0) -> Any:
    assert result.exit_code == exit_code, result.output
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def test_verify_counts_the_rows_and_writes_that_it_did(site: ConsoleSite, run: Run) -> None:
    """It holds; without checkpoints it says what would not show; the finding is the next row."""
    found = _answer(run("verify", "--json"))
    assert (found["holds"], found["rows"], found["checkpoints"]) == (True, 4, 0)
    told = run("verify").stdout
    assert "the chain holds: 5 rows" in told
    assert "there are no checkpoints" in told
    assert [row.detail["rows"] for row in events(site.record, event="audit-verified")] == [4, 5]


def test_a_checkpoint_vouches_for_what_is_there(site: ConsoleSite, run: Run) -> None:
    """`checkpoint` signs once, and again when rows came; `verify` says how far the signatures go."""
    made = _answer(run("checkpoint", "--json"))
    assert made["new"]
    assert made["checkpoint"]["sequence"] == 4
    assert Path(made["file"]) == site.folder / "audit" / "checkpoints.jsonl"
    assert not _answer(run("checkpoint", "--json"))["new"]
    assert "no row was added since: row 4" in run("checkpoint").stdout
    assert "1 checkpoints agree, the last with row 4\n" in run("verify").stdout
    assert "the last with row 4, 1 rows wait" in run("verify").stdout


def test_verify_finds_a_changed_row(site: ConsoleSite, run: Run) -> None:
    """One changed value ends `audit verify` with 1 and the number of the row, and is audited as a major failure."""
    execute(site.record, "UPDATE audit_events SET ae_title = 'SOMEBODY' WHERE sequence = 2")
    assert _answer(run("verify", "--json"), 1)["first_bad_sequence"] == 2
    result = run("verify")
    assert (result.exit_code, result.stdout) == (
        1,
        "the chain is broken at row 2: its content is not what was written\n",
    )
    assert {row.outcome for row in events(site.record, event="audit-verified")} == {12}


def test_verify_finds_a_chain_that_was_made_anew(site: ConsoleSite, run: Run) -> None:
    """Up to the last checkpoint; and nothing more is signed from then on."""
    run("checkpoint")
    chain_anew(site.record, 3, user="mallory")
    found = _answer(run("verify", "--json"), 1)
    assert found["first_bad_sequence"] == 1
    assert "was replaced" in found["problem"]
    result = run("checkpoint")
    assert result.exit_code == 1
    assert "no checkpoint is signed" in result.stderr
    assert "Traceback" not in result.output


def test_verify_trusts_the_key_that_it_is_given(site: ConsoleSite, run: Run, tmp_path: Path) -> None:
    """A key kept elsewhere, and one that is none."""
    run("checkpoint")
    kept = tmp_path / "kept.pem"
    kept.write_bytes((site.folder / "audit" / "public_key.pem").read_bytes())
    assert _answer(run("verify", "--json", "--public-key", str(kept)))["checkpoints"] == 1
    kept.write_text("no key")
    found = _answer(run("verify", "--json", "--public-key", str(kept)), 1)
    assert "is no key in PEM" in found["problem"]


def test_an_empty_log_has_nothing_to_sign(tmp_path: Path) -> None:
    """Said, and no failure."""
    site = ConsoleSite(tmp_path / "empty")
    execute(site.record, "DELETE FROM audit_events")
    result = CliRunner().invoke(app, ["audit", "checkpoint", "--data-folder", str(site.folder)])
    assert (result.exit_code, result.stdout) == (0, "the audit log is empty: there is nothing to sign\n")
    site.close()


def test_archived_rows_are_walked_along_again(site: ConsoleSite, tmp_path: Path) -> None:
    """`archive` moves what is older than the setting; `verify` says so, and with the file it counts every row."""
    file = tmp_path / "vesselq.toml"
    file.write_text("[audit]\nkeep_days = 0.0000001\n")

    def run(*arguments: str) -> Result:
        options = ["--config", str(file), "--data-folder", str(site.folder)]
        return CliRunner().invoke(app, ["audit", *arguments, *options])

    made = _answer(run("archive", "--to", str(tmp_path / "archive"), "--json"))
    (archive,) = made["archives"]
    assert (archive["first_sequence"], archive["last_sequence"]) == (1, 4)
    told = run("verify").stdout
    assert "the chain holds: 1 rows" in told
    assert "rows 1 to 4 were archived" in told
    assert _answer(run("verify", "--archive", archive["file"], "--json"))["rows"] == 6
    missing = run("verify", "--archive", str(tmp_path / "nowhere.jsonl"))
    assert missing.exit_code == 1
    assert "cannot be read" in missing.stderr


def test_young_rows_are_not_archived(run: Run, tmp_path: Path) -> None:
    """The default keeps seven years."""
    assert "no row is older than 2557 days" in run("archive", "--to", str(tmp_path / "archive")).stdout
    assert not (tmp_path / "archive").exists()
