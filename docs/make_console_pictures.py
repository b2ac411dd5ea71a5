"""Makes the pictures of the console's pages: a whole site at work on generated studies, looked at in a browser.

Three sick people who never lived are sent, and a picture that no rule wants, a broken one, and one more that is left
running. It needs Chromium, playwright and Orthanc, which stands for the hospital's PACS.

    python docs/make_console_pictures.py
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from pydicom.dataset import Dataset

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS.parent / "tests" / "support")]

import dicom_sources  # noqa: E402 - found through the path set above
from console_browser import Browser, console_browser, session_for, why_not  # noqa: E402
from orthanc_server import Orthanc  # noqa: E402
from running_site import RunningSite, running_site, site_settings  # noqa: E402

from console.demo.studies import demo_studies  # noqa: E402
from db.audit_checkpoints import CheckpointFile  # noqa: E402
from db.audit_signing import sign_checkpoint  # noqa: E402
from dicom_core.default_rules import DEFAULT_RULES  # noqa: E402
from dicom_core.settings import Settings  # noqa: E402
from dicom_listener.storage_scu import Receiver, find_dicom_files, send_files  # noqa: E402

PICTURES = DOCS / "pictures"
COLOURS = 160
"""Keeps the files below 300 kB."""
SENDERS = {"XA": "CATHLAB1", "OP": "EYE_CLINIC", "CT": "CT_EAST", "broken": "CATHLAB2", "unwanted": "XRAY2"}
_WIDTH, _HEIGHT = 1360, 860


def main() -> None:
    """Write the pictures."""
    if problem := why_not():
        raise SystemExit(problem)
    with tempfile.TemporaryDirectory() as name, _site(Path(name)) as site:
        shown = _send_everything(site, Path(name))
        with console_browser(f"http://127.0.0.1:{site.settings.web.port}") as browser:
            sign_checkpoint(site.record, CheckpointFile.of(site.settings))  # the dispatcher's comes after a minute
            session = session_for(site.record, "ada", ["operator", "auditor", "admin"])
            _send(site, dicom_sources.xa_run(60, 512, 512), "CATHLAB1", Path(name) / "late")
            site.wait_for(lambda: any(job.state == "RUNNING" for job in _latest(site)), 60)
            for picture, address, options in _pages(shown):
                _take(browser, session, picture, address, **options)


def _pages(study: str) -> list[tuple[str, str, dict[str, Any]]]:
    """What is taken, first what shows the study that is still running."""
    dark_chinese = {"color_scheme": "dark", "locale": "zh-CN"}
    return [
        ("console_studies", "/", {"height": 620}),
        ("console_audit", "/audit", {}),
        ("console_queue", "/queue", {}),
        ("console_study", f"/studies/{study}", {"height": 1060}),
        ("console_study_dark", f"/studies/{study}", {"height": 1060, **dark_chinese}),
        ("console_peers", "/peers", {}),
        ("console_rules", "/rules", {}),
    ]


def _take(browser: Browser, session: str, picture: str, address: str, **options: Any) -> None:
    page = browser.page(session, **{"width": _WIDTH, "height": _HEIGHT, **options})
    page.goto(address)
    page.wait_for_timeout(2500)  # until pictures are decoded and the first live event came
    if browser.complaints:
        raise SystemExit(f"{address}: {browser.complaints}")
    image = Image.open(BytesIO(page.screenshot())).convert("RGB")
    image.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        PICTURES / f"{picture}.png", optimize=True
    )
    page.context.close()


@contextmanager
def _site(folder: Path) -> Iterator[RunningSite]:
    with Orthanc(folder / "orthanc") as pacs, running_site(folder, _settings(folder, pacs)) as site:
        pacs.add_modality("vesselq", site.settings.listener.ae_title, site.port)
        yield site


def _settings(folder: Path, pacs: Orthanc) -> Settings:
    to_the_pacs = {"destinations": ("pacs",)}
    return site_settings(
        folder,
        worker={"lease_seconds": 20, "maximum_attempts": 1},
        web={"viewer_url": "https://viewer.example.org/viewer?StudyInstanceUIDs={study_instance_uid}"},
        destinations=[
            {"name": "pacs", "kind": "storage_scu", "ae_title": pacs.ae_title, "host": pacs.host,
             "port": pacs.dicom_port},
        ],
        peers=[
            {"name": name.lower().replace("_", "-"), "ae_title": name, "addresses": ["127.0.0.1"]}
            for name in SENDERS.values()
        ],
        rules=[rule.model_copy(update=to_the_pacs) if rule.segmenter else rule for rule in DEFAULT_RULES],
    )  # fmt: skip


def _send_everything(site: RunningSite, folder: Path) -> str:
    """Send the studies that are to be done before anybody looks; the one that is shown on its own."""
    broken = dicom_sources.xa_still(256, 256)
    broken[0].PixelData = broken[0].PixelData[:1000]
    _send(site, dicom_sources.dx(64, 72), SENDERS["unwanted"], folder / "unwanted")
    _send(site, broken, SENDERS["broken"], folder / "broken")
    studies = demo_studies(folder / "generated")
    for study in studies:
        files, _ = find_dicom_files(study.paths)
        send_files(files, Receiver("127.0.0.1", site.port, "VESSELQ", SENDERS[study.modality]))
    site.wait_until_settled(*(study.study_instance_uid for study in studies), seconds=400)
    return studies[0].study_instance_uid


def _send(site: RunningSite, datasets: list[Dataset], ae_title: str, folder: Path) -> None:
    files, _ = find_dicom_files(dicom_sources.save(datasets, folder))
    send_files(files, Receiver("127.0.0.1", site.port, "VESSELQ", ae_title))


def _latest(site: RunningSite) -> list[Any]:
    from db import reports

    return reports.jobs(site.record, limit=3)


if __name__ == "__main__":
    main()
