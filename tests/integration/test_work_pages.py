"""The pages of the work in a real browser, C-ECHO to a real Verification SCP: a click asks, a dropped file explains."""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dicom_sources
import pytest
import uvicorn
from console_browser import Browser, console_browser, session_for, why_not
from console_site import ConsoleSite
from loopback import free_port, wait_for_port
from scripted_scp import ScriptedSCP

from console.peer_states import check
from console.web.application import make_application
from db.audit_queries import AuditQuery, audit_rows
from dicom_core.settings import Settings

_DROP = """async ([selector, content]) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const held = new DataTransfer();
  held.items.add(new File([bytes], "IM0001.dcm"));
  const drop = new DragEvent("drop", { dataTransfer: held, bubbles: true, cancelable: true });
  document.querySelector(selector).dispatchEvent(drop);
}"""
_DARK_CHINESE = {"color_scheme": "dark", "locale": "zh-CN"}
# pynetdicom lets go of a refused connection without closing it
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket.socket fd:pytest.PytestUnraisableExceptionWarning"
)
needs_browser = pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is a browser")


@dataclass
class Work:
    """A site with a peer that answers, and its pages at a port of loopback."""

    site: ConsoleSite
    settings: Settings
    scp: ScriptedSCP


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Work]:
    site = ConsoleSite(tmp_path_factory.mktemp("work") / "data")
    with ScriptedSCP(ae_title="PACS1") as scp:
        settings = Settings(
            data_folder=site.folder,
            web={"port": free_port()},
            peers=[{"name": "pacs", "ae_title": "PACS1", "host": "127.0.0.1", "port": scp.port},
                   {"name": "nobody", "ae_title": "NOBODY", "host": "127.0.0.1", "port": free_port()}],
            destinations=[{"name": "store", "kind": "storage_scu", "ae_title": "PACS1", "host": "127.0.0.1",
                           "port": scp.port}],
        )  # fmt: skip
        site.finish(site.study("1.2.1"))
        yield Work(site, settings, scp)
    site.close()


@contextmanager
def _served(work: Work) -> Iterator[None]:
    server = uvicorn.Server(
        uvicorn.Config(make_application(work.settings, work.site.record), port=work.settings.web.port, log_config=None)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for_port(work.settings.web.port)
        yield
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def browser(work: Work) -> Iterator[Browser]:
    with _served(work), console_browser(f"http://127.0.0.1:{work.settings.web.port}") as browser:
        yield browser


@pytest.fixture(scope="module")
def session(work: Work) -> str:
    return session_for(work.site.record, "olga", ["operator"])


@pytest.mark.parametrize(
    ("key", "answered", "said"),
    [
        ("peer/pacs", True, "C-ECHO answered in "),
        ("destination/store", True, "0x0000 C-ECHO"),
        ("peer/nobody", False, "NOBODY at 127.0.0.1:"),
    ],
)
def test_systems_are_asked_over_the_network(work: Work, key: str, answered: bool, said: str) -> None:
    """A peer and a destination that live answer C-ECHO; one that is not there is told to be away."""
    found = check(work.settings, work.site.record, key)
    assert (found.answered, said in found.answer) == (answered, True), found.answer


@needs_browser
def test_a_click_asks_a_peer(work: Work, browser: Browser, session: str) -> None:
    """The button has the peer asked, the row says that it answered, and the log names the person."""
    before = work.scp.associations
    page = browser.page(session)
    page.goto("/peers")
    page.locator("#peer-pacs button").first.click()
    page.wait_for_url("**/peers#peer-pacs")
    assert "C-ECHO answered in" in page.locator("#peer-pacs").inner_text()
    assert work.scp.associations == before + 1
    rows = audit_rows(work.site.record, AuditQuery(event="peer-checked"))
    assert (rows[-1].user, rows[-1].ae_title) == ("olga", "PACS1")
    assert browser.complaints == []


@needs_browser
def test_a_dropped_file_is_explained(browser: Browser, session: str, tmp_path: Path) -> None:
    """A file that is dropped on the form is explained at once, although it is larger than what is sent of it."""
    (path,) = dicom_sources.save(dicom_sources.xa_run(frames=6, rows=512, columns=512), tmp_path)
    assert path.stat().st_size > 1_500_000
    page = browser.page(session)
    page.goto("/rules")
    sent: list[Any] = []
    page.on("request", lambda request: sent.append(request) if request.method == "POST" else None)
    with page.expect_navigation():
        page.evaluate(_DROP, ["form[data-drop]", base64.b64encode(path.read_bytes()).decode()])
    assert "xray-angiography: segmented by vesselnet" in page.locator("#explain").inner_text()
    assert page.locator(".verdicts details[open]").count() == 1
    (request,) = sent
    assert int(request.headers.get("content-length", 0) or request.header_value("content-length") or 0) < 1_100_000
    assert browser.complaints == []


@needs_browser
@pytest.mark.parametrize("options", [{}, _DARK_CHINESE, {"width": 400}], ids=["light", "dark-chinese", "narrow"])
def test_pages_of_the_work_fit_and_complain_of_nothing(browser: Browser, session: str, options: dict[str, Any]) -> None:
    """Queue, peers and rules are no wider than the window, in light and dark, narrow and wide, without complaints."""
    page = browser.page(session, **options)
    for path in ("/queue", "/peers", "/rules"):
        page.goto(path)
        wide, window = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert wide <= window, path
    page.goto("/queue")
    drawn = page.locator(".plot rect.column").evaluate_all("all => all.map((one) => one.getBoundingClientRect().width)")
    assert drawn, "there is something to draw"
    assert all(width > 1 for width in drawn), "bars are seen"
    assert browser.complaints == []
