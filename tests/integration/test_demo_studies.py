"""The generated studies as DICOM files: valid, readable, and equal to their pictures."""

import shutil
import subprocess
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.sr.codedict import codes
from pydicom.uid import OphthalmicPhotography8BitImageStorage

from console.demo import scoring
from console.demo.headers import plain_header, write_instance
from console.demo.phantoms import angiography_run, contrast_ct, fundus_photograph
from console.demo.scoring import dice_of
from console.demo.studies import DemoStudy, demo_studies, fundus_study
from dicom_core.errors import ConfigurationError, InvalidSegmentationError
from dicom_core.identifiers import is_uid

SEED = 4


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DemoStudy]:
    return {study.modality: study for study in demo_studies(tmp_path_factory.mktemp("studies"), SEED)}


def headers(study: DemoStudy) -> list[pydicom.FileDataset]:
    return [pydicom.dcmread(path) for path in study.paths]


def segmentation(study: DemoStudy, mask: NDArray[np.bool_], path: Path) -> Path:
    """A Segmentation file of a CT study, written by highdicom alone."""
    description = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label="Vessel",
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=codes.SCT.BloodVessel,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
    )
    highdicom.seg.Segmentation(
        source_images=headers(study),
        pixel_array=mask,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[description],
        series_instance_uid=highdicom.UID(),
        series_number=900,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="vesselq",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
        specific_character_set="ISO_IR 192",
    ).save_as(path)
    return path


def test_three_studies_of_three_patients(studies: dict[str, DemoStudy]) -> None:
    """There is an XA run, a fundus photograph and a CT of 60 slices, each a study, series and patient of its own."""
    assert {modality: len(study.paths) for modality, study in studies.items()} == {"XA": 1, "OP": 1, "CT": 60}
    assert {modality: len(study.frames) for modality, study in studies.items()} == {"XA": 20, "OP": 1, "CT": 60}
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "PatientID", "PatientName"):
        assert len({str(header[keyword].value) for study in studies.values() for header in headers(study)}) == 3
    assert all(str(headers(study)[0].PatientName).startswith("Phantom^") for study in studies.values())


def test_files_say_what_the_study_says(studies: dict[str, DemoStudy]) -> None:
    """UIDs, modality and the identities of the frames stand in the files, in the order of the truth."""
    for study in studies.values():
        identities = []
        for header in headers(study):
            assert header.StudyInstanceUID == study.study_instance_uid
            assert header.Modality == study.modality
            assert header.file_meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID
            assert is_uid(header.SOPInstanceUID)
            frames = int(header.get("NumberOfFrames", 1))
            identities += [(header.SOPInstanceUID, number + 1) for number in range(frames)]
        assert [(frame.sop_instance_uid, frame.frame_number) for frame in study.frames] == identities
        assert len(set(identities)) == len(identities)
        assert study.truth.shape == (len(identities), header.Rows, header.Columns)
        assert study.truth.any()


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (package dicom3tools) is not installed")
@pytest.mark.parametrize("modality", ["XA", "OP", "CT"])
def test_dciodvfy_has_nothing_to_say(studies: dict[str, DemoStudy], modality: str) -> None:
    """The independent validator finds neither an error nor a warning, in the first, a middle and the last file."""
    paths = studies[modality].paths
    for path in {paths[0], paths[len(paths) // 2], paths[-1]}:
        report = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
        lines = (report.stdout + report.stderr).splitlines()
        assert [line for line in lines if line.startswith(("Error", "Warning"))] == []
        assert report.returncode == 0


def test_pixels_are_those_of_the_phantoms(studies: dict[str, DemoStudy]) -> None:
    """Decoding the files with pydicom gives the generated pictures, the CT in Hounsfield units."""
    run, run_truth = angiography_run(seed=SEED)
    np.testing.assert_array_equal(headers(studies["XA"])[0].pixel_array, run)
    np.testing.assert_array_equal(studies["XA"].truth, run_truth)
    photograph, _ = fundus_photograph(seed=SEED)
    np.testing.assert_array_equal(headers(studies["OP"])[0].pixel_array, photograph)
    volume, _ = contrast_ct(seed=SEED)
    for header, picture in zip(headers(studies["CT"]), volume, strict=True):
        hounsfield = header.pixel_array * float(header.RescaleSlope) + float(header.RescaleIntercept)
        np.testing.assert_array_equal(hounsfield, picture)


def test_ct_geometry_is_consistent(studies: dict[str, DemoStudy]) -> None:
    """Slices share frame of reference and orientation and lie 1.5 mm apart from the feet up."""
    slices = headers(studies["CT"])
    assert len({header.FrameOfReferenceUID for header in slices}) == 1
    assert {tuple(header.ImageOrientationPatient) for header in slices} == {(1, 0, 0, 0, 1, 0)}
    positions = np.array([header.ImagePositionPatient for header in slices], float)
    np.testing.assert_allclose(np.diff(positions, axis=0), np.tile((0, 0, 1.5), (59, 1)), atol=1e-6)
    assert [header.InstanceNumber for header in slices] == list(range(1, 61))
    assert all(header.SliceThickness == 1.5 and list(header.PixelSpacing) == [1.2, 1.2] for header in slices)
    assert all(header.ContrastBolusAgent for header in slices)


def test_run_has_cine_timing_and_contrast(studies: dict[str, DemoStudy]) -> None:
    """The XA run tells the time between frames and the contrast agent, and has no frame of reference."""
    (header,) = headers(studies["XA"])
    assert header.FrameIncrementPointer == pydicom.tag.Tag("FrameTime")
    assert float(header.FrameTime) == pytest.approx(133.33)
    assert header.ContrastBolusAgent
    assert "FrameOfReferenceUID" not in header


def test_same_seed_gives_the_same_bytes_and_another_seed_other_uids(
    studies: dict[str, DemoStudy], tmp_path: Path
) -> None:
    """Repeating a seed repeats every byte; another seed shares no UID."""
    again, other = fundus_study(tmp_path / "again", SEED), fundus_study(tmp_path / "other", SEED + 1)
    assert again.paths[0].read_bytes() == studies["OP"].paths[0].read_bytes()
    mine, theirs = (headers(study)[0] for study in (again, other))
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID"):
        assert mine[keyword].value != theirs[keyword].value


def test_folder_that_cannot_be_written_is_a_configuration_error(tmp_path: Path) -> None:
    """The error names the folder and says what to do."""
    (tmp_path / "file").touch()
    header = plain_header("retina", SEED, "1.2.3", "1.2.3.4", "1.2.3.4.5", 1)
    header.SOPClassUID = OphthalmicPhotography8BitImageStorage
    with pytest.raises(ConfigurationError, match="Choose another"):
        write_instance(header, tmp_path / "file" / "photograph.dcm")


def test_dice_of_a_perfect_segmentation_is_one(studies: dict[str, DemoStudy], tmp_path: Path) -> None:
    """A SEG file with the truth scores 1; empty frames that it leaves out count as empty."""
    study = studies["CT"]
    assert dice_of(segmentation(study, study.truth, tmp_path / "seg.dcm"), study) == 1.0


def test_dice_counts_what_is_missing_and_what_is_too_much(studies: dict[str, DemoStudy], tmp_path: Path) -> None:
    """Half of the slices missing, and a false block, lower the score as the formula says."""
    study = studies["CT"]
    mask = study.truth.copy()
    mask[30:] = False
    mask[0, :20, :20] = True
    expected = 2 * (mask & study.truth).sum() / (mask.sum() + study.truth.sum())
    assert 0.3 < expected < 0.8
    assert dice_of(segmentation(study, mask, tmp_path / "seg.dcm"), study) == pytest.approx(expected)


def test_dice_of_another_study_is_an_error(studies: dict[str, DemoStudy], tmp_path: Path) -> None:
    """A SEG file that refers to other images is refused, not scored."""
    path = segmentation(studies["CT"], studies["CT"].truth, tmp_path / "seg.dcm")
    with pytest.raises(InvalidSegmentationError, match="not in the study"):
        dice_of(path, studies["OP"])


def test_segments_are_united(studies: dict[str, DemoStudy], monkeypatch: pytest.MonkeyPatch) -> None:
    """Arteries in one segment and veins in another count together."""
    study = studies["OP"]
    left, right = study.truth[0].copy(), study.truth[0].copy()
    left[:, 500:], right[:, :500] = False, False
    uid = study.frames[0].sop_instance_uid
    monkeypatch.setattr(scoring, "read_masks", lambda _dataset: {(1, uid, 1): left, (2, uid, 1): right})
    assert dice_of(study.paths[0], study) == 1.0
