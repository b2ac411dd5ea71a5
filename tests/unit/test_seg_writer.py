"""A segmentation object is built for every class of source, says what the mask says, and is the same every time."""

import hashlib
from copy import deepcopy
from dataclasses import replace
from datetime import datetime
from io import BytesIO
from pathlib import Path

import dicom_sources
import highdicom
import numpy as np
import pytest
import seg_cases
from pydicom import config, dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from seg_cases import ARTERY_AND_VEIN, CASES, IDENTITY, IDENTITY_WITH_WEIGHTS, mask_for, segmentation_of

from dicom_core.errors import InvalidSegmentationError, SpoolError, UnsupportedSourceError
from worker.image_stack import FrameIdentity, Imaging
from worker.seg_reader.reading import read_masks
from worker.seg_writer.validation import validate_segmentation
from worker.seg_writer.writer import build_segmentation, encode_segmentation, save_segmentation
from worker.segmenters.interface import Status
from worker.source_series import SourceKind, SourceSeries

WITHOUT_GEOMETRY = [name for name, case in CASES.items() if case.kind in (SourceKind.RUN, SourceKind.PICTURES)]


def expected_masks(source: SourceSeries, mask: np.ndarray, *, with_empty: bool = False) -> dict:
    """What reading back must give."""
    return {
        (segment + 1, frame.sop_instance_uid, frame.frame_number): mask[segment, index]
        for segment in range(len(mask))
        for index, frame in enumerate(source.frames)
        if with_empty or mask[segment, index].any()
    }


def assert_equal_masks(read: dict, expected: dict) -> None:
    assert read.keys() == expected.keys()
    for key, mask in expected.items():
        assert np.array_equal(read[key], mask), key[0]


def reread(dataset: Dataset) -> Dataset:
    return dcmread(BytesIO(encode_segmentation(dataset)))


@pytest.mark.parametrize("segments", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_read_back_equals_the_mask(name: str, segments: int) -> None:
    """Every bit of every frame comes back under its source instance and frame number; empty frames are left out."""
    source = CASES[name].series()
    mask = mask_for(source, segments)
    dataset = reread(build_segmentation(source, segmentation_of(mask), IDENTITY))
    assert_equal_masks(read_masks(dataset), expected_masks(source, mask))


@pytest.mark.parametrize("name", CASES)
def test_all_frames_on_request(name: str) -> None:
    """With ``omit_empty_frames=False`` every segment has every frame of the source."""
    source = CASES[name].series()
    mask = mask_for(source, 2)
    dataset = reread(build_segmentation(source, segmentation_of(mask), IDENTITY, omit_empty_frames=False))
    assert_equal_masks(read_masks(dataset), expected_masks(source, mask, with_empty=True))


@pytest.mark.parametrize("name", CASES)
def test_rebuild_is_byte_identical(name: str) -> None:
    """Building twice from the same source, mask and identity gives the same file; another identity does not."""
    source = CASES[name].series()
    segmentation = segmentation_of(mask_for(source, 2))
    first = encode_segmentation(build_segmentation(source, segmentation, IDENTITY_WITH_WEIGHTS))
    assert encode_segmentation(build_segmentation(source, segmentation, IDENTITY_WITH_WEIGHTS)) == first
    other = replace(IDENTITY_WITH_WEIGHTS, uid_seed="other")
    assert encode_segmentation(build_segmentation(source, segmentation, other)) != first


@pytest.mark.parametrize("name", CASES)
def test_sources_and_mask_are_not_changed(name: str) -> None:
    """Neither the source headers nor the mask differ after building."""
    source = CASES[name].series()
    mask = mask_for(source, 2)
    headers, pixels = deepcopy(source.datasets), mask.copy()
    build_segmentation(source, segmentation_of(mask), IDENTITY)
    assert list(source.datasets) == list(headers)
    assert np.array_equal(mask, pixels)


@pytest.mark.parametrize("name", CASES)
def test_highdicom_reads_every_object(name: str, tmp_path: Path) -> None:
    """``highdicom.seg.segread`` opens the object and gives the same voxels."""
    source = CASES[name].series()
    mask = mask_for(source, 2)
    save_segmentation(build_segmentation(source, segmentation_of(mask), IDENTITY), tmp_path / "seg.dcm")
    read = highdicom.seg.segread(tmp_path / "seg.dcm")
    assert read.number_of_segments == 2
    frames = read.pixel_array
    frames = frames[None] if frames.ndim == 2 else frames
    stored = mask.reshape(-1, *mask.shape[2:])
    assert sorted(f.tobytes() for f in frames.astype(bool)) == sorted(f.tobytes() for f in stored if f.any())


@pytest.mark.parametrize("name", CASES)
def test_common_content(name: str) -> None:
    """Identification, study, equipment and references follow the recipe for every source."""
    source = CASES[name].series()
    header = source.datasets[0]
    dataset = reread(build_segmentation(source, segmentation_of(mask_for(source, 2), ARTERY_AND_VEIN), IDENTITY))
    assert dataset.SegmentationType == "BINARY"
    assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert dataset.SpecificCharacterSet == "ISO_IR 192"
    assert dataset.ContentLabel == "VESSELS"
    assert dataset.ContentCreatorName == ""
    assert dataset.SegmentsOverlap == "YES"
    assert "Laterality" not in dataset
    assert dataset.StudyInstanceUID == header.StudyInstanceUID
    assert dataset.SeriesInstanceUID == IDENTITY.series_instance_uid != header.SeriesInstanceUID
    assert dataset.get("BodyPartExamined") == header.get("BodyPartExamined")
    assert (dataset.ContentDate, dataset.ContentTime) == ("20240229", "120000.123456")
    own = dataset.ContributingEquipmentSequence[-1]
    assert dataset.DeviceUID == own.DeviceUID == IDENTITY.device_uid
    assert own.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert (own.Manufacturer, own.ManufacturerModelName) == ("vesselq", IDENTITY.model_name)
    assert list(own.SoftwareVersions) == [IDENTITY.software_version, IDENTITY.model_version]
    references = dataset.ReferencedSeriesSequence[0]
    assert references.SeriesInstanceUID == header.SeriesInstanceUID
    assert [item.ReferencedSOPInstanceUID for item in references.ReferencedInstanceSequence] == [
        instance.SOPInstanceUID for instance in source.datasets
    ]
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        assert "SegmentIdentificationSequence" in groups
        derivation = groups.DerivationImageSequence[0]
        assert derivation.DerivationCodeSequence[0].CodeValue == "113076"
        image = derivation.SourceImageSequence[0]
        assert image.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        assert image.SpatialLocationsPreserved == "YES"
        instance = next(one for one in source.datasets if one.SOPInstanceUID == image.ReferencedSOPInstanceUID)
        assert image.ReferencedSOPClassUID == instance.SOPClassUID
        assert ("ReferencedFrameNumber" in image) == (int(instance.get("NumberOfFrames") or 1) > 1)


@pytest.mark.parametrize("name", WITHOUT_GEOMETRY)
def test_viewer_hints(name: str) -> None:
    """Sources without geometry get shared orientation and spacing as hints, never a position or frame of reference."""
    source = CASES[name].series()
    segmentation = segmentation_of(mask_for(source))
    hinted = build_segmentation(source, segmentation, IDENTITY)
    strict = build_segmentation(source, segmentation, IDENTITY, viewer_hints=False)
    shared = hinted.SharedFunctionalGroupsSequence[0]
    orientation = source.datasets[0].get("ImageOrientationPatient") or [1, 0, 0, 0, 1, 0]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == orientation
    measures = source.datasets[0].get("SharedFunctionalGroupsSequence")
    spacing = measures[0].PixelMeasuresSequence[0].PixelSpacing if measures else source.datasets[0].get("PixelSpacing")
    assert shared.PixelMeasuresSequence[0].PixelSpacing == (spacing or [1, 1])
    assert len(strict.SharedFunctionalGroupsSequence[0]) == 0
    for dataset in (hinted, strict):
        assert "FrameOfReferenceUID" not in dataset
        assert all("PlanePositionSequence" not in groups for groups in dataset.PerFrameFunctionalGroupsSequence)


@pytest.mark.parametrize("cosines", [None, "", [1, 0, 0], [1, 0, 0, 0, 1]])
def test_unusable_orientation_becomes_upright(cosines: object) -> None:
    """A source whose orientation is absent, empty or incomplete still gives a complete hint."""
    source = CASES["sc"].series(ImageOrientationPatient=cosines)
    dataset = build_segmentation(source, segmentation_of(mask_for(source)), IDENTITY)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == [1, 0, 0, 0, 1, 0]


def test_pictures_that_are_turned_differently_get_an_upright_hint() -> None:
    """One shared orientation cannot be that of two pictures that differ in theirs."""
    source = CASES["several_op"].series()
    for number, header in enumerate(source.datasets):
        header.ImageOrientationPatient = [1, 0, 0, 0, float(number % 2), float(1 - number % 2)]
    dataset = build_segmentation(source, segmentation_of(mask_for(source)), IDENTITY)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == [1, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("spacing", [None, "", [0.0, 0.0], [-1, 1], [0.3]])
def test_unusable_pixel_spacing_becomes_one(spacing: object) -> None:
    """A source whose pixel spacing is absent, empty, zero, negative or single still gives a complete hint."""
    source = CASES["sc"].series(PixelSpacing=spacing)
    dataset = build_segmentation(source, segmentation_of(mask_for(source)), IDENTITY)
    assert dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing == [1, 1]


def test_slices_keep_their_place() -> None:
    """Frames of a tilted series with a gap carry the position of their slice, and the orientation is shared."""
    source = CASES["ct_tilted_with_gap"].series()
    dataset = build_segmentation(source, segmentation_of(mask_for(source)), IDENTITY)
    positions = {str(header.SOPInstanceUID): header.ImagePositionPatient for header in source.datasets}
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        uid = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert groups.PlanePositionSequence[0].ImagePositionPatient == positions[uid]
    orientation = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    assert orientation == source.datasets[0].ImageOrientationPatient
    assert dataset.FrameOfReferenceUID == source.datasets[0].FrameOfReferenceUID


def test_noise_in_the_orientation_is_ignored() -> None:
    """Slices whose direction cosines differ by rounding only make one volume."""
    source = CASES["ct"].series()
    for number, header in enumerate(source.datasets):
        header.ImageOrientationPatient = [1, 0, 0, 0, 1, round(1e-6 * number, 7)]
    mask = mask_for(source)
    dataset = build_segmentation(source, segmentation_of(mask), IDENTITY)
    assert_equal_masks(read_masks(dataset), expected_masks(source, mask))


@pytest.mark.parametrize("fault", ["orientation", "no position", "same position", "infinite position"])
def test_impossible_geometry_is_refused(fault: str) -> None:
    """Slices that cross, lack a position or lie on each other end in a sentence, not in a stack trace."""
    source = CASES["ct"].series()
    if fault == "orientation":
        source.datasets[3].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    elif fault == "no position":
        del source.datasets[3].ImagePositionPatient
    elif fault == "same position":
        source.datasets[3].ImagePositionPatient = source.datasets[2].ImagePositionPatient
    else:
        del source.datasets[3].ImagePositionPatient
        with config.disable_value_validation():
            source.datasets[3].ImagePositionPatient = ["inf", 0, 0]
    with pytest.raises(UnsupportedSourceError, match="geometry"):
        build_segmentation(source, segmentation_of(mask_for(source)), IDENTITY)


def test_decimal_strings_that_are_too_long_are_shortened() -> None:
    """Positions with more than 16 characters, which some scanners write, do not reach the result."""
    source = CASES["ct"].series()
    with config.disable_value_validation():
        for number, header in enumerate(source.datasets):
            del header.ImagePositionPatient
            header.ImagePositionPatient = ["-123.45678901234567", "-30.123456789012345", f"{number * 1.25:.15f}"]
    dataset = reread(build_segmentation(source, segmentation_of(mask_for(source)), IDENTITY))
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        texts = [value.original_string for value in groups.PlanePositionSequence[0].ImagePositionPatient]
        assert all(len(text) <= 16 for text in texts)
        assert float(texts[0]) == pytest.approx(-123.45678901234567)


@pytest.mark.parametrize("name", ["ct", "enhanced_ct"])
def test_missing_slice_thickness_is_the_slice_distance(name: str) -> None:
    """Without SliceThickness the distance between slices stands in, which readers need to build a volume."""
    source = CASES[name].series()
    for header in source.datasets:
        for item in (header, *(g.PixelMeasuresSequence[0] for g in header.get("SharedFunctionalGroupsSequence", ()))):
            if "SliceThickness" in item:
                del item.SliceThickness
    dataset = build_segmentation(source, segmentation_of(mask_for(source)), IDENTITY)
    assert dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == 1.25


def test_part_of_a_multi_frame_source_in_another_order() -> None:
    """Frames of an enhanced source are placed by their number, not by their place in the mask."""
    whole = CASES["enhanced_ct"].series()
    source = replace(whole, frames=(whole.frames[5], whole.frames[2]))
    mask = mask_for(source, empty_first_frame=False)
    mask[0, 1, :4] = True
    dataset = build_segmentation(source, segmentation_of(mask), IDENTITY)
    assert_equal_masks(read_masks(dataset), expected_masks(source, mask))


def test_part_of_a_run() -> None:
    """A run of which the segmenter saw every second frame refers to those frames."""
    whole = CASES["xa_run"].series()
    source = replace(whole, frames=whole.frames[1::2])
    mask = mask_for(source, empty_first_frame=False)
    dataset = build_segmentation(source, segmentation_of(mask), IDENTITY)
    assert [key[2] for key in read_masks(dataset)] == [2, 4, 6, 8, 10]


def test_frames_are_ordered_in_time_or_by_place() -> None:
    """Those of a run by time, pictures by their place in one stack; the segment comes first."""
    pointers = {}
    for name in ("xa_run_of_several", "several_op"):
        source = CASES[name].series()
        dataset = build_segmentation(source, segmentation_of(mask_for(source)), IDENTITY)
        pointers[name] = [keyword_for_tag(item.DimensionIndexPointer) for item in dataset.DimensionIndexSequence]
    assert pointers == {
        "xa_run_of_several": ["ReferencedSegmentNumber", "TemporalPositionIndex"],
        "several_op": ["ReferencedSegmentNumber", "StackID", "InStackPositionNumber"],
    }


def test_pictures_that_differ_in_pixel_spacing_give_no_spacing() -> None:
    """The hint must hold for all frames: where the pictures disagree it is 1 mm, as where there is none."""
    source = CASES["several_op"].series(PixelSpacing=[0.2, 0.2])
    segmentation = segmentation_of(mask_for(source))
    shared = build_segmentation(source, segmentation, IDENTITY).SharedFunctionalGroupsSequence[0]
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [0.2, 0.2]
    source.datasets[1].PixelSpacing = [0.3, 0.3]
    shared = build_segmentation(source, segmentation, IDENTITY).SharedFunctionalGroupsSequence[0]
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [1, 1]


def test_dimension_indices_are_unique_and_ordered() -> None:
    """Every frame has its own dimension index values, as many as there are dimensions, in rising order."""
    for name in CASES:
        source = CASES[name].series()
        dataset = build_segmentation(source, segmentation_of(mask_for(source, 2)), IDENTITY)
        values = [
            tuple(np.atleast_1d(groups.FrameContentSequence[0].DimensionIndexValues).tolist())
            for groups in dataset.PerFrameFunctionalGroupsSequence
        ]
        assert len(set(values)) == len(values), name
        assert values == sorted(values), name
        assert {len(value) for value in values} == {len(dataset.DimensionIndexSequence)}, name


def test_overlap_is_told() -> None:
    """SegmentsOverlap tells whether any pixel belongs to two segments."""
    source = CASES["op_rgb"].series()
    mask = np.zeros((2, 1, 64, 72), np.bool_)
    mask[0, 0, :10] = mask[1, 0, 20:30] = True
    assert build_segmentation(source, segmentation_of(mask), IDENTITY).SegmentsOverlap == "NO"
    mask[1, 0, 9] = True
    assert build_segmentation(source, segmentation_of(mask), IDENTITY).SegmentsOverlap == "YES"


def test_generation_and_series_are_in_the_description() -> None:
    """The reader sees the source series, the model and, from the second generation on, the version of the result."""
    source = CASES["xa_run"].series(SeriesNumber=7)
    segmentation = segmentation_of(mask_for(source))
    assert build_segmentation(source, segmentation, IDENTITY).SeriesDescription == "Vessels of series 7 (ridge 1.0)"
    long_name = replace(IDENTITY, generation=12, model_name="m" * 90)
    description = build_segmentation(source, segmentation, long_name).SeriesDescription
    assert description.endswith(" v12")
    assert len(description) <= 64


def test_created_at_follows_the_zone_of_the_source() -> None:
    """A source that states its offset from UTC gets dates and times of the result in that zone."""
    source = CASES["sc"].series(TimezoneOffsetFromUTC="-0500")
    dataset = build_segmentation(source, segmentation_of(mask_for(source)), IDENTITY)
    assert dataset.TimezoneOffsetFromUTC == "-0500"
    assert (dataset.ContentDate, dataset.ContentTime) == ("20240228", "230000.123456")


@pytest.mark.parametrize("name", ["ct", "xa_run", "op_rgb"])
def test_empty_mask_is_refused(name: str) -> None:
    """Whether an empty result is sent is the caller's decision, so building one is an error."""
    source = CASES[name].series()
    mask = np.zeros((1, len(source.frames), 64, 72), np.bool_)
    with pytest.raises(InvalidSegmentationError, match="empty"):
        build_segmentation(source, segmentation_of(mask), IDENTITY)


@pytest.mark.parametrize("segments", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_empty_mask_of_a_model_that_found_nothing_has_all_frames(name: str, segments: int) -> None:
    """With status NO_MASK every frame of the source is there for every segment, and empty, whatever the setting."""
    source = CASES[name].series()
    mask = np.zeros_like(mask_for(source, segments))
    segmentation = segmentation_of(mask, status=Status.NO_MASK)
    contents = []
    for omit in (True, False):
        dataset = build_segmentation(source, segmentation, IDENTITY, omit_empty_frames=omit)
        contents.append(encode_segmentation(dataset))
        read = read_masks(reread(dataset))
        assert_equal_masks(read, expected_masks(source, mask, with_empty=True))
        assert len(read) == segments * len(source.frames)
        validate_segmentation(dataset, source, mask, use_dciodvfy=False)
    assert contents[0] == contents[1]


def test_one_empty_segment_is_allowed() -> None:
    """A class that was not found stays described, next to one that was."""
    for name in ("ct", "xa_run"):
        source = CASES[name].series()
        mask = mask_for(source, 2)
        mask[1] = False
        dataset = reread(build_segmentation(source, segmentation_of(mask), IDENTITY))
        assert len(dataset.SegmentSequence) == 2
        assert {key[0] for key in read_masks(dataset)} == {1}


@pytest.mark.parametrize(
    ("shape", "dtype"), [((1, 10, 64, 71), bool), ((1, 9, 64, 72), bool), ((2, 10, 64, 72), bool), ((10, 64, 72), bool)]
)
def test_mask_of_another_shape_is_refused(shape: tuple[int, ...], dtype: type) -> None:
    """Rows, columns, frames and classes must be those of the source and the segmenter."""
    source = CASES["xa_run"].series()
    segmentation = replace(segmentation_of(mask_for(source)), mask=np.ones(shape, dtype))
    with pytest.raises(InvalidSegmentationError):
        build_segmentation(source, segmentation, IDENTITY)


def test_mask_of_another_type_is_refused() -> None:
    """Numbers are no decision: the mask is bool."""
    source = CASES["xa_run"].series()
    segmentation = replace(segmentation_of(mask_for(source)), mask=np.ones((1, 10, 64, 72), np.uint8))
    with pytest.raises(InvalidSegmentationError, match="bool"):
        build_segmentation(source, segmentation, IDENTITY)


def test_frame_without_header_is_refused() -> None:
    """A frame whose instance is not among the datasets cannot be referred to."""
    source = replace(CASES["sc"].series(), frames=(FrameIdentity("1.2.3", 1),))
    with pytest.raises(UnsupportedSourceError):
        build_segmentation(source, segmentation_of(np.ones((1, 1, 64, 72), np.bool_)), IDENTITY)


def test_save_is_whole_or_nothing(tmp_path: Path) -> None:
    """The file has a zero preamble, its hash is returned, and no temporary file stays."""
    source = CASES["sc"].series()
    dataset = build_segmentation(source, segmentation_of(mask_for(source)), IDENTITY)
    digest = save_segmentation(dataset, tmp_path / "seg.dcm")
    content = (tmp_path / "seg.dcm").read_bytes()
    assert content[:132] == b"\0" * 128 + b"DICM"
    assert hashlib.sha256(content).hexdigest() == digest
    assert [path.name for path in tmp_path.iterdir()] == ["seg.dcm"]


def test_failed_save_keeps_the_old_file(tmp_path: Path) -> None:
    """When the new file cannot be written the error says so and what stood there stays."""
    source = CASES["sc"].series()
    dataset = build_segmentation(source, segmentation_of(mask_for(source)), IDENTITY)
    with pytest.raises(SpoolError):
        save_segmentation(dataset, tmp_path / "missing" / "seg.dcm")
    (tmp_path / "seg.dcm").mkdir()
    with pytest.raises(SpoolError):
        save_segmentation(dataset, tmp_path / "seg.dcm")
    assert [path.name for path in tmp_path.iterdir()] == ["seg.dcm"]


@pytest.mark.parametrize(
    "change",
    [
        {"series_instance_uid": "1.02.3"},
        {"sop_instance_uid": ""},
        {"device_uid": "x"},
        {"generation": 0},
        {"series_number": 0},
        {"created_at": datetime(2024, 1, 1)},  # noqa: DTZ001 - the missing zone is the fault
    ],
)
def test_identity_refuses_what_cannot_be_valid(change: dict) -> None:
    """UIDs must be UIDs, counters start at 1 and the time has a zone."""
    with pytest.raises(InvalidSegmentationError):
        replace(IDENTITY, **change)


def test_stop_before_pixels_is_enough(tmp_path: Path) -> None:
    """Headers read without pixel data give the same object as whole datasets."""
    for name in ("ct", "enhanced_mr", "xa_run", "several_op"):
        case = CASES[name]
        datasets = case.build()
        paths = dicom_sources.save(datasets, tmp_path / name)
        headers = [dcmread(path, stop_before_pixels=True) for path in paths]
        whole, without = (seg_cases.as_series(sets, case.kind, case.imaging) for sets in (datasets, headers))
        segmentation = segmentation_of(mask_for(whole))
        built = [encode_segmentation(build_segmentation(source, segmentation, IDENTITY)) for source in (whole, without)]
        assert built[0] == built[1], name


def test_unknown_vessel_type_is_refused() -> None:
    """A segmenter that names a type outside the catalogue is told which types there are."""
    source = CASES["sc"].series()
    wrong = (replace(ARTERY_AND_VEIN[0], key="spleen"),)
    with pytest.raises(InvalidSegmentationError, match="blood_vessel"):
        build_segmentation(source, segmentation_of(mask_for(source), wrong), IDENTITY)


def test_many_frames_of_odd_size() -> None:
    """Frames whose pixel count is not a multiple of 8 start in the middle of a byte and still come back."""
    for rows, columns in ((3, 3), (1, 1), (5, 13), (7, 8)):
        datasets = dicom_sources.xa_run(frames=9, rows=rows, columns=columns)
        source = seg_cases.as_series(datasets, SourceKind.RUN, Imaging.XRAY_ANGIOGRAPHY)
        mask = np.random.default_rng(rows).random((2, 9, rows, columns)) > 0.5
        mask[:, :, 0, 0] = True
        dataset = reread(build_segmentation(source, segmentation_of(mask), IDENTITY))
        assert_equal_masks(read_masks(dataset), expected_masks(source, mask))
