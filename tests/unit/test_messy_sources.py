"""Every oddity of the table either ends in an exact, silent segmentation or in the reason that the table states."""

import os
import warnings
from contextlib import suppress
from pathlib import Path

import messy_sources
import numpy as np
import pytest
from messy_sources import CASES, MessyCase
from pydicom import dcmread
from seg_cases import ARTERY_AND_VEIN, IDENTITY_WITH_WEIGHTS, mask_for, segmentation_of

from dicom_core.errors import SourceError, VesselqError
from worker.pixels.decoding import decode
from worker.seg_reader.reading import read_masks
from worker.seg_writer.validation import validate_segmentation
from worker.seg_writer.writer import build_segmentation, save_segmentation
from worker.source_images.reading import read_series
from worker.source_series import SourceSeries


def segmented(source: SourceSeries, path: Path) -> None:
    """Decode the part, write a segmentation of two segments and prove it: valid, silent, exact for each image."""
    stack = decode(source)
    assert np.isfinite(stack.pixels).all()
    mask = mask_for(source, 2)
    assert mask.shape[1:] == stack.pixels.shape[:3]
    dataset = build_segmentation(source, segmentation_of(mask, ARTERY_AND_VEIN), IDENTITY_WITH_WEIGHTS)
    save_segmentation(dataset, path)
    validate_segmentation(path, source, mask)
    expected = {
        (segment, frame.sop_instance_uid, frame.frame_number): mask[segment - 1, index]
        for segment in (1, 2)
        for index, frame in enumerate(source.frames)
        if mask[segment - 1, index].any()
    }
    read = read_masks(dcmread(path))
    assert read.keys() == expected.keys()
    assert all(np.array_equal(read[key], expected[key]) for key in expected)


def all_segmented(paths: list[Path], path: Path) -> tuple[SourceSeries, ...]:
    parts = read_series(paths)
    for part in parts:
        segmented(part, path)
    return parts


@pytest.mark.parametrize("case", [case for case in CASES if not case.refused], ids=lambda case: case.odd)
def test_it_is_segmented(case: MessyCase, tmp_path: Path) -> None:
    """The parts, what is left out and what the reader is told are those of the table; every object is exact."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # making the oddity; reading and writing are silent, as the next block shows
        paths = messy_sources.save(case, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts = all_segmented(paths, tmp_path / "seg")
    assert tuple(len(part.frames) for part in parts) == case.frames
    assert len(parts[0].left_out) == case.left_out
    told = "; ".join(parts[0].warnings)
    assert case.warning in told
    assert bool(case.warning) == bool(told), told


@pytest.mark.parametrize("case", [case for case in CASES if case.refused], ids=lambda case: case.odd)
def test_it_is_refused_in_words(case: MessyCase, tmp_path: Path) -> None:
    """The reason is that of the table, in a sentence, without a value of the object but its UIDs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = messy_sources.save(case, tmp_path)
    with pytest.raises(SourceError) as caught:
        all_segmented(paths, tmp_path / "seg")
    assert case.refused in str(caught.value)
    assert "Generated" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


# --- files of others --------------------------------------------------------------------------------------------------

SHARED = Path(os.environ.get("VESSELQ_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "data" / "dicom"


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the shared data is not there (VESSELQ_SHARED): {SHARED}")
@pytest.mark.filterwarnings("ignore")  # hostile files: pydicom warns of nearly each
def test_every_file_of_the_collection_ends_in_an_object_or_in_words(tmp_path: Path) -> None:
    """No published file, hostile ones among them, brings another exception than a sentence of ours."""
    built = 0
    refused: dict[Path, str] = {}
    for path in sorted(path for path in SHARED.rglob("*") if path.is_file()):
        try:
            built += len(all_segmented([path], tmp_path / "seg"))
        except VesselqError as error:
            refused[path] = str(error)
    assert built >= 140, "most files of the collection are images"
    assert all(len(text.split()) > 4 and str(SHARED) not in text for text in refused.values())
    assert not [text for text in refused.values() if "failed its validation" in text]


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the shared data is not there (VESSELQ_SHARED): {SHARED}")
@pytest.mark.filterwarnings("ignore")
def test_every_series_of_the_collection_ends_in_objects_or_in_words(tmp_path: Path) -> None:
    """The same for files of one SeriesInstanceUID together, whatever else they contradict each other in."""
    series: dict[str, list[Path]] = {}
    for path in sorted(path for path in SHARED.rglob("*") if path.is_file()):
        with suppress(Exception):  # files without a readable header are looked at one by one in the test above
            series.setdefault(str(dcmread(path, stop_before_pixels=True).SeriesInstanceUID), []).append(path)
    several = [paths for paths in series.values() if len(paths) > 1]
    assert several
    for paths in several:
        with suppress(VesselqError):
            all_segmented(paths, tmp_path / "seg")
