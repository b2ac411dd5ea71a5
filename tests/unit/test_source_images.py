"""From files to a SourceSeries: the kind of every source class, the order, and what messy series come to."""

import copy
import logging
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import dicom_sources
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import DeflatedExplicitVRLittleEndian, generate_uid

from dicom_core.errors import DamagedSourceError, UnsupportedSourceError
from worker.image_stack import Arrangement, Imaging
from worker.source_images import reading
from worker.source_images.imaging_kind import imaging_of
from worker.source_images.reading import read_series
from worker.source_series import SourceKind, SourceSeries

SR = "1.2.840.10008.5.1.4.1.1.88.11"
SEG = "1.2.840.10008.5.1.4.1.1.66.4"


def series(datasets: Sequence[Dataset], folder: Path) -> SourceSeries:
    """Save and read a series of one part."""
    (part,) = read_series(dicom_sources.save(datasets, folder))
    return part


def several(datasets: Sequence[Dataset], folder: Path) -> tuple[SourceSeries, ...]:
    """Save and read a series of any number of parts."""
    return read_series(dicom_sources.save(datasets, folder))


def uids(datasets: Sequence[Dataset]) -> list[str]:
    return [str(dataset.SOPInstanceUID) for dataset in datasets]


def taken(source: SourceSeries) -> list[str]:
    return [frame.sop_instance_uid for frame in source.frames]


# --- every class of source --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "kind", "arrangement", "imaging", "frames"),
    [
        (dicom_sources.ct_series, SourceKind.SLICES, Arrangement.VOLUME, Imaging.CT, 8),
        (dicom_sources.mr_series, SourceKind.SLICES, Arrangement.VOLUME, Imaging.MR, 8),
        (dicom_sources.enhanced_ct, SourceKind.ENHANCED, Arrangement.VOLUME, Imaging.CT, 8),
        (dicom_sources.enhanced_mr, SourceKind.ENHANCED, Arrangement.VOLUME, Imaging.MR, 8),
        (dicom_sources.opt_with_frame_of_reference, SourceKind.ENHANCED, Arrangement.VOLUME, Imaging.OCT, 6),
        (dicom_sources.opt_without, SourceKind.RUN, Arrangement.RUN, Imaging.OCT, 6),
        (dicom_sources.xa_run, SourceKind.RUN, Arrangement.RUN, Imaging.XRAY_ANGIOGRAPHY, 10),
        (dicom_sources.xrf_run, SourceKind.RUN, Arrangement.RUN, Imaging.XRAY_ANGIOGRAPHY, 6),
        (dicom_sources.us_run, SourceKind.RUN, Arrangement.RUN, Imaging.ULTRASOUND, 6),
        (dicom_sources.sc_multiframe, SourceKind.RUN, Arrangement.RUN, Imaging.OTHER, 5),
        (dicom_sources.xa_still, SourceKind.PICTURES, Arrangement.FRAMES, Imaging.XRAY_ANGIOGRAPHY, 1),
        (dicom_sources.op_rgb, SourceKind.PICTURES, Arrangement.FRAMES, Imaging.FUNDUS, 1),
        (dicom_sources.op_grey, SourceKind.PICTURES, Arrangement.FRAMES, Imaging.FUNDUS, 1),
        (dicom_sources.several_op, SourceKind.PICTURES, Arrangement.FRAMES, Imaging.FUNDUS, 3),
        (dicom_sources.opt_en_face, SourceKind.PICTURES, Arrangement.FRAMES, Imaging.OCT_ANGIOGRAPHY, 1),
        (dicom_sources.sc, SourceKind.PICTURES, Arrangement.FRAMES, Imaging.OTHER, 1),
        (dicom_sources.dx, SourceKind.PICTURES, Arrangement.FRAMES, Imaging.OTHER, 1),
        (dicom_sources.cr, SourceKind.PICTURES, Arrangement.FRAMES, Imaging.OTHER, 1),
    ],
)
def test_every_source_class_has_its_kind(
    make: Callable[[], list[Dataset]],
    kind: SourceKind,
    arrangement: Arrangement,
    imaging: Imaging,
    frames: int,
    tmp_path: Path,
) -> None:
    """Each generated source class becomes its SourceKind with all frames, nothing left out and nothing to warn of."""
    source = series(make(), tmp_path)
    assert (source.kind, source.arrangement, source.imaging) == (kind, arrangement, imaging)
    assert len(source.frames) == frames
    assert source.left_out == source.warnings == ()
    assert len(source.datasets) == len(source.paths)
    assert all("PixelData" not in dataset for dataset in source.datasets)


@pytest.mark.parametrize(
    ("modality", "imaging"),
    [
        ("OP", Imaging.FUNDUS),
        ("XA", Imaging.XRAY_ANGIOGRAPHY),
        ("RF", Imaging.XRAY_ANGIOGRAPHY),
        ("OPT", Imaging.OCT),
        ("OPTENF", Imaging.OCT_ANGIOGRAPHY),
        ("CT", Imaging.CT),
        ("MR", Imaging.MR),
        ("US", Imaging.ULTRASOUND),
        ("OT", Imaging.OTHER),
        ("", Imaging.OTHER),
    ],
)
def test_modality_decides_for_secondary_capture(modality: str, imaging: Imaging) -> None:
    """A secondary capture is the kind of picture that its Modality says."""
    assert imaging_of(dicom_sources.sc(Modality=modality)[0]) is imaging


def test_sop_class_goes_before_modality() -> None:
    """A CT object that calls itself MR is CT: the class decides what its pixels mean."""
    assert imaging_of(dicom_sources.ct_series(frames=1, Modality="MR")[0]) is Imaging.CT


def test_tomography_that_says_en_face_is_angiography() -> None:
    """Ophthalmic Tomography whose ImageType says en face is seen from the front, not in B-scans."""
    dataset = dicom_sources.opt_without(frames=1, ImageType=["DERIVED", "PRIMARY", "EN FACE"])[0]
    assert imaging_of(dataset) is Imaging.OCT_ANGIOGRAPHY


# --- slices -----------------------------------------------------------------------------------------------------------


def test_slices_come_in_spatial_order_whatever_the_order_of_files(tmp_path: Path) -> None:
    """Slices are ordered along the normal by position, not by file or InstanceNumber."""
    slices = dicom_sources.ct_series(frames=6)
    for number, dataset in enumerate(slices):
        dataset.InstanceNumber = (number * 5) % 6
    shuffled = [slices[index] for index in (3, 0, 5, 1, 4, 2)]
    source = series(shuffled, tmp_path)
    assert taken(source) == uids(slices)
    assert [str(dataset.SOPInstanceUID) for dataset in source.datasets] == uids(slices)


def test_order_follows_the_normal_not_the_z_axis(tmp_path: Path) -> None:
    """Sagittal slices are ordered from right to left of the patient, along row x column."""
    slices = dicom_sources.mr_series(frames=4, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    for x, dataset in zip((30, 10, 40, 20), slices, strict=True):
        dataset.ImagePositionPatient = [x, 0, 0]
    # (0, 1, 0) x (0, 0, -1) = (-1, 0, 0): larger x comes first.
    assert taken(series(slices, tmp_path)) == uids([slices[index] for index in (2, 0, 3, 1)])


def test_orientation_noise_is_snapped(tmp_path: Path) -> None:
    """Rounding noise of the direction cosines keeps no slice out, and the headers then agree exactly."""
    slices = dicom_sources.ct_series(frames=5)
    slices[2].ImageOrientationPatient = [1, 0.00001, 0, 0, 1, -0.000001]
    source = series(slices, tmp_path)
    assert len(source.frames) == 5
    assert {tuple(dataset.ImageOrientationPatient) for dataset in source.datasets} == {(1, 0, 0, 0, 1, 0)}


def _turned(dataset: Dataset) -> None:
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]


def _localizer(dataset: Dataset) -> None:
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def _odd_size(dataset: Dataset) -> None:
    dataset.Rows, dataset.Columns = dataset.Columns, dataset.Rows


def _other_spacing(dataset: Dataset) -> None:
    dataset.PixelSpacing = [0.35, 0.35]


def _other_frame_of_reference(dataset: Dataset) -> None:
    dataset.FrameOfReferenceUID = generate_uid()


def _secondary_capture(dataset: Dataset) -> None:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = dicom_sources.SOP_CLASSES["sc"]


def _report(dataset: Dataset) -> None:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SR
    del dataset.Rows, dataset.Columns, dataset.PixelData


@pytest.mark.parametrize(
    ("disturb", "reason"),
    [
        (_turned, "another orientation"),
        (_localizer, "a localizer"),
        (_odd_size, "another size"),
        (_other_spacing, "pixel spacing"),
        (_other_frame_of_reference, "frame of reference"),
        (_secondary_capture, "another SOP class"),
        (_report, "without pixels"),
    ],
)
def test_what_does_not_belong_is_left_out_with_a_reason(
    disturb: Callable[[Dataset], None], reason: str, tmp_path: Path
) -> None:
    """A localizer, an odd slice or another object in the series is left out in words; the others stay in order."""
    slices = dicom_sources.ct_series(frames=5)
    disturb(slices[0])
    source = series(slices, tmp_path)
    assert source.kind is SourceKind.SLICES
    assert taken(source) == uids(slices[1:])
    assert [uid for uid, _ in source.left_out] == uids(slices[:1])
    assert reason in source.left_out[0][1]


def test_localizers_alone_are_segmented(tmp_path: Path) -> None:
    """A series of nothing but localizers is not empty."""
    assert len(
        series(dicom_sources.ct_series(frames=2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), tmp_path).frames
    )


def _two_phases(keyword: str, first: int, second: int) -> tuple[list[Dataset], list[Dataset]]:
    """Two volumes at the same places in one series, told apart by ``keyword``."""
    slices = dicom_sources.ct_series(frames=max(first, second))
    again = copy.deepcopy(slices[:second])
    for dataset in again:
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        setattr(dataset, keyword, 2)
        dataset.InstanceNumber += 100
    for dataset in slices:
        setattr(dataset, keyword, 1)
    return slices[:first], again


@pytest.mark.parametrize("keyword", ["TemporalPositionIdentifier", "AcquisitionNumber", "TriggerTime", "EchoTime"])
@pytest.mark.parametrize(("first", "second"), [(5, 5), (3, 5), (5, 3)])
def test_each_phase_is_a_part(keyword: str, first: int, second: int, tmp_path: Path) -> None:
    """Two volumes at the same places, also of unequal length, are two parts in the order of their values."""
    phases = _two_phases(keyword, first, second)
    parts = several([*phases[1], *phases[0]], tmp_path)
    assert [taken(part) for part in parts] == [uids(phase) for phase in phases]
    word = {"EchoTime": "echo", "AcquisitionNumber": "acquisition"}.get(keyword, "phase")
    assert [part.part_label for part in parts] == [f"{word} 1 of 2", f"{word} 2 of 2"]
    assert [(part.part, part.parts) for part in parts] == [(1, 2), (2, 2)]
    for part in parts:
        assert (part.kind, part.left_out, part.warnings) == (SourceKind.SLICES, (), ())
        assert [dataset.SOPInstanceUID for dataset in part.datasets] == taken(part)
        assert [dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in part.paths] == taken(part)


def test_values_sort_as_numbers(tmp_path: Path) -> None:
    """Phase 10 comes after phase 9, and the order does not depend on that of the files."""
    slices = _repeated(12, TemporalPositionIdentifier=lambda phase, _place: phase + 1)
    parts = several(slices[::-1], tmp_path)
    assert [part.part_label for part in parts] == [f"phase {number} of 12" for number in range(1, 13)]
    assert [int(part.datasets[0].TemporalPositionIdentifier) for part in parts] == list(range(1, 13))


def _repeated(phases: int, frames: int = 3, **values: Callable[[int, int], object]) -> list[Dataset]:
    """``phases`` volumes of ``frames`` slices; each keyword's function gives its value from phase and place."""
    datasets = []
    uid = generate_uid()
    frame_of_reference = generate_uid()
    for phase in range(phases):
        volume = dicom_sources.ct_series(
            frames, rows=16, columns=16, SeriesInstanceUID=uid, FrameOfReferenceUID=frame_of_reference
        )
        for place, dataset in enumerate(volume):
            dataset.InstanceNumber = phase * frames + place + 1
            for keyword, value in values.items():
                setattr(dataset, keyword, value(phase, place))
        datasets += volume
    return datasets


def test_two_keywords_together_tell_parts_apart(tmp_path: Path) -> None:
    """Three phases of two echoes: neither alone separates them, both do."""
    slices = _repeated(
        6,
        TemporalPositionIdentifier=lambda phase, _place: phase // 2 + 1,
        EchoTime=lambda phase, _place: 10.5 if phase % 2 else 2.5,
    )
    parts = several(slices, tmp_path)
    assert [part.part_label for part in parts] == [
        f"phase {phase} of 3, echo {echo} of 2" for phase in (1, 2, 3) for echo in (1, 2)
    ]
    assert [taken(part) for part in parts] == [uids(slices[index : index + 3]) for index in range(0, 18, 3)]


def test_times_that_differ_from_slice_to_slice_order_each_place(tmp_path: Path) -> None:
    """A trigger time that no two slices share makes phases by rank, not volumes of one slice."""
    slices = _repeated(4, TriggerTime=lambda phase, place: 100 * phase + 7 * place)
    parts = several(slices, tmp_path)
    assert [taken(part) for part in parts] == [uids(slices[index : index + 3]) for index in range(0, 12, 3)]
    assert parts[3].part_label == "phase 4 of 4"


def test_instance_numbers_order_what_nothing_else_tells_apart(tmp_path: Path) -> None:
    """Volumes one after the other without any other mark are phases by InstanceNumber."""
    slices = _repeated(2, frames=4)
    assert [taken(part) for part in several(slices, tmp_path)] == [uids(slices[:4]), uids(slices[4:])]


def test_slices_at_one_place_that_nothing_tells_apart(tmp_path: Path) -> None:
    """Without any mark, InstanceNumber included, one image of each place is taken, the same in any order of files."""
    slices = _repeated(2, InstanceNumber=lambda _phase, place: place + 1)
    source = series(slices, tmp_path / "one")
    assert taken(source) == taken(series(slices[::-1], tmp_path / "other"))
    assert len(source.frames) == len(source.left_out) == 3
    assert {reason for _, reason in source.left_out} == {
        "another image at the place of a used slice, and not of a volume of its own"
    }
    assert source.warnings[0].startswith("3 left out: another image")


def test_a_single_repeated_slice_is_left_out(tmp_path: Path) -> None:
    """One slice taken twice makes no volume of one slice: the first one is used, the other named."""
    for number, changes in enumerate(({}, {"AcquisitionNumber": 2}, {"AcquisitionTime": "111111"})):
        slices = dicom_sources.ct_series(frames=5)
        again = copy.deepcopy(slices[2])
        again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        again.InstanceNumber = 6
        again.update(dicom_sources.item(**changes))
        source = series([again, *slices], tmp_path / str(number))
        assert taken(source) == uids(slices)
        assert [uid for uid, _ in source.left_out] == uids([again])
        assert source.part_label == ""


def test_acquisitions_that_overlap_in_part_are_parts(tmp_path: Path) -> None:
    """Three scans one after the other that share a place each: no image is lost."""
    slices = dicom_sources.ct_series(frames=11)
    groups = [copy.deepcopy(slices[first : first + 5]) for first in (0, 4, 6)]
    for number, group in enumerate(groups, 1):
        for dataset in group:
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            dataset.AcquisitionNumber = number
    parts = several([dataset for group in groups for dataset in group], tmp_path)
    assert [taken(part) for part in parts] == [uids(group) for group in groups]
    assert parts[2].part_label == "acquisition 3 of 3"


def test_one_slice_over_time_is_no_volume(tmp_path: Path) -> None:
    """Thirty moments of one slice are one part, pictures over time, not thirty volumes of a slice."""
    slices = _repeated(30, frames=1, TriggerTime=lambda phase, _place: 30.5 * phase)
    source = series(slices[::-1], tmp_path)
    assert (source.kind, source.arrangement, source.parts) == (SourceKind.PICTURES, Arrangement.RUN, 1)
    assert taken(source) == uids(slices)


def test_one_slice_at_several_echoes_is_not_over_time(tmp_path: Path) -> None:
    """Two echoes of one slice are pictures that stand for themselves."""
    source = series(_repeated(2, frames=1, EchoTime=lambda phase, _place: 2.5 * (phase + 1)), tmp_path)
    assert (source.kind, source.arrangement) == (SourceKind.PICTURES, Arrangement.FRAMES)


def test_absurdly_many_parts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part becomes an object in the archive: there is a limit, and the reason says what to do."""
    monkeypatch.setattr(reading, "MOST_PARTS", 3)
    slices = _repeated(4, frames=2, TemporalPositionIdentifier=lambda phase, _place: phase)
    with pytest.raises(UnsupportedSourceError, match=r"falls into 4 parts.*series of their own"):
        several(slices, tmp_path)
    assert len(several(slices[:6], tmp_path / "few")) == 3


def test_the_larger_of_two_orientations_is_taken(tmp_path: Path) -> None:
    """Three planes in a stack that is not marked as localizer: the largest is used, the others are told."""
    slices = dicom_sources.mr_series(frames=9)
    for dataset in slices[:2]:
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    for dataset in slices[2:4]:
        dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    source = series(slices, tmp_path)
    assert taken(source) == uids(slices[4:])
    assert dict(source.left_out) == dict.fromkeys(uids(slices[:4]), "another orientation than most slices")
    assert source.warnings == ("4 left out: another orientation than most slices",)


def test_missing_slices_and_tilt_are_told(tmp_path: Path) -> None:
    """A gap and a gantry tilt keep all slices and are told; a regular series has nothing to tell."""
    gap = series(dicom_sources.ct_series(frames=10, missing=(3, 4, 7)), tmp_path / "gap")
    assert len(gap.frames) == 7
    assert gap.warnings == ("slices are missing: gaps in the volume: 2",)
    tilt = series(dicom_sources.ct_series(frames=6, tilt_degrees=12), tmp_path / "tilt")
    assert len(tilt.frames) == 6
    assert tilt.warnings == ("the slices are sheared against each other (gantry tilt)",)


def test_the_same_instance_twice_is_used_once(tmp_path: Path) -> None:
    """A file that is there twice does not become a second slice."""
    slices = dicom_sources.ct_series(frames=3)
    source = series([*slices, slices[1]], tmp_path)
    assert taken(source) == uids(slices)
    assert source.left_out == ((slices[1].SOPInstanceUID, "the same SOPInstanceUID as another file"),)


def test_slices_without_any_geometry_are_pictures(tmp_path: Path) -> None:
    """A CT series that tells nothing of space is still segmented, picture by picture."""
    source = series(dicom_sources.ct_series(frames=3, ImagePositionPatient=None), tmp_path)
    assert source.kind is SourceKind.PICTURES
    assert source.imaging is Imaging.CT


# --- damage -----------------------------------------------------------------------------------------------------------


def test_a_slice_without_its_place_is_named(tmp_path: Path) -> None:
    """One slice of many that lost its position stops the job in words that name it: it is not left out in silence."""
    slices = dicom_sources.ct_series(frames=5)
    del slices[3].ImagePositionPatient
    with pytest.raises(DamagedSourceError, match=slices[3].SOPInstanceUID):
        series(slices, tmp_path)


def test_a_header_cut_anywhere_among_good_ones_is_named(tmp_path: Path) -> None:
    """A file that ends before its pixels, wherever, stops the job and is named by its SOPInstanceUID."""
    slices = dicom_sources.ct_series(frames=2)
    paths = dicom_sources.save(slices, tmp_path)
    whole = paths[1].read_bytes()
    after_meta = 132 + 12 + int.from_bytes(whole[140:144], "little")
    rows = whole.index(b"\x28\x00\x10\x00US")
    for length in range(after_meta, rows + 8, 7):
        paths[1].write_bytes(whole[:length])
        with pytest.raises(DamagedSourceError, match=slices[1].SOPInstanceUID):
            read_series(paths)


def test_a_file_that_is_no_dicom_is_named_by_its_place(tmp_path: Path) -> None:
    """Garbage has no UID; its place in the list is told, its file name is not."""
    paths = dicom_sources.save(dicom_sources.ct_series(frames=3), tmp_path)
    garbage = tmp_path / "Doe^Jane.dcm"
    garbage.write_bytes(b"not DICOM at all" * 100)
    with pytest.raises(DamagedSourceError, match="File 4 of 4") as caught:
        read_series([*paths, garbage])
    assert "Doe" not in str(caught.value)


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("value", ["", "1.02.3", "../../etc/passwd", "1." * 40 + "1", None])
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.filterwarnings("ignore:The value length")
def test_bad_uids_are_refused(keyword: str, value: str | None, tmp_path: Path) -> None:
    """Empty, missing and invalid UIDs in the data set stop the job and are named by keyword."""
    slices = dicom_sources.ct_series(frames=2)
    uid = slices[1].SOPInstanceUID
    if value is None:
        delattr(slices[1], keyword)
    else:
        setattr(slices[1], keyword, value)
    for number, dataset in enumerate(slices):
        dcmwrite(tmp_path / f"{number}", dataset)
    with pytest.raises(DamagedSourceError, match=f"{uid}.*{keyword}"):
        read_series(sorted(tmp_path.iterdir()))


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_an_invalid_frame_of_reference_is_refused(tmp_path: Path) -> None:
    """A frame of reference that is no UID cannot be referred to by the result."""
    with pytest.raises(DamagedSourceError, match="FrameOfReferenceUID"):
        series(dicom_sources.ct_series(frames=2, FrameOfReferenceUID="1.02.x"), tmp_path)


@pytest.mark.parametrize("orientation", [[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0], [5, 0, 0, 0, 5, 0]])
def test_an_impossible_orientation_is_refused(orientation: list[float], tmp_path: Path) -> None:
    """Direction cosines that are not two perpendicular unit vectors are damage, not geometry."""
    with pytest.raises(DamagedSourceError, match="perpendicular"):
        series(dicom_sources.ct_series(frames=2, ImageOrientationPatient=orientation), tmp_path)


def test_values_never_reach_errors_or_logs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    """An unreadable value, here a name where a number belongs, is told by kind of error only."""
    slices = dicom_sources.ct_series(frames=2)
    paths = dicom_sources.save(slices, tmp_path)
    broken = paths[1].read_bytes().replace(b"-20.0\\-30.0\\6.25", b"Secret^Patient\\1")
    assert broken != paths[1].read_bytes()
    paths[1].write_bytes(broken)
    with caplog.at_level(logging.DEBUG), pytest.raises(DamagedSourceError) as caught:
        read_series(paths)
    assert slices[1].SOPInstanceUID in str(caught.value)
    assert "Secret" not in str(caught.value) + caplog.text
    assert len(recwarn) == 0


@pytest.mark.parametrize(("count", "match"), [(0, "below 1"), (-3, "below 1"), (2147483647, "too short")])
def test_impossible_numbers_of_frames_are_refused(count: int, match: str, tmp_path: Path) -> None:
    """NumberOfFrames is not believed further than the file is long."""
    with pytest.raises(DamagedSourceError, match=match):
        series(dicom_sources.xa_run(frames=2, NumberOfFrames=count), tmp_path)


def test_deflated_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    """A deflated bomb of 64 MiB is refused by its transfer syntax, with hardly any memory taken."""
    dataset = dicom_sources.sc()[0]
    path = dicom_sources.save([dataset], tmp_path)[0]
    plain = path.read_bytes()
    body = plain.index(b"\x08\x00\x05\x00")
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = deflate.compress(plain[body:] + bytes(64 << 20)) + deflate.flush()
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    del dataset.PixelData
    dataset.save_as(path, enforce_file_format=True)
    meta = path.read_bytes()
    path.write_bytes(meta[: 132 + 12 + int.from_bytes(meta[140:144], "little")] + bomb)
    tracemalloc.start()
    try:
        with pytest.raises(UnsupportedSourceError, match="deflated"):
            read_series([path])
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("sop_class", "word"), [(SEG, "segmentation"), (SR, "without pixels")])
def test_what_is_no_image_is_refused_in_words(sop_class: str, word: str, tmp_path: Path) -> None:
    """Segmentations (our own among them) and objects without pixels are told as what they are."""
    dataset = dicom_sources.sc(SOPClassUID=sop_class)[0]
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    if sop_class == SR:
        del dataset.Rows, dataset.Columns, dataset.PixelData
    with pytest.raises(UnsupportedSourceError, match=word):
        series([dataset], tmp_path)


def test_no_files_and_several_series_are_refused(tmp_path: Path) -> None:
    """A job is one series: none and two are the caller's mistake, told in words."""
    with pytest.raises(UnsupportedSourceError, match="no files"):
        read_series([])
    with pytest.raises(UnsupportedSourceError, match="several series"):
        series([*dicom_sources.ct_series(frames=1), *dicom_sources.ct_series(frames=1)], tmp_path)


# --- multi-frame ------------------------------------------------------------------------------------------------------


def test_frames_of_an_enhanced_object_come_in_spatial_order(tmp_path: Path) -> None:
    """Frames that the object stores from top to bottom are named from bottom to top, by their own numbers."""
    dataset = dicom_sources.enhanced_ct(frames=5)[0]
    for index, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        groups.PlanePositionSequence[0].ImagePositionPatient = [-20, -30, 100 - 2 * index]
    source = series([dataset], tmp_path)
    assert [frame.frame_number for frame in source.frames] == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("keyword", ["TemporalPositionIndex", "StackID", "FrameAcquisitionNumber"])
def test_each_phase_of_an_enhanced_object_is_a_part(keyword: str, tmp_path: Path) -> None:
    """Two time points at the same four places are two parts of the same object."""
    dataset = dicom_sources.enhanced_mr(frames=8)[0]
    for index, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        groups.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 3 * (index // 2)]
        setattr(groups.FrameContentSequence[0], keyword, str(index % 2 + 1) if keyword == "StackID" else index % 2 + 1)
    parts = several([dataset], tmp_path)
    assert {part.kind for part in parts} == {SourceKind.ENHANCED}
    assert [[frame.frame_number for frame in part.frames] for part in parts] == [[1, 3, 5, 7], [2, 4, 6, 8]]
    assert [part.warnings for part in parts] == [(), ()]
    assert all(len(part.datasets) == len(part.paths) == 1 for part in parts)


def test_phases_of_an_enhanced_object_without_marks(tmp_path: Path) -> None:
    """Frames at the same places that nothing tells apart are phases in the order of their numbers."""
    dataset = dicom_sources.enhanced_mr(frames=8)[0]
    for index, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        groups.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 3 * (index % 4)]
    parts = several([dataset], tmp_path)
    assert [[frame.frame_number for frame in part.frames] for part in parts] == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert parts[1].part_label == "phase 2 of 2"


def test_frames_at_one_place_are_a_run(tmp_path: Path) -> None:
    """An enhanced cine shows one slice over time: a run with all frames."""
    dataset = dicom_sources.enhanced_mr(frames=6)[0]
    for index, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        groups.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 0]
        groups.FrameContentSequence[0].TemporalPositionIndex = index + 1
    source = series([dataset], tmp_path)
    assert (source.kind, source.arrangement) == (SourceKind.RUN, Arrangement.RUN)
    assert [frame.frame_number for frame in source.frames] == [1, 2, 3, 4, 5, 6]


def test_radial_scans_are_single_frames(tmp_path: Path) -> None:
    """B-scans like spokes of a wheel form no volume: all frames are kept in their own order."""
    dataset = dicom_sources.opt_with_frame_of_reference(frames=4)[0]
    turns = ([1, 0, 0], [0.70710678, 0.70710678, 0], [0, 1, 0], [-0.70710678, 0.70710678, 0])
    for group in (dataset.SharedFunctionalGroupsSequence[0], *dataset.PerFrameFunctionalGroupsSequence):
        if "PlaneOrientationSequence" in group:
            del group.PlaneOrientationSequence
    for turn, groups in zip(turns, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        groups.PlaneOrientationSequence = [dicom_sources.item(ImageOrientationPatient=[*turn, 0, 0, -1])]
    source = series([dataset], tmp_path)
    assert (source.kind, source.arrangement) == (SourceKind.RUN, Arrangement.FRAMES)
    assert len(source.frames) == 4


def test_frames_without_description_are_refused(tmp_path: Path) -> None:
    """An enhanced object that describes fewer frames than it claims is damaged, and named."""
    dataset = dicom_sources.enhanced_ct(frames=4)[0]
    del dataset.PerFrameFunctionalGroupsSequence[3]
    with pytest.raises(DamagedSourceError, match=f"{dataset.SOPInstanceUID}.*3 frames are described"):
        series([dataset], tmp_path)


def test_each_run_is_a_part_and_the_stills_are_one(tmp_path: Path) -> None:
    """In the order of InstanceNumber, then UID; a viewer shows of a result for several runs only the first."""
    runs = dicom_sources.xa_runs((3, 1, 7, 1))
    for dataset, number in zip(runs, (9, 2, 1, 4), strict=True):
        dataset.InstanceNumber = number
    parts = several([runs[3], runs[0], runs[2], runs[1]], tmp_path)
    assert [(part.kind, part.arrangement, part.part_label) for part in parts] == [
        (SourceKind.RUN, Arrangement.RUN, "run 1 of 2"),
        (SourceKind.PICTURES, Arrangement.FRAMES, "stills"),
        (SourceKind.RUN, Arrangement.RUN, "run 2 of 2"),
    ]
    assert [taken(part) for part in parts] == [uids(runs[2:3]) * 7, uids([runs[1], runs[3]]), uids(runs[:1]) * 3]
    assert [[frame.frame_number for frame in part.frames] for part in parts] == [[*range(1, 8)], [1, 1], [1, 2, 3]]
    for part in parts:
        assert [dataset.SOPInstanceUID for dataset in part.datasets] == [
            dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in part.paths
        ]
        assert (part.left_out, part.warnings, part.parts) == ((), (), 3)


def test_runs_may_differ_in_size(tmp_path: Path) -> None:
    """Only among the stills one size is taken, that of most of them, and the others are named with a warning."""
    one = {"SeriesInstanceUID": "1.2.3"}
    runs = [*dicom_sources.xa_runs((4,), **one), *dicom_sources.xa_run(frames=7, rows=32, columns=36, **one)]
    stills, odd = dicom_sources.xa_runs((1, 1), rows=48, columns=48, **one), dicom_sources.xa_still(**one)
    parts = several([*odd, *stills, *runs], tmp_path)
    assert {uid for part in parts for uid in taken(part)} == set(uids([*runs, *stills]))
    assert all(
        dict(part.left_out) == {odd[0].SOPInstanceUID: "another size or kind of colour than most of the series"}
        for part in parts
    )
    assert [part.warnings for part in parts if part.part_label == "stills"] == [
        ("1 images of another size or kind of colour are not segmented",)
    ]


def test_a_run_alone_has_no_label(tmp_path: Path) -> None:
    """One part needs no words to tell it from others."""
    assert series(dicom_sources.xa_run(), tmp_path).part_label == ""
    assert series(dicom_sources.several_op(), tmp_path).part_label == ""


def test_each_placed_multi_frame_instance_is_a_part(tmp_path: Path) -> None:
    """Volumes are not joined: every instance is a part, by InstanceNumber, its phases among themselves."""
    volumes = [dicom_sources.enhanced_ct(frames=count, SeriesInstanceUID="1.2.3")[0] for count in (3, 6, 5)]
    for number, dataset in zip((2, 3, 1), volumes, strict=True):
        dataset.InstanceNumber = number
    for index, groups in enumerate(volumes[1].PerFrameFunctionalGroupsSequence):
        groups.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 3 * (index % 3)]
        groups.FrameContentSequence[0].TemporalPositionIndex = index // 3 + 1
    parts = several(volumes, tmp_path)
    assert [taken(part) for part in parts] == [
        uids(volumes[2:]) * 5,
        uids(volumes[:1]) * 3,
        *[uids(volumes[1:2]) * 3] * 2,
    ]
    assert [part.part_label for part in parts] == [
        "volume 1 of 3",
        "volume 2 of 3",
        "volume 3 of 3, phase 1 of 2",
        "volume 3 of 3, phase 2 of 2",
    ]
    assert [part.part for part in parts] == [1, 2, 3, 4]
    assert all((part.parts, part.left_out, part.warnings) == (4, (), ()) for part in parts)


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_pictures_of_one_size_stay_together(tmp_path: Path) -> None:
    """Fundus photographs of the same size are one job in InstanceNumber order; another size and a grey one are out."""
    pictures = dicom_sources.several_op(count=3)
    uid = pictures[0].SeriesInstanceUID
    others = [
        dicom_sources.op_rgb(rows=32, columns=36, SeriesInstanceUID=uid, InstanceNumber=0)[0],
        dicom_sources.op_grey(SeriesInstanceUID=uid, InstanceNumber=0)[0],
    ]
    source = series([*others, *reversed(pictures)], tmp_path)
    assert taken(source) == uids(pictures)
    assert {uid for uid, _ in source.left_out} == set(uids(others))
    assert source.warnings == ("2 images of another size or kind of colour are not segmented",)
