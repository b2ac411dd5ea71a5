"""Web pages, JSON API and metrics over a prepared record."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from console_site import PNG, ConsoleSite
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from web_client import settings_of, signed_in

from console.web.application import SECURITY_HEADERS, make_application
from db import processes, reports
from db.audit_queries import AuditQuery, audit_rows
from dicom_core.job import JobState

HOSTILE = "<script>x</script>"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ConsoleSite]:
    site = ConsoleSite(tmp_path / "data")
    yield site
    site.close()


@pytest.fixture
def client(site: ConsoleSite) -> Iterator[TestClient]:
    with signed_in(site, roles=("operator", "auditor")) as client:
        yield client


@pytest.mark.parametrize(
    "address", ["/", "/queue", "/healthz", "/api/v1/studies", "/metrics", "/static/vesselq.css", "/x"]
)
def test_security_headers_everywhere(client: TestClient, address: str) -> None:
    """Every answer, refusals too, forbids inline script, sniffing, framing and referrers."""
    answer = client.get(address)
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers[name] == value
    assert "unsafe" not in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("host", ["evil.example.org", "localhost.evil.example.org", "", "127.0.0.1.nip.io"])
def test_foreign_host_names_are_refused(client: TestClient, host: str) -> None:
    """A page elsewhere that rebinds its name to this address gets nothing (DNS rebinding)."""
    answer = client.get("/api/v1/studies", headers={"Host": host})
    assert answer.status_code == 400
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9999", "[::1]:8042"])
def test_own_host_names_are_served(client: TestClient, host: str) -> None:
    """The names of the settings are served with any port."""
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_hostile_values_are_escaped(site: ConsoleSite, client: TestClient) -> None:
    """Text from the wire, reasons and warnings appear as text on every page, never as markup."""
    site.receive("1.2.4", ae_title=HOSTILE[:16])
    site.fail(site.study("1.2.3"), HOSTILE)
    for address in ("/", "/studies/1.2.3", "/studies/1.2.4"):
        page = client.get(address).text
        assert "<script>x" not in page
    assert "&lt;script&gt;x&lt;/script&gt;" in client.get("/studies/1.2.3").text
    assert "&lt;script&gt;" in client.get("/").text


def test_pages_hold_no_inline_script_or_style(site: ConsoleSite, client: TestClient) -> None:
    """All script and style comes from /static, so that the content security policy can forbid the rest."""
    site.finish(site.study("1.2.3"))
    for address in ("/", "/studies/1.2.3", "/queue", "/studies/1.2.99"):
        page = client.get(address).text
        assert "style=" not in page
        assert "<style" not in page
        assert page.count("<script") == page.count('<script src="/static/')
        assert " on" + "click" not in page


def test_study_page(site: ConsoleSite, client: TestClient) -> None:
    """A study's page shows jobs, deliveries, preview and audit trail."""
    job = site.study("1.2.3")
    site.finish(job)
    page = client.get("/studies/1.2.3").text
    assert f'src="/api/v1/jobs/{job.job_id}/previews/preview.png"' in page
    assert "0x0000 stored" in page
    assert "seg-created" in page
    assert "study-complete" in page


def test_the_audit_api_gives_all_that_a_hash_is_made_of(site: ConsoleSite, client: TestClient) -> None:
    """The columns of the chain are in the JSON rows, and each row continues the one before."""
    site.study("1.2.3")
    events = client.get("/api/v1/audit").json()["events"]
    assert all("event_type" in event for event in events)
    assert [event["previous_hash"] for event in events[1:]] == [event["row_hash"] for event in events[:-1]]


def test_showing_an_audit_trail_is_audited(site: ConsoleSite, client: TestClient) -> None:
    """The study page and the audit API leave audit-read events; lists that refresh leave none."""
    site.receive("1.2.3")
    client.get("/")
    client.get("/api/v1/studies/1.2.3")
    query = AuditQuery(event="audit-read")
    assert audit_rows(site.record, query) == []
    client.get("/studies/1.2.3")
    client.get("/api/v1/audit", params={"study_instance_uid": "1.2.3"})
    rows = audit_rows(site.record, query)
    assert [row.study_instance_uid or row.detail["study_instance_uid"] for row in rows] == ["1.2.3", "1.2.3"]
    assert all(row.address for row in rows)


@pytest.mark.parametrize("uid", ["1.2.x", "1..2", "01.2", "1" * 65, "%3Cscript%3E", "1.2.3%0A"])
def test_what_is_no_uid_is_refused(client: TestClient, uid: str) -> None:
    """Pages and API take UIDs of PS3.5 section 9.1 and nothing else."""
    assert client.get(f"/api/v1/studies/{uid}").status_code == 422
    assert client.get(f"/studies/{uid}").status_code == 422
    assert client.get(f"/api/v1/jobs?study_instance_uid={uid}").status_code == 422


def test_unknown_study(client: TestClient) -> None:
    """A study that never came is 404: JSON for the API, a page for people."""
    answer = client.get("/api/v1/studies/1.2.99")
    assert answer.status_code == 404
    assert answer.json() == {"detail": "no study 1.2.99 was received"}
    page = client.get("/studies/1.2.99")
    assert page.status_code == 404
    assert "no study 1.2.99 was received" in page.text


def test_api_study_with_jobs_and_deliveries(site: ConsoleSite, client: TestClient) -> None:
    """The API gives a study with everything that hangs on it."""
    job = site.study("1.2.3")
    site.finish(job)
    found = client.get("/api/v1/studies/1.2.3").json()
    assert found["study"]["state"] == "COMPLETE"
    assert [one["job_id"] for one in found["jobs"]] == [job.job_id]
    assert found["jobs"][0]["results"][0]["sop_instance_uid"] == "2.25.1"
    assert [(one["destination"], one["state"]) for one in found["deliveries"]] == [("pacs", "SENT")]
    assert [(one["kind"], one["sop_instance_uid"]) for one in found["deliveries"]] == [("seg", "2.25.1")]


def test_api_filters(site: ConsoleSite, client: TestClient) -> None:
    """Studies and jobs by state, audit events by outcome; unknown words are refused."""
    site.fail(site.study("1.2.3"))
    site.receive("1.2.4")
    receiving = client.get("/api/v1/studies", params={"state": "RECEIVING"}).json()["studies"]
    assert [one["study_instance_uid"] for one in receiving] == ["1.2.4"]
    failed = client.get("/api/v1/jobs", params={"state": ["FAILED", "DONE"]}).json()["jobs"]
    assert [one["study_instance_uid"] for one in failed] == ["1.2.3"]
    events = client.get("/api/v1/audit", params={"failed": True}).json()["events"]
    assert [one["event"] for one in events] == ["job-failed"]
    for address in (
        "studies?state=x",
        "jobs?state=x",
        "audit?event=x",
        "audit?since=2026-01-01T00:00:00",
        "jobs?limit=0",
    ):
        assert client.get(f"/api/v1/{address}").status_code == 422, address


def test_preview(site: ConsoleSite, client: TestClient) -> None:
    """The preview of a job is served as PNG."""
    job = site.study("1.2.3")
    site.finish(job)
    answer = client.get(f"/api/v1/jobs/{job.job_id}/preview")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.content == PNG


@pytest.mark.parametrize("path", ["../vesselq.sqlite3", "/etc/passwd", "../../secret.png", "missing.png", "aa"])
def test_preview_never_leaves_the_results_folder(site: ConsoleSite, client: TestClient, path: str) -> None:
    """Even a record that names a file elsewhere gets nothing served from there."""
    (site.folder.parent / "secret.png").write_bytes(PNG)
    job = site.study("1.2.3")
    site.finish(job, preview_path=path)
    assert client.get(f"/api/v1/jobs/{job.job_id}/preview").status_code == 404


@pytest.mark.parametrize("name", ["..%2F..%2Fvesselq.sqlite3", "../../../data/vesselq.sqlite3", "..%2fweb%2fserver.py"])
def test_static_files_stay_in_their_folder(client: TestClient, name: str) -> None:
    """Nothing outside the static folder is served."""
    answer = client.get(f"/static/{name}")
    assert answer.status_code == 404


def test_page_shows_the_previews_that_are_there(site: ConsoleSite, client: TestClient) -> None:
    """A plain frame brings a switch; frames, slices and projections are shown by those jobs that have them."""
    run, volume, bare = (site.study(uid) for uid in ("1.2.3", "1.2.4", "1.2.5"))
    site.finish(run, more_previews=["preview_plain.png", "preview_frames.jpg"])
    site.finish(volume, more_previews=["preview_plain.png", "preview_montage.png", "preview_projections.png"])
    site.finish(bare)
    pages = [client.get(f"/studies/{uid}").text for uid in ("1.2.3", "1.2.4", "1.2.5")]
    assert ['type="checkbox"' in page for page in pages] == [True, True, False]
    for name, shown in (
        ("preview_plain.png", [True, True, False]),
        ("preview_frames.jpg", [True, False, False]),
        ("preview_montage.png", [False, True, False]),
        ("preview_projections.png", [False, True, False]),
    ):
        assert [f"/{name}" in page for page in pages] == shown, name


def test_previews_are_served_by_name(site: ConsoleSite, client: TestClient) -> None:
    """Each picture comes with its media type; a name off the list, or of a picture that is not there, with 404."""
    job = site.study("1.2.3")
    site.finish(job, more_previews=["preview_frames.jpg", "secret.png"])
    address = f"/api/v1/jobs/{job.job_id}/previews"
    assert client.get(f"{address}/preview.png").headers["Content-Type"] == "image/png"
    assert client.get(f"{address}/preview_frames.jpg").headers["Content-Type"] == "image/jpeg"
    for name in ("secret.png", "preview_montage.png", "seg.dcm", "..%2F..%2Fvesselq.sqlite3", "PREVIEW.PNG"):
        assert client.get(f"{address}/{name}").status_code == 404, name


def test_removed_previews_leave_the_page_standing(site: ConsoleSite, client: TestClient) -> None:
    """After the retention policy took the pictures the page shows none and says everything else."""
    job = site.study("1.2.3")
    site.finish(job)
    (site.folder / "results" / str(reports.jobs(site.record)[0].result["preview_path"])).unlink()
    page = client.get("/studies/1.2.3")
    assert page.status_code == 200
    assert "<figure" not in page.text


def test_no_preview_yet(site: ConsoleSite, client: TestClient) -> None:
    """A job without a result, or an id that is none, has no preview."""
    job = site.study("1.2.3")
    assert client.get(f"/api/v1/jobs/{job.job_id}/preview").status_code == 404
    assert client.get(f"/api/v1/jobs/{'f' * 32}/preview").status_code == 404
    assert client.get("/api/v1/jobs/FFFF/preview").status_code == 422


def test_what_only_shows_takes_no_changes(site: ConsoleSite, client: TestClient) -> None:
    """Addresses that show things refuse every other method."""
    job = site.study("1.2.3")
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for address in ("/", "/studies/1.2.3", f"/api/v1/jobs/{job.job_id}", "/api/v1/studies/1.2.3"):
            assert client.request(method, address, json={}).status_code == 405
    paths = client.get("/api/v1/openapi.json").json()["paths"]
    assert {"/api/v1/studies", "/api/v1/studies/{study_instance_uid}", "/api/v1/jobs", "/api/v1/audit"} <= set(paths)


def metrics(client: TestClient) -> dict[tuple[str, str], float]:
    """Values by metric and label."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_metrics(site: ConsoleSite, client: TestClient) -> None:
    """Metrics count jobs by state, studies under way, waiting time and living processes."""
    site.fail(site.study("1.2.3"))
    site.study("1.2.4")
    site.receive("1.2.5")
    process = processes.start(site.record, "listener", version="1", configuration={})
    found = metrics(client)
    assert found["vesselq_jobs", "FAILED"] == 1
    assert found["vesselq_jobs", "QUEUED"] == 1
    assert found["vesselq_jobs", JobState.DONE.value] == 0
    assert found["vesselq_studies_receiving", ""] == 1
    assert 0 <= found["vesselq_oldest_waiting_job_age_seconds", ""] < 60
    assert found["vesselq_processes_alive", "listener"] == 1
    processes.stop(site.record, process)
    assert ("vesselq_processes_alive", "listener") not in metrics(client)


def test_metrics_name_no_study(site: ConsoleSite, client: TestClient) -> None:
    """No identifier of a study, a sender or a job is in the metrics."""
    job = site.study("1.2.3.4567")
    site.fail(job)
    text = client.get("/metrics").text
    assert not any(word in text for word in ("1.2.3.4567", "ANGIO1", job.job_id))


def test_health(site: ConsoleSite, client: TestClient) -> None:
    """`/api/v1/health` tells schema, jobs and processes; `/healthz` that the database answers."""
    processes.start(site.record, "web", version="1", configuration={})
    found = client.get("/api/v1/health").json()
    assert found["schema"]
    assert [(one["kind"], one["alive"]) for one in found["processes"]] == [("web", True)]
    assert client.get("/healthz").json() == {"status": "ok"}
    former_page = client.get("/processes")
    assert (former_page.status_code, former_page.headers["Location"]) == (308, "/queue#workers")
    assert "alive" in client.get("/queue").text


def test_database_away(tmp_path: Path) -> None:
    """Without its database the health check is 503 with a sentence, without a trace."""
    site = ConsoleSite(tmp_path / "data")
    application = make_application(settings_of(site, sign_in="off"), site.record)
    site.close()
    (site.folder / "vesselq.sqlite3").unlink()
    site.folder.joinpath("vesselq.sqlite3").mkdir()
    with TestClient(application, base_url="http://localhost", raise_server_exceptions=False) as client:
        answer = client.get("/healthz")
        assert answer.status_code == 503
        assert "database does not answer" in answer.text
        api = client.get("/api/v1/studies")
        assert json.loads(api.text)["detail"].startswith("the database does not answer")
    site.close()
