"""Commands that read and change the record: studies, jobs, retry, cancel, audit."""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from console_site import ConsoleSite
from typer.testing import CliRunner, Result

from console import options
from console.cli import app
from db.audit_queries import AuditRow
from dicom_core.job import JobState

Run = Callable[..., Result]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ConsoleSite]:
    site = ConsoleSite(tmp_path / "data")
    yield site
    site.close()


@pytest.fixture
def run(site: ConsoleSite, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on the site's data folder."""
    monkeypatch.chdir(site.folder)
    return lambda *arguments: CliRunner().invoke(app, [*arguments, "--data-folder", str(site.folder)])


def answer(result: Result) -> Any:
    """The one JSON document of a command that went well."""
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def refusal(result: Result, exit_code: int) -> str:
    """The one sentence of a command that was refused."""
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


def test_studies_lists_what_was_received(site: ConsoleSite, run: Run) -> None:
    """`studies --json` gives each study with its state and the states of its jobs."""
    site.finish(site.study("1.2.3"))
    site.receive("1.2.4", modality="OP")
    found = {one["study_instance_uid"]: one for one in answer(run("studies", "--json"))["studies"]}
    assert found["1.2.3"]["job_states"] == ["DONE"]
    assert found["1.2.3"]["state"] == "COMPLETE"
    assert found["1.2.4"]["state"] == "RECEIVING"
    assert found["1.2.4"]["modalities"] == ["OP"]
    assert found["1.2.4"]["completed_at"] is None
    assert found["1.2.4"]["last_received_at"].endswith("Z")


def test_study_is_shown_with_its_objects(site: ConsoleSite, run: Run) -> None:
    """`studies show` names every object with kind and UIDs, and what each destination answered to it."""
    site.finish(site.study("1.2.3"))
    found = answer(run("studies", "show", "1.2.3", "--json"))
    (job,) = found["jobs"]
    (result,) = job["results"]
    assert (result["kind"], result["sop_instance_uid"], result["series_instance_uid"]) == ("seg", "2.25.1", "2.25.2")
    (delivery,) = found["deliveries"]
    assert (delivery["kind"], delivery["sop_instance_uid"], delivery["answer"]) == ("seg", "2.25.1", "0x0000 stored")
    told = run("studies", "show", "1.2.3").stdout
    assert all(word in told for word in ("COMPLETE", "2.25.1", "2.25.2", "0x0000 stored", "seg.dcm"))
    assert "no study 9.9" in refusal(run("studies", "show", "9.9"), 4)


def test_studies_by_state(site: ConsoleSite, run: Run) -> None:
    """`studies --state` takes states of studies and of jobs, in any case of letters."""
    site.fail(site.study("1.2.3"))
    site.receive("1.2.4")
    assert [one["study_instance_uid"] for one in answer(run("studies", "--state", "failed", "--json"))["studies"]] == [
        "1.2.3"
    ]
    receiving = answer(run("studies", "--state", "RECEIVING", "--json"))["studies"]
    assert [one["study_instance_uid"] for one in receiving] == ["1.2.4"]
    assert "is no state" in refusal(run("studies", "--state", "sleeping"), 2)


def test_studies_table(site: ConsoleSite, run: Run) -> None:
    """The table for people names study, sender and state."""
    site.receive("1.2.4", ae_title="FUNDUSCAM")
    result = run("studies")
    assert result.exit_code == 0
    assert all(word in result.stdout for word in ("1.2.4", "FUNDUSCAM", "RECEIVING"))


def test_values_from_the_wire_are_not_markup(site: ConsoleSite, run: Run) -> None:
    """An AE title in square brackets is printed as it is, not taken for a colour of the terminal."""
    site.receive("1.2.4", ae_title="[red]X[/red]")
    assert "[red]X[/red]" in run("studies").stdout


def test_study_that_never_came(run: Run) -> None:
    """`studies --study` with an unknown UID ends with 4, with text that is no UID with 2."""
    assert "no study 1.2.99 was received" in refusal(run("studies", "--study", "1.2.99"), 4)
    assert "not a UID" in refusal(run("studies", "--study", "1.2.0x"), 2)


def test_close_study(site: ConsoleSite, run: Run) -> None:
    """`studies close` asks the dispatcher to close; a complete study refuses with 5, an unknown one with 4."""
    site.receive("1.2.4")
    assert answer(run("studies", "close", "1.2.4", "--json")) == {
        "study_instance_uid": "1.2.4",
        "close_requested": True,
    }
    site.study("1.2.5")
    assert "complete already" in refusal(run("studies", "close", "1.2.5"), 5)
    assert "1.2.6" in refusal(run("studies", "close", "1.2.6"), 4)


def test_jobs(site: ConsoleSite, run: Run) -> None:
    """`jobs` filters by study and by states; each job says its state and reason."""
    site.fail(site.study("1.2.3"), "slice 1.2.3.9 is rotten")
    site.study("1.2.4")
    everything = answer(run("jobs", "--json"))["jobs"]
    assert {job["state"] for job in everything} == {"FAILED", "QUEUED"}
    failed = answer(run("jobs", "--state", "FAILED", "--state", "DONE", "--json"))["jobs"]
    assert [(job["study_instance_uid"], job["reason"]) for job in failed] == [("1.2.3", "slice 1.2.3.9 is rotten")]
    assert [job["state"] for job in answer(run("jobs", "--study", "1.2.4", "--json"))["jobs"]] == ["QUEUED"]
    assert "slice 1.2.3.9 is rotten" in run("jobs").stdout
    assert "is no state of a job" in refusal(run("jobs", "--state", "RECEIVING"), 2)


def test_retry_a_failed_job(site: ConsoleSite, run: Run) -> None:
    """`retry` takes the first digits of an id, queues the job again and names who asked."""
    job = site.study("1.2.3")
    site.fail(job)
    changed = answer(run("retry", job.job_id[:8], "--json"))
    assert changed["state"] == "QUEUED"
    assert changed["reason"].startswith("tried again by ")
    assert "cannot be tried again: it is QUEUED" in refusal(run("retry", job.job_id), 5)
    assert "vesselq jobs" in refusal(run("retry", "ffffffff"), 4)


def test_cancel_a_job(site: ConsoleSite, run: Run) -> None:
    """`cancel` ends a waiting job; a second time the record does not allow it."""
    job = site.study("1.2.3")
    result = run("cancel", job.job_id)
    assert result.exit_code == 0
    assert "is CANCELLED now" in result.stdout
    assert "it is CANCELLED" in refusal(run("cancel", job.job_id), 5)


def test_the_reason_of_an_operator_is_kept(site: ConsoleSite, run: Run) -> None:
    """`--reason` stands in the job and in the audit log, with the person's name as the user."""
    job = site.study("1.2.3")
    assert answer(run("cancel", job.job_id, "--reason", "wrong patient", "--json"))["reason"] == "wrong patient"
    (event,) = answer(run("audit", "--event", "job-cancelled", "--json"))["events"]
    assert (event["detail"]["reason"], event["user"]) == ("wrong patient", options.person())


def test_a_job_overtakes_others(site: ConsoleSite, run: Run) -> None:
    """`jobs priority` changes a waiting job, says so, and refuses what waits no longer and what is no priority."""
    job = site.study("1.2.3")
    assert answer(run("jobs", "priority", job.job_id[:8], "100", "--json"))["priority"] == 100
    assert "has priority 7 now" in run("jobs", "priority", job.job_id, "7", "--reason", "the surgeon waits").stdout
    details = [event["detail"] for event in answer(run("audit", "--event", "priority-changed", "--json"))["events"]]
    assert details == [
        {"from_priority": 0, "to_priority": 100, "reason": f"asked for by {options.person()}"},
        {"from_priority": 100, "to_priority": 7, "reason": "the surgeon waits"},
    ]
    assert "less than or equal to 100" in refusal(run("jobs", "priority", job.job_id, "101"), 2)
    site.fail(job)
    assert "it is FAILED" in refusal(run("jobs", "priority", job.job_id, "1"), 5)


def test_a_result_is_sent_once_more(site: ConsoleSite, run: Run) -> None:
    """`jobs resend` takes one destination or all; a destination that the job does not have is not found."""
    job = site.study("1.2.3")
    site.finish(job)
    assert "nothing for 'moon'" in refusal(run("jobs", "resend", job.job_id, "--destination", "moon"), 4)
    destination = answer(run("studies", "show", "1.2.3", "--json"))["deliveries"][0]["destination"]
    sent = answer(run("jobs", "resend", job.job_id, "--destination", destination, "--reason", "lost there", "--json"))
    assert (sent["state"], sent["reason"]) == ("SENDING", "lost there")
    assert "it is SENDING" in refusal(run("jobs", "resend", job.job_id), 5)


def test_skipped_without_segmenter_cannot_be_retried(site: ConsoleSite, run: Run) -> None:
    """A job that no rule wanted has nothing to be tried again with."""
    job = site.study("1.2.3", state=JobState.SKIPPED, reason="no rule", segmenter="")
    assert "no segmenter was chosen" in refusal(run("retry", job.job_id), 5)


def test_audit_of_a_study(site: ConsoleSite, run: Run) -> None:
    """`audit --study` tells the story of one study in order and nothing of others."""
    site.finish(site.study("1.2.3"))
    site.receive("1.2.4")
    events = answer(run("audit", "--study", "1.2.3", "--json"))["events"]
    words = [event["event"] for event in events]
    assert words[:2] == ["study-receiving", "instances-received"]
    assert words.index("job-running") < words.index("seg-created") < words.index("instances-sent")
    assert {event["study_instance_uid"] for event in events} == {"1.2.3"}
    assert [event["sequence"] for event in events] == sorted(event["sequence"] for event in events)


def test_audit_filters(site: ConsoleSite, run: Run) -> None:
    """`audit` filters by AE title, event, outcome and time."""
    site.fail(site.study("1.2.3"))
    site.refuse_association("INTRUDER")
    refused = answer(run("audit", "--ae", "INTRUDER", "--json"))["events"]
    assert [event["event"] for event in refused] == ["association-refused"]
    failed = answer(run("audit", "--failed", "--json"))["events"]
    assert {event["event"] for event in failed} == {"job-failed", "association-refused"}
    queued = answer(run("audit", "--event", "job-queued", "--json"))["events"]
    assert len(queued) == 1
    assert answer(run("audit", "--until", "2020-01-01", "--json"))["events"] == []
    assert (
        answer(run("audit", "--event", "job-queued", "--since", "2020-01-01T00:00:00Z", "--json"))["events"] == queued
    )
    assert "is no event" in refusal(run("audit", "--event", "coffee"), 2)
    assert refusal(run("audit", "--since", "yesterday"), 2)


@pytest.mark.parametrize(
    "form",
    ["{at}", "{second}Z", "{second}+00:00", "{minute}+00", "{date}", "2026-1-5", "20260105", "{date} 00:00"],
)
def test_audit_takes_times_as_it_prints_them(site: ConsoleSite, run: Run, form: str) -> None:
    """`--since` takes a time of the log, other forms of ISO 8601, and dates without leading zeros."""
    site.receive("1.2.4")
    first = answer(run("audit", "--json"))["events"][0]["at"]
    since = form.format(at=first, second=first[:19], minute=first[:16], date=first[:10])
    events = answer(run("audit", "--since", since, "--study", "1.2.4", "--json"))["events"]
    assert [event["event"] for event in events] == ["study-receiving", "instances-received"]
    assert events[0]["at"] == first
    assert answer(run("audit", "--until", first, "--json"))["events"] == [], "exactly at that time is not before it"


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "25:00", "0001-01-01T00:00:00+14:00"])
def test_audit_refuses_what_is_no_time(run: Run, text: str) -> None:
    """Usage, with an example of a time, not a trace."""
    assert "2026-11-21T01:55:41.619Z" in refusal(run("audit", "--until", text), 2).replace("\n", " ")


def test_audit_export_can_be_verified_by_an_outsider(site: ConsoleSite, run: Run) -> None:
    """Every JSON row has all that its hash is made of: SHA-256 of the canonical JSON of the other columns."""
    site.finish(site.study("1.2.3"))
    events = answer(run("audit", "--json"))["events"]
    previous = "0" * 64
    for event in events:
        claimed = event.pop("row_hash")
        canonical = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        assert hashlib.sha256(canonical.encode()).hexdigest() == claimed
        assert event["previous_hash"] == previous
        previous = claimed
    assert {"event_type", "previous_hash"} <= events[0].keys()


def test_audit_says_by_whom(site: ConsoleSite, run: Run) -> None:
    """One column tells the person, else the peer with its address, else the process."""
    site.refuse_association("INTRUDER")
    row = answer(run("audit", "--ae", "INTRUDER", "--json"))["events"][0]
    assert row["address"]
    table = run("audit").stdout
    assert " by " in table
    assert f"INTRUDER@{row['address']}" in table
    reading = answer(run("audit", "--event", "audit-read", "--json"))["events"][0]
    assert reading["user"] in table


@pytest.mark.parametrize(
    ("user", "ae_title", "address", "expected"),
    [
        ("anna", "PACS", "192.0.2.1", "anna"),
        ("", "PACS", "192.0.2.1", "PACS@192.0.2.1"),
        ("", "PACS", "", "PACS"),
        ("", "", "192.0.2.1", "192.0.2.1"),
        ("", "", "", "listener"),
    ],
)
def test_by_prefers_the_person(user: str, ae_title: str, address: str, expected: str) -> None:
    """The person before the peer before the process."""
    row = AuditRow(1, "", "", "", "", "", 0, "listener", user, ae_title, address, "", "", {}, "", "")
    assert row.by == expected


def test_reading_the_audit_log_is_audited(site: ConsoleSite, run: Run) -> None:
    """Each `audit` leaves an audit-read event with the person and what was asked."""
    site.receive("1.2.4")
    assert run("audit", "--study", "1.2.4").exit_code == 0
    reads = answer(run("audit", "--event", "audit-read", "--json"))["events"]
    assert len(reads) == 2, "the reading that asks is written before it looks"
    assert reads[0]["user"] != ""
    assert reads[0]["event_id"] == "110101"
    assert reads[0]["detail"]["study_instance_uid"] == "1.2.4"
    assert reads[0]["study_instance_uid"] == "", "a reading is no part of the study's own story"


def test_no_database(tmp_path: Path) -> None:
    """A mistyped data folder ends with 4 and a sentence, and no empty database is made there."""
    result = CliRunner().invoke(app, ["studies", "--data-folder", str(tmp_path / "typo")])
    assert "there is no database" in refusal(result, 4)
    assert not (tmp_path / "typo").exists()


def test_old_database(tmp_path: Path) -> None:
    """A database without tables ends with 2 and the command that helps; that command makes it work."""
    folder = str(tmp_path)
    sqlite3.connect(tmp_path / "vesselq.sqlite3").close()
    (tmp_path / "vesselq.sqlite3").touch()
    assert "vesselq db upgrade" in refusal(CliRunner().invoke(app, ["studies", "--data-folder", folder]), 2)
    upgraded = answer(CliRunner().invoke(app, ["db", "upgrade", "--data-folder", folder, "--json"]))
    assert upgraded["before"] == ""
    assert upgraded["after"] != ""
    assert answer(CliRunner().invoke(app, ["studies", "--data-folder", folder, "--json"])) == {"studies": []}


def test_data_folder_wins_over_the_environment(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Run
) -> None:
    """`--data-folder` is what counts, whatever VESSELQ_DATA_FOLDER says."""
    site.receive("1.2.4")
    monkeypatch.setenv("VESSELQ_DATA_FOLDER", str(tmp_path / "elsewhere"))
    assert len(answer(run("studies", "--json"))["studies"]) == 1
