"""Commands that show the work and the systems around it: top, peers, rules."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dicom_sources
import pytest
from console_site import ConsoleSite
from rich.console import Console
from typer.testing import CliRunner, Result

from console import peer_states
from console.cli import app
from console.site_state import site_state
from console.top_view import span_in_words, sparkline, view
from db import audit_queries, deliveries, processes
from db.models import JobProgress
from dicom_core.errors import UnavailableError
from dicom_core.settings import Settings

Run = Callable[..., Result]
CONFIGURATION = """
[[peers]]
name = "angio"
ae_title = "ANGIO1"
addresses = ["192.0.2.1"]

[[peers]]
name = "silent"
ae_title = "CT9"
addresses = ["10.0.0.0/8"]

[[destinations]]
name = "pacs"
kind = "folder"
path = "shelf"

[[rules]]
name = "angio"
when = { keyword = "Modality", equals = "XA" }
segmenter = "ridge"
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ConsoleSite]:
    site = ConsoleSite(tmp_path / "data")
    (site.folder / "vesselq.toml").write_text(CONFIGURATION)
    yield site
    site.close()


@pytest.fixture
def run(site: ConsoleSite, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in the site's data folder."""
    monkeypatch.chdir(site.folder)
    monkeypatch.setenv("VESSELQ_DATA_FOLDER", str(site.folder))
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def answer(result: Result, exit_code: int = 0) -> Any:
    """The one JSON document of a command."""
    assert result.exit_code == exit_code, result.output
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def report_progress(site: ConsoleSite, job_id: str, fence: int) -> None:
    """A worker tells how far it is."""
    with site.record.writing() as transaction:
        transaction.session.add(
            JobProgress(
                job_id=job_id, fence=fence, stage="segment", share=0.25, worker="worker0", device="cuda:0",
                updated_at=transaction.now,
            )
        )  # fmt: skip


def test_top_in_json(site: ConsoleSite, run: Run) -> None:
    """One document tells what waits, runs and was done, and which processes live."""
    processes.start(site.record, "worker", version="1", configuration={})
    site.finish(site.study("1.2.1"))
    claimed = site.claim(site.study("1.2.2"))
    report_progress(site, claimed.job_id, claimed.fence)
    site.study("1.2.3")
    found = answer(run("top", "--json", "--hours", "2"))
    assert found["jobs"] == {"DONE": 1, "QUEUED": 1, "RUNNING": 1}
    (running,) = found["running"]
    assert (running["stage"], running["share"], running["device"]) == ("segment", 0.25, "cuda:0")
    assert [one["jobs"] for one in found["waiting"]] == [1]
    assert [(one["kind"], one["alive"]) for one in found["processes"]] == [("worker", True)]
    assert sum(span["instances"] for span in found["spans"]) == 3
    assert found["stages"][0]["median_seconds"] == 1.5
    assert found["spool"]["free_bytes"] is None or found["spool"]["free_bytes"] > 0
    assert found["stuck"] == []


def test_top_once_for_people(site: ConsoleSite, run: Run) -> None:
    """`--once` prints the tables and ends; so does a terminal that is none."""
    claimed = site.claim(site.study("1.2.2"))
    report_progress(site, claimed.job_id, claimed.fence)
    for command in (("top", "--once"), ("top",)):
        told = run(*command)
        assert told.exit_code == 0
        assert all(word in told.stdout for word in (claimed.job_id[:8], "segment", "instances received"))


def test_top_puts_stuck_work_first(site: ConsoleSite) -> None:
    """What needs a person stands above all tables, with what to do."""
    processes.start(site.record, "listener", version="1", configuration={})
    with site.record.writing() as transaction:
        transaction.session.connection().exec_driver_sql("UPDATE processes SET last_seen_at = '2026-01-01 00:00:00.0'")
    state = site_state(Settings(data_folder=site.folder), site.record)
    assert state.stuck == []  # it is not of this day any more
    with site.record.writing() as transaction:
        transaction.session.connection().exec_driver_sql(
            "UPDATE processes SET last_seen_at = datetime('now', '-5 minutes')"
        )
    console = Console(width=120, record=True, file=None, force_terminal=False, quiet=True)
    with console.capture() as captured:
        console.quiet = False
        console.print(view(site_state(Settings(data_folder=site.folder), site.record)))
    told = captured.get()
    assert told.index("Needs a person") < told.index("No job is running")
    assert "The listener on" in told
    assert "start it again" in told


@pytest.mark.parametrize(
    ("values", "drawn"), [([], ""), ([0, 0], "  "), ([0, 1, 8], " ▁█"), ([1, 10**9], "▁█"), ([5], "█")]
)
def test_sparkline(values: list[int], drawn: str) -> None:
    """Nothing is a blank, and whatever is not nothing can be seen."""
    assert sparkline(values) == drawn


@pytest.mark.parametrize(("seconds", "words"), [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (7300, "2 h"), (2e5, "2 d")])
def test_spans_in_words(seconds: float, words: str) -> None:
    """Of a span the largest unit is told."""
    now = datetime(2026, 5, 4, tzinfo=UTC)
    assert span_in_words(now, now - timedelta(seconds=seconds)) == words
    assert span_in_words(now, None) == ""


def test_peers_tell_contacts_and_what_waits(site: ConsoleSite, run: Run) -> None:
    """Each system of the settings has its last contact and what waits for it; unknown senders come last."""
    site.finish(site.study("1.2.1"))
    site.receive("1.2.2", ae_title="STRANGER")
    found = {one["key"]: one for one in answer(run("peers", "--json"))["peers"]}
    assert list(found) == ["peer/angio", "peer/silent", "destination/pacs", "/STRANGER"]
    assert found["peer/angio"]["heard"]["instances"] == 1
    assert found["peer/angio"]["where"] == "192.0.2.1:104"
    assert found["peer/silent"]["heard"] is None
    assert found["destination/pacs"]["sent_at"]
    assert found["/STRANGER"]["kind"] == ""
    told = run("peers").stdout
    assert all(word in told for word in ("ANGIO1", "pacs (folder)", "192.0.2.1:104"))


def test_a_check_of_a_destination(site: ConsoleSite, run: Run) -> None:
    """`peers check` says what a system answered, keeps it and writes it into the audit log with the person."""
    (check,) = answer(run("peers", "check", "pacs", "--json"))["checks"]
    assert check["answered"]
    assert "writable" in check["answer"]
    (row,) = audit_queries.audit_rows(site.record, audit_queries.AuditQuery(event="peer-checked"))
    assert (row.user != "", row.detail["name"]) == (True, "destination/pacs")
    found = {one["key"]: one for one in answer(run("peers", "--json"))["peers"]}
    assert found["destination/pacs"]["check"]["answered"]


def test_a_peer_that_does_not_answer(site: ConsoleSite, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1 and its answer; what the settings do not tell enough of is refused."""

    def away(*_: object) -> str:
        raise UnavailableError("ANGIO1 at 192.0.2.1:104 does not answer")

    monkeypatch.setattr(peer_states, "ask_peer", away)
    (check,) = answer(run("peers", "check", "peer/angio", "--json"), exit_code=1)["checks"]
    assert (check["answered"], check["answer"]) == (False, "ANGIO1 at 192.0.2.1:104 does not answer")
    monkeypatch.undo()
    monkeypatch.chdir(site.folder)
    monkeypatch.setenv("VESSELQ_DATA_FOLDER", str(site.folder))
    refused = run("peers", "check", "silent")
    assert (refused.exit_code, refused.stdout) == (4, "")
    assert "no host" in refused.stderr
    assert run("peers", "check", "nonsense").exit_code == 4


def test_resend(site: ConsoleSite, run: Run) -> None:
    """`peers resend` ends the pause of what waits and says how much; without anything it is refused."""
    assert run("peers", "resend", "pacs").exit_code == 5
    job = site.claim(site.study("1.2.1"))
    _keep(site, job)
    delivery = deliveries.claim(site.record, "worker0", 60)
    assert delivery is not None
    deliveries.failed(site.record, delivery, "no answer", retryable=True, give_up_after_hours=72)
    assert answer(run("peers", "resend", "pacs", "--json")) == {"objects_sent_now": 1, "jobs_sent_again": 0}
    assert deliveries.claim(site.record, "worker0", 60) is not None
    (row,) = audit_queries.audit_rows(site.record, audit_queries.AuditQuery(event="transfer-repeated"))
    assert row.detail["reason"].startswith("sent by ")


def _keep(site: ConsoleSite, job: Any) -> None:
    from db import jobs
    from dicom_core.job import KeptResult
    from dicom_core.result import ResultKind, ResultObject

    made = ResultObject(
        ResultKind.SEG, 1, "aa/seg.dcm", "d" * 64, "1.2.840.10008.5.1.4.1.1.66.4", "2.25.1", "2.25.2", 9
    )
    jobs.keep_result(site.record, job, KeptResult((made,), {}))


def test_rules_in_words(run: Run) -> None:
    """The rules in their order, each with what is done."""
    (found,) = answer(run("rules", "--json"))["rules"]
    assert (found["rule"], found["when"], found["segments"]) == ("angio", "Modality is XA", True)
    assert "segmented by ridge" in run("rules").stdout


def test_a_rule_is_explained(run: Run, tmp_path: Path) -> None:
    """Which rule is for a file, with every comparison; no file, no rules and no DICOM are sentences."""
    (path,) = dicom_sources.save(dicom_sources.xa_still(rows=8, columns=8), tmp_path)
    (found,) = answer(run("rules", "explain", str(path), "--json"))["files"]
    assert found["explanation"]["rule"] == "angio"
    told = run("rules", "explain", str(path)).stdout
    assert "rule angio: segmented by ridge" in told
    assert "+ Modality is XA  [found: XA]" in told
    changed = tmp_path / "changed.toml"
    changed.write_text('[[rules]]\nname = "eye"\nwhen = { keyword = "Modality", equals = "OP" }\nsegmenter = "ridge"\n')
    told = run("rules", "explain", str(path), "--rules", str(changed)).stdout
    assert "left out: no rule wants it (Modality XA)" in told
    assert "- Modality is OP  [found: XA]" in told
    for arguments, code in (([str(tmp_path / "x")], 4), ([str(changed)], 1), ([str(path), "--rules", "none.toml"], 2)):
        refused = run("rules", "explain", *arguments)
        assert (refused.exit_code, "Traceback" in refused.stderr, refused.stdout) == (code, False, "")


def test_rules_are_tried(run: Run, tmp_path: Path) -> None:
    """A dry run over a site without studies finds nothing; wrong rules are told with exit code 2."""
    changed = tmp_path / "changed.toml"
    changed.write_text('[[rules]]\nname = "eye"\nwhen = { keyword = "Modality", equals = "OP" }\nsegmenter = "ridge"\n')
    found = answer(run("rules", "try", str(changed), "--days", "3", "--json"))
    assert (found["series"], found["unused"]) == (0, ["eye"])
    assert "0 series of 0 studies" in run("rules", "try", str(changed)).stdout
    changed.write_text("[[rules]]\nname = 'eye'\n")
    refused = run("rules", "try", str(changed))
    assert refused.exit_code == 2
    assert "rule 1 (eye)" in refused.stderr
