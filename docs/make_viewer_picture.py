"""Makes the picture of the README: a result in a real viewer, OHIF beside Orthanc, as the tests run it.

The generated angiography run of ``vesselq demo`` is segmented by ``ridge``; both are stored in Orthanc and opened in
OHIF in a browser without a screen. It needs what ``tests/system/viewer`` needs (Orthanc, Chromium, npm, playwright).

    python docs/make_viewer_picture.py
"""

import sys
import tempfile
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS.parent / "tests" / "support")]

from ohif_app import ohif_dist  # noqa: E402 - found through the path set above
from ohif_page import OhifPage, browser_context  # noqa: E402
from ohif_server import OhifServer  # noqa: E402
from orthanc_server import Orthanc  # noqa: E402
from pydicom.dataset import Dataset  # noqa: E402

from console.demo.studies import DemoStudy, coronary_study  # noqa: E402
from dicom_core.identifiers import derived_uid  # noqa: E402
from worker.pixels.decoding import decode  # noqa: E402
from worker.result_header.identity import ResultIdentity  # noqa: E402
from worker.seg_writer.writer import build_segmentation, save_segmentation  # noqa: E402
from worker.segmenters.interface import Prompt  # noqa: E402
from worker.segmenters.ridge import RidgeSegmenter  # noqa: E402
from worker.source_images.reading import read_series  # noqa: E402

PICTURE = DOCS / "pictures" / "ohif.png"
FRAME = 12
COLOURS = 96
"""Keeps the file below 300 kB."""
_MOST_BYTES = 2**30
_GO_TO_FRAME = """index => window.services.cornerstoneViewportService
    .getCornerstoneViewport('default').setImageIdIndex(index)"""


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = coronary_study(folder, seed=0)
        dataset = _segmentation(study)
        save_segmentation(dataset, folder / "seg.dcm")
        with Orthanc(folder / "orthanc") as orthanc, OhifServer(ohif_dist(), orthanc.http_port) as server:
            for path in (*study.paths, folder / "seg.dcm"):
                orthanc.upload(path)
            with browser_context(width=1280, height=800) as context:
                picture = _picture(OhifPage(context, server.url), dataset)
    picture.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


def _segmentation(study: DemoStudy) -> Dataset:
    """What a worker makes of the study."""
    (source,) = read_series(study.paths)
    found = RidgeSegmenter().segment(decode(source, maximum_bytes=_MOST_BYTES, threads=2), Prompt(), lambda _: None)
    identity = ResultIdentity(
        series_instance_uid=derived_uid("picture", "series"),
        sop_instance_uid=derived_uid("picture", "sop"),
        created_at=datetime(2024, 2, 29, 12, tzinfo=UTC),
        generation=1,
        series_number=901,
        device_uid=derived_uid("picture", "device"),
        model_name="ridge",
        model_version="1.0",
    )
    return build_segmentation(source, found, identity)


def _picture(page: OhifPage, dataset: Dataset) -> Image.Image:
    page.open(str(dataset.StudyInstanceUID), segmentations=1)
    shown = page.show(dataset.SeriesDescription, dataset.SOPInstanceUID)
    if shown.state != "shown":
        raise SystemExit(f"OHIF did not show the segmentation: {shown.state} {shown.message}")
    page.page.evaluate(_GO_TO_FRAME, FRAME - 1)
    page.page.mouse.move(1, 1)
    page.page.wait_for_timeout(3000)  # until messages and the loading bar are gone
    return Image.open(BytesIO(page.page.screenshot())).convert("RGB")


if __name__ == "__main__":
    main()
