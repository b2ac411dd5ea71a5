"""The console in a real browser, over a whole site: pages follow the record, pictures scroll, buttons work.

One site, one browser and two small studies for all tests, which build on each other in their order.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dicom_sources
import pytest
from audit_tampering import execute
from console_browser import Browser, console_browser, session_for, why_not
from pydicom.dataset import Dataset
from running_site import RunningSite, running_site, site_settings

from db import job_actions, reports
from db.audit_queries import AuditQuery, AuditRow, audit_rows
from dicom_core.job import JobState
from dicom_listener.storage_scu import Receiver, find_dicom_files, send_files

EVERY_ROLE = ("viewer", "operator", "admin", "auditor")
PAGES = ("/", "/?q=nothing", "/queue", "/peers", "/rules", "/accounts", "/account",
         "/audit", "/audit/recall", "/audit/without-result")  # fmt: skip
FRAMES = 6
expect = pytest.importorskip("playwright.sync_api").expect
expect.set_options(timeout=60_000)  # busy machines take their time
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is a browser"),
]


@dataclass
class Console:
    """A running site, a browser at it in which Ada is signed in who may do everything, and two studies on disk.

    Attributes:
        run: A study with an angiographic run, for the real segmenter.
        photograph: A study whose segmenter fails the first time and waits at a gate the second.
    """

    site: RunningSite
    browser: Browser
    page: Any
    run: Dataset
    photograph: Dataset
    folder: Path

    @property
    def gate(self) -> Path:
        """The file at which the second try for the photograph waits half-way."""
        return self.folder.parent / "gate"

    def send(self, dataset: Dataset) -> str:
        """Send one instance; the StudyInstanceUID."""
        paths = dicom_sources.save([dataset], self.folder / str(dataset.Modality))
        receiver = Receiver("127.0.0.1", self.site.port, "VESSELQ", "TESTER")
        assert send_files(find_dicom_files(paths)[0], receiver).problems == []
        return str(dataset.StudyInstanceUID)

    def events(self, event: str, study: str = "") -> list[AuditRow]:
        """Of one kind, from the audit log."""
        return audit_rows(self.site.record, AuditQuery(event=event, study_instance_uid=study))


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    folder = tmp_path_factory.mktemp("console")
    settings = site_settings(
        folder,
        worker={"lease_seconds": 20, "maximum_attempts": 1},
        models={"faulty": {"mode": "raise", "once": str(folder / "once"), "gate": str(folder / "gate")}},
        rules=[
            {"name": "photographs", "when": {"keyword": "Modality", "equals": "OP"}, "segmenter": "faulty",
             "destinations": ["shelf"]},
            {"name": "others", "when": {"keyword": "SOPClassUID", "exists": True}, "segmenter": "ridge",
             "destinations": ["shelf"]},
        ],
    )  # fmt: skip
    with (
        running_site(folder, settings) as site,
        console_browser(f"http://127.0.0.1:{site.settings.web.port}") as browser,
    ):
        page = browser.page(session_for(site.record, "ada", EVERY_ROLE))
        (run,), (photograph,) = dicom_sources.xa_run(FRAMES, 128, 120), dicom_sources.op_grey(64, 72)
        yield Console(site, browser, page, run, photograph, folder / "source")


@pytest.fixture(autouse=True)
def _no_complaints(console: Console) -> Iterator[None]:
    """No page of any test writes an error, breaks its content security policy or asks for what is not there."""
    console.browser.complaints.clear()
    yield
    assert console.browser.complaints == []


def test_study_appears_and_gets_done_while_the_page_is_open(console: Console) -> None:
    """Nobody loads the page again: the row of a study that is sent comes, and its state goes on to DONE."""
    page = console.page
    page.goto("/")
    page.get_by_text("No study was received yet").wait_for()
    page.locator("#live-state", has_text="Live").wait_for()
    page.evaluate("window.loadedOnce = true")
    uid = console.send(console.run)
    row = page.locator(f'[id="study-{uid}"]')
    row.wait_for()
    seen = row.locator("[data-state]").first.get_attribute("data-state")
    assert seen in ("RECEIVING", "QUEUED", "RUNNING")
    row.locator('[data-state="DONE"]').wait_for(timeout=90_000)
    assert page.evaluate("window.loadedOnce") is True
    assert "others" in row.inner_text()
    assert "done after" in row.inner_text()
    assert page.locator("#counts .stat", has_text="Done").inner_text().split()[0] == "1"


def test_preview_scrolls_through_frames_with_and_without_vessels(console: Console) -> None:
    """Keys and wheel move through every frame of the run; the switch takes the coloured vessels away."""
    page = console.page
    page.locator(f'[id="study-{console.run.StudyInstanceUID}"] a').click()
    viewer = page.locator(".viewer")
    page.locator(f'.viewer[data-ready="{FRAMES}"]').wait_for()
    read = """() => {
        const canvas = document.querySelector(".viewer canvas");
        const pen = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {willReadFrequently: true});
        pen.drawImage(canvas, 0, 0);
        const data = pen.getImageData(0, 0, canvas.width, canvas.height).data;
        let coloured = 0, sum = 0;
        for (let at = 0; at < data.length; at += 4) {
            coloured += data[at] - data[at + 1] > 40;
            sum += data[at + 1];
        }
        return [coloured, sum];
    }"""
    slider, output = viewer.locator("input[type=range]"), viewer.locator("output")
    slider.focus()
    sums = set()
    page.keyboard.press("Home")
    for number in range(1, FRAMES + 1):
        assert output.inner_text() == f"{number} / {FRAMES}"
        sums.add(page.evaluate(read)[1])
        page.keyboard.press("ArrowRight")
    assert len(sums) > 1, "the frames differ"
    assert page.evaluate(read)[0] > 50, "there is an overlay"
    viewer.get_by_role("checkbox", name="Vessels").uncheck()
    assert page.evaluate(read)[0] == 0, "and it can be taken away"
    viewer.locator(".stage").hover()
    page.mouse.wheel(0, -100)
    expect(output).to_have_text(f"{FRAMES - 1} / {FRAMES}")


def test_failed_job_is_tried_again_with_a_reason(console: Console) -> None:
    """The form asks why; the page then follows the job over a moving bar to DONE; the trail says who and why."""
    uid = console.send(console.photograph)
    page = console.page
    console.site.wait_for(lambda: [job.state for job in console.site.jobs(uid)] == [JobState.FAILED])
    page.goto(f"/studies/{uid}")
    page.locator(".job [data-state=FAILED]").wait_for()
    page.locator("summary", has_text="Retry").click()
    page.locator("details.action[open]").get_by_label("Why").fill("once more, please")
    page.locator("details.action[open] button.primary").click()
    page.evaluate("window.loadedOnce = true")
    expect(page.locator(".job .bar-share")).to_have_text("50 %")
    console.gate.touch()
    page.locator('.job [data-state="DONE"]').wait_for()
    assert page.evaluate("window.loadedOnce") is True
    (retried,) = console.events("job-retried", uid)
    assert (retried.user, retried.detail["reason"]) == ("ada", "once more, please")
    assert "once more, please" in page.locator(f"#event-{retried.sequence}").inner_text()


def test_what_somebody_types_survives_a_change(console: Console) -> None:
    """A form that is open stays as it is while the page around it follows the record."""
    uid, page = str(console.photograph.StudyInstanceUID), console.page
    page.goto(f"/studies/{uid}")
    page.locator("#live-state", has_text="Live").wait_for()
    page.locator("summary", has_text="Run again").click()
    page.locator("details.action[open]").get_by_label("Why").fill("half a sent")
    before = page.locator(".trail tbody tr").count()
    (job,) = console.site.jobs(uid)
    job_actions.resend(console.site.record, job.job_id, "a colleague sends it again")
    expect(page.locator(".trail tbody tr")).not_to_have_count(before)
    assert page.locator("details.action[open]").get_by_label("Why").input_value() == "half a sent"
    page.keyboard.press("Escape")
    assert page.locator("details.action[open]").count() == 0


def test_viewing_is_one_event_however_often_the_page_followed(console: Console) -> None:
    """The pages fetched themselves many times; the audit log says once that Ada looked at each study."""
    for dataset in (console.run, console.photograph):
        assert [row.user for row in console.events("study-viewed", str(dataset.StudyInstanceUID))] == ["ada"]


@pytest.mark.parametrize(("width", "scheme", "locale"), [(1440, "light", "en-GB"), (420, "dark", "zh-CN")])
def test_every_page_is_clean(console: Console, width: int, scheme: str, locale: str) -> None:
    """Wide and narrow, light and dark, in both languages: nothing is missing, refused, or wider than the window."""
    session = session_for(console.site.record, f"ada-{width}", EVERY_ROLE)
    page = console.browser.page(session, width=width, color_scheme=scheme, locale=locale)
    study = f"/studies/{console.run.StudyInstanceUID}"
    for address in (*PAGES, study, f"{study}/series/{console.run.SeriesInstanceUID}"):
        answer = page.goto(address)
        assert answer.status == 200, address
        page.wait_for_load_state("load")
        assert page.locator("h1").count() == 1, address
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, address
        assert page.evaluate("document.documentElement.lang") == locale[:2], address
        unnamed = "e => e.filter(x => !x.labels?.length && !x.ariaLabel && x.type !== 'hidden' && !x.title).length"
        assert page.eval_on_selector_all("input, select, textarea", unnamed) == 0, address
    page.context.close()


def test_roles_are_refused_where_they_must(console: Console) -> None:
    """A stranger lands at the sign-in; a viewer sees no buttons and no audit log; an auditor sees no studies."""
    stranger = console.browser.page()
    stranger.goto("/")
    assert stranger.url.endswith("/sign-in")
    stranger.context.close()
    viewer = console.browser.page(session_for(console.site.record, "vera", ["viewer"]))
    viewer.goto(f"/studies/{console.photograph.StudyInstanceUID}")
    assert viewer.locator(".job").count() == 1
    assert viewer.locator("details.action").count() == 0
    assert viewer.locator(".trail").count() == 0
    auditor = console.browser.page(session_for(console.site.record, "otto", ["auditor"]))
    auditor.goto("/")
    assert auditor.url.endswith("/audit"), "the first page leads to what an auditor may see"
    study = f"/studies/{console.photograph.StudyInstanceUID}"
    for page, address in ((viewer, "/audit"), (viewer, "/accounts"), (auditor, study)):
        assert page.goto(address).status == 403, address
    viewer.context.close()
    auditor.context.close()
    # the browser tells of each of them, which is as it must be
    refusals = [one for one in console.browser.complaints if "status of 403" in one]
    assert len(refusals) == len(console.browser.complaints) == 3
    console.browser.complaints.clear()


def test_audit_search_finds_the_study_and_a_changed_row_turns_red(console: Console) -> None:
    """The chain holds until somebody who owns the database changes a row; the button then names it."""
    page, uid = console.page, str(console.photograph.StudyInstanceUID)
    page.goto("/audit")
    page.locator("[name=study_instance_uid]").fill(uid)
    page.keyboard.press("Enter")
    page.locator("td", has_text="job-retried").wait_for()
    button = page.get_by_role("button", name="Verify the chain")
    button.click()
    expect(page.locator("#verified .notice")).to_contain_text("The chain holds")
    assert page.locator("#verified .notice.bad").count() == 0
    (row,) = console.events("job-retried", uid)
    execute(console.site.record, "UPDATE audit_events SET user = 'nobody' WHERE event = 'job-retried'")
    page.get_by_role("button", name="Verify the chain").click()
    page.locator("#verified .notice.bad").wait_for()
    assert str(row.sequence) in page.locator("#verified").inner_text()


def test_open_page_says_that_the_process_is_gone(console: Console) -> None:
    """The web process ends in order though a browser listens; the page says that it is old from now on."""
    page = console.page
    page.goto("/")
    page.locator("#live-state", has_text="Live").wait_for()
    console.site.site.stop()
    page.locator("#live-state.off").wait_for()
    (web,) = [one for one in reports.processes(console.site.record) if one.kind == "web"]
    assert web.stopped_at is not None
    console.browser.complaints.clear()  # of a connection that is refused, as it must be
