"""What somebody may send who means harm: values that nothing foresees, lengths that lie, pictures behind the log."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from console_site import ConsoleSite
from fastapi.testclient import TestClient
from web_client import ADDRESS, csrf_of, signed_in, stranger, with_token

from db import accounts
from db.audit_queries import AuditQuery, audit_rows
from dicom_core.roles import Role

NESTED = "[" * 5000


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ConsoleSite]:
    site = ConsoleSite(tmp_path / "data")
    yield site
    site.close()


@pytest.fixture
def client(site: ConsoleSite) -> Iterator[TestClient]:
    with signed_in(site, ("operator", "admin")) as client:
        yield client


def answered(client: TestClient, path: str, query: bytes = b"", **headers: str) -> int:
    """The status of what a client sends that follows no rules; the test client would mend it."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * 2_000_000, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    given = {"host": ADDRESS.removeprefix("http://"), **headers}
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST" if headers else "GET", "scheme": "http", "path": path,
        "raw_path": path.encode(), "root_path": "", "query_string": query, "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8042), "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }  # fmt: skip
    asyncio.run(client.app(scope, receive, send))  # type: ignore[arg-type]  # an ASGI application
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    "before",
    ["0001-01-01T00:00:00+23:59_1.2", "9999-12-31T23:59:59-23:59_1.2", "2026-01-01_x", "_", "2026-01-01T00:00:00Z_\0"],
)
def test_pages_of_studies_that_are_none(client: TestClient, before: str) -> None:
    """Times that no database takes, and UIDs that are none, are refused in words."""
    assert client.get("/", params={"before": before}).status_code == 422


def test_searches_for_what_no_database_takes_find_nothing(site: ConsoleSite, client: TestClient) -> None:
    """NUL in a search finds no study; a usual one does."""
    site.study("1.2.3")
    assert "1.2.3" in client.get("/", params={"q": "ANGIO1", "modality": "XA"}).text
    for name in ("q", "modality"):
        answer = client.get("/", params={name: "\0ANGIO1"})
        assert (answer.status_code, "/studies/1.2.3" in answer.text) == (200, False), name


def test_half_a_character_in_a_header_is_refused(client: TestClient) -> None:
    """It could be told of in no answer."""
    content = '{"header":{"00080060":{"vr":"CS","Value":["\\ud800"]}}}'
    answer = client.post("/api/v1/rules/explain", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, "JSON Model" in answer.json()["detail"]) == (422, True)


@pytest.mark.parametrize("rules", [f"a = {NESTED}", f"a = {'9' * 5000}"])
def test_rules_without_end_are_no_toml(client: TestClient, rules: str) -> None:
    """Brackets within brackets and numbers of thousands of digits: a sentence."""
    answer = client.post("/api/v1/rules/try", json={"rules": rules})
    assert (answer.status_code, "this is not TOML" in answer.json()["detail"]) == (422, True)


@pytest.mark.parametrize("prompt", ["\0", "a" * 1001, "\x1b[31mred"])
def test_a_question_of_the_form_that_cannot_be_asked(site: ConsoleSite, client: TestClient, prompt: str) -> None:
    """The page says so; the JSON API does it with its model."""
    site.study("1.2.3")
    fields = {"csrf": csrf_of(client), "series_instance_uid": "1.2.3.1", "prompt": prompt, "reason": "again"}
    answer = client.post("/studies/1.2.3/runs", data=fields)
    assert (answer.status_code, "can be printed" in answer.text) == (422, True)


def test_names_of_people_that_no_database_takes(site: ConsoleSite, client: TestClient) -> None:
    """What cannot be printed in a display name becomes a question mark; in the address of an account it is refused."""
    made = client.post("/api/v1/accounts", json={"user_name": "eve", "display_name": "E\0ve\u202e", "roles": []})
    assert (made.status_code, made.json().get("account", {}).get("display_name")) == (201, "E?ve?"), made.text
    assert accounts.from_provider(site.record, "eva", (Role.VIEWER,), display_name="\0").display_name == "?"
    for name in ("a%00", "%20", "token:x", "a%0A"):
        answer = client.post(f"/accounts/{name}/disable", data={"csrf": csrf_of(client)})
        assert answer.status_code == 422, name


@pytest.mark.parametrize(("path", "status"), [("/", 303), ("/sign-in", 200), ("/api/v1/me", 401), ("/static/x", 404)])
def test_octets_of_an_address_that_are_no_text(site: ConsoleSite, path: str, status: int) -> None:
    """A stranger cannot fill the log with failures by them."""
    assert answered(stranger(site), path, b"next=\xff&q=%ff") == status


def test_a_length_beside_chunks_is_not_believed(site: ConsoleSite) -> None:
    """Chunks may be as many as they like, whatever length is told: nothing of them is read."""
    form = {"content-type": "application/x-www-form-urlencoded", "content-length": "3"}
    assert answered(stranger(site), "/sign-in", **form, **{"transfer-encoding": "chunked"}) == 411


@pytest.mark.parametrize(
    ("roles", "status", "location"),
    [(("auditor",), 303, "/audit"), (("viewer",), 200, None), (("auditor", "viewer"), 200, None), ((), 403, None)],
)
def test_the_first_page_of_everybody(
    site: ConsoleSite, roles: tuple[str, ...], status: int, location: str | None
) -> None:
    """Who may not see studies gets to what he may see, and is not noted as somebody who tried what is forbidden."""
    with signed_in(site, roles) as client:
        answer = client.get("/")
        assert (answer.status_code, answer.headers.get("location")) == (status, location)
        assert client.get("/queue").status_code == (200 if "viewer" in roles else 403)
    refused = audit_rows(site.record, AuditQuery(event="access-refused"))
    assert [row.detail["path"] for row in refused] == {(): ["/", "/queue"], ("auditor",): ["/queue"]}.get(roles, [])


@pytest.mark.parametrize(
    "path", ["jobs/{}", "jobs/{}/preview", "jobs/{}/previews/preview.png", "jobs?study_instance_uid=1.2.3"]
)
def test_nobody_sees_results_behind_the_log(site: ConsoleSite, path: str) -> None:
    """A program that fetches the pictures of a study, or its jobs, has viewed it; once for a while, like people."""
    job = site.study("1.2.3")
    site.finish(job)
    with with_token(site, ("read",)) as client:
        assert client.get("/api/v1/jobs").status_code == 200
        assert audit_rows(site.record, AuditQuery(event="study-viewed")) == []
        for _ in range(2):
            assert client.get(f"/api/v1/{path.format(job.job_id)}").status_code == 200
    (row,) = audit_rows(site.record, AuditQuery(event="study-viewed"))
    assert (row.study_instance_uid, row.user, row.address) == ("1.2.3", "token:read", "127.0.0.1")


def test_pictures_of_a_page_are_no_second_viewing(site: ConsoleSite) -> None:
    """Whoever opens a study's page sees its pictures with it."""
    job = site.study("1.2.3")
    site.finish(job)
    with signed_in(site, ("viewer",)) as client:
        client.get("/studies/1.2.3")
        assert client.get(f"/api/v1/jobs/{job.job_id}/previews/preview.png").status_code == 200
    assert [row.detail["by"] for row in audit_rows(site.record, AuditQuery(event="study-viewed"))] == ["web"]


def test_errors_of_the_database_keep_values_to_themselves(site: ConsoleSite) -> None:
    """What nobody foresaw is logged with the statement, but without what was written by it."""
    with pytest.raises(Exception, match="INSERT INTO users") as failed, site.record.writing() as transaction:
        transaction.session.connection().exec_driver_sql("INSERT INTO users (user_name) VALUES (?)", ("SECRET",))
    assert "SECRET" not in str(failed.value)
