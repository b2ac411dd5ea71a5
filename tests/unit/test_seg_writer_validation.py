"""The validator passes what the writer makes and catches every planted fault, in words without values."""

import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from seg_cases import CASES, IDENTITY, mask_for, segmentation_of

from dicom_core.errors import InvalidSegmentationError
from worker.seg_reader.reading import iterate_frames, read_masks
from worker.seg_writer import validation
from worker.seg_writer.validation import validate_segmentation
from worker.seg_writer.writer import build_segmentation, encode_segmentation, save_segmentation
from worker.source_series import SourceSeries


def made(name: str) -> tuple[Dataset, SourceSeries, np.ndarray]:
    """An object as read from its file, its source and its mask with two segments."""
    source = CASES[name].series()
    mask = mask_for(source, 2)
    dataset = build_segmentation(source, segmentation_of(mask), IDENTITY)
    return dcmread(BytesIO(encode_segmentation(dataset))), source, mask


def check(dataset: Dataset, source: SourceSeries, mask: np.ndarray) -> None:
    validate_segmentation(dataset, source, mask, use_dciodvfy=False)


@pytest.mark.parametrize("hints", [True, False])
@pytest.mark.parametrize("omit", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_good_objects_pass(name: str, omit: bool, hints: bool) -> None:
    """Whatever the writer makes, with either setting of both switches, is valid."""
    source = CASES[name].series()
    mask = mask_for(source, 2)
    segmentation = segmentation_of(mask)
    check(build_segmentation(source, segmentation, IDENTITY, omit_empty_frames=omit, viewer_hints=hints), source, mask)


def flip_bit(dataset: Dataset) -> None:
    pixels = bytearray(dataset.PixelData)
    pixels[len(pixels) // 2] ^= 0x10
    dataset.PixelData = bytes(pixels)


def flip_last_bit(dataset: Dataset) -> None:
    bits = int(dataset.NumberOfFrames) * dataset.Rows * dataset.Columns
    pixels = bytearray(dataset.PixelData)
    pixels[(bits - 1) // 8] ^= 1 << ((bits - 1) % 8)
    dataset.PixelData = bytes(pixels)


def shorten_pixels(dataset: Dataset) -> None:
    dataset.PixelData = dataset.PixelData[:-2]


def swap_frames(dataset: Dataset) -> None:
    items = dataset.PerFrameFunctionalGroupsSequence
    first, second = (items[n].DerivationImageSequence for n in (0, 1))
    items[0].DerivationImageSequence, items[1].DerivationImageSequence = second, first


def foreign_instance(dataset: Dataset) -> None:
    image = dataset.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    image.ReferencedSOPInstanceUID = "1.2.3"


def frame_twice(dataset: Dataset) -> None:
    items = dataset.PerFrameFunctionalGroupsSequence
    items[1].DerivationImageSequence = items[0].DerivationImageSequence


def wrong_segment(dataset: Dataset) -> None:
    group = dataset.PerFrameFunctionalGroupsSequence[0]
    group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 3


def last_frame_lost(dataset: Dataset) -> None:
    size = dataset.Rows * dataset.Columns // 8
    dataset.NumberOfFrames = int(dataset.NumberOfFrames) - 1
    dataset.PixelData = dataset.PixelData[:-size]
    del dataset.PerFrameFunctionalGroupsSequence[-1]


def frame_description_lost(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence[-1]


def segment_identification_lost(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence[2].SegmentIdentificationSequence


def segment_type_lost(dataset: Dataset) -> None:
    del dataset.SegmentSequence[1].SegmentedPropertyTypeCodeSequence


def segment_lost(dataset: Dataset) -> None:
    del dataset.SegmentSequence[1]


def series_uid_empty(dataset: Dataset) -> None:
    dataset.SeriesInstanceUID = ""


def creator_lost(dataset: Dataset) -> None:
    del dataset.ContentCreatorName


def other_study(dataset: Dataset) -> None:
    dataset.StudyInstanceUID = "1.2.3"


def other_patient(dataset: Dataset) -> None:
    dataset.PatientID = "SOMEBODY ELSE"


def reference_lost(dataset: Dataset) -> None:
    del dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence[-1]


def fractional(dataset: Dataset) -> None:
    dataset.SegmentationType = "FRACTIONAL"


FAULTS: list[tuple[Callable[[Dataset], None], str]] = [
    (flip_bit, "stored mask differs"),
    (flip_last_bit, "stored mask differs"),
    (shorten_pixels, "wrong length"),
    (swap_frames, "stored mask differs"),
    (foreign_instance, "not a source"),
    (frame_twice, "two frames show the same"),
    (wrong_segment, "not described"),
    (last_frame_lost, "is not in the object"),
    (frame_description_lost, "another number of frames"),
    (segment_identification_lost, "SegmentIdentificationSequence is missing"),
    (segment_type_lost, "SegmentSequence/SegmentedPropertyTypeCodeSequence is missing"),
    (segment_lost, "does not number the segments"),
    (series_uid_empty, "SeriesInstanceUID is missing or empty"),
    (creator_lost, "ContentCreatorName is missing"),
    (other_study, "StudyInstanceUID differs"),
    (other_patient, "PatientID differs"),
    (reference_lost, "ReferencedSeriesSequence"),
    (fractional, "no BINARY segmentation"),
]


@pytest.mark.parametrize(("fault", "words"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
@pytest.mark.parametrize("name", ["ct", "xa_run"])
def test_planted_faults_are_caught(name: str, fault: Callable[[Dataset], None], words: str) -> None:
    """One changed bit, attribute or reference is enough to refuse the object, and the message says which it was."""
    dataset, source, mask = made(name)
    check(dataset, source, mask)
    fault(dataset)
    with pytest.raises(InvalidSegmentationError, match=words) as raised:
        check(dataset, source, mask)
    assert "SOMEBODY ELSE" not in str(raised.value)
    assert "Test^Generated" not in str(raised.value)


@pytest.mark.parametrize("name", ["ct", "enhanced_mr"])
def test_moved_slice_is_caught(name: str) -> None:
    """A frame that claims another place in the patient than its source image has is refused."""
    dataset, source, mask = made(name)
    position = dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    position.ImagePositionPatient = [position.ImagePositionPatient[0], 0, 99]
    with pytest.raises(InvalidSegmentationError, match="position of a frame"):
        check(dataset, source, mask)


def test_invented_geometry_is_caught() -> None:
    """A frame of reference or a position must not appear where the source has none."""
    dataset, source, mask = made("xa_run")
    dataset.FrameOfReferenceUID = "1.2.3"
    with pytest.raises(InvalidSegmentationError, match="FrameOfReferenceUID"):
        check(dataset, source, mask)
    dataset, source, mask = made("ct")
    del dataset.FrameOfReferenceUID
    with pytest.raises(InvalidSegmentationError, match="FrameOfReferenceUID"):
        check(dataset, source, mask)


def test_lost_plane_position_is_caught() -> None:
    """With a frame of reference every frame needs its plane position: without one some readers crash."""
    dataset, source, mask = made("ct")
    del dataset.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence
    with pytest.raises(InvalidSegmentationError, match="PlanePositionSequence is missing"):
        check(dataset, source, mask)


def test_files_are_read_back(tmp_path: Path) -> None:
    """A path is validated as well as a dataset, and a broken or missing file is an invalid segmentation."""
    source = CASES["sc"].series()
    mask = mask_for(source)
    path = tmp_path / "seg.dcm"
    save_segmentation(build_segmentation(source, segmentation_of(mask), IDENTITY), path)
    validate_segmentation(path, source, mask)
    content = path.read_bytes()
    path.write_bytes(content[:-3])
    with pytest.raises(InvalidSegmentationError):
        validate_segmentation(path, source, mask)
    path.write_bytes(b"no DICOM")
    with pytest.raises(InvalidSegmentationError, match="cannot be read back"):
        validate_segmentation(path, source, mask)
    with pytest.raises(InvalidSegmentationError, match="cannot be read back"):
        validate_segmentation(tmp_path / "missing.dcm", source, mask)


def test_many_problems_are_counted() -> None:
    """A long list is cut, with the number of the rest."""
    dataset, source, mask = made("sc")
    for keyword in list(dataset.dir()):
        if keyword not in ("SOPClassUID", "SegmentationType", "PixelData"):
            delattr(dataset, keyword)
    with pytest.raises(InvalidSegmentationError, match=r"and \d+ more"):
        check(dataset, source, mask)


def test_frames_come_one_at_a_time() -> None:
    """The reader yields frames in stored order, so that a large object needs no room for all masks at once."""
    dataset, _, _ = made("xa_run")
    frames = iterate_frames(dataset)
    assert next(frames).segment_number == 1
    assert len(list(frames)) == int(dataset.NumberOfFrames) - 1
    assert len(read_masks(dataset)) == int(dataset.NumberOfFrames)


def test_objects_in_no_known_encoding_are_refused() -> None:
    """Pixels that nobody can decode end in a sentence."""
    dataset, _, _ = made("sc")
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.5"
    with pytest.raises(InvalidSegmentationError, match="damaged"):
        read_masks(dataset)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "Error - </SegmentSequence(0062,0002)[1]/SegmentLabel(0062,0005)[1]> - Value invalid for this VR = <Doe>",
            "dciodvfy on /SegmentSequence(0062,0002)[1]/SegmentLabel(0062,0005)[1]: Value invalid for this VR",
        ),
        ("Error - </PatientID(0010,0020)[1]> - Value invalid for this VR = <Doe>", ""),
        ("Warning - </StudyDate(0008,0020)> - Missing attribute that would be needed to build DICOMDIR", ""),
        ("Error - </StudyInstanceUID(0020,000d)> - StudyInstanceUID has same value as FrameOfReferenceUID", ""),
        (
            "Error - </ReferencedFrameNumber(0008,1160)> - Absent for Referenced SOP Class that is not multi-frame",
            "",
        ),
        ("Error - Missing something <Doe>", "dciodvfy on the object: Missing something"),
    ],
)
def test_messages_lose_their_values(line: str, message: str) -> None:
    """What dciodvfy quotes may be a patient's, so only the place and the reason pass."""
    assert validation._without_values(line) == message


@pytest.mark.parametrize("failure", [subprocess.TimeoutExpired("dciodvfy", 1), OSError("no exec")])
def test_silent_validator_is_a_problem(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """When dciodvfy hangs or cannot start the object is not taken for valid."""

    def fail(*_: object, **__: object) -> None:
        raise failure

    dataset, source, mask = made("sc")
    monkeypatch.setattr(validation.shutil, "which", lambda _: "/usr/bin/dciodvfy")
    monkeypatch.setattr(validation.subprocess, "run", fail)
    with pytest.raises(InvalidSegmentationError, match="gave no answer"):
        validate_segmentation(dataset, source, mask)


def test_works_without_dciodvfy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the program is not installed the other checks decide."""
    dataset, source, mask = made("sc")
    monkeypatch.setattr(validation.shutil, "which", lambda _: None)
    validate_segmentation(dataset, source, mask)
