"""Drives OHIF in Debian's Chromium: opens a study, shows a segmentation, and reads what the viewer holds of it.

Every number comes out of the running viewer: labels from the images that it paints, colours from its segmentation
service. Nothing is read from the files that it was given.
"""

import base64
import importlib.util
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ohif_app import ViewerMissingError

CHROMIUM = Path("/usr/bin/chromium")
ARTEFACTS = Path(__file__).parents[2] / "artefacts" / "viewer"
"""Where pictures of the viewer are kept; no part of the repository."""
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-gl=angle",
    "--use-angle=swiftshader",  # WebGL in software
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-gpu-rasterization",  # leaves the rest of the page to the quicker software painter
)
_NO_TOUR = "localStorage.setItem('shownTours', '[\"basicViewerTour\"]')"
_THUMBNAIL = '[data-cy="study-browser-thumbnail-no-image"]'
_REFUSAL = re.compile(r"Error: (\S.*not yet supported\.?)|Failed to load resource: .* status of 400")
_HARMLESS = re.compile("calculateSegmentsStatistics|imageLoadFailedHandler")
"""The statistics of a segmentation stumble when the viewer turns to the next one meanwhile, and so does
its handler of images that it had asked for and does not want any more; what is shown is right."""
_STATE = """uid => {
    if (document.body.innerText.trim() === '') return 'blank';
    window.services.cineService.setIsCineEnabled(false);  // some modalities play by themselves and take all the time
    const {displaySetService, segmentationService} = window.services;
    const set = displaySetService.getActiveDisplaySets().find(set => set.SOPInstanceUID === uid);
    const shown = segmentationService.getSegmentationRepresentations('default')
        .some(one => one.segmentationId === set?.displaySetInstanceUID);
    return shown && set.isLoaded && set.labelMapImages ? 'shown' : 'waiting';
}"""
_OUTCOME = """uid => {
    const {displaySetService, viewportGridService} = window.services;
    const set = displaySetService.getActiveDisplaySets().find(set => set.SOPInstanceUID === uid);
    const inViewport = viewportGridService.getState().viewports.get('default')?.displaySetInstanceUIDs ?? [];
    if (!inViewport.includes(set.displaySetInstanceUID)) return 'taken over';
    return document.body.innerText.toLowerCase().includes('something went wrong') && 'something went wrong';
}"""
_READ = """uid => {
    const {displaySetService, segmentationService} = window.services;
    const set = displaySetService.getActiveDisplaySets().find(set => set.SOPInstanceUID === uid);
    const segments = set.segMetadata.data.map((segment, index) => index).filter(index => set.segMetadata.data[index]);
    return {
        colours: segments.map(index => [index, Array.from(
            segmentationService.getSegmentColor('default', set.displaySetInstanceUID, index))]),
        images: set.labelMapImages.flat().map(image => ({
            source: image.referencedImageId, rows: image.rows, columns: image.columns,
            labels: btoa(Array.from(image.voxelManager.getScalarData(), value => String.fromCharCode(value)).join('')),
        })),
    };
}"""


@dataclass
class Shown:
    """What the viewer made of one segmentation.

    Attributes:
        state: ``shown``; ``blank``: the page is empty, the viewer crashed; ``refused``; ``waiting``: nothing came.
        message: Why it was refused, in the viewer's words.
        masks: ``(rows, columns)`` bool by segment number, SOP Instance UID and 1-based frame number of the source;
            frames without any pixel are left out.
        colours: Red, green and blue by segment number, as painted.
        type_errors: Mistakes that the viewer's code made meanwhile.
    """

    state: str
    message: str = ""
    masks: dict[tuple[int, str, int], NDArray[np.bool_]] = field(default_factory=dict)
    colours: dict[int, tuple[int, ...]] = field(default_factory=dict)
    type_errors: list[str] = field(default_factory=list)


class OhifPage:
    """One browser page with the viewer on one study; it comes back by itself after a crash.

    Attributes:
        page: Playwright's.
    """

    def __init__(self, context: Any, server_url: str) -> None:
        """Open nothing yet."""
        self._context = context
        self._address = server_url
        self._console: list[str] = []
        self._study = ("", 0)
        self._crashed = False
        self.page: Any = None

    def open(self, study_instance_uid: str, segmentations: int) -> None:
        """Show a study and wait until as many segmentations are listed (images are not counted).

        Raises:
            TimeoutError: They were not within 150 s.
        """
        if self.page is not None:
            self.page.close()
        self._study, self._crashed = (study_instance_uid, segmentations), False
        self._console.clear()
        self.page = self._context.new_page()
        self.page.on("console", lambda message: self._note(message.type, message.text))
        self.page.on("pageerror", lambda error: self._note("error", f"{error.name}: {error.message}"))
        self.page.goto(f"{self._address}/viewer?StudyInstanceUIDs={study_instance_uid}")
        listed = f"() => document.querySelectorAll('{_THUMBNAIL}').length >= {segmentations}"
        self.page.wait_for_function(listed, timeout=150_000)

    def _note(self, kind: str, text: str) -> None:
        if kind == "error":
            self._console.append(text)

    def show(self, series_description: str, sop_instance_uid: str, *, timeout_seconds: float = 90) -> Shown:
        """Open the segmentation with this series description as a reader does, by a double click, and read it."""
        if self._crashed:
            self.open(*self._study)
        self._console.clear()
        self.page.locator(_THUMBNAIL, has_text=re.compile(re.escape(series_description) + r"(?!\d)")).first.dblclick()
        state, message = self._wait(sop_instance_uid, timeout_seconds)
        complaint = self._complaint(sop_instance_uid) if state == "shown" else ""
        self._crashed = state == "blank" or bool(complaint)
        found = self.page.evaluate(_READ, sop_instance_uid) if state == "shown" else {"images": [], "colours": []}
        return Shown(
            state=state,
            message=message,
            masks=dict(_masks(found["images"])),
            colours={number: tuple(colour[:3]) for number, colour in found["colours"]},
            type_errors=[text for text in self._console if "TypeError" in text and not _HARMLESS.search(text)]
            + ([complaint] if complaint else []),
        )

    def double_click(self, series_description: str) -> None:
        """Open what is listed under this description and has no image of its own."""
        self.page.locator(_THUMBNAIL, has_text=series_description).first.dblclick()

    def _wait(self, sop_instance_uid: str, timeout_seconds: float) -> tuple[str, str]:
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            state = self.page.evaluate(_STATE, sop_instance_uid)
            if state != "waiting":
                return state, ""
            refusals = [match for text in self._console if (match := _REFUSAL.search(text))]
            if refusals:
                self._until_quiet()
                return "refused", refusals[0].group(1) or refusals[0].group()
            self.page.wait_for_timeout(100)
        return "waiting", ""

    def _complaint(self, sop_instance_uid: str) -> str:
        """What the viewer tells the reader in a red box instead of taking the segmentation over for editing.

        A box may still stand there from the segmentation before: it counts only where nothing was taken over.
        """
        outcome = self.page.wait_for_function(_OUTCOME, arg=sop_instance_uid, timeout=60_000).json_value()
        if outcome != "taken over":
            self.page.wait_for_timeout(2000)
            outcome = self.page.evaluate(_OUTCOME, sop_instance_uid) or outcome
        return "" if outcome == "taken over" else str(outcome)

    def _until_quiet(self) -> None:
        """Let the viewer finish complaining, so that nothing is taken for a mistake with the next segmentation."""
        said = -1
        while said != len(self._console):
            said = len(self._console)
            self.page.wait_for_timeout(1500)

    def picture(self, path: Path) -> None:
        """Keep what a reader sees."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)


def _masks(images: list[dict[str, Any]]) -> Iterator[tuple[tuple[int, str, int], NDArray[np.bool_]]]:
    """Masks of the label images; segments that overlap lie in several images of one source frame."""
    for image in images:
        labels = np.frombuffer(base64.b64decode(image["labels"]), np.uint8).reshape(image["rows"], image["columns"])
        source = re.search(r"/instances/([\d.]+)/frames/(\d+)", image["source"])
        assert source, image["source"]
        for number in np.unique(labels[labels > 0]).tolist():
            yield (number, source[1], int(source[2])), labels == number


@contextmanager
def browser_context(width: int = 1024, height: int = 640, scale: float = 1) -> Iterator[Any]:
    """A started Chromium without a screen; pages opened in it share a cache.

    Args:
        width: Of the page, in CSS pixels.
        height: Of the page, in CSS pixels.
        scale: Painted pixels for each of them.

    Raises:
        ViewerMissingError: Chromium or playwright is not installed.
    """
    if not CHROMIUM.exists():
        raise ViewerMissingError("Chromium is missing (apt-get install chromium): it shows the OHIF viewer")
    if importlib.util.find_spec("playwright") is None:
        raise ViewerMissingError("playwright is not installed (pip install --group test): it drives Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_ARGUMENTS))
        context = browser.new_context(
            viewport={"width": width, "height": height}, device_scale_factor=scale, service_workers="block"
        )
        context.add_init_script(_NO_TOUR)
        try:
            yield context
        finally:
            browser.close()
