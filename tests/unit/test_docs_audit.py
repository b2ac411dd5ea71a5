"""The twelve questions of docs/how-to/audit.md: each command, each call and each page answers what it says."""

import json
import re
import shlex
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from console_site import ConsoleSite
from doc_pages import DOCS
from fastapi.testclient import TestClient
from sqlalchemy import text
from typer.testing import CliRunner
from web_client import csrf_of, signed_in, with_token

from console.cli import app
from db import audit, migrate, reports
from db.audit import Event, Outcome
from db.models import Study
from dicom_core.pseudonym import patient_hash

STUDY = "2.25.165883192560704689656146119960931434275"
UNANSWERED = "2.25.7"
_SECTION = re.compile(r"^## (\d+)\. .*?$\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_PAGE = (DOCS / "how-to" / "audit.md").read_text(encoding="utf-8")
QUESTIONS = {int(number): body for number, body in _SECTION.findall(_PAGE)}
EXPECTED = {
    1: "study-complete", 2: "anna", 3: STUDY, 4: "study-viewed", 5: "association-refused", 6: "instances-received",
    7: "job-failed", 8: UNANSWERED, 9: "seg-created", 10: STUDY, 11: "holds", 12: "study-complete",
}  # fmt: skip
"""A word that every way of asking must answer with."""
PATIENT = {"patient_id": "PAT-4711", "issuer_of_patient_id": "Hospital A"}
FORMS: dict[int, tuple[str, dict[str, str]]] = {3: ("/audit/patient", PATIENT), 11: ("/audit/verify", {})}
"""Questions that a page sends by POST."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleSite]:
    """What the questions are about."""
    site = ConsoleSite(tmp_path_factory.mktemp("site") / "data")
    site.finish(site.study(STUDY))
    site.fail(site.study(UNANSWERED))
    site.refuse_association("INTRUDER")
    with site.record.engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET model = 'vesselnet', model_version = '1.0' WHERE state = 'DONE'"))
    found = patient_hash(migrate.site_key(site.record), "PAT-4711", "Hospital A")
    with site.record.writing() as transaction:
        transaction.session.get_one(Study, STUDY).patient_hash = found
    anna = site.record.on_behalf_of("anna")
    audit.record_event(anna, Event.STUDY_VIEWED, study_instance_uid=STUDY)
    for event in (Event.SIGNED_IN, Event.ACCESS_REFUSED):
        audit.record_event(anna, event, outcome=Outcome.MINOR_FAILURE)
    yield site
    site.close()


@pytest.fixture(scope="module")
def browser(site: ConsoleSite) -> TestClient:
    return signed_in(site, roles=("auditor",))


@pytest.fixture(scope="module")
def program(site: ConsoleSite) -> TestClient:
    return with_token(site, scopes=("audit",))


def today(site: ConsoleSite, text: str) -> str:
    """The text of the page with the job and the days of this site in the place of those that it shows."""
    (job,) = reports.jobs(site.record, study_instance_uid=STUDY)
    day = timedelta(days=1)
    begin, end = (moment.strftime("%Y-%m-%d") for moment in (site.record.now() - day, site.record.now() + day))
    text = text.replace("2026-03-01", begin).replace("2026-04-01", end)
    return text.replace("5f0c1d7e9a3b4c2d8e6f7a1b2c3d4e5f", job.job_id).replace("5f0c1d7e", job.job_id[:8])


def shown(site: ConsoleSite, number: int, program: str) -> list[list[str]]:
    """The words of the lines of one question that begin with ``program``."""
    body = today(site, QUESTIONS[number])
    lines = [
        line.strip()
        for block in re.findall(r"^```sh\n(.*?)^```", body, re.MULTILINE | re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return [shlex.split(line) for line in lines if line.startswith(f"{program} ")]


def test_there_are_twelve_questions() -> None:
    """Each has a command, a call and a page."""
    assert list(QUESTIONS) == list(EXPECTED) == list(range(1, 13))
    for body in QUESTIONS.values():
        assert re.search(r"^vesselq ", body, re.MULTILINE)
        assert re.search(r"^curl ", body, re.MULTILINE)
        assert "Page: " in body


@pytest.mark.parametrize("number", EXPECTED)
def test_the_commands_answer(site: ConsoleSite, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is shown is typed as it is; the first of several commands finds what is expected."""
    monkeypatch.chdir(tmp_path)
    told = []
    for words in shown(site, number, "vesselq"):
        arguments = [*words[1:], "--data-folder", str(site.folder)]
        done = CliRunner().invoke(app, arguments, input="PAT-4711\n")
        assert done.exit_code == 0, done.output
        told.append(done.stdout + "".join(file.read_text() for file in tmp_path.glob("*.jsonl")))
    assert EXPECTED[number] in told[0]
    assert all("nothing fits" not in one for one in told)


@pytest.mark.parametrize("number", EXPECTED)
def test_the_calls_answer(site: ConsoleSite, program: TestClient, number: int) -> None:
    """The address, and the content where something is sent, as a program with a token would."""
    ((_, *words),) = shown(site, number, "curl")
    (url,) = (word for word in words if word.startswith("http"))
    assert words[:2] == ["-H", "Authorization: Bearer $TOKEN"]
    parts = urlsplit(url)
    where = f"{parts.path}?{parts.query}"
    if "--data" in words:
        content = words[words.index("--data") + 1]
        if content.startswith("@"):
            (content,) = re.findall(r"^```json\n(.*?)^```", QUESTIONS[number], re.MULTILINE | re.DOTALL)
        answer = program.post(where, json=json.loads(content))
    else:
        answer = program.get(where)
    assert answer.status_code == 200, answer.text
    assert EXPECTED[number] in answer.text


@pytest.mark.parametrize("number", EXPECTED)
def test_the_pages_answer(site: ConsoleSite, browser: TestClient, number: int) -> None:
    """The address that is shown, or the form on the page of the audit log."""
    (said,) = re.findall(r"^Page: (.*?)(?=\n\n|\Z)", today(site, QUESTIONS[number]), re.MULTILINE | re.DOTALL)
    where = re.findall(r"`(/[^`]*)`", said)[-1]
    form = {
        3: ("/audit/patient", {"patient_id": "PAT-4711", "issuer_of_patient_id": "Hospital A"}),
        11: ("/audit/verify", {}),
    }
    if number in form:
        path, fields = form[number]
        answer = browser.post(path, data={"csrf": csrf_of(browser, where), **fields}, follow_redirects=True)
    else:
        answer = browser.get(where)
    assert answer.status_code == 200
    assert EXPECTED[number] in re.sub(r"(?s)<form.*?</form>", "", answer.text)
