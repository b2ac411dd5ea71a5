"""`vesselq audit` with its questions in words: who saw, job, recall, failures, without-result, patient."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from console_site import ConsoleSite
from sqlalchemy import text
from typer.testing import CliRunner, Result

from console import options
from console.cli import app
from console.commands import audit_answers
from db import audit, migrate, reports
from db.audit import Event
from db.audit_queries import AuditQuery, audit_rows
from db.models import Study
from dicom_core.pseudonym import patient_hash

PATIENT = "PAT-4711"
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleSite]:
    """A study with a result of vesselnet 1.0 that anna saw, one that failed, a peer that was refused."""
    site = ConsoleSite(tmp_path_factory.mktemp("site") / "data")
    site.finish(site.study("1.2.3"))
    site.fail(site.study("1.2.4"))
    site.refuse_association("INTRUDER")
    with site.record.engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET model = 'vesselnet', model_version = '1.0' WHERE state = 'DONE'"))
    found = patient_hash(migrate.site_key(site.record), PATIENT, "HOSPITAL")
    with site.record.writing() as transaction:
        transaction.session.get_one(Study, "1.2.3").patient_hash = found
    audit.record_event(site.record.on_behalf_of("anna"), Event.STUDY_VIEWED, study_instance_uid="1.2.3")
    yield site
    site.close()


@pytest.fixture
def run(site: ConsoleSite) -> Run:
    """Run `vesselq audit` on the site."""

    def run(*arguments: str, typed: str = "") -> Result:
        return CliRunner().invoke(app, ["audit", *arguments, "--data-folder", str(site.folder)], input=typed)

    return run


def answer(result: Result) -> Any:
    """The one JSON document of a command that went well."""
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def last_reading(site: ConsoleSite) -> dict[str, Any]:
    """What the log tells of the last question; it is asked in the name of this account."""
    row = audit_rows(site.record, AuditQuery(event="audit-read"))[-1]
    assert row.user == options.person()
    return row.detail


def test_who_saw(site: ConsoleSite, run: Run) -> None:
    """Persons and destinations."""
    found = answer(run("who-saw", "1.2.3", "--json"))["seen_by"]
    assert [(one["who"], one["event"], one["times"]) for one in found] == [
        ("pacs", "instances-sent", 1),
        ("anna", "study-viewed", 1),
    ]
    assert last_reading(site) == {"question": "who-saw", "study_instance_uid": "1.2.3"}
    assert "anna" in run("who-saw", "1.2.3").stdout
    assert "nobody" in run("who-saw", "9.9").stdout
    assert run("who-saw", "x").exit_code == 2


def test_job(site: ConsoleSite, run: Run) -> None:
    """The story of a job by the beginning of its id; 4 for one that is not there."""
    (job,) = reports.jobs(site.record, study_instance_uid="1.2.3")
    story = answer(run("job", job.job_id[:8], "--json"))
    assert story["job"]["job_id"] == job.job_id
    assert [one["state"] for one in story["deliveries"]] == ["SENT"]
    assert story["events"][0]["event"] == "job-queued"
    told = run("job", job.job_id).stdout
    assert all(words in told for words in ("1.2.3.1", "DONE", "to pacs: SENT 0x0000 stored", "seg-created"))
    assert run("job", "ffffff").exit_code == 4


def test_recall(site: ConsoleSite, run: Run) -> None:
    """What a version touched; without any, the models that there are."""
    found = answer(run("recall", "vesselnet", "1.0", "--json"))
    assert (found["jobs"], [one["study_instance_uid"] for one in found["touched"]]) == (1, ["1.2.3"])
    assert last_reading(site) == {"question": "recall", "model": "vesselnet", "model_version": "1.0"}
    assert "2.25.1" in run("recall", "vesselnet").stdout
    assert "models that answered: vesselnet 1.0" in run("recall", "vesselnet", "2.0").stdout


def test_recall_goes_through_all_pages(site: ConsoleSite, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """More jobs than a page has, and fewer than there are when a limit says so."""
    with site.record.engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET model = 'vesselnet', model_version = '1.1' WHERE state = 'FAILED'"))
    monkeypatch.setattr(audit_answers, "_PAGE", 1)
    assert len(answer(run("recall", "vesselnet", "--json"))["touched"]) == 2
    cut = run("recall", "vesselnet", "--limit", "1")
    assert "these are 1 of 2 jobs" in cut.stderr


def test_failures(site: ConsoleSite, run: Run) -> None:
    """Of the last day, with the reasons; more than the limit is said."""
    events = answer(run("failures", "--json"))["events"]
    assert [one["event"] for one in events] == ["job-failed", "association-refused"]
    assert last_reading(site)["failed_only"] is True
    assert "ends early" in run("failures", "--hours", "1").stdout
    assert "give a larger --limit" in run("failures", "--limit", "1").stderr


def test_without_result(site: ConsoleSite, run: Run) -> None:
    """Studies with the reason why nothing was made; of the last week unless a time is given."""
    found = answer(run("without-result", "--json"))["studies"]
    assert [one["study_instance_uid"] for one in found] == ["1.2.4"]
    assert found[0]["reasons"][0].startswith("FAILED: ")
    assert set(last_reading(site)) == {"question", "since"}
    assert "1.2.4" in run("without-result", "--since", "2020-01-01").stdout
    assert answer(run("without-result", "--until", "2020-01-01", "--json"))["studies"] == []
    assert "there may be more" in run("without-result", "--limit", "1").stderr


def test_patient_is_read_from_standard_input(site: ConsoleSite, run: Run) -> None:
    """Not from the command line; the log gets the pseudonym only."""
    found = answer(run("patient", "--issuer", "HOSPITAL", "--json", typed=f"{PATIENT}\n"))
    assert [one["study_instance_uid"] for one in found["studies"]] == ["1.2.3"]
    assert {one["study_instance_uid"] for one in found["events"]} == {"1.2.3"}
    assert last_reading(site)["patient_hash"] == found["patient_hash"]
    assert PATIENT not in json.dumps([row.detail for row in audit_rows(site.record, AuditQuery())])
    told = run("patient", "--issuer", "HOSPITAL", typed=PATIENT).stdout
    assert f"pseudonym {found['patient_hash']}" in told
    assert answer(run("patient", "--json", typed=PATIENT))["studies"] == [], "another issuer is another patient"
    assert run("patient", typed=" \n").exit_code == 2
    assert run("patient", typed="7" * 65).exit_code == 2
    assert run("patient", PATIENT).exit_code == 2, "an identifier on the command line is a mistake"


def test_patient_is_asked_for_at_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question goes to standard error, so that the answer stays one JSON document."""
    asked = []
    monkeypatch.setattr(audit_answers, "_at_a_terminal", lambda: True)
    monkeypatch.setattr("typer.prompt", lambda words, **how: asked.append((words, how)) or PATIENT)
    assert len(answer(run("patient", "--issuer", "HOSPITAL", "--json"))["studies"]) == 1
    assert asked == [("PatientID", {"err": True})]


@pytest.mark.parametrize(
    ("options_given", "expected"),
    [
        (("--user", "anna"), ["study-viewed"]),
        (("--address", "192.0.2.9"), ["association-refused"]),
        (("--outcome", "8"), ["job-failed"]),
        (("--outcome", "4"), ["association-refused"]),
        (("--ae", "INTRUDER", "--event", "association-refused"), ["association-refused"]),
    ],
)
def test_audit_filters_by_more(run: Run, options_given: tuple[str, ...], expected: list[str]) -> None:
    """Person, address, outcome, and several at once."""
    assert [one["event"] for one in answer(run(*options_given, "--json"))["events"]] == expected


def test_audit_comes_in_pages(run: Run) -> None:
    """`--before` leads on; the command says so."""
    newest = answer(run("--study", "1.2.3", "--limit", "2", "--json"))
    rest = answer(run("--study", "1.2.3", "--before", str(newest["before"]), "--json"))
    assert rest["before"] == 0
    assert rest["events"][-1]["sequence"] < newest["events"][0]["sequence"] == newest["before"]
    assert f"--before {newest['before']}" in run("--study", "1.2.3", "--limit", "2").stderr
    assert run("--outcome", "3").exit_code == 2
