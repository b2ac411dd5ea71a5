"""The audit log over the web: the API below /api/v1/audit and the pages below /audit."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from console_site import ConsoleSite
from fastapi.testclient import TestClient
from sqlalchemy import text
from web_client import csrf_of, signed_in, with_token

from db import audit, migrate, reports
from db.audit import Event, Outcome
from db.audit_checkpoints import CheckpointFile
from db.audit_export.forms import FORMS
from db.audit_guard import guard, unguard
from db.audit_queries import AuditQuery, AuditRow, audit_rows
from db.audit_signing import sign_checkpoint
from db.models import AuditForwarding, Study
from dicom_core.pseudonym import patient_hash
from dicom_core.settings import Settings

API = "/api/v1/audit"
PATIENT = "PAT-4711"


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The database of a site: a study with a result that anna saw, one that failed, a peer that was refused."""
    site = ConsoleSite(tmp_path_factory.mktemp("story") / "data")
    site.finish(site.study("1.2.3"))
    site.fail(site.study("1.2.4"))
    site.refuse_association("INTRUDER")
    found = patient_hash(migrate.site_key(site.record), PATIENT)
    with site.record.writing() as transaction:
        transaction.session.get_one(Study, "1.2.3").patient_hash = found
    audit.record_event(
        site.record.on_behalf_of("anna"), Event.STUDY_VIEWED, study_instance_uid="1.2.3", address="192.0.2.7"
    )
    site.close()
    return (site.folder / "vesselq.sqlite3").read_bytes()


@pytest.fixture
def site(tmp_path: Path, story: bytes) -> Iterator[ConsoleSite]:
    """A site with that story."""
    site = ConsoleSite(tmp_path / "data")
    (site.folder / "vesselq.sqlite3").write_bytes(story)
    yield site
    site.close()


@pytest.fixture
def job_id(site: ConsoleSite) -> str:
    """The job that has a result."""
    (job,) = reports.jobs(site.record, study_instance_uid="1.2.3")
    return job.job_id


@pytest.fixture
def client(site: ConsoleSite) -> TestClient:
    """The browser of an auditor."""
    return signed_in(site, roles=("auditor",), name="otto")


def get(client: TestClient, path: str, **parameters: Any) -> Any:
    """The JSON of an answer that went well."""
    answer = client.get(f"{API}{path}", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def post(client: TestClient, path: str, content: Any) -> Any:
    """The same for what is sent."""
    answer = client.post(f"{API}{path}", json=content)
    assert answer.status_code == 200, answer.text
    return answer.json()


def read_events(site: ConsoleSite, event: Event = Event.AUDIT_READ) -> list[AuditRow]:
    """What the log tells of its readers."""
    return audit_rows(site.record, AuditQuery(event=event.word))


def test_events_are_found_by_every_value(client: TestClient, job_id: str) -> None:
    """Study, job, person, AE title, address, event, outcome, failure and time."""
    words = lambda **wanted: [one["event"] for one in get(client, "", **wanted)["events"]]  # noqa: E731
    assert words(user="anna") == ["study-viewed"]
    assert words(ae_title="INTRUDER") == words(address="192.0.2.9") == ["association-refused"]
    assert words(outcome=8) == ["job-failed"]
    assert set(words(failed=True)) == {"job-failed", "association-refused"}
    assert words(event="job-failed", since="2020-01-01T00:00:00Z") == ["job-failed"]
    assert words(event="job-failed", until="2020-01-01T00:00:00+02:00") == []
    assert words(job_id=job_id)[0] == "job-queued"
    assert "study-viewed" in words(study_instance_uid="1.2.3")


def test_events_come_in_pages(client: TestClient) -> None:
    """`before` leads to the page before, to the very first row."""
    seen: list[int] = []
    before = 0
    while True:
        page = get(client, "", limit=5, before=before, study_instance_uid="1.2.3")
        seen += [one["sequence"] for one in reversed(page["events"])]
        before = page["before"]
        if not before:
            break
    assert len(seen) > 10
    assert seen == sorted(set(seen), reverse=True)


def test_wrong_values_are_refused_and_not_repeated(client: TestClient) -> None:
    """422 with what is wrong, without what was sent."""
    for wrong in (
        {"event": "coffee"}, {"since": "2026-11-21T08:00:00"}, {"since": "9999-12-31T23:59:59-05:00"}, {"outcome": 3},
        {"study_instance_uid": "1..2"}, {"job_id": "f"}, {"patient_hash": PATIENT}, {"limit": 0}, {"before": -1},
        {"ae_title": "A" * 17}, {"pazient": "x"}, {"before": 2**63},
    ):  # fmt: skip
        answer = client.get(API, params=wrong)
        assert answer.status_code == 422, wrong
        assert PATIENT not in answer.text


def test_what_no_database_takes_finds_nothing(client: TestClient) -> None:
    """NUL and half characters are no reason for an error of ours."""
    assert get(client, "", user="a\0b")["events"] == []
    assert get(client, "/recall", model="\x00")["jobs"] == 0


def test_who_saw_a_study(client: TestClient, site: ConsoleSite) -> None:
    """Persons and destinations; asking is audited with the person, the address and the question."""
    seen = get(client, "/who-saw/1.2.3")["seen_by"]
    assert {(one["who"], one["event"]) for one in seen} == {("pacs", "instances-sent"), ("anna", "study-viewed")}
    (reading,) = read_events(site)
    assert (reading.user, reading.address) == ("otto", "127.0.0.1")
    assert reading.detail == {"by": "web", "question": "who-saw", "study_instance_uid": "1.2.3"}
    assert reading.study_instance_uid == "", "a reading is no part of the study's own story"


def test_what_happened_to_a_job(client: TestClient, job_id: str) -> None:
    """The job, its deliveries, its events; 404 for one that is not there."""
    story = get(client, f"/jobs/{job_id}")
    assert story["job"]["state"] == "DONE"
    assert [one["answer"] for one in story["deliveries"]] == ["0x0000 stored"]
    assert story["events"][-1]["job_id"] == job_id
    assert client.get(f"{API}/jobs/{'0' * 32}").status_code == 404


def test_recall(client: TestClient, site: ConsoleSite, job_id: str) -> None:
    """The jobs that a model answered, and which models there are to ask for."""
    with site.record.engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET model = 'vesselnet', model_version = '1.0' WHERE state = 'DONE'"))
    assert get(client, "/models") == {"models": [{"model": "vesselnet", "model_version": "1.0"}]}
    found = get(client, "/recall", model="vesselnet", model_version="1.0")
    assert (found["jobs"], found["before"]) == (1, "")
    assert found["touched"][0]["job_id"] == job_id
    assert found["touched"][0]["destinations"] == ["pacs"]
    assert get(client, "/recall", model="vesselnet", model_version="2")["jobs"] == 0
    assert client.get(f"{API}/recall", params={"model": "vesselnet", "before": "f" * 32}).status_code == 404


def test_failures_and_studies_without_a_result(client: TestClient) -> None:
    """Of the last day and of the last week, unless another time is asked for."""
    assert {one["event"] for one in get(client, "/failures")["events"]} == {"job-failed", "association-refused"}
    without = get(client, "/without-result")["studies"]
    assert [one["study_instance_uid"] for one in without] == ["1.2.4"]
    assert "ends early" in without[0]["reasons"][0]
    assert get(client, "/without-result", until="2020-01-01T00:00:00Z")["studies"] == []
    assert client.get(f"{API}/failures", params={"hours": "nan"}).status_code == 422


def test_a_patient_is_asked_for_by_content_and_nowhere_kept(client: TestClient, site: ConsoleSite) -> None:
    """The pseudonym is in the answer and in the log, the identifier in neither."""
    found = post(client, "/patient", {"patient_id": f" {PATIENT} "})
    assert [one["study_instance_uid"] for one in found["studies"]] == ["1.2.3"]
    assert {one["study_instance_uid"] for one in found["events"]} == {"1.2.3"}
    (reading,) = read_events(site)
    assert reading.detail["patient_hash"] == found["patient_hash"]
    assert PATIENT not in json.dumps(found) + json.dumps([row.detail for row in audit_rows(site.record, AuditQuery())])
    assert post(client, "/patient", {"patient_id": PATIENT, "issuer_of_patient_id": "X"})["studies"] == []
    assert client.post(f"{API}/patient", json={"patient_id": "  "}).status_code == 422
    assert get(client, "", patient_hash=found["patient_hash"])["events"] == found["events"]


def test_export(client: TestClient, site: ConsoleSite) -> None:
    """A file in each form; that it was taken is in the log before the first row leaves."""
    begins = {"jsonl": '{"format"', "csv": "sequence,at,", "fhir": '{"resourceType"', "xml": "<?xml"}
    for form, begin in begins.items():
        answer = client.get(f"{API}/export", params={"form": form, "study_instance_uid": "1.2.3"})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == FORMS[form].media_type
        assert f'attachment; filename="audit{FORMS[form].suffix}"' in answer.headers["content-disposition"]
        assert answer.text.startswith(begin)
        assert "1.2.3" in answer.text
        assert "1.2.4" not in answer.text
    exported = read_events(site, Event.AUDIT_EXPORTED)
    assert [(row.user, row.detail["form"]) for row in exported] == [("otto", form) for form in begins]
    assert exported[0].detail["asked"] == {"study_instance_uid": "1.2.3"}
    assert client.get(f"{API}/export", params={"form": "pdf"}).status_code == 422


def test_the_whole_log_is_exported_with_its_proof(client: TestClient, site: ConsoleSite) -> None:
    """Every row, the export itself among them, without a gap."""
    lines = [json.loads(line) for line in client.get(f"{API}/export").text.splitlines()]
    assert lines[-1]["end"]["gaps"] == 0
    assert lines[-1]["end"]["rows"] == len(lines) - 2 == audit.verify(site.record).rows
    assert lines[-2]["event"] == "audit-exported"


def test_verify(client: TestClient, site: ConsoleSite) -> None:
    """The chain holds; a changed row is named, and the log tells both findings."""
    assert post(client, "/verify", {})["holds"] is True
    tamper(site)
    found = post(client, "/verify", {})
    assert (found["holds"], found["first_bad_sequence"]) == (False, 2)
    told = read_events(site, Event.AUDIT_VERIFIED)
    assert [(row.user, row.outcome) for row in told] == [("otto", 0), ("otto", Outcome.MAJOR_FAILURE)]
    assert told[1].detail["first_bad_sequence"] == 2


def test_octets_in_columns_of_text_are_answered_as_damaged_text(client: TestClient, site: ConsoleSite) -> None:
    """Whoever owns the database may write anything: neither the API nor a page nor an export falls over it."""
    tamper(site, "ae_title = X'FF41', study_instance_uid = CAST(X'FE' AS TEXT), row_hash = X'00', detail = X'FF'")
    row = next(row for row in get(client, "")["events"] if row["sequence"] == 2)
    assert (row["ae_title"], row["study_instance_uid"]) == (r"unreadable: \xffA", r"\xfe")
    assert row["detail"] == {"unreadable": r"\xff"}
    assert r"unreadable: \xffA" in client.get("/audit").text
    for form in FORMS:
        assert r"\xff" in client.get(f"{API}/export?form={form}").text.replace(r"\\", "\\"), form


def tamper(site: ConsoleSite, change: str = "ae_title = 'SOMEBODY'") -> None:
    """Change one row as somebody could who owns the database."""
    with site.record.engine.connect() as connection:
        unguard(connection)
        connection.execute(text(f"UPDATE audit_events SET {change} WHERE sequence = 2"))  # noqa: S608  tampering is the test
        guard(connection)
        connection.commit()


def test_the_state_of_the_chain(client: TestClient, site: ConsoleSite) -> None:
    """Its ends, the last checkpoint, the repositories."""
    state = get(client, "/state")
    assert state["checkpoint"] is None
    assert state["log"]["head_hash"] == audit.verify(site.record).head_hash
    settings = Settings(data_folder=site.folder)
    with CheckpointFile.of(settings).extending() as file:
        file.append(state["log"]["head_sequence"], state["log"]["head_hash"], state["log"]["head_at"])
    with site.record.writing() as transaction:
        transaction.session.add(AuditForwarding(repository="siem", next_sequence=3))
    state = get(client, "/state")
    assert state["checkpoint"]["sequence"] == state["log"]["head_sequence"]
    assert state["log"]["repositories"][0]["waiting"] == state["log"]["head_sequence"] - 2
    assert "siem" in client.get("/audit").text


PAGES = (
    "/audit", "/audit/who-saw?study=1.2.3", "/audit/recall", "/audit/without-result", f"{API}/export", f"{API}/models",
    f"{API}/state", f"{API}/failures", f"{API}/who-saw/1.2.3", f"{API}/recall?model=x", f"{API}/without-result",
)  # fmt: skip


def test_only_auditors_may_ask(site: ConsoleSite) -> None:
    """All other roles together are refused everywhere, and nothing is read for them."""
    client = signed_in(site, roles=("viewer", "operator", "admin"))
    assert {client.get(path).status_code for path in PAGES} == {403}
    csrf = {"csrf": csrf_of(client)}
    for path in ("/audit/verify", "/audit/patient"):
        assert client.post(path, data=csrf).status_code == 403
    for path in ("/verify", "/patient"):
        assert client.post(f"{API}{path}", json={"patient_id": "1"}).status_code == 403
    assert read_events(site) == read_events(site, Event.AUDIT_EXPORTED) == []


def test_a_token_with_the_scope_may_ask(site: ConsoleSite) -> None:
    """Programs are named in the log."""
    client = with_token(site, scopes=("audit",))
    get(client, "")
    assert read_events(site)[0].user == "token:audit"


def test_the_page_shows_and_audits(client: TestClient, site: ConsoleSite) -> None:
    """The latest rows first, links to pages before, exports of what was asked; each look is in the log."""
    page = client.get("/audit", params={"study_instance_uid": "1.2.3", "event": "", "since": "2020-01-01"}).text
    assert "study-viewed" in page
    assert "association-refused</strong>" not in page
    assert page.index("study-viewed</strong>") < page.index("study-receiving</strong>")
    assert 'href="/api/v1/audit/export?study_instance_uid=1.2.3&amp;since=2020-01-01T00%3A00Z&amp;form=csv"' in page
    (reading,) = read_events(site)
    assert reading.detail["since"] == "2020-01-01T00:00:00.000Z"
    assert (reading.user, reading.detail["study_instance_uid"]) == ("otto", "1.2.3")


def test_the_page_takes_any_failure_for_an_outcome(client: TestClient) -> None:
    """One choice of the form, which the export keeps."""
    page = client.get("/audit", params={"outcome": "failed"}).text
    assert set(re.findall(r"<strong>([a-z-]+)</strong>", page)) == {"job-failed", "association-refused"}
    assert "/api/v1/audit/export?failed=true&amp;form=csv" in page


def test_the_page_leads_to_older_rows(client: TestClient, site: ConsoleSite) -> None:
    """More than a page full: a link, which leads to the rest and keeps the question."""
    for _ in range(105):
        audit.record_event(site.record, Event.PEER_CHECKED, address="192.0.2.77")
    first = client.get("/audit", params={"address": "192.0.2.77"}).text
    (older,) = re.findall(r'href="(/audit\?[^"]*before=\d+)"', first)
    second = client.get(older.replace("&amp;", "&")).text
    numbers = [re.findall(r'id="event-(\d+)"', page) for page in (first, second)]
    assert [len(found) for found in numbers] == [100, 5]
    assert not set(numbers[0]) & set(numbers[1])
    assert "before=" not in second


def test_the_page_says_what_is_wrong(client: TestClient, site: ConsoleSite) -> None:
    """A sentence beside the form, which keeps what was typed, escaped; nothing is read."""
    for wrong in ({"event": "<b>coffee</b>"}, {"since": "yesterday"}, {"study_instance_uid": "x"}):
        answer = client.get("/audit", params=wrong)
        assert answer.status_code == 422
        assert 'role="alert"' in answer.text
        assert "<b>coffee" not in answer.text
    assert read_events(site) == []


def test_verify_on_the_page(client: TestClient, site: ConsoleSite) -> None:
    """Green when the chain holds and is signed, amber before it is signed, red with the row that was changed."""
    csrf = csrf_of(client, "/audit")
    assert client.post("/audit/verify").status_code == 403
    unsigned = client.post("/audit/verify", data={"csrf": csrf})
    assert '<p class="notice wait">The chain holds' in unsigned.text
    assert "No checkpoint vouches for its end yet" in unsigned.text
    sign_checkpoint(site.record, CheckpointFile.of(Settings(data_folder=site.folder)))
    good = client.post("/audit/verify", data={"csrf": csrf})
    assert '<p class="notice good">The chain holds' in good.text
    assert "signed up to row" in good.text
    tamper(site)
    bad = client.post("/audit/verify", data={"csrf": csrf})
    assert '<p class="notice bad" role="alert">The chain is broken at row 2' in bad.text


def test_a_patient_on_the_page(client: TestClient, site: ConsoleSite) -> None:
    """The identifier is sent by POST; the address has the pseudonym."""
    csrf = csrf_of(client, "/audit")
    answer = client.post("/audit/patient", data={"csrf": csrf, "patient_id": PATIENT})
    assert answer.status_code == 303
    where = answer.headers["location"]
    assert where == f"/audit?patient_hash={patient_hash(migrate.site_key(site.record), PATIENT)}"
    page = client.get(where).text
    assert "Studies of the patient" in page
    assert "1.2.3" in page
    assert PATIENT not in page
    assert client.post("/audit/patient", data={"csrf": csrf, "patient_id": " "}).status_code == 422
    nobody = client.post("/audit/patient", data={"csrf": csrf, "patient_id": "no one"}).headers["location"]
    assert "No study of this patient was received" in client.get(nobody).text


def test_questions_on_pages(client: TestClient, site: ConsoleSite, job_id: str) -> None:
    """Who saw, recall with the list of models, studies without a result: answered and audited."""
    assert "anna" in client.get("/audit/who-saw", params={"study": " 1.2.3 "}).text
    assert "Nobody" in client.get("/audit/who-saw", params={"study": "9.9"}).text
    assert client.get("/audit/who-saw", params={"study": "x"}).status_code == 422
    assert "No model answered yet" in client.get("/audit/recall").text
    with site.record.engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET model = 'vesselnet', model_version = '1.0' WHERE state = 'DONE'"))
    assert 'href="/audit/recall?model=vesselnet&amp;version=1.0"' in client.get("/audit/recall").text
    assert job_id in client.get("/audit/recall", params={"model": "vesselnet", "version": "1.0"}).text
    assert "It touched nothing" in client.get("/audit/recall", params={"model": "none"}).text
    assert "ends early" in client.get("/audit/without-result").text
    assert "Every study has a result" in client.get("/audit/without-result", params={"until": "2020-01-01"}).text
    assert client.get("/audit/without-result", params={"since": "soon"}).status_code == 422
    questions = [row.detail["question"] for row in read_events(site)]
    assert questions == ["who-saw", "who-saw", "recall", "recall", "without-result", "without-result"]


def test_what_comes_from_outside_is_escaped(client: TestClient, site: ConsoleSite) -> None:
    """Names and details with markup are shown as text."""
    audit.record_event(
        site.record.on_behalf_of("<script>alert(1)</script>"),
        Event.STUDY_VIEWED,
        study_instance_uid="1.2.3",
        detail={"<img src=x>": "<svg onload=alert(2)>"},
    )
    for path in ("/audit", "/audit/who-saw?study=1.2.3"):
        page = client.get(path).text
        assert "<script>alert" not in page
        assert "<img src=x>" not in page
        assert "&lt;script&gt;alert" in page


def test_half_a_character_keeps_nobody_from_reading(client: TestClient, site: ConsoleSite) -> None:
    """An argument of the command line that is no UTF-8 ends up in the log as a question mark; whole characters stay."""
    audit.record_event(
        site.record, Event.AUDIT_READ, detail={"model": "a\udcff", "more": ["\U0001f600", {"\ud800": 1}]}
    )
    (row,) = [row for row in audit_rows(site.record, AuditQuery(event="audit-read")) if "model" in row.detail]
    assert row.detail == {"model": "a?", "more": ["\U0001f600", {"?": 1}]}
    assert "\U0001f600" in client.get("/audit").text
    assert with_token(site, scopes=("audit",)).get(API).status_code == 200
    assert audit.verify(site.record, []).holds


def test_pages_speak_chinese(client: TestClient) -> None:
    """Every page of the audit log in the other language."""
    client.cookies.set("vesselq_language", "zh")
    for path in ("/audit", "/audit/who-saw?study=1.2.3", "/audit/recall", "/audit/without-result"):
        page = client.get(path).text
        assert 'lang="zh"' in page
        assert "审计日志" in page
