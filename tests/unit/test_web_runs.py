"""Asking about a series again over the JSON API, and everything that must not be able to."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dicom_sources
import pytest
import worker_bench
from fastapi.testclient import TestClient
from web_client import open_to_all, signed_in, stranger, with_token

from db import jobs, reports
from db.audit_queries import AuditQuery, audit_rows
from db.session import Record
from dicom_core.job import JobState
from dicom_core.prompt import Prompt
from dicom_core.settings import Settings

JSON = {"Content-Type": "application/json"}
RULES = [{**worker_bench.RULE, "segmenter": "ridge", "destinations": ["shelf"]}]


class Site:
    """A complete study of one series, its job, and a browser on this machine."""

    def __init__(self, folder: Path) -> None:
        self.settings: Settings = worker_bench.settings_for(folder, rules=RULES)
        self.record: Record = worker_bench.fresh_record(self.settings)
        datasets = dicom_sources.xa_runs((2,), 16, 24)
        self.study = worker_bench.receive(self.settings, self.record, datasets)
        (self.job,) = worker_bench.complete(self.settings, self.record)
        self.address = f"/api/v1/studies/{self.study}/runs"

    def client(self, host: str = "127.0.0.1", **web: Any) -> TestClient:
        """A program that may operate: no browser tells of a page."""
        return with_token(self, scopes=("operate",), host=host, **web)

    def body(self, **changes: Any) -> dict[str, Any]:
        return {"series_instance_uid": self.job.series_instance_uid, "segmenter": "ridge", **changes}

    def jobs(self) -> int:
        return len(reports.jobs(self.record))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.record.close()


@pytest.fixture
def _takes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry's ridge takes every way of asking, as far as its info goes."""
    from dataclasses import replace

    from dicom_core.prompt import PromptKind
    from worker.segmenters import registry

    info = replace(registry.info("ridge"), prompts=frozenset(PromptKind))
    monkeypatch.setattr(registry, "info", lambda _word, _models: info)


@pytest.mark.usefixtures("_takes_everything")
def test_question_becomes_a_job(site: Site) -> None:
    """202 with the job: a new generation, by hand, to the destinations of the rule."""
    prompt = {
        "questions": [{"text": "artery", "segment": "artery"}],
        "boxes": [{"left": 1, "top": 2, "right": 9, "bottom": 9}],
    }
    answer = site.client().post(site.address, json=site.body(prompt=prompt))
    assert answer.status_code == 202, answer.text
    job = jobs.get(site.record, answer.json()["job"]["job_id"])
    assert (job.state, job.generation, job.rule, job.destinations) == (JobState.QUEUED, 2, "all", ("shelf",))
    asked = Prompt.from_stored(job.prompt)
    assert asked.by_hand
    assert (asked.questions[0].segment, asked.boxes[0].bottom) == ("artery", 9)
    assert job.input_hash == site.job.input_hash
    assert job.configuration_hash != site.job.configuration_hash
    (row,) = audit_rows(site.record, AuditQuery(event="run-requested"))
    assert (row.address, row.detail["by"], row.detail["prompt"]) == ("127.0.0.1", "web", "artery; 1 box")
    again = site.client().post(site.address, json=site.body(prompt=prompt))
    assert again.json()["job"]["job_id"] == job.job_id


@pytest.mark.usefixtures("_takes_everything")
def test_text_alone_is_one_question(site: Site) -> None:
    """The short form, in any language; without a segmenter that of the rule is asked."""
    answer = site.client().post(site.address, json={**site.body(prompt="Gefäße"), "segmenter": ""})
    assert answer.json()["job"]["segmenter"] == "ridge"
    assert Prompt.from_stored(answer.json()["job"]["prompt"]).questions[0].text == "Gefäße"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({**JSON, "Origin": "http://evil.example.org"}, 403),
        ({**JSON, "Origin": "null"}, 403),
        ({**JSON, "Origin": "http://localhost:9999"}, 403),
        ({**JSON, "Sec-Fetch-Site": "cross-site"}, 403),
        ({**JSON, "Sec-Fetch-Site": "same-site"}, 403),
        ({**JSON, "Host": "evil.example.org"}, 400),
    ],
)
@pytest.mark.parametrize("client", [signed_in, with_token, open_to_all])
def test_pages_of_others_are_refused(
    site: Site, client: Callable[..., TestClient], headers: dict[str, str], status: int
) -> None:
    """What a browser sends for a page elsewhere: a form, a foreign or opaque origin, a rebound name."""
    answer = client(site).post(site.address, content=json.dumps(site.body()), headers=headers)
    assert answer.status_code == status, answer.text
    assert site.jobs() == 1


def test_own_pages_and_programs_are_taken(site: Site) -> None:
    """The same site's page, and programs, which tell of no page."""
    own = {"Origin": "http://localhost:8042", "Sec-Fetch-Site": "same-origin"}
    assert site.client().post(site.address, json=site.body(), headers=own).status_code == 202
    assert site.client().post(site.address, json=site.body(), headers={"Sec-Fetch-Site": "none"}).status_code == 202


def test_no_page_elsewhere_may_ask_first(site: Site) -> None:
    """A preflight gets no permission, so that no browser sends JSON for a foreign page."""
    headers = {"Origin": "http://evil.example.org", "Access-Control-Request-Method": "POST"}
    answer = site.client().options(site.address, headers=headers)
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("roles", [(), ("viewer",), ("admin",), ("auditor",), ("viewer", "admin", "auditor")])
def test_other_roles_may_not_ask(site: Site, roles: tuple[str, ...]) -> None:
    """Only who operates may have a series segmented again; the refusal is in the audit log."""
    answer = signed_in(site, roles).post(site.address, json=site.body())
    assert (answer.status_code, "role operator" in answer.json()["detail"]) == (403, True)
    assert site.jobs() == 1
    (row,) = audit_rows(site.record, AuditQuery(event="access-refused"))
    assert (row.user, row.address, row.detail["needs"]) == ("-".join(roles) or "nothing", "127.0.0.1", "operate")
    assert row.detail["path"] == "/api/v1/studies/{study_instance_uid}/runs"


def test_the_audit_log_names_the_person(site: Site) -> None:
    """A run that an operator asks for is the operator's, with the reason."""
    asked = {**site.body(), "reason": " the frame before was cut "}
    assert signed_in(site, name="ada").post(site.address, json=asked).status_code == 202
    (row,) = audit_rows(site.record, AuditQuery(event="run-requested"))
    assert (row.user, row.address, row.detail["reason"]) == ("ada", "127.0.0.1", "the frame before was cut")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": {"mask": "/etc/passwd"}}, "mask"),
        ({"prompt": {"example": {"picture": "/etc/passwd", "boxes": []}}}, "example"),
        ({"prompt": {"by_hand": False}}, "by_hand"),
        ({"prompt": {"questions": [{"text": "x", "segment": "nose"}]}, "segmenter": ""}, "cannot be asked"),
        ({"prompt": "x" * 1001}, "1000"),
        ({"prompt": "vessels"}, "ridge cannot be asked by text"),
        ({"segmenter": ""}, "nothing is asked"),
        ({"segmenter": "ridge+ridge"}, "cannot refine another"),
        ({"series_instance_uid": "x"}, "not a UID"),
        ({"destinations": ["elsewhere"]}, "destinations"),
    ],
)
def test_wrong_questions_are_refused_in_words(site: Site, changes: dict[str, Any], said: str) -> None:
    """422: no file of this machine, no unknown words, nothing that the segmenter cannot be asked."""
    answer = site.client().post(site.address, json=site.body(**changes))
    assert (answer.status_code, said in answer.text) == (422, True), answer.text
    assert site.jobs() == 1


@pytest.mark.usefixtures("_takes_everything")
def test_unknown_type_of_segment_is_refused(site: Site) -> None:
    """Before the job, not after an hour in the queue."""
    prompt = {"questions": [{"text": "x", "segment": "nose"}]}
    answer = site.client().post(site.address, json=site.body(prompt=prompt))
    assert (answer.status_code, "'nose' is no type of segment" in answer.text) == (422, True)


def test_unknown_and_busy_studies(site: Site) -> None:
    """404 for what is not there; 409 while images are still coming."""
    client = site.client()
    assert client.post("/api/v1/studies/1.2.3/runs", json=site.body()).status_code == 404
    assert client.post(site.address, json=site.body(series_instance_uid="1.2.3")).status_code == 404
    assert client.post(site.address, json=site.body(segmenter="rigde")).status_code == 404
    late = dicom_sources.xa_runs((2,), 16, 24, StudyInstanceUID=site.study)
    worker_bench.receive(site.settings, site.record, late)
    answer = client.post(site.address, json=site.body())
    assert (answer.status_code, "is being received" in answer.json()["detail"]) == (409, True)


def test_own_results_are_never_segmented(site: Site) -> None:
    """The loop guard holds for persons too."""
    own = dicom_sources.xa_still(16, 24, Manufacturer="vesselq")
    study = worker_bench.receive(site.settings, site.record, own)
    worker_bench.complete(site.settings, site.record)
    body = site.body(series_instance_uid=str(own[0].SeriesInstanceUID))
    answer = site.client().post(f"/api/v1/studies/{study}/runs", json=body)
    assert (answer.status_code, "result of vesselq itself" in answer.text) == (409, True)


@pytest.mark.usefixtures("_takes_everything")
@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ('{"boxes":[{"left":NaN,"top":0,"right":1,"bottom":1}]}', "finite"),
        ('{"boxes":[{"left":1e999,"top":0,"right":1,"bottom":1}]}', "finite"),
        ('{"nothing":NaN}', "Extra inputs"),
        ('"\\ud800"', "unicode"),
        ('{"\\ud800":1}', "unicode"),
        ('{"questions":[{"text":"a","label":"b\\ud800"}]}', "unicode"),
        ('"nothing \\u0000 here"', "cannot be printed"),
        ('"\\u001b[31mred"', "cannot be printed"),
        ('{"questions":[{"text":"a","label":"b\\u0007"}]}', "cannot be printed"),
        ('{"boxes":[{"sop_instance_uid":"\\u0000","left":0,"top":0,"right":1,"bottom":1}]}', "cannot be printed"),
    ],
)
def test_values_that_json_or_a_database_cannot_hold_are_refused_in_words(site: Site, prompt: str, said: str) -> None:
    """No number, half a character, control codes: 422, and what was sent is not sent back."""
    body = f'{{"series_instance_uid":"{site.job.series_instance_uid}","segmenter":"ridge","prompt":{prompt}}}'
    answer = site.client().post(site.address, content=body, headers=JSON)
    assert (answer.status_code, said in answer.text) == (422, True), answer.text
    assert not {"input", "ctx"} & set(answer.json()["detail"][0])
    assert site.jobs() == 1


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 50_000, "9" * 10_000, "", "null", "\udc80"])
def test_what_is_no_request_is_refused(site: Site, content: str) -> None:
    """Nested without end, a number without end, nothing, bytes that are no text."""
    answer = site.client().post(site.address, content=content.encode(errors="surrogateescape"), headers=JSON)
    assert answer.status_code in (400, 422)
    assert site.jobs() == 1


def test_strangers_and_endless_contents_are_refused_unread(site: Site) -> None:
    """Who may not ask costs no memory, nor does more than a prompt can be; without a length nothing is read."""
    read = []

    def endless() -> Iterator[bytes]:
        for number in range(1000):
            read.append(number)
            yield b" " * 10_000

    refused = stranger(site).post(site.address, content=endless(), headers=JSON)
    assert (refused.status_code, read) == (401, [])
    assert site.client().post(site.address, content=endless(), headers=JSON).status_code == 411
    for length in ("1000001", "9" * 5000):
        long = {**JSON, "Content-Length": length}
        assert site.client().post(site.address, content=endless(), headers=long).status_code == 413
    assert site.client().post(site.address, content=b"{}", headers={**JSON, "Content-Length": "-1"}).status_code == 411
    assert read == []


@pytest.mark.parametrize("origin", ["http://[", "", "http://localhost:8042@evil.example.org", "localhost:8042"])
def test_origins_that_are_none_are_foreign(site: Site, origin: str) -> None:
    """403 and no stack trace, whatever stands there."""
    answer = site.client().post(site.address, json=site.body(), headers={"Origin": origin})
    assert answer.status_code == 403


@pytest.mark.usefixtures("_takes_everything")
def test_the_largest_prompt_is_taken(site: Site) -> None:
    """1000 boxes, 1000 points and 16 questions with every character escaped stay below the limit of a request."""
    place = {"sop_instance_uid": "1." + "2" * 62, "frame_number": 12345}
    prompt = {
        "questions": [{"text": "血" * 1000, "label": "管" * 64}] * 16,
        "boxes": [{**place, "left": 1000.25, "top": 1000.25, "right": 1000.25, "bottom": 1000.25}] * 1000,
        "points": [{**place, "x": 1000.25, "y": 1000.25, "inside": False}] * 1000,
    }
    answer = site.client().post(site.address, content=json.dumps(site.body(prompt=prompt)), headers=JSON)
    assert answer.status_code == 202, answer.text
