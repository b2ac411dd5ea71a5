"""``vesselq audit export``: every form, into a file and to standard output, audited, refused in one sentence."""

import csv
import hashlib
import io
import json
import stat
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from console_site import ConsoleSite
from typer.testing import CliRunner, Result

from console.cli import app
from db import audit
from db.audit import Event
from db.audit_export.facts import Site
from db.audit_export.forms import FORMS
from db.audit_export.to_file import export_to_file
from db.audit_queries import AuditQuery, audit_rows
from dicom_core.errors import AuditError, ConfigurationError

STUDY, OTHER = "1.2.3", "1.2.4"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ConsoleSite]:
    site = ConsoleSite(tmp_path / "data")
    site.finish(site.study(STUDY))
    site.study(OTHER)
    yield site
    site.close()


def run(site: ConsoleSite, *arguments: str | Path) -> Result:
    words = ["audit", "export", *map(str, arguments), "--data-folder", str(site.folder)]
    return CliRunner().invoke(app, words, catch_exceptions=False)


def test_every_format_is_written(site: ConsoleSite, tmp_path: Path) -> None:
    """Four files with the same rows; they are for their owner only, and the log tells of each with its hash."""
    before = len(audit_rows(site.record, AuditQuery()))
    for number, form in enumerate(("xml", "fhir", "csv", "jsonl")):
        file = tmp_path / f"log.{form}"
        result = run(site, "--to", file, "--format", form)
        assert result.exit_code == 0, result.output
        assert f"wrote {before + number} rows as {form} into {file}" in result.output
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        told = audit_rows(site.record, AuditQuery(event=Event.AUDIT_EXPORTED.word))[-1]
        assert told.user
        assert told.detail["form"] == form
        assert told.detail["rows"] == before + number
        assert (told.detail["first_sequence"], told.detail["last_sequence"]) == (1, before + number)
        assert told.detail["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    document = ET.parse(tmp_path / "log.xml").getroot()  # noqa: S314  what we wrote ourselves
    assert document.tag == "AuditMessages"
    assert {found.tag for found in document} == {"AuditMessage"}
    assert len((tmp_path / "log.fhir").read_text().splitlines()) == before + 1
    with (tmp_path / "log.csv").open(newline="") as table:
        assert len(list(csv.DictReader(table))) == before + 2
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["end"]["rows"] == before + 3
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert audit.verify(site.record).first_bad_sequence is None


def test_only_what_is_asked_for(site: ConsoleSite, tmp_path: Path) -> None:
    """One study, one event, a range of time; the question is in the log."""
    file = tmp_path / "log.csv"
    result = run(site, "--to", file, "--format", "csv", "--study", STUDY, "--since", "2000-01-01", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert answer["rows"] == len(rows) > 3
    assert (answer["format"], answer["file"]) == ("csv", str(file))
    assert {row["study_instance_uid"] for row in rows} == {STUDY}
    (told,) = audit_rows(site.record, AuditQuery(event="audit-exported"))
    assert told.detail["asked"] == {"study_instance_uid": STUDY, "since": "2000-01-01T00:00:00.000Z"}
    assert run(site, "--to", tmp_path / "none.csv", "--format", "csv", "--until", "2000-01-01").exit_code == 0
    assert len((tmp_path / "none.csv").read_text().splitlines()) == 1
    assert run(site, "--to", tmp_path / "failed.jsonl", "--event", "job-failed", "--failed").exit_code == 0
    assert len((tmp_path / "failed.jsonl").read_text().splitlines()) == 2


def test_standard_output_is_audited_first(site: ConsoleSite) -> None:
    """A pipe gets the rows, its own export among them, since that is written before the first byte is out."""
    result = run(site, "--to", "-", "--format", "jsonl", "--event", "audit-exported")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["event"] for line in lines[1:-1]] == ["audit-exported"]
    assert lines[1]["detail"] == {"form": "jsonl", "asked": {"event": "audit-exported"}}


def test_mistakes_are_told_in_one_sentence(site: ConsoleSite, tmp_path: Path) -> None:
    """Nothing is written and nothing replaced."""
    file = tmp_path / "there.csv"
    file.write_text("precious")
    for arguments, said in (
        (("--to", file), "exists; --force replaces it"),
        (("--to", tmp_path / "no" / "folder.csv"), "cannot be written: No such file"),
        (("--to", tmp_path / "x", "--format", "pdf"), "'pdf' is no format"),
        (("--to", tmp_path / "x", "--event", "party"), "'party' is no event"),
        (("--to", tmp_path / "x", "--study", "../.."), "is not a UID"),
        (("--to", tmp_path / "x", "--since", "yesterday"), "is no time of ISO 8601"),
    ):
        result = run(site, *arguments)
        assert result.exit_code == 2
        assert said in " ".join(result.stderr.split()).replace("│ ", "")
    assert file.read_text() == "precious"
    assert not (tmp_path / "x").exists()
    assert run(site, "--to", file, "--force").exit_code == 0
    assert file.read_text().startswith('{"format"')


def test_no_file_without_its_audit_row(site: ConsoleSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the export cannot be audited there is no file, and one that was there before stays as it was."""

    def refuse(*_: object, **__: object) -> None:
        raise AuditError("the audit log cannot be written: full")

    monkeypatch.setattr("db.audit_export.to_file.record_event", refuse)
    file = tmp_path / "log.csv"
    file.write_text("old")
    with pytest.raises(AuditError):
        export_to_file(site.record, Site("x", "", "X"), AuditQuery(), FORMS["csv"], file)
    assert file.read_text() == "old"
    assert list(tmp_path.glob(".*")) == []


def test_progress_and_write_errors(site: ConsoleSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The share grows to one; a disk that fails is a sentence, and leaves nothing behind."""
    with site.record.writing() as transaction:
        for _ in range(2100):
            audit.append(transaction, Event.JOB_STATE)
    shares: list[float] = []
    written = export_to_file(
        site.record, Site("x", "", "X"), AuditQuery(), FORMS["csv"], tmp_path / "a.csv", progress=shares.append
    )
    assert written.rows > 2100
    assert shares == sorted(shares)
    assert len(shares) == 2
    assert 0.9 < shares[-1] <= 1
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ConfigurationError, match="No space left"):
        export_to_file(site.record, Site("x", "", "X"), AuditQuery(), FORMS["csv"], tmp_path / "b.csv")
    assert list(tmp_path.glob("*b.csv*")) == []
