"""The list of studies and the page of one study: what they show, to whom, and what operators do with them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from console_site import ConsoleSite
from fastapi.testclient import TestClient
from web_client import csrf_of, signed_in, with_token

from console.web import rendering
from console.web.studies_page import PAGE_STUDIES
from db import audit, jobs, progress, reports
from db.audit import Event
from db.audit_queries import AuditQuery, AuditRow, audit_rows
from dicom_core.job import JobState

HOSTILE = "<script>x</script>"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ConsoleSite]:
    site = ConsoleSite(tmp_path / "data")
    yield site
    site.close()


@pytest.fixture
def client(site: ConsoleSite) -> Iterator[TestClient]:
    with signed_in(site, roles=("operator",), name="Ada") as client:
        yield client


def events(site: ConsoleSite, event: str) -> list[AuditRow]:
    return audit_rows(site.record, AuditQuery(event=event))


def text_of(page: str) -> str:
    """What a reader sees: without tags, with single spaces."""
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def rows_of(page: str) -> list[str]:
    """The UIDs of the studies in the list, from the top."""
    return re.findall(r'<tr id="study-([0-9.]+)"', page)


# --- the list ---------------------------------------------------------------------------------------------------------


def test_list_says_what_there_is_of_each_study(site: ConsoleSite, client: TestClient) -> None:
    """A line has the states, the sender, the rule and the segmenter, and follows the record by itself."""
    site.finish(site.study("1.2.3"))
    page = client.get("/").text
    assert 'href="/studies/1.2.3"' in page
    assert 'data-state="DONE"' in page
    assert all(word in page for word in ("XA", "ANGIO1", "xray-angiography", "ridge", "routine"))
    assert '<section id="studies" data-live ' in page


def test_empty_site_says_where_to_send(client: TestClient) -> None:
    """A site that received nothing says so, and what to do."""
    page = text_of(client.get("/").text)
    assert "No study was received yet" in page
    assert "AE title VESSELQ, port 11112" in page


def test_filters_and_search(site: ConsoleSite, client: TestClient) -> None:
    """By state, by group of states, modality, time, beginning of a UID, UID of a source or a result, and AE title."""
    site.finish(site.study("1.2.3"))
    site.fail(site.study("1.2.4"))
    site.receive("1.9.1", modality="CT", ae_title="CT1")
    for query, expected in {
        "": ["1.9.1", "1.2.4", "1.2.3"],
        "state=DONE": ["1.2.3"],
        "state=failed": ["1.2.4"],
        "state=open": ["1.9.1"],
        "state=RECEIVING": ["1.9.1"],
        "modality=CT": ["1.9.1"],
        "days=1": ["1.9.1", "1.2.4", "1.2.3"],
        "q=1.2": ["1.2.4", "1.2.3"],
        "q=1.2&state=done": ["1.2.3"],
        "q=1.2.4.1.9": ["1.2.4"],
        "q=2.25.1": ["1.2.3"],
        "q=CT1": ["1.9.1"],
        "q=NOBODY": [],
        "q=1%25": [],
    }.items():
        assert rows_of(client.get(f"/?{query}").text) == expected, query
    assert "No study fits" in client.get("/?q=NOBODY").text
    assert client.get("/?state=SLEEPING").status_code == 422
    assert client.get("/?days=x").status_code == 422


def test_long_uids_do_not_hide_what_a_reason_says(site: ConsoleSite, client: TestClient) -> None:
    """In the list the UID is cut in the middle; the tooltip and the page of the study have all of it."""
    uid = "1.2.826.0.1.3680043.8.498.45591842512345678901234567890"
    site.fail(site.study("1.2.3"), f"instance {uid} ends early")
    page = client.get("/").text
    assert ">instance 1.2.826.…78901234567890 ends early</span>" in page
    assert f'title="instance {uid} ends early"' in page
    assert f"instance {uid} ends early" in client.get("/studies/1.2.3").text


def test_pages_of_the_list_show_every_study_once(site: ConsoleSite, client: TestClient) -> None:
    """The link at the end leads to those received before; the last page has none."""
    uids = [f"1.2.{number}" for number in range(PAGE_STUDIES + 3)]
    for uid in uids:
        site.receive(uid)
    first = client.get("/?modality=XA").text
    link = re.search(r'<p class="more"><a class="button" href="([^"]+)"', first)
    assert link
    second = client.get(link[1].replace("&amp;", "&")).text
    assert rows_of(first) + rows_of(second) == uids[::-1]
    assert 'class="more"' not in second
    assert client.get("/?before=yesterday").status_code == 422


def test_running_jobs_have_a_bar_and_waiting_ones_an_estimate(site: ConsoleSite, client: TestClient) -> None:
    """The bar has the share and the stage that the worker told; the estimate comes from how long jobs took."""
    site.finish(site.study("1.2.1"))
    running = site.claim(site.study("1.2.2"))
    progress.report(site.record, running, "segment", 0.25, "a device")
    site.study("1.2.3")
    page = client.get("/").text
    assert f'data-job="{running.job_id}"' in page
    assert 'value="0.250"' in page
    assert "Segmenting 25 %" in text_of(page)
    assert "result in about" not in page, "no worker lives"
    with site.record.writing() as transaction:
        from db.models import Process

        transaction.session.add(
            Process(
                process_id="0" * 32, kind="worker", host="x", pid=1, version="1", started_at=transaction.now,
                last_seen_at=transaction.now, stopped_at=None, doing="",
            )
        )  # fmt: skip
    assert "result in about" in client.get("/").text


# --- one study --------------------------------------------------------------------------------------------------------


def test_study_page_has_everything(site: ConsoleSite, client: TestClient) -> None:
    """Association, series, decision, timings, objects with UIDs and answers, and the trail with who did what."""
    site.finish(site.study("1.2.3"))
    page = client.get("/studies/1.2.3").text
    text = text_of(page)
    assert "192.0.2.1" in text
    assert "X-Ray Angiographic Image Storage" in text
    assert "Explicit VR Little Endian" in text
    assert "The rule “xray-angiography” chose ridge. The result goes to pacs." in text
    assert "Segmenting" in text
    assert "1.5 s" in text
    assert "2.25.1" in text
    assert "0x0000 stored" in text
    rows = audit_rows(site.record, AuditQuery(study_instance_uid="1.2.3"))
    assert all(f'data-label="By">{row.by}</td>' in page for row in rows)
    assert {"ANGIO1@192.0.2.1", "Ada"} <= {row.by for row in rows}
    assert len(re.findall(r'<tr id="event-', page)) == len(rows)


def test_study_page_says_why_nothing_was_analysed(site: ConsoleSite, client: TestClient) -> None:
    """Skipped series, no vessel and failures are told in words; no vessel is not called a finding."""
    site.study("1.2.3", state=JobState.SKIPPED, reason="no rule wants it (Modality US)", segmenter="")
    site.fail(site.study("1.2.4"))
    job = site.claim(site.study("1.2.5"))
    jobs.finish_without_result(site.record, job, JobState.NO_VESSEL_FOUND, "no vessel found", {})
    assert "Not analysed because no rule wants it (Modality US)." in client.get("/studies/1.2.3").text
    assert "the pixel data of instance 1.2.3.9 ends early" in client.get("/studies/1.2.4").text
    assert "That is no proof that there is none" in client.get("/studies/1.2.5").text


def test_study_page_tells_question_and_answer(site: ConsoleSite, client: TestClient) -> None:
    """What was asked, by whom in kind, and what the model said: as text, whatever it says."""
    job = site.claim(site.study("1.2.3"))
    told = {"prompt": "Gefäße", "semiautomatic": True, "answer": HOSTILE, "memory": "ran out"}
    jobs.finish_without_result(site.record, job, JobState.NO_VESSEL_FOUND, "no vessel found", told)
    page = client.get("/studies/1.2.3").text
    assert "<dt>Asked</dt><dd>Gefäße</dd>" in page
    assert "A person asked for ridge." in page
    assert "<dt>Answer</dt><dd>&lt;script&gt;x&lt;/script&gt;</dd>" in page
    assert "<dt>Memory</dt><dd>ran out</dd>" in page


def test_study_page_links_to_the_viewer_of_the_hospital(site: ConsoleSite) -> None:
    """With the UID in the address; an address that is no web page makes no link."""
    site.receive("1.2.3")
    template = "https://viewer.example.org/?study={study_instance_uid}"
    with signed_in(site, viewer_url=template) as client:
        assert 'href="https://viewer.example.org/?study=1.2.3"' in client.get("/studies/1.2.3").text
    with signed_in(site, viewer_url="javascript:alert(1)") as client:
        assert "javascript" not in client.get("/studies/1.2.3").text


def test_series_page_lists_instances(site: ConsoleSite, client: TestClient) -> None:
    """Each instance with class and state; a series that there is not says so."""
    site.receive("1.2.3")
    page = client.get("/studies/1.2.3/series/1.2.3.1").text
    assert "1.2.3.9" in page
    assert "X-Ray Angiographic Image Storage" in page
    assert "No such series" in client.get("/studies/1.2.3/series/1.2.9").text
    assert client.get("/studies/1.2.9/series/1.2.9").status_code == 404


def test_replaced_jobs_stand_apart(site: ConsoleSite, client: TestClient) -> None:
    """A job of an earlier generation is listed as earlier and has no buttons."""
    earlier = site.study("1.2.3")
    site.finish(earlier)
    site.receive("1.2.3", series="1.2.3.1")
    with site.record.writing() as transaction:
        from db.models import JobRow

        row = transaction.session.get_one(JobRow, earlier.job_id)
        columns = {column.name: getattr(row, column.name) for column in JobRow.__table__.columns}
        newer = {**columns, "job_id": "f" * 32, "generation": 2, "state": "FAILED", "reason": "broken"}
        transaction.session.add(JobRow(**newer))
    page = client.get("/studies/1.2.3").text
    assert f'id="job-{"f" * 32}"' in page
    assert f'id="job-{earlier.job_id}"' not in page
    assert "Earlier generations" in page


# --- who sees and does what -------------------------------------------------------------------------------------------


def test_viewing_is_audited_once_for_a_while(site: ConsoleSite, client: TestClient) -> None:
    """Person, study and address are in the log once, however often the page is fetched; another person anew."""
    site.receive("1.2.3")
    for _ in range(3):
        assert client.get("/studies/1.2.3").status_code == 200
    assert [(row.user, row.study_instance_uid) for row in events(site, "study-viewed")] == [("Ada", "1.2.3")]
    assert [row.user for row in events(site, "audit-read")] == ["Ada"], "the trail was read as well"
    with signed_in(site, roles=("viewer",), name="Bob") as other:
        other.get("/studies/1.2.3")
        other.get("/studies/1.2.3/series/1.2.3.1")
    assert [row.user for row in events(site, "study-viewed")] == ["Ada", "Bob"]
    assert [row.user for row in events(site, "audit-read")] == ["Ada"]


def test_reading_a_study_over_the_api_is_viewing_it(site: ConsoleSite) -> None:
    """A program that reads a study is in the audit log like a person; what is not there was not seen."""
    site.receive("1.2.3")
    client = with_token(site, scopes=("read",))
    assert client.get("/api/v1/studies/1.2.9").status_code == 404
    for _ in range(2):
        assert client.get("/api/v1/studies/1.2.3").status_code == 200
    assert [(row.user, row.detail) for row in events(site, "study-viewed")] == [("token:read", {"by": "api"})]


def test_viewer_sees_neither_buttons_nor_trail(site: ConsoleSite) -> None:
    """Who may only read gets the study without what operators and auditors have."""
    site.fail(site.study("1.2.3"))
    with signed_in(site, roles=("viewer",)) as client:
        page = client.get("/studies/1.2.3").text
        assert "ends early" in page
        assert "/retry" not in page
        assert "Audit trail" not in page
        assert 'href="/audit"' not in page
    with signed_in(site, roles=("auditor",)) as client:
        assert client.get("/").headers["location"] == "/audit"


def test_retry_by_form(site: ConsoleSite, client: TestClient) -> None:
    """The button queues the job again; who and why are in the audit log; the page comes back at the job."""
    job = site.study("1.2.3")
    site.fail(job)
    fields = {"csrf": csrf_of(client), "reason": "  the disk was full  "}
    answer = client.post(f"/jobs/{job.job_id}/retry", data=fields)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/studies/1.2.3#job-{job.job_id}")
    assert jobs.get(site.record, job.job_id).state is JobState.QUEUED
    (row,) = events(site, "job-retried")
    assert (row.user, row.address, row.detail["reason"]) == ("Ada", "127.0.0.1", "the disk was full")
    again = client.post(f"/jobs/{job.job_id}/retry", data=fields)
    assert again.status_code == 409
    assert "cannot be tried again" in again.text


def test_other_buttons(site: ConsoleSite, client: TestClient) -> None:
    """Priority, cancelling and sending again change the record and tell who, from where and why."""
    done, waiting = site.study("1.2.3"), site.study("1.2.4")
    site.finish(done)
    secret = csrf_of(client)
    page = client.get("/studies/1.2.3").text + client.get("/studies/1.2.4").text
    for job, action, fields, event in (
        (waiting, "priority", {"priority": "100"}, "priority-changed"),
        (waiting, "cancel", {}, "job-cancelled"),
        (done, "resend", {"destination": "pacs"}, "transfer-repeated"),
    ):
        assert f'action="/jobs/{job.job_id}/{action}"' in page
        answer = client.post(f"/jobs/{job.job_id}/{action}", data={"csrf": secret, "reason": "why not", **fields})
        assert answer.status_code == 303, answer.text
        (row,) = events(site, event)
        assert (row.user, row.address, row.detail["reason"]) == ("Ada", "127.0.0.1", "why not")
    assert jobs.get(site.record, waiting.job_id).state is JobState.CANCELLED
    assert jobs.get(site.record, done.job_id).state is JobState.SENDING


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"reason": ""}, 422),
        ({"reason": "   "}, 422),
        ({"reason": "x", "priority": "-1"}, 422),
        ({"reason": "x", "priority": "101"}, 409),
        ({"reason": "x", "priority": "٣"}, 422),
        ({"reason": "x", "priority": "5", "csrf": "0" * 64}, 403),
        ({"reason": "x", "priority": "5", "csrf": ""}, 403),
    ],
)
def test_forms_that_are_refused(site: ConsoleSite, client: TestClient, fields: dict[str, str], status: int) -> None:
    """Without a reason, with a number that is none, or from a page that is not ours nothing is changed."""
    job = site.study("1.2.3")
    answer = client.post(f"/jobs/{job.job_id}/priority", data={"csrf": csrf_of(client), "priority": "5", **fields})
    assert answer.status_code == status
    assert jobs.get(site.record, job.job_id).priority == 0
    assert events(site, "priority-changed") == []


@pytest.mark.parametrize("action", ["retry", "cancel", "priority", "resend"])
def test_viewer_may_do_nothing(site: ConsoleSite, action: str) -> None:
    """Neither by form nor over the API; the refusal is in the audit log."""
    job = site.study("1.2.3")
    with signed_in(site, roles=("viewer", "auditor", "admin")) as client:
        form = {"csrf": csrf_of(client), "reason": "x", "priority": "5"}
        assert client.post(f"/jobs/{job.job_id}/{action}", data=form).status_code == 403
        form = {"reason": "x", "priority": 5} if action == "priority" else {"reason": "x"}
        assert client.post(f"/api/v1/jobs/{job.job_id}/{action}", json=form).status_code == 403
    assert len(events(site, "access-refused")) == 2
    assert jobs.get(site.record, job.job_id).state is JobState.QUEUED


def test_actions_over_the_api(site: ConsoleSite) -> None:
    """A program with the scope does the same; its token is who did it; a reason is needed."""
    job, done = site.study("1.2.3"), site.study("1.2.4")
    client = with_token(site, scopes=("operate",))
    at = f"/api/v1/jobs/{job.job_id}"
    answer = client.post(f"{at}/priority", json={"priority": 100, "reason": "the ward waits"})
    assert (answer.status_code, answer.json()["job"]["priority"]) == (200, 100)
    assert client.post(f"{at}/cancel", json={"reason": "wrong study"}).json()["job"]["state"] == "CANCELLED"
    assert client.post(f"{at}/retry", json={"reason": "right after all"}).json()["job"]["state"] == "QUEUED"
    assert client.post(f"{at}/retry", json={"reason": "x"}).status_code == 409
    assert client.post(f"{at}/resend", json={"reason": "x"}).status_code == 409
    assert client.post(f"{at}/retry", json={}).status_code == 422
    assert client.post(f"{at}/retry", json={"reason": " "}).status_code == 422
    assert client.post(f"/api/v1/jobs/{'0' * 32}/retry", json={"reason": "x"}).status_code == 404
    client.post(f"{at}/cancel", json={"reason": "out of the way"})
    site.finish(done)
    resent = client.post(f"/api/v1/jobs/{done.job_id}/resend", json={"reason": "lost there", "destination": "pacs"})
    assert resent.json()["job"]["state"] == "SENDING"
    assert {(row.user, row.address) for row in events(site, "job-cancelled")} == {("token:operate", "127.0.0.1")}


def test_run_again_by_form_is_told_with_its_reason(site: ConsoleSite, client: TestClient) -> None:
    """What cannot be run is refused with a sentence: nothing asked, no such series, files that are gone."""
    site.finish(site.study("1.2.3"))
    secret = csrf_of(client)
    for fields, status in (
        ({"series_instance_uid": "1.2.3.1"}, 422),
        ({"series_instance_uid": "x", "prompt": "arteries"}, 422),
        ({"series_instance_uid": "1.2.3.7", "prompt": "arteries"}, 404),
    ):
        answer = client.post("/studies/1.2.3/runs", data={"csrf": secret, "reason": "look closer", **fields})
        assert answer.status_code == status, answer.text
    assert (
        client.post("/studies/1.2.3/runs", data={"csrf": secret, "series_instance_uid": "1.2.3.1"}).status_code == 422
    )
    assert len(reports.jobs(site.record, study_instance_uid="1.2.3")) == 1


def test_text_from_the_wire_stays_text(site: ConsoleSite, client: TestClient) -> None:
    """AE titles, reasons and searches that look like markup are shown as they are, never as markup."""
    site.receive("1.2.4", ae_title=HOSTILE[:16])
    site.fail(site.study("1.2.3"), HOSTILE)
    pages = [
        client.get(address).text
        for address in ("/", "/studies/1.2.3", "/studies/1.2.4", f"/?q={HOSTILE}", "/?q=%22%3E%3Cscript%3Ex")
    ]
    assert not any("<script>x" in page for page in pages)
    assert all("&lt;script&gt;" in page for page in pages)


def test_pages_in_chinese(site: ConsoleSite, client: TestClient) -> None:
    """A browser that wants Chinese gets it on every page, and what was chosen by hand counts more."""
    site.finish(site.study("1.2.3"))
    wanting = {"Accept-Language": "zh-CN"}
    page = client.get("/studies/1.2.3", headers=wanting).text
    assert '<html lang="zh"' in page
    assert all(word in page for word in ("审计轨迹", "完成", "规则“xray-angiography”选择了 ridge。"))
    assert client.get("/appearance?language=en&next=/studies/1.2.3").headers["Location"] == "/studies/1.2.3"
    assert "Audit trail" in client.get("/studies/1.2.3", headers=wanting).text


@pytest.mark.parametrize("elsewhere", ["https://evil.example.org/", "//evil.example.org", "/\\evil.example.org", "x"])
def test_choosing_a_language_leads_nowhere_else(client: TestClient, elsewhere: str) -> None:
    """The address to come back to is one of this site (no open redirect); unknown choices are forgotten."""
    answer = client.get("/appearance", params={"language": "tlh", "appearance": "pink", "next": elsewhere})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert "set-cookie" not in answer.headers


def test_light_and_dark(client: TestClient) -> None:
    """The page follows the computer unless somebody chose; the choice is kept in a cookie that scripts cannot read."""
    assert "(prefers-color-scheme: dark)" in client.get("/").text
    answer = client.get("/appearance?appearance=dark&next=/")
    assert "httponly" in answer.headers["set-cookie"].lower()
    dark = client.get("/").text
    assert 'href="/static/dark.css" media="screen"' in dark
    client.get("/appearance?appearance=light&next=/")
    assert "dark.css" not in client.get("/").text


def test_a_column_has_what_fits_it(site: ConsoleSite) -> None:
    """Of UIDs there are beginning and end, of hashes the beginning; the whole of it is in the tooltip of the trail."""
    uid, sha256 = "2.25.300865245823134329884065847516283983432", "07e2efeb" * 8
    assert rendering.brief(f"object {uid}, sha256 {sha256}") == "object 2.25.300…47516283983432, sha256 07e2efeb07e2…"
    site.receive("1.2.3")
    audit.record_event(
        site.record, Event.INSTANCES_SENT, study_instance_uid="1.2.3", detail={"sop_instance_uid": uid, "kind": "seg"}
    )
    with signed_in(site, roles=("operator",)) as client:
        text = client.get("/studies/1.2.3").text
    assert f'<span title="{uid}"><span class="muted">sop_instance_uid</span> 2.25.300…47516283983432</span>' in text
    assert '<span><span class="muted">kind</span> seg</span>' in text
