"""What every class of source becomes in the programs that hospitals use; the table of docs/reference/viewers.md.

A real OHIF runs beside a real Orthanc. All series lie in one study, which stays open while one segmentation after the
other is shown, so that the viewer starts once.

    VESSELQ_WRITE_DOCS=1 .venv/bin/pytest tests/system/viewer      writes the table
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dicom_sources
import numpy as np
import orthanc_server
import pydicom
import pytest
import viewer_table
from numpy.typing import NDArray
from ohif_app import ohif_dist
from ohif_page import ARTEFACTS, OhifPage, Shown
from ohif_server import OhifServer
from orthanc_server import Orthanc
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE
from seg_cases import ARTERY_AND_VEIN, CASES, IDENTITY, mask_for, segmentation_of
from seg_checks import dciodvfy_messages, dcmqi_answer, has_dciodvfy, has_dcmqi
from viewer_table import ROWS, YES, Row

from dicom_core.kept_answers import keep_answers
from dicom_core.result import ResultKind
from worker.result_header.catalogue import colour_of
from worker.seg_reader.reading import MaskKey, iterate_frames, read_masks
from worker.seg_writer.writer import build_segmentation, save_segmentation
from worker.segmenters.interface import Segmentation
from worker.source_series import SourceSeries

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(not orthanc_server.INSTALLED, reason=orthanc_server.NOT_INSTALLED),
]

WRITE = os.environ.get("VESSELQ_WRITE_DOCS") == "1"
PICTURED = {"ct", "enhanced_mr", "op_rgb", "xa_run", "opt_with_frame_of_reference", "opt_without", "opt_en_face"}
"""Sources of which a picture is kept (it takes the software painter two seconds)."""

Masks = dict[MaskKey, NDArray[np.bool_]]


@dataclass(frozen=True)
class Stored:
    """One row of the table, built and sent.

    Attributes:
        row: Of the table.
        path: The file of the segmentation.
        dataset: The same, read.
        masks: What a reader has to find in it; frames without any pixel are left out.
        colours: By segment number.
        status: Answer to its C-STORE.
    """

    row: Row
    path: Path
    dataset: Dataset
    masks: Masks
    colours: Mapping[int, tuple[int, ...]]
    status: int


CELLS: dict[str, dict[str, str]] = defaultdict(dict)
"""What was observed, by key of the row and column."""


def found_in(row: Row, source: SourceSeries) -> Segmentation:
    """The tubes; a fractional object has probabilities between 0 and 1, as segmenters give them."""
    mask = mask_for(source, row.segments)
    found = segmentation_of(mask, ARTERY_AND_VEIN if row.segments == 2 else None)
    fraction = 0.75 if row.kind is ResultKind.SEG_FRACTIONAL else 1.0
    return replace(found, probability=(mask * fraction).astype(np.float16))


def expected_masks(row: Row, source: SourceSeries, segmentation: Segmentation) -> Masks:
    """By segment and source frame; in a label map the segment with the highest number hides the others."""
    masks = segmentation.mask
    if row.kind is ResultKind.SEG_LABELMAP:
        masks = np.stack([mask & ~masks[number:].any(axis=0) for number, mask in enumerate(masks, 1)])
    return {
        (number, frame.sop_instance_uid, frame.frame_number): mask
        for number, frames in enumerate(masks, 1)
        for frame, mask in zip(source.frames, frames, strict=True)
        if mask.any()
    }


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with Orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


@pytest.fixture(scope="module")
def stored(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stored]:
    """Every row as a series of one study with its segmentation, sent over one association."""
    folder = tmp_path_factory.mktemp("series")
    study = generate_uid()
    built, files = [], []
    for number, row in enumerate(ROWS, 1):
        source = CASES[row.source].series(StudyInstanceUID=study, SeriesNumber=number, SeriesDescription=row.key)
        segmentation = found_in(row, source)
        identity = replace(
            IDENTITY, series_instance_uid=generate_uid(), sop_instance_uid=generate_uid(), uid_seed=row.key
        )
        path = folder / f"{row.key}.dcm"
        save_segmentation(build_segmentation(source, segmentation, identity, kind=row.kind), path)
        files += [*dicom_sources.save([*source.datasets, *neighbours(row, source)], folder / row.key), path]
        colours = {n: colour_of(one.key, source.imaging) for n, one in enumerate(segmentation.classes, 1)}
        built.append((row, path, expected_masks(row, source, segmentation), colours))
    statuses = send(files, orthanc)
    return {
        row.key: Stored(row, path, pydicom.dcmread(path), masks, colours, statuses[path])
        for row, path, masks, colours in built
    }


def neighbours(row: Row, source: SourceSeries) -> list[Dataset]:
    """What else lies in the source's series."""
    if row.source != "xa_run_of_several":
        return []
    header = source.datasets[0]
    shared = ("StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription")
    runs = dicom_sources.xa_runs((3, 5, 1), **{keyword: header[keyword].value for keyword in shared})
    for run, number in zip(runs, (0, 7, 8), strict=True):  # before it and after it
        run.InstanceNumber = number
    return runs


def send(files: list[Path], orthanc: Orthanc) -> dict[Path, int]:
    """Statuses of the C-STORE of every file."""
    datasets = {path: pydicom.dcmread(path) for path in files}
    wanted = {(str(one.SOPClassUID), str(one.file_meta.TransferSyntaxUID)) for one in datasets.values()}
    entity = AE("TESTS")
    for sop_class, syntax in sorted(wanted):
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate(orthanc.host, orthanc.dicom_port, ae_title=orthanc.ae_title)
    assert association.is_established
    keep_answers(association)
    try:
        return {path: association.send_c_store(dataset).Status for path, dataset in datasets.items()}
    finally:
        association.release()


@pytest.fixture(scope="module")
def viewer(browser: Any, orthanc: Orthanc, stored: dict[str, Stored]) -> Iterator[OhifPage]:
    with OhifServer(ohif_dist(), orthanc.http_port) as server:
        page = OhifPage(browser, server.url)
        page.open(next(iter(stored.values())).dataset.StudyInstanceUID, len(stored))
        yield page


def parametrize() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)


def observed(row: Row, column: str, cell: str) -> None:
    """Note a cell of the table, and fail where it is not the known one."""
    CELLS[row.key][column] = cell
    assert cell == row.expected.get(column, YES)


@parametrize()
def test_orthanc_stores_and_finds(row: Row, orthanc: Orthanc, stored: dict[str, Stored]) -> None:
    """C-STORE is answered with success; QIDO-RS finds series and instance below the study of the source."""
    one = stored[row.key]
    assert one.status == 0x0000
    series = orthanc.qido(
        f"studies/{one.dataset.StudyInstanceUID}/series",
        Modality="SEG",
        SeriesInstanceUID=one.dataset.SeriesInstanceUID,
    )
    instances = orthanc.qido("instances", SOPInstanceUID=one.dataset.SOPInstanceUID)
    observed(row, "Orthanc", YES if (len(series), len(instances)) == (1, 1) else "not found")


@parametrize()
def test_read_back(row: Row, orthanc: Orthanc, stored: dict[str, Stored], tmp_path: Path) -> None:
    """What Orthanc gives back holds every pixel of the mask, and no other."""
    one = stored[row.key]
    (tmp_path / "seg.dcm").write_bytes(orthanc.file(one.dataset.SOPInstanceUID))
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    if row.kind is ResultKind.SEG_FRACTIONAL:
        frames = {
            (frame.segment_number, frame.sop_instance_uid, frame.frame_number): frame.values > 0
            for frame in iterate_frames(dataset)
        }
    else:
        frames = read_masks(dataset)
    found = {key: mask for key, mask in frames.items() if mask.any()}
    observed(row, "read-back", YES if same(found, one.masks) else "differs")


def same(found: Masks, wanted: Masks) -> bool:
    """Whether two readings agree in every pixel."""
    return found.keys() == wanted.keys() and all(np.array_equal(found[key], mask) for key, mask in wanted.items())


@pytest.mark.skipif(not has_dciodvfy(), reason="dciodvfy (package dicom3tools) is missing")
@parametrize()
def test_dciodvfy_is_silent(row: Row, stored: dict[str, Stored]) -> None:
    """The validator has no error and no warning; Debian's does not know label maps yet."""
    if row.kind is ResultKind.SEG_LABELMAP:
        CELLS[row.key]["dciodvfy"] = "unknown class"
        assert any("Information Object Not found" in line for line in dciodvfy_messages(stored[row.key].path))
        return
    messages = dciodvfy_messages(stored[row.key].path)
    observed(row, "dciodvfy", "; ".join(messages) or YES)


@pytest.mark.skipif(not has_dcmqi(), reason="dcmqi is not installed")
@parametrize()
def test_dcmqi_counts_the_voxels(row: Row, stored: dict[str, Stored]) -> None:
    """What 3D Slicer reads with converts it with the exact number of voxels of every segment."""
    one = stored[row.key]
    answer = dcmqi_answer(one.path)
    wanted: dict[int, int] = defaultdict(int)
    for (number, _, _), mask in one.masks.items():
        wanted[number] += int(mask.sum())
    if not answer.converted:
        observed(row, "dcmqi", viewer_table.UNPLACED)
    else:
        observed(row, "dcmqi", YES if dict(answer.voxels) == wanted else "differs")


@parametrize()
def test_ohif_shows_it(row: Row, viewer: OhifPage, stored: dict[str, Stored]) -> None:
    """Every label lies on the pixels of the mask, in the colour of the object, and the viewer makes no mistake."""
    one = stored[row.key]
    shown = viewer.show(one.dataset.SeriesDescription, one.dataset.SOPInstanceUID)
    if row.source in PICTURED and row.kind is ResultKind.SEG:
        viewer.picture(ARTEFACTS / f"{row.key}.png")
    observed(row, "OHIF", ohif_cell(shown, one))


def ohif_cell(shown: Shown, one: Stored) -> str:
    """In a word, what the reader sees."""
    if shown.state == "blank":
        return viewer_table.BLANK
    if shown.state == "refused":
        return viewer_table.REFUSED if "not yet supported" in shown.message else viewer_table.NO_FRAMES
    if shown.type_errors == ["something went wrong"] and same(shown.masks, one.masks):
        return viewer_table.UNKNOWN_IMAGE if shown.colours == one.colours else viewer_table.COLOURS
    if shown.state != "shown" or shown.type_errors:
        return f"{shown.state} {shown.type_errors}"
    if shown.colours != one.colours:
        return viewer_table.COLOURS
    if same(shown.masks, one.masks):
        return YES
    first = next(iter(one.masks))[1]
    if same(shown.masks, {key: mask for key, mask in one.masks.items() if key[1] == first}):
        return viewer_table.FIRST_RUN
    counts = [sum(int(mask.sum()) for mask in masks.values()) for masks in (shown.masks, one.masks)]
    near = shown.masks.keys() == one.masks.keys() and abs(counts[0] - counts[1]) < 8
    return viewer_table.BIT_ORDER if near else "differs"


def test_the_table_of_the_documentation_is_what_was_seen() -> None:
    """docs/reference/viewers.md tells what this run observed, row by row."""
    if any(len(CELLS[row.key]) < len(viewer_table.COLUMNS) for row in ROWS):
        pytest.skip("only a part of the table was observed in this run")
    text = viewer_table.table(CELLS)
    if WRITE:
        viewer_table.write(text)
    assert viewer_table.committed() == text, "run VESSELQ_WRITE_DOCS=1 .venv/bin/pytest tests/system/viewer"
