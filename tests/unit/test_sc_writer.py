"""Secondary Capture objects with burnt-in vessels: what they say of patient, source, time, size and themselves."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from seg_cases import CASES, IDENTITY, IDENTITY_WITH_WEIGHTS, mask_for, segmentation_of

from dicom_core.errors import InvalidSegmentationError
from dicom_core.identifiers import MANUFACTURER
from worker.image_stack import FrameIdentity
from worker.pictures.reading_aids import AidKind, ReadingAid
from worker.sc_writer.overlays import build_overlays, burned_in_annotation
from worker.seg_writer.standard_tables import missing_attributes
from worker.seg_writer.writer import build_segmentation, encode_segmentation
from worker.source_series import SourceKind, SourceSeries

SINGLE, MULTI = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.4"


def pixels_of(frames: int, rows: int = 11, columns: int = 7) -> NDArray[np.uint8]:
    """Odd sizes, so that padding shows."""
    return np.random.default_rng(frames).integers(0, 256, (frames, rows, columns, 3)).astype(np.uint8)


def overlays_of(source: SourceSeries, **more: object) -> list[ReadingAid]:
    """What the drawing gives for a source, without drawing: one overlay an instance, or projections and montage."""
    if source.kind in (SourceKind.SLICES, SourceKind.ENHANCED):
        return [
            ReadingAid(AidKind.PROJECTION, pixels_of(1), source.frames),
            ReadingAid(AidKind.MONTAGE, pixels_of(1, 8, 9), source.frames[::2]),
        ]
    aids = []
    for header in source.datasets:
        frames = tuple(frame for frame in source.frames if frame.sop_instance_uid == header.SOPInstanceUID)
        aids.append(ReadingAid(AidKind.OVERLAY, pixels_of(len(frames)), frames, **{"scale": 1.0, **more}))
    return aids


def built(name: str, aid: dict[str, object] | None = None, **attributes: object) -> tuple[Dataset, ...]:
    source = CASES[name].series(**attributes)
    return build_overlays(source, overlays_of(source, **(aid or {})), IDENTITY)


def run_with(numbers: Sequence[int], step: int = 1, *, frames: int = 10, **attributes: object) -> Dataset:
    """The overlay of these frames of an XA run."""
    source = CASES["xa_run"].series(frames=frames, **attributes)
    uid = source.frames[0].sop_instance_uid
    shown = tuple(FrameIdentity(uid, number) for number in numbers)
    (dataset,) = build_overlays(
        source, [ReadingAid(AidKind.OVERLAY, pixels_of(len(numbers)), shown, scale=1.0, step=step)], IDENTITY
    )
    return dataset


# --- every source -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_pixels_come_back_bit_for_bit(name: str) -> None:
    """Written and read again, every object holds the very pixels that were drawn, odd byte counts included."""
    source = CASES[name].series()
    aids = overlays_of(source)
    for aid, dataset in zip(aids, build_overlays(source, aids, IDENTITY), strict=True):
        back = dcmread(BytesIO(encode_segmentation(dataset)))
        assert back.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert np.array_equal(back.pixel_array.reshape(aid.pixels.shape), aid.pixels)
        assert len(back.PixelData) % 2 == 0


@pytest.mark.parametrize("name", CASES)
def test_required_attributes_stand(name: str) -> None:
    """Nothing of type 1 or 2 is missing in any module of the IOD."""
    for dataset in built(name):
        assert missing_attributes(dataset) == []


def test_the_check_of_attributes_works() -> None:
    """An object without its patient, its conversion type or, for a run, its statement on burnt-in text is found out."""
    (dataset,) = built("xa_run")
    for keyword in ("PatientID", "ConversionType", "BurnedInAnnotation"):
        faulty = Dataset(dataset)
        delattr(faulty, keyword)
        assert keyword in missing_attributes(faulty)


@pytest.mark.parametrize("name", CASES)
def test_class_and_kind(name: str) -> None:
    """Several frames make a Multi-frame True Color object, one frame a plain one; all are derived and secondary."""
    source = CASES[name].series()
    aids = overlays_of(source)
    for aid, dataset in zip(aids, build_overlays(source, aids, IDENTITY), strict=True):
        assert dataset.SOPClassUID == (MULTI if len(aid.pixels) > 1 else SINGLE)
        assert dataset.file_meta.MediaStorageSOPClassUID == dataset.SOPClassUID
        assert list(dataset.ImageType) == ["DERIVED", "SECONDARY", aid.kind.value]
        assert dataset.ConversionType == "WSD"


@pytest.mark.parametrize("name", CASES)
def test_patient_study_and_modality_are_those_of_the_source(name: str) -> None:
    """The archive files the objects with their source, and viewers hang them beside it."""
    source = CASES[name].series(PatientName="Müller^Jürgen", SpecificCharacterSet="ISO_IR 100")
    header = source.datasets[0]
    for dataset in build_overlays(source, overlays_of(source), IDENTITY):
        for keyword in ("StudyInstanceUID", "PatientID", "StudyDate", "AccessionNumber", "Modality"):
            assert dataset[keyword].value == header[keyword].value, keyword
        assert str(dataset.PatientName) == "Müller^Jürgen"
        assert dataset.SpecificCharacterSet == "ISO_IR 192"
        assert dataset.SeriesInstanceUID == IDENTITY.series_instance_uid != header.SeriesInstanceUID
        assert "FrameOfReferenceUID" not in dataset


def test_same_arguments_same_bytes() -> None:
    """A second try of the job writes the same files; another identity gives other UIDs."""
    source = CASES["several_op"].series()
    aids = overlays_of(source)
    first, second = (
        [encode_segmentation(dataset) for dataset in build_overlays(source, aids, IDENTITY)] for _ in range(2)
    )
    assert first == second
    uids = {dataset.SOPInstanceUID for dataset in build_overlays(source, aids, IDENTITY)}
    assert len(uids) == len(aids)
    assert IDENTITY.sop_instance_uid in uids
    other = build_overlays(source, aids, replace(IDENTITY, sop_instance_uid="2.25.77"))
    assert not uids & {dataset.SOPInstanceUID for dataset in other}


def test_objects_are_numbered_in_one_series() -> None:
    """What a reader should meet first has InstanceNumber 1."""
    datasets = built("several_op")
    assert [dataset.InstanceNumber for dataset in datasets] == [1, 2, 3]
    assert len({dataset.SeriesInstanceUID for dataset in datasets}) == 1
    assert {dataset.SeriesNumber for dataset in datasets} == {IDENTITY.series_number}


# --- what it is -------------------------------------------------------------------------------------------------------


def test_series_description_tells_what_it_is() -> None:
    """Source series, model and the warning; warning and generation survive any length."""
    assert built("ct")[0].SeriesDescription == "Vessel overlay of series 1 (ridge 1.0) - research use"
    source = CASES["ct"].series()
    identity = replace(IDENTITY, model_name="m" * 80, generation=2)
    text = build_overlays(source, overlays_of(source), identity)[0].SeriesDescription
    assert len(text) <= 64
    assert text.endswith(" - research use v2")
    part = replace(source, part=2, parts=10, part_label="phase 2 of 10")
    assert "phase 2 of 10" in build_overlays(part, overlays_of(part), IDENTITY)[0].SeriesDescription


def test_nobody_mistakes_it_for_reviewed() -> None:
    """Derivation, comments and contribution say that it is automatic, unreviewed and for research."""
    (dataset,) = built("xa_still")
    for text in (dataset.DerivationDescription, dataset.ImageComments):
        assert "not reviewed" in text
        assert "ridge 1.0" in text
    own = dataset.ContributingEquipmentSequence[-1]
    assert "not reviewed" in own.ContributionDescription
    assert own.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert dataset.DeviceUID == own.DeviceSerialNumber == IDENTITY.device_uid


def test_the_loop_guard_knows_it() -> None:
    """The manufacturer by which the dispatcher skips its own results stands in every object."""
    assert {dataset.Manufacturer for name in ("ct", "xa_run_of_several") for dataset in built(name)} == {MANUFACTURER}


def test_prompts_stay_out() -> None:
    """What the user typed may name a patient; it is not in these objects, which every viewer shows."""
    source = CASES["xa_still"].series()
    (dataset,) = build_overlays(source, overlays_of(source), IDENTITY_WITH_WEIGHTS)
    assert IDENTITY_WITH_WEIGHTS.prompt.encode() not in encode_segmentation(dataset)


def test_it_is_no_segmentation_and_shares_no_uid_with_one() -> None:
    """SEG and overlay of one part have their own series and instances."""
    source = CASES["xa_run"].series()
    segmentation = build_segmentation(
        source, segmentation_of(mask_for(source)), replace(IDENTITY, sop_instance_uid="1.9")
    )
    (dataset,) = build_overlays(source, overlays_of(source), IDENTITY)
    assert dataset.SOPInstanceUID != segmentation.SOPInstanceUID
    assert "SegmentSequence" not in dataset


# --- references -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_sources_are_referred_to(name: str) -> None:
    """Each object names the instances that it shows, and of a multi-frame instance the frames."""
    source = CASES[name].series()
    aids = overlays_of(source)
    for aid, dataset in zip(aids, build_overlays(source, aids, IDENTITY), strict=True):
        named = []
        for item in dataset.SourceImageSequence:
            assert item.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
            numbers = item.get("ReferencedFrameNumber", 1)
            numbers = [numbers] if isinstance(numbers, int) else numbers
            named += [FrameIdentity(str(item.ReferencedSOPInstanceUID), int(number)) for number in numbers]
        assert set(named) == set(aid.frames)
        (series,) = dataset.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == source.datasets[0].SeriesInstanceUID
        assert len(series.ReferencedInstanceSequence) == len(dataset.SourceImageSequence)


def test_single_frames_are_referred_to_without_a_number() -> None:
    """ReferencedFrameNumber is for multi-frame images only (PS3.3 table 10-3)."""
    for name in ("op_rgb", "ct"):
        assert all("ReferencedFrameNumber" not in item for item in built(name)[0].SourceImageSequence)


def test_locations_are_preserved_only_where_they_are() -> None:
    """An overlay of the size of the source says so; a scaled one, a montage and a projection do not."""

    def said(dataset: Dataset) -> str:
        return str(dataset.SourceImageSequence[0].SpatialLocationsPreserved)

    assert said(built("op_rgb")[0]) == "YES"
    assert said(built("op_rgb", {"scale": 2.0})[0]) == "NO"
    assert [said(dataset) for dataset in built("ct")] == ["NO", "NO"]


def test_derivation_is_coded() -> None:
    """CID 7203: segmentation, and for a projection that it is a maximum intensity projection."""
    projection, slices = built("ct")
    assert [item.CodeValue for item in projection.DerivationCodeSequence] == ["113076", "113078"]
    assert [item.CodeValue for item in slices.DerivationCodeSequence] == ["113076", "113085"]


def test_foreign_pictures_are_refused() -> None:
    """An aid of another series, or of nothing, and no aid at all make no object."""
    source, other = CASES["op_rgb"].series(), CASES["op_rgb"].series()
    for aids in ([], overlays_of(other), [ReadingAid(AidKind.OVERLAY, pixels_of(1), ())]):
        with pytest.raises(InvalidSegmentationError):
            build_overlays(source, aids, IDENTITY)


# --- time -------------------------------------------------------------------------------------------------------------


def test_runs_play_at_the_rate_of_the_source() -> None:
    """FrameTime, rates and sequencing are copied; FrameIncrementPointer points at the time."""
    dataset = run_with(range(1, 11), CineRate=15, RecommendedDisplayFrameRate=15, PreferredPlaybackSequencing=1)
    assert dataset.FrameIncrementPointer == 0x00181063
    assert float(dataset.FrameTime) == pytest.approx(66.7)
    assert (dataset.CineRate, dataset.RecommendedDisplayFrameRate, dataset.PreferredPlaybackSequencing) == (15, 15, 1)


def test_thinned_out_runs_keep_their_speed() -> None:
    """Every third frame is shown three times as long, and the description says so."""
    dataset = run_with([1, 4, 7, 10], step=3, CineRate=15)
    assert float(dataset.FrameTime) == pytest.approx(3 * 66.7)
    assert dataset.CineRate == 5
    assert "Frames 1 to 10 of the source, every 3." in dataset.DerivationDescription


def test_shortened_runs_say_so() -> None:
    """Which frames are shown stands in the description; a complete run has nothing to explain."""
    assert "Frames 3 to 6 of the source." in run_with(range(3, 7)).DerivationDescription
    assert "Frames" not in run_with(range(1, 11)).DerivationDescription


def test_uneven_times_are_those_of_the_frames_shown() -> None:
    """Of a FrameTimeVector the increments between the frames that are shown remain."""
    times = {"FrameTime": None, "FrameIncrementPointer": 0x00181065, "FrameTimeVector": [0, 10, 20, 30, 40]}
    assert list(run_with(range(1, 6), frames=5, **times).FrameTimeVector) == [0, 10, 20, 30, 40]
    dataset = run_with([2, 4, 5], frames=5, **times)
    assert dataset.FrameIncrementPointer == 0x00181065
    assert list(dataset.FrameTimeVector) == [0, 50, 40]


@pytest.mark.parametrize("broken", [{"FrameTime": None}, {"FrameTime": "0"}])
def test_without_time_frames_are_pages(broken: dict[str, object]) -> None:
    """A multi-frame object must say what tells its frames apart: the numbers of the source frames."""
    dataset = run_with([2, 3, 4], **broken)
    assert dataset.FrameIncrementPointer == 0x00182001
    assert list(dataset.PageNumberVector) == [2, 3, 4]
    assert "FrameTime" not in dataset


def test_still_pictures_have_no_time() -> None:
    """A single frame has neither count nor time."""
    (dataset,) = built("xa_still", FrameTime=40)
    assert not {"NumberOfFrames", "FrameTime", "FrameIncrementPointer"} & set(dataset.dir())


# --- size, side, text in the pixels -----------------------------------------------------------------------------------


def test_spacing_follows_the_scale() -> None:
    """A fundus photograph with known spacing, twice as large, has half the spacing."""
    (dataset,) = built("op_rgb", {"scale": 2.0, "spacing_mm": (0.01, 0.02)})
    assert [float(value) for value in dataset.PixelSpacing] == [0.005, 0.01]
    assert "PixelSpacingCalibrationType" not in dataset


def test_projections_have_spacing_only_when_calibrated() -> None:
    """What may be the spacing of a detector is left out; a calibrated one stands with its type and description."""
    aid = {"spacing_mm": (0.3, 0.3)}
    assert "PixelSpacing" not in built("xa_still", aid)[0]
    calibration = {"PixelSpacingCalibrationType": "FIDUCIAL", "PixelSpacingCalibrationDescription": "catheter"}
    (dataset,) = built("xa_still", aid, **calibration)
    assert [float(value) for value in dataset.PixelSpacing] == [0.3, 0.3]
    assert dataset.PixelSpacingCalibrationType == "FIDUCIAL"
    assert dataset.PixelSpacingCalibrationDescription == "catheter"


def test_montage_and_projection_have_no_spacing() -> None:
    """Three views and twenty slices on one picture have no common place, orientation or distance."""
    for dataset in built("ct", ImageOrientationPatient=[1, 0, 0, 0, 1, 0]):
        assert not {"PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"} & set(dataset.dir())
        assert dataset.PatientOrientation is None or dataset.PatientOrientation == ""


def test_orientation_of_an_overlay_is_that_of_the_picture() -> None:
    """The overlay lies as the picture lies."""
    (dataset,) = built("dx", PatientOrientation=["L", "F"])
    assert list(dataset.PatientOrientation) == ["L", "F"]


def test_side_of_the_body() -> None:
    """The eye of a picture, the frame's side of an enhanced one; empty where the part is paired and its side untold."""
    assert built("op_rgb", ImageLaterality="L")[0].ImageLaterality == "L"
    assert built("enhanced_ct")[0].ImageLaterality == "U"
    (knee,) = built("cr", BodyPartExamined="KNEE")
    assert knee.Laterality == ""
    assert "Laterality" not in built("ct")[0]
    assert built("cr", BodyPartExamined="KNEE", Laterality="R")[0].ImageLaterality == "R"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["NO"], "NO"),
        (["YES"], "YES"),
        ([None], "YES"),
        (["NO", "YES"], "YES"),
        (["NO", None], "YES"),
        (["MAYBE"], "YES"),
    ],
)
def test_burned_in_annotation(values: list[str | None], expected: str) -> None:
    """Our caption identifies nobody; but only a source that promises to be free of text makes an overlay that does."""
    headers = []
    for value in values:
        header = Dataset()
        if value is not None:
            header.BurnedInAnnotation = value
        headers.append(header)
    assert burned_in_annotation(headers) == expected


def test_once_lossy_always_said() -> None:
    """Lossy compression of the source stands in the overlay with ratio and method."""
    (dataset,) = built(
        "xa_run", LossyImageCompression="01", LossyImageCompressionRatio=12, LossyImageCompressionMethod="ISO_10918_1"
    )
    assert (dataset.LossyImageCompression, float(dataset.LossyImageCompressionRatio)) == ("01", 12)
    assert built("op_rgb", LossyImageCompression="00")[0].LossyImageCompression == "00"


def test_times_are_in_the_zone_of_the_source() -> None:
    """Dates and times agree with TimezoneOffsetFromUTC of the source."""
    source = CASES["cr"].series(TimezoneOffsetFromUTC="+0000")
    identity = replace(IDENTITY, created_at=datetime(2024, 3, 1, 1, 30, tzinfo=UTC))
    (dataset,) = build_overlays(source, overlays_of(source), identity)
    assert (dataset.ContentDate, str(dataset.ContentTime)[:4]) == ("20240301", "0130")
    assert dataset.DateOfSecondaryCapture == dataset.SeriesDate == "20240301"


def test_sources_stay_as_they_are() -> None:
    """Building changes nothing in the headers of the source, and odd values in them stop nothing."""
    source = CASES["xa_run"].series(PatientSex="X", CineRate=None, SeriesNumber=None)
    before = [dataset.to_json() for dataset in source.datasets]
    (dataset,) = build_overlays(source, overlays_of(source), IDENTITY)
    assert [dataset.to_json() for dataset in source.datasets] == before
    assert dataset.PatientSex == ""
    assert dataset.SeriesDescription.startswith("Vessel overlay (ridge")


@pytest.mark.parametrize(
    ("ratio", "expected"), [([2, 1], [2, 1]), ([1, 1], None), ([0, 1], None), ([3], None), (None, None)]
)
def test_pixel_aspect_ratio(ratio: list[int] | None, expected: list[int] | None) -> None:
    """Drawn frames keep the shape of the source's pixels; square pixels and nonsense are not told."""
    (drawn,) = built("us_run", PixelAspectRatio=ratio)
    assert drawn.get("PixelAspectRatio") == expected
    assert not missing_attributes(drawn)


def test_no_pixel_aspect_ratio_beside_spacing_or_without_scale() -> None:
    """PixelSpacing says it already; projections and montages are drawn with square pixels."""
    (photograph,) = built("op_rgb", {"spacing_mm": (0.01, 0.02)}, PixelAspectRatio=[1, 2])
    assert "PixelSpacing" in photograph
    assert "PixelAspectRatio" not in photograph
    assert not any("PixelAspectRatio" in dataset for dataset in built("ct", PixelAspectRatio=[2, 1]))
