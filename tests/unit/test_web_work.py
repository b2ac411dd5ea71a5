"""The work under way over the web: queue and workers, peers, rules, metrics, health; for people and for programs."""

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dicom_sources
import pytest
from console_site import ConsoleSite
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from web_client import csrf_of, open_to_all, signed_in, stranger, with_token

from console import rule_trial_process
from console.web.plots import Column, nice_top, short_number, stacked_bars
from console.web.rules_page import with_names
from db import deliveries, jobs, metric_counts, processes
from db.audit_checkpoints import CheckpointFile
from db.audit_queries import AuditQuery, audit_rows
from db.models import AuditForwarding, JobProgress
from dicom_core.default_rules import DEFAULT_RULES
from dicom_core.job import KeptResult
from dicom_core.result import ResultKind, ResultObject
from dicom_core.settings import Settings

SHARED = Path(os.environ.get("VESSELQ_SHARED", "../shared")).resolve()
HOSTILE_FILES = sorted((SHARED / "data" / "dicom" / "pwnlab_fuzz").rglob("*.dcm"))
HOSTILE = "<script>x</script>"
REASON = "the archive is back"
NEW_RULES = '[[rules]]\nname = "eye"\nwhen = { keyword = "Modality", equals = "OP" }\nsegmenter = "ridge"\n'


class WorkSite(ConsoleSite):
    """A site with peers, destinations and one rule, whose settings the clients take."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.settings = Settings(
            data_folder=folder,
            peers=[{"name": "angio", "ae_title": "ANGIO1", "addresses": ["192.0.2.1"]},
                   {"name": "ct", "ae_title": "CT1", "addresses": ["10.0.0.0/8"]}],
            destinations=[{"name": "pacs", "kind": "folder", "path": folder / "shelf"}],
            rules=[{"name": "angio", "when": {"keyword": "Modality", "equals": "XA"}, "segmenter": "ridge"},
                   {"name": "named", "when": {"keyword": "PatientID", "exists": True}, "skip": HOSTILE}],
        )  # fmt: skip

    def refused_once(self, study: str, answer: str = "no answer") -> None:
        """A result waits for the destination, which did not answer."""
        job = self.claim(self.study(study))
        made = ResultObject(ResultKind.SEG, 1, "aa/seg.dcm", "d" * 64, "1.2.840.10008.5.1.4.1.1.66.4", f"{study}.5",
                            f"{study}.6", 9)  # fmt: skip
        jobs.keep_result(self.record, job, KeptResult((made,), {"seconds": {"segment": 2.0}}))
        delivery = deliveries.claim(self.record, "worker0", 60)
        assert delivery is not None
        deliveries.failed(self.record, delivery, answer, retryable=True, give_up_after_hours=72)

    def progress(self, study: str) -> str:
        """A job runs and tells how far it is; its id."""
        job = self.claim(self.study(study))
        with self.record.writing() as transaction:
            transaction.session.add(
                JobProgress(job_id=job.job_id, fence=job.fence, stage="segment", share=0.25, worker="worker0",
                            device="cuda:0", updated_at=transaction.now)
            )  # fmt: skip
        return job.job_id


@pytest.fixture
def site(tmp_path: Path) -> Iterator[WorkSite]:
    site = WorkSite(tmp_path / "data")
    yield site
    site.close()


@pytest.fixture
def operator(site: WorkSite) -> Iterator[TestClient]:
    with signed_in(site, ("operator",), name="olga") as client:
        yield client


def events(site: WorkSite, event: str) -> list[Any]:
    return audit_rows(site.record, AuditQuery(event=event))


def test_the_queue_page_shows_the_work(site: WorkSite, operator: TestClient) -> None:
    """What runs with its progress, what waits by priority, where results wait, which processes live."""
    worker = processes.start(site.record, "worker", version="1", configuration={})
    processes.beat(
        site.record,
        worker,
        resources={"device": "cuda:0 (GPU)", "device_memory_used_bytes": 10**9, "device_memory_total_bytes": 4 * 10**9},
    )
    site.refused_once("1.2.1")
    job_id = site.progress("1.2.2")
    site.study("1.2.3")
    text = operator.get("/queue").text
    assert f'data-job="{job_id}"' in text
    assert "25 %" in text
    assert 'href="/studies/1.2.2#job-' in text
    assert "no answer" in text
    assert "1.0 GB / 4.0 GB" in text
    assert text.count('<svg class="plot"') == 3
    assert "Needs a person" not in text


def test_the_queue_page_tells_what_is_stuck(site: WorkSite, operator: TestClient) -> None:
    """Work that does not go on stands at the top, in the language of the page."""
    processes.start(site.record, "dispatcher", version="1", configuration={})
    with site.record.writing() as transaction:
        transaction.session.connection().exec_driver_sql(
            "UPDATE processes SET last_seen_at = datetime('now', '-5 minutes')"
        )
    assert "The dispatcher on" in operator.get("/queue").text
    assert "失去响应" in operator.get("/queue", headers={"Accept-Language": "zh"}).text


@pytest.mark.parametrize("page", ["/queue", "/peers", "/rules"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_pages_of_an_empty_site(operator: TestClient, page: str, language: str) -> None:
    """Every page stands without anything to show, holds no inline script or style and escapes what settings say."""
    answer = operator.get(page, headers={"Accept-Language": language})
    assert answer.status_code == 200
    assert f'lang="{language}"' in answer.text
    assert " style=" not in answer.text
    assert answer.text.count("<script") == answer.text.count('<script src="/static/')
    assert HOSTILE not in answer.text


def test_who_may_only_read_sees_no_buttons(site: WorkSite) -> None:
    """A viewer sees queue, peers and rules without forms; what the forms do is refused and audited."""
    site.refused_once("1.2.1")
    with signed_in(site, ("viewer",)) as viewer:
        for page in ("/peers", "/rules"):
            text = viewer.get(page).text
            assert 'method="post" action="/peers' not in text
            assert 'action="/rules' not in text
        secret = {"csrf": csrf_of(viewer), "reason": REASON}
        for path in ("/peers/destination/pacs/check", "/peers/destination/pacs/resend", "/rules/try", "/rules/explain"):
            assert viewer.post(path, data=secret).status_code == 403, path
    assert len(events(site, "access-refused")) == 4
    with signed_in(site, ("auditor",)) as auditor:
        assert auditor.get("/queue").status_code == 403


def test_asking_a_destination(site: WorkSite, operator: TestClient) -> None:
    """The button asks, the answer is on the page afterwards, and the log says who asked."""
    answer = operator.post("/peers/destination/pacs/check", data={"csrf": csrf_of(operator)})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/peers#destination-pacs")
    assert "writable" in operator.get("/peers").text
    (row,) = events(site, "peer-checked")
    assert (row.user, row.outcome) == ("olga", 0)
    for path, status in (
        ("/peers/destination/none/check", 404),
        ("/peers/peer/ct/check", 404),
        ("/peers/x/y/check", 422),
    ):
        assert operator.post(path, data={"csrf": csrf_of(operator)}).status_code == status, path
    assert operator.post("/peers/destination/pacs/check", data={"csrf": "0" * 64}).status_code == 403


def test_sending_now(site: WorkSite, operator: TestClient) -> None:
    """The button wants a reason; with it what waits is due at once, and the log has both."""
    site.refused_once("1.2.1")
    text = operator.get("/peers").text
    assert "1 wait" in text
    assert "tried again at" in text
    path, secret = "/peers/destination/pacs/resend", csrf_of(operator)
    assert operator.post(path, data={"csrf": secret, "reason": "  "}).status_code == 422
    assert operator.post(path, data={"csrf": secret, "reason": REASON}).status_code == 303
    (row,) = events(site, "transfer-repeated")
    assert (row.user, row.detail["reason"]) == ("olga", REASON)
    assert deliveries.claim(site.record, "worker0", 60) is not None
    assert operator.post(path, data={"csrf": secret, "reason": REASON}).status_code == 409


def test_peers_that_the_settings_do_not_name(site: WorkSite, operator: TestClient) -> None:
    """Who else sent something is listed, as text and without buttons."""
    site.receive("1.2.1", ae_title="ANGIO1")
    site.receive("1.2.2", ae_title=HOSTILE[:16])
    text = operator.get("/peers").text
    assert "Who else sent something lately" in text
    assert "&lt;script&gt;" in text
    assert HOSTILE[:16] not in text
    assert "In 30 days: instances 1, associations 1" in text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_plain_dicom_on_the_network_is_told(site: WorkSite, operator: TestClient, language: str) -> None:
    """The page warns while other machines can speak DICOM in the clear, and is silent on loopback and with TLS."""
    told = {"en": "Plain DICOM is open to other machines", "zh": "明文 DICOM 对其他机器开放"}[language]
    results = {"en": "Results go as plain DICOM to archive:", "zh": "结果以明文 DICOM 发送到 archive："}[language]
    archive = {"name": "archive", "kind": "storage_scu", "ae_title": "A", "host": "192.0.2.7", "port": 104}
    ca_file = {"ca_file": site.folder / "ca.pem"}
    certificates = {"certificate_file": site.folder / "a.pem", "key_file": site.folder / "a.key"} | ca_file
    for listener, destination, warned in (
        ({"host": "127.0.0.1"}, {"host": "localhost"}, (False, False)),
        ({"host": "192.0.2.1"}, {}, (True, True)),
        ({"host": "192.0.2.1", "tls": certificates}, {"tls": True} | ca_file, (False, False)),
    ):
        site.settings = Settings(data_folder=site.folder, listener=listener, destinations=[archive | destination])
        operator.app.state.settings = site.settings  # type: ignore[attr-defined]  # Starlette's application
        text = operator.get("/peers", headers={"Accept-Language": language}).text
        assert (told in text, results in text) == warned


def test_a_dropped_file_is_explained(site: WorkSite, operator: TestClient, tmp_path: Path) -> None:
    """Which rule is for it and why; the name of the patient is nowhere, nothing is kept."""
    (path,) = dicom_sources.save(
        dicom_sources.xa_still(rows=8, columns=8, PatientID="ID77", PatientName="Doe^Jane", Modality="MR"), tmp_path
    )
    files = {"file": ("x.dcm", path.read_bytes(), "application/dicom")}
    text = operator.post("/rules/explain", data={"csrf": csrf_of(operator)}, files=files).text
    assert "Modality is XA" in text
    assert "found: MR" in text
    assert "present, not shown" in text
    assert "ID77" not in text
    assert "Doe" not in text
    assert "&lt;script&gt;x&lt;/script&gt;" in text
    assert not list(site.folder.rglob("*.dcm"))


@pytest.mark.parametrize("content", [b"%PDF-1.4", b"x" * 200, b"\0" * 128 + b"DICM" + b"\xff" * 50])
def test_what_is_no_dicom_file_is_told_on_the_page(operator: TestClient, content: bytes) -> None:
    """A sentence and not an error page; without a file it is refused."""
    secret = {"csrf": csrf_of(operator)}
    answer = operator.post("/rules/explain", data=secret, files={"file": ("x", content)})
    assert answer.status_code == 200
    assert re.search('role="alert">[^<]*(no DICOM file|cannot be read)', answer.text) or "left out" in answer.text
    assert operator.post("/rules/explain", data=secret).status_code == 422


@pytest.mark.skipif(not HOSTILE_FILES, reason="the corpus is not in the shared folder")
def test_hostile_files_are_told_as_text(operator: TestClient) -> None:
    """Every file of the corpus, dropped on the page, ends in a page whose only script is our own."""
    secret = {"csrf": csrf_of(operator)}
    for path in HOSTILE_FILES:
        answer = operator.post("/rules/explain", data=secret, files={"file": (HOSTILE, path.read_bytes())})
        assert answer.status_code == 200, path.name
        assert answer.text.count("<script") == answer.text.count('<script src="/static/'), path.name


def test_changed_rules_are_tried_on_the_page(operator: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of the dry run is shown, what was written stays in the form, and mistakes are told beside it."""
    secret = {"csrf": csrf_of(operator)}
    wrong = operator.post("/rules/try", data={**secret, "rules": "[[rules]]\nname = '<b>'", "days": "7"})
    assert wrong.status_code == 200
    assert 'role="alert"' in wrong.text
    assert "name = &#39;&lt;b&gt;&#39;" in wrong.text
    assert operator.post("/rules/try", data={**secret, "rules": NEW_RULES, "days": "8"}).status_code == 422
    decision = {"rule": "angio", "segments": True, "outcome": "segmented by ridge"}
    told = {
        "studies": 3, "series": 4, "same": 2, "unknown": 1, "unused": ["eye"],
        "segmented_now": {"angio": 1}, "segmented_then": {},
        "changed": [{"study_instance_uid": "1.2.3", "series_instance_uid": "1.2.3.1", "modality": "XA",
                     "calling_ae_title": HOSTILE, "now": decision,
                     "then": {"rule": "", "segments": False, "outcome": "left out: no rule wants it"}}],
    }  # fmt: skip
    monkeypatch.setattr(rule_trial_process, "_answer", lambda *_: told)
    text = operator.post("/rules/try", data={**secret, "rules": NEW_RULES, "days": "30"}).text
    assert "left out: no rule wants it" in text
    assert 'href="/studies/1.2.3"' in text
    assert HOSTILE not in text
    assert re.search('<option value="30" selected>', text)


def test_one_dry_run_at_a_time(site: WorkSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is under way another is refused with 409."""
    begun, over = threading.Event(), threading.Event()

    def slow(*_: object) -> dict[str, Any]:
        begun.set()
        over.wait(10)
        return {}

    monkeypatch.setattr(rule_trial_process, "_answer", slow)
    with with_token(site, ("read", "operate")) as client:
        asked = {"rules": NEW_RULES}
        first = threading.Thread(target=client.post, args=("/api/v1/rules/try",), kwargs={"json": asked})
        first.start()
        assert begun.wait(10)
        assert client.post("/api/v1/rules/try", json=asked).status_code == 409
        over.set()
        first.join()
        assert client.post("/api/v1/rules/try", json=asked).json() == {"trial": {}}


def test_the_work_as_json(site: WorkSite) -> None:
    """Programs get the same answers: queue, peers, rules."""
    site.refused_once("1.2.1")
    site.progress("1.2.2")
    with with_token(site, ("read",)) as client:
        queue = client.get("/api/v1/queue", params={"hours": 2}).json()
        assert [(one["stage"], one["share"]) for one in queue["running"]] == [("segment", 0.25)]
        assert [(one["lane"], one["waiting"]) for one in queue["lanes"]] == [("pacs", 1)]
        found = {one["key"]: one for one in client.get("/api/v1/peers").json()["peers"]}
        assert found["destination/pacs"]["answer"] == "no answer"
        assert [one["rule"] for one in client.get("/api/v1/rules").json()["rules"]] == ["angio", "named"]
        assert client.get("/api/v1/queue", params={"hours": 0}).status_code == 422
        for path in ("peers/destination/pacs/check", "rules/try"):
            assert client.post(f"/api/v1/{path}", json={"rules": NEW_RULES}).status_code == 403, path


def test_acting_as_a_program(site: WorkSite) -> None:
    """With the scope to operate a token asks, sends and explains, in its own name."""
    site.refused_once("1.2.1")
    with with_token(site, ("operate",)) as client:
        assert client.post("/api/v1/peers/destination/pacs/check", json={}).json()["check"]["answered"]
        path = "/api/v1/peers/destination/pacs/resend"
        assert client.post(path, json={"reason": ""}).status_code == 422
        assert client.post(path, json={"reason": REASON}).json() == {"objects_sent_now": 1, "jobs_sent_again": 0}
        assert deliveries.claim(site.record, "worker0", 60) is not None
        assert client.post(path, json={"reason": REASON}).status_code == 409
        header = {"00080060": {"vr": "CS", "Value": ["XA"]}}
        explained = client.post("/api/v1/rules/explain", json={"header": header}).json()["explanation"]
        assert explained["rule"] == "angio"
        refused = client.post("/api/v1/rules/explain", json={"header": {"00080060": 5}})
        assert (refused.status_code, "DICOM JSON" in refused.json()["detail"]) == (422, True)
    assert [row.user for row in events(site, "peer-checked")] == ["token:operate"]


def samples(client: TestClient) -> dict[tuple[str, ...], float]:
    """Values by name and values of the labels, these in the order of their names."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_metrics_of_the_work(site: WorkSite) -> None:
    """Waiting by priority, deliveries by destination, memory of workers, disk and stuck work."""
    worker = processes.start(site.record, "worker", version="1", configuration={})
    processes.beat(site.record, worker, resources={"device": "cuda:0", "device_memory_used_bytes": 7})
    site.refused_once("1.2.1")
    site.progress("1.2.2")
    site.study("1.2.3")
    found = samples(stranger(site))
    assert found["vesselq_jobs_waiting", "0"] == 1
    assert found["vesselq_deliveries", "WAITING"] == 1
    assert found["vesselq_deliveries_unfinished", "pacs", "waiting"] == 1
    assert found["vesselq_worker_memory_bytes", "cuda:0", "used", "device", worker[:8]] == 7
    assert found["vesselq_stuck_work", "delivery"] == 0
    assert found[("vesselq_spool_low_water_bytes",)] == site.settings.listener.low_water_bytes
    assert found[("vesselq_longest_running_job_seconds",)] >= 0
    assert any(name == "vesselq_build_info" for name, *_ in found)


def test_counters_begin_at_nothing_and_grow(site: WorkSite) -> None:
    """Counters and histograms tell what happened since the first scrape, each thing once."""
    site.finish(site.study("1.2.1"))
    with open_to_all(site) as client:
        before = samples(client)
        assert before["vesselq_events_total", "seg-created", "success"] == 0
        assert before["vesselq_events_total", "job-failed", "serious_failure"] == 0
        site.finish(site.study("1.2.2"))
        site.fail(site.study("1.2.3"))
        for _ in range(2):
            after = samples(client)
            assert after["vesselq_events_total", "seg-created", "success"] == 1
            assert after["vesselq_events_total", "job-failed", "serious_failure"] == 1
            assert after["vesselq_instances_received_total", "stored"] == 2
            assert after[("vesselq_received_bytes_total",)] == 2000
            assert after["vesselq_stage_seconds_sum", "segment"] == 1.5
            assert after[("vesselq_job_wait_seconds_count",)] == 1
            assert after[("vesselq_job_delivered_seconds_count",)] == 1


def test_metrics_of_the_audit_log(site: WorkSite) -> None:
    """Rows, the age of the last checkpoint, and what repositories have not been sent."""
    site.study("1.2.1")
    head = metric_counts.head(site.record)
    found = samples(stranger(site))
    assert found[("vesselq_audit_rows",)] == head
    assert found[("vesselq_audit_rows_after_checkpoint",)] == head
    assert ("vesselq_audit_checkpoint_age_seconds",) not in found
    with site.record.writing() as transaction:
        transaction.session.add(
            AuditForwarding(repository="arr", next_sequence=head - 1, attempts=3, last_error="", lease_owner="")
        )
        at = transaction.now.isoformat()
    with CheckpointFile.of(site.settings).extending() as checkpoints:
        checkpoints.append(head - 2, "0" * 64, at)
    found = samples(stranger(site))
    assert found[("vesselq_audit_rows_after_checkpoint",)] == 2
    assert 0 <= found[("vesselq_audit_checkpoint_age_seconds",)] < 60
    assert found["vesselq_audit_forwarding_waiting_rows", "arr"] == 2
    assert found["vesselq_audit_forwarding_failed_tries", "arr"] == 3


def test_metrics_name_nobody(site: WorkSite) -> None:
    """No UID, AE title, address, job or person is in the metrics, whatever waits and fails."""
    site.refused_once("1.2.3456789")
    job_id = site.progress("1.2.3456788")
    text = stranger(site).get("/metrics").text
    assert not any(word in text for word in ("1.2.345678", "ANGIO1", "192.0.2.1", job_id, "no answer"))


def test_live_and_ready(site: WorkSite) -> None:
    """Both answer without a sign-in; ready is 503 without a database that fits, and tells no more than that."""
    client = stranger(site)
    assert client.get("/health/live").json() == {"status": "ok"}
    assert client.get("/health/ready").json() == {"status": "ok", "checks": {"database": "ok"}}
    with site.record.writing() as transaction:
        transaction.session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    answer = client.get("/health/ready")
    assert (answer.status_code, "needs" in answer.json()["checks"]["database"]) == (503, True)
    site.record.close()
    (site.folder / "vesselq.sqlite3").unlink()
    (site.folder / "vesselq.sqlite3").mkdir()
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()["checks"]["database"]) == (503, "it does not answer")
    assert client.get("/health/live").status_code == 200


@pytest.mark.parametrize(("most", "top"), [(0, 2), (2, 2), (3, 4), (11, 20), (50, 60), (61, 80), (1234, 2000)])
def test_axes_end_at_round_numbers(most: float, top: float) -> None:
    """An even number times a power of ten, never below what is to be drawn: the mark at the half is whole as well."""
    assert nice_top(most) == top


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (2.5, "2.5"), (1000, "1k"), (1500, "1.5k"), (2e9, "2G")])
def test_numbers_at_an_axis_are_short(value: float, text: str) -> None:
    """Thousands and more have a letter."""
    assert short_number(value) == text


def test_bars_stand_on_each_other(site: WorkSite) -> None:
    """Parts of a column touch and do not leave the drawing; what is little is still seen; nothing is not drawn."""
    now = site.record.now()
    plot = stacked_bars([Column(now, (100, 0, 1)), Column(now, (0, 0, 0))], ("good", "quiet", "bad"))
    good, bad = plot.bars
    assert (good.tone, bad.tone, good.column, bad.column) == ("good", "bad", 0, 0)
    assert good.y + good.height == pytest.approx(plot.base)
    assert bad.y + bad.height == pytest.approx(good.y, abs=0.02)
    assert bad.height >= 1.5
    assert all(bar.y >= plot.top - 2 and bar.x + bar.width <= plot.width for bar in plot.bars)
    assert stacked_bars([], ()).is_empty


def test_rules_say_what_a_uid_is(operator: TestClient) -> None:
    """Nobody knows SOP classes by number; UIDs that are none of the Standard's stay as they are."""
    assert with_names("SOPClassUID is one of 1.2.840.10008.5.1.4.1.1.13.1.1, 1.2.840.10008.99") == (
        "SOPClassUID is one of 1.2.840.10008.5.1.4.1.1.13.1.1 (X-Ray 3D Angiographic Image Storage), 1.2.840.10008.99"
    )
    assert with_names("Modality is one of XA") == "Modality is one of XA"
    state = operator.app.state  # type: ignore[attr-defined]
    state.settings = state.settings.model_copy(update={"rules": DEFAULT_RULES})
    assert "(X-Ray 3D Angiographic Image Storage)" in operator.get("/rules").text
