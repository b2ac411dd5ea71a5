"""Segmentation objects of published reference files, read by the real reader; skipped where they are not at hand."""

import os
import warnings
from io import BytesIO
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import config, dcmread
from seg_cases import ARTERY_AND_VEIN, CASES, IDENTITY_WITH_WEIGHTS, mask_for, segmentation_of

from worker.seg_reader.reading import read_masks
from worker.seg_writer.validation import validate_segmentation
from worker.seg_writer.writer import build_segmentation, encode_segmentation, save_segmentation
from worker.source_images.reading import read_series
from worker.source_series import SourceKind

SHARED = Path(os.environ.get("VESSELQ_SHARED", Path(__file__).resolve().parents[3] / "shared"))
DATA = SHARED / "data"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the folder with published reference data is missing")

SOURCES = {
    "TotalSegmentator CT": ("TotalSegmentator_ct/ct_series_fixed/*.dcm", SourceKind.SLICES),
    "go-dicom XA run": ("dicom/go-dicom/I_000000.dcm", SourceKind.RUN),
    "fo-dicom XA run": ("dicom/fo-dicom/HasFragmentSequence.dcm", SourceKind.RUN),
    "dcmjs OP": ("dicom/dcmjs/sample-op.dcm", SourceKind.PICTURES),
    "dcmjs MR": ("dicom/dcmjs/sample-dicom.dcm", SourceKind.SLICES),
    "highdicom CT": ("dicom/highdicom/ct_image.dcm", SourceKind.SLICES),
    "highdicom DX": ("dicom/highdicom/dx_image.dcm", SourceKind.PICTURES),
}


@pytest.mark.parametrize("name", SOURCES)
def test_reference_sources(name: str, tmp_path: Path) -> None:
    """A segmentation with two segments of a real file is valid, silent, rebuilt identically and read back exactly."""
    pattern, kind = SOURCES[name]
    paths = sorted(DATA.glob(pattern))
    assert paths, pattern
    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")  # what pydicom thinks of these files is not the question here
        source = read_series(paths)[0]
    assert source.kind is kind
    header = source.datasets[0]
    mask = np.zeros((2, len(source.frames), int(header.Rows), int(header.Columns)), np.bool_)
    mask[0, ::3, 20:40, 11:90] = True
    mask[1, -1, 30:35, 3:50] = True
    segmentation = segmentation_of(mask, ARTERY_AND_VEIN)
    path = tmp_path / "seg.dcm"
    save_segmentation(build_segmentation(source, segmentation, IDENTITY_WITH_WEIGHTS), path)
    validate_segmentation(path, source, mask)
    again = encode_segmentation(build_segmentation(source, segmentation, IDENTITY_WITH_WEIGHTS))
    assert path.read_bytes() == again
    assert highdicom.seg.segread(path).number_of_segments == 2


@pytest.mark.parametrize(
    "name", ["seg_image_ct_binary.dcm", "seg_image_ct_binary_overlap.dcm", "seg_image_ct_binary_single_frame.dcm"]
)
def test_independent_reader_on_foreign_objects(name: str) -> None:
    """The reader of this room gives the masks that highdicom gives, on objects that neither of our writers made."""
    path = DATA / "dicom" / "highdicom" / name
    dataset = dcmread(path)
    images = [
        image
        for groups in dataset.PerFrameFunctionalGroupsSequence
        for image in groups.DerivationImageSequence[0].SourceImageSequence
    ]
    if len(images) != int(dataset.NumberOfFrames):
        pytest.skip("frames of this object have several source images")
    frames = highdicom.seg.segread(path).pixel_array
    frames = frames[None] if frames.ndim == 2 else frames
    read = list(read_masks(dataset).values())
    assert len(read) == len(frames)
    assert all(np.array_equal(mask, frame.astype(bool)) for mask, frame in zip(read, frames, strict=True))


def test_names_in_many_character_sets() -> None:
    """Every name of pydicom's character set files is the same text in a segmentation of that patient."""
    for path in sorted((DATA / "dicom" / "pydicom" / "charset_files").glob("*.dcm")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            patient = dcmread(path, stop_before_pixels=True)
            name = str(patient.get("PatientName", ""))
        source = CASES["sc"].series()
        header = source.datasets[0]
        if "SpecificCharacterSet" in patient:
            header["SpecificCharacterSet"] = patient["SpecificCharacterSet"]
        else:
            del header.SpecificCharacterSet
        fresh = dcmread(path, stop_before_pixels=True)
        if "PatientName" in fresh:
            header[0x00100010] = fresh.get_item(0x00100010)
        mask = mask_for(source)
        dataset = build_segmentation(source, segmentation_of(mask), IDENTITY_WITH_WEIGHTS)
        written = dcmread(BytesIO(encode_segmentation(dataset)))
        if name:
            assert str(written.PatientName) == name, path.name
