"""What others make of the overlay objects: dciodvfy is silent, DCMTK and Orthanc show the pixels that were drawn."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import dicom_sources
import numpy as np
import pytest
import requests
from numpy.typing import NDArray
from orthanc_server import INSTALLED, NOT_INSTALLED, Orthanc
from PIL import Image
from seg_cases import ARTERY_AND_VEIN, CASES, IDENTITY, mask_for, segmentation_of
from seg_checks import dciodvfy_messages, has_dciodvfy

from dicom_core.identifiers import derived_uid
from worker.pictures.reading_aids import ReadingAid, draw_reading_aids
from worker.pixels.decoding import decode
from worker.sc_writer.overlays import build_overlays
from worker.seg_writer.writer import save_segmentation
from worker.segmenters.interface import Status
from worker.source_images.reading import read_series
from worker.source_series import SourceSeries

_MOST_BYTES = 1 << 28


def drawn(
    name: str, folder: Path, *, empty: bool = False, **attributes: object
) -> tuple[SourceSeries, list[ReadingAid]]:
    """A source as the reader and decoder give it, and its reading aids."""
    paths = dicom_sources.save(CASES[name].build(**attributes), folder / f"source {name}")
    (source,) = read_series(paths)
    stack = decode(source, maximum_bytes=_MOST_BYTES, threads=1)
    mask = mask_for(source, 2)
    found = segmentation_of(np.zeros_like(mask), ARTERY_AND_VEIN, Status.NO_MASK) if empty else None
    aids = draw_reading_aids(source, stack, found or segmentation_of(mask, ARTERY_AND_VEIN), model="ridge 1.0")
    return source, list(aids)


def saved(source: SourceSeries, aids: list[ReadingAid], folder: Path) -> list[Path]:
    """The objects of the aids as files."""
    paths = []
    identity = replace(IDENTITY, sop_instance_uid=derived_uid(str(source.datasets[0].SOPInstanceUID), "overlay"))
    for number, dataset in enumerate(build_overlays(source, aids, identity), 1):
        paths.append(folder / f"{number}.dcm")
        save_segmentation(dataset, paths[-1])
    return paths


def png(content: bytes) -> NDArray[np.uint8]:
    with Image.open(BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


# --- dciodvfy ---------------------------------------------------------------------------------------------------------

needs_dciodvfy = pytest.mark.skipif(not has_dciodvfy(), reason="dciodvfy (package dicom3tools) is missing")


@needs_dciodvfy
@pytest.mark.parametrize("name", CASES)
def test_overlays_are_silent(name: str, tmp_path: Path) -> None:
    """No error and no warning for any class of source."""
    for path in saved(*drawn(name, tmp_path), tmp_path):
        assert dciodvfy_messages(path) == []


@needs_dciodvfy
@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("xa_run", {"FrameTime": None, "FrameIncrementPointer": 0x00181065, "FrameTimeVector": [0] + [40] * 9}),
        ("xa_run", {"CineRate": 15, "RecommendedDisplayFrameRate": 15, "PreferredPlaybackSequencing": 0}),
        ("xa_run", {"LossyImageCompression": "01", "LossyImageCompressionRatio": 9.5}),
        ("xa_still", {"PixelSpacing": [0.2, 0.2], "PixelSpacingCalibrationType": "GEOMETRY"}),
        ("cr", {"BodyPartExamined": "KNEE", "Laterality": "L"}),
        ("sc", {"BurnedInAnnotation": "YES", "PatientName": "山田^太郎", "SpecificCharacterSet": "ISO_IR 192"}),
        ("dx", {"TimezoneOffsetFromUTC": "-0330"}),
    ],
)
def test_unusual_sources_are_silent(name: str, attributes: dict[str, object], tmp_path: Path) -> None:
    """Uneven times, rates, lossy sources, calibration, sides, scripts and time zones change nothing."""
    for path in saved(*drawn(name, tmp_path, **attributes), tmp_path):
        assert dciodvfy_messages(path) == []


@needs_dciodvfy
def test_overlays_of_nothing_are_silent(tmp_path: Path) -> None:
    """A part in which nothing was found has valid overlays too."""
    for path in saved(*drawn("xa_run", tmp_path, empty=True), tmp_path):
        assert dciodvfy_messages(path) == []


# --- DCMTK ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("dcm2pnm") is None, reason="dcm2pnm (package dcmtk) is missing")
@pytest.mark.parametrize("name", ["xa_run", "op_rgb", "ct", "several_op"])
def test_dcmtk_shows_the_pictures(name: str, tmp_path: Path) -> None:
    """dcm2pnm gives every frame pixel for pixel."""
    source, aids = drawn(name, tmp_path)
    for aid, path in zip(aids, saved(source, aids, tmp_path), strict=True):
        for number in {1, len(aid.pixels)}:
            target = tmp_path / "frame.ppm"
            subprocess.run(["dcm2pnm", "+F", str(number), str(path), str(target)], check=True, timeout=60)
            assert np.array_equal(png(target.read_bytes()), aid.pixels[number - 1])


# --- Orthanc ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    if not INSTALLED:
        pytest.skip(NOT_INSTALLED)
    with Orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


@pytest.mark.parametrize("name", ["xa_run", "op_rgb", "ct", "enhanced_mr"])
def test_orthanc_shows_the_pictures(name: str, orthanc: Orthanc, tmp_path: Path) -> None:
    """Stored beside the source, found by query in the study, and previewed pixel for pixel."""
    source, aids = drawn(name, tmp_path)
    paths = saved(source, aids, tmp_path)
    for path in (*source.paths[:1], *paths):
        orthanc.upload(path)
    study = str(source.datasets[0].StudyInstanceUID)
    assert len(orthanc.qido("series", StudyInstanceUID=study)) == 2
    for aid, dataset in zip(aids, build_overlays(source, aids, IDENTITY), strict=True):
        query = {
            "StudyInstanceUID": study,
            "InstanceNumber": str(dataset.InstanceNumber),
            "SOPClassUID": dataset.SOPClassUID,
        }
        (found,) = orthanc.post("/tools/find", {"Level": "Instance", "Query": query})
        for number in {0, len(aid.pixels) - 1}:
            answer = requests.get(f"{orthanc.url}/instances/{found}/frames/{number}/preview", timeout=30)
            answer.raise_for_status()
            assert np.array_equal(png(answer.content), aid.pixels[number])


def test_web_viewers_get_the_frames(orthanc: Orthanc, tmp_path: Path) -> None:
    """WADO-RS renders the overlay, which is how web viewers without Segmentation support show it."""
    source, aids = drawn("xa_run", tmp_path)
    (path,) = saved(source, aids, tmp_path)
    orthanc.upload(path)
    study = str(source.datasets[0].StudyInstanceUID)
    (series,) = orthanc.qido("series", StudyInstanceUID=study)
    series_uid = series["0020000E"]["Value"][0]
    (instance,) = orthanc.qido(f"studies/{study}/series/{series_uid}/instances")
    address = f"studies/{study}/series/{series_uid}/instances/{instance['00080018']['Value'][0]}/frames/1/rendered"
    answer = requests.get(f"{orthanc.dicomweb_url}/{address}", headers={"Accept": "image/png"}, timeout=30)
    answer.raise_for_status()
    assert png(answer.content).shape == aids[0].pixels[0].shape
