"""Every kind of segmentation holds what it should, for every class of source, and is the same every time."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import highdicom
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from seg_cases import ARTERY_AND_VEIN, CASES, IDENTITY, mask_for, segmentation_of

from dicom_core.errors import InvalidSegmentationError
from dicom_core.result import SEGMENTATIONS, ResultKind
from worker.seg_reader.reading import iterate_frames, read_masks
from worker.seg_reader.stored_pixels import StoredPixels
from worker.seg_writer.stored_values import add_pixels, label_map, overlaps, quantised
from worker.seg_writer.validation import validate_segmentation
from worker.seg_writer.writer import build_segmentation, encode_segmentation, save_segmentation
from worker.segmenters.interface import Segmentation, SegmentClass, Status
from worker.source_series import SourceKind, SourceSeries

KINDS = sorted(SEGMENTATIONS)
SOME = ["ct", "enhanced_mr", "xa_run_odd_columns", "xa_run_of_several", "several_op", "sc"]
"""One of each way in which frames are described."""


def found_in(source: SourceSeries, segments: int = 2) -> Segmentation:
    """Overlapping tubes with probabilities that are more than yes and no, also outside the mask."""
    mask = mask_for(source, segments)
    noise = np.random.default_rng(3).random(mask.shape)
    probability = np.where(mask, 0.5 + noise / 2, noise * 0.01).astype(np.float16)
    return replace(segmentation_of(mask, ARTERY_AND_VEIN if segments == 2 else None), probability=probability)


def built(source: SourceSeries, segmentation: Segmentation, kind: ResultKind, **options: bool) -> Dataset:
    """The object as read from its file."""
    dataset = build_segmentation(source, segmentation, IDENTITY, kind=kind, **options)
    return dcmread(BytesIO(encode_segmentation(dataset)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_every_source_is_valid(name: str, kind: ResultKind) -> None:
    """Read back exactly, with exact references and all attributes, by the validator that guards the worker."""
    source = CASES[name].series()
    segmentation = found_in(source)
    dataset = built(source, segmentation, kind)
    validate_segmentation(
        dataset, source, segmentation.mask, kind=kind, probability=segmentation.probability, use_dciodvfy=False
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SOME)
def test_rebuild_is_byte_identical(name: str, kind: ResultKind) -> None:
    """The same arguments give the same bytes, and neither mask nor probabilities are changed."""
    source = CASES[name].series()
    segmentation = found_in(source)
    mask, probability = segmentation.mask.copy(), segmentation.probability.copy()
    first = encode_segmentation(build_segmentation(source, segmentation, IDENTITY, kind=kind))
    assert encode_segmentation(build_segmentation(source, segmentation, IDENTITY, kind=kind)) == first
    assert np.array_equal(segmentation.mask, mask)
    assert np.array_equal(segmentation.probability, probability)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SOME)
def test_highdicom_reads_every_kind(name: str, kind: ResultKind, tmp_path: Path) -> None:
    """``segread`` opens the file, and its decoder sees the pixels that ours sees."""
    source = CASES[name].series()
    dataset = build_segmentation(source, found_in(source), IDENTITY, kind=kind)
    save_segmentation(dataset, tmp_path / "seg.dcm")
    read = highdicom.seg.segread(tmp_path / "seg.dcm")
    assert list(read.segment_numbers) == [1, 2]
    assert read.segmentation_type.value == dataset.SegmentationType
    frames = read.pixel_array
    frames = frames[None] if frames.ndim == 2 else frames
    ours = StoredPixels(dcmread(tmp_path / "seg.dcm"))
    assert len(frames) == dataset.NumberOfFrames
    assert all(np.array_equal(frame, ours[index]) for index, frame in enumerate(frames))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["ct", "enhanced_ct", "xa_run", "several_op"])
def test_all_frames_on_request(name: str, kind: ResultKind) -> None:
    """With ``omit_empty_frames=False`` every source frame is there, once a segment or once for all in a label map."""
    source = CASES[name].series()
    segmentation = found_in(source)
    segmentation = replace(segmentation, probability=segmentation.probability * segmentation.mask)
    layers = 1 if kind is ResultKind.SEG_LABELMAP else 2
    assert built(source, segmentation, kind).NumberOfFrames == layers * (len(source.frames) - 1)
    whole = built(source, segmentation, kind, omit_empty_frames=False)
    assert whole.NumberOfFrames == layers * len(source.frames)
    validate_segmentation(
        whole, source, segmentation.mask, kind=kind, probability=segmentation.probability, use_dciodvfy=False
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["ct", "enhanced_ct", "xa_run", "op_rgb"])
def test_nothing_found_has_all_frames(name: str, kind: ResultKind) -> None:
    """An empty answer is an object that says of every frame that nothing was found there."""
    source = CASES[name].series()
    nothing = segmentation_of(np.zeros_like(mask_for(source)), status=Status.NO_MASK)
    dataset = built(source, nothing, kind)
    assert dataset.NumberOfFrames == len(source.frames)
    assert not any(frame.values.any() for frame in iterate_frames(dataset))


def test_part_of_a_multi_frame_source() -> None:
    """Fractions and labels of an enhanced source are placed by frame number, not by their place in the array."""
    whole = CASES["enhanced_ct"].series()
    source = replace(whole, frames=(whole.frames[5], whole.frames[2]))
    segmentation = found_in(source)
    for kind in KINDS:
        for omit in (True, False):
            dataset = built(source, segmentation, kind, omit_empty_frames=omit)
            validate_segmentation(
                dataset, source, segmentation.mask, kind=kind, probability=segmentation.probability, use_dciodvfy=False
            )


# --- what tells the kinds apart ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ct", "xa_run"])
def test_descriptions_are_unique(name: str) -> None:
    """In the list of series each kind has a name of its own that a reader understands."""
    source = CASES[name].series()
    descriptions = [built(source, found_in(source), kind).SeriesDescription for kind in KINDS]
    assert len(set(descriptions)) == len(KINDS)
    assert all(text.startswith("Vessel") and "series 1 (ridge 1.0)" in text for text in descriptions)


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].kind in (SourceKind.RUN, SourceKind.PICTURES)])
def test_strict_has_no_hints(name: str) -> None:
    """Without frame of reference the strict object has neither orientation nor pixel measures, even when asked."""
    source = CASES[name].series()
    dataset = built(source, found_in(source), ResultKind.SEG_STRICT, viewer_hints=True)
    assert len(dataset.SharedFunctionalGroupsSequence[0]) == 0
    assert "PixelMeasuresSequence" in built(source, found_in(source), ResultKind.SEG).SharedFunctionalGroupsSequence[0]


def test_deflated_is_small_and_equal() -> None:
    """The deflated data set is the same but for what names it, and many times smaller where there is much of it."""
    source = CASES["xa_run"].series(frames=30, rows=256, columns=256)
    segmentation = found_in(source)
    plain, deflated = (
        encode_segmentation(build_segmentation(source, segmentation, IDENTITY, kind=kind))
        for kind in (ResultKind.SEG, ResultKind.SEG_DEFLATED)
    )
    assert len(deflated) < len(plain) / 5
    one, other = dcmread(BytesIO(plain)), dcmread(BytesIO(deflated))
    other.SeriesDescription = one.SeriesDescription
    assert other.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1.99"
    assert {element.tag: element.value for element in other} == {element.tag: element.value for element in one}


@pytest.mark.parametrize("name", SOME)
def test_fractional_attributes(name: str) -> None:
    """Probabilities, not occupancy, in steps of 1/255, RLE; of several segments the overlap is undefined."""
    dataset = built(CASES[name].series(), found_in(CASES[name].series()), ResultKind.SEG_STRICT)
    assert "SegmentationFractionalType" not in dataset
    source = CASES[name].series()
    dataset = built(source, found_in(source), ResultKind.SEG_FRACTIONAL)
    assert dataset.SegmentationFractionalType == "PROBABILITY"
    assert dataset.MaximumFractionalValue == 255
    assert (dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit) == (8, 8, 7)
    assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.5"
    assert dataset.SegmentsOverlap == "UNDEFINED"
    assert built(source, found_in(source, 1), ResultKind.SEG_FRACTIONAL).SegmentsOverlap == "NO"


def test_faint_probability_is_kept_where_the_mask_has_none() -> None:
    """The fractional object shows what the decision was taken from, also in frames without a vessel."""
    source = CASES["ct"].series()
    segmentation = found_in(source)
    assert not segmentation.mask[:, 0].any()
    dataset = built(source, segmentation, ResultKind.SEG_FRACTIONAL)
    first = [frame for frame in iterate_frames(dataset) if frame.sop_instance_uid == source.frames[0].sop_instance_uid]
    assert len(first) == 2
    assert 0 < first[0].values.max() < 128


@pytest.mark.parametrize("name", SOME)
def test_label_map_attributes(name: str) -> None:
    """A label map is an SOP class of its own, its frames belong to no segment, and the background is described."""
    source = CASES[name].series()
    dataset = built(source, found_in(source), ResultKind.SEG_LABELMAP)
    assert dataset.SOPClassUID == dataset.file_meta.MediaStorageSOPClassUID == "1.2.840.10008.5.1.4.1.1.66.7"
    assert dataset["PixelPaddingValue"].VR == "US"
    assert dataset.PixelPaddingValue == 0
    assert dataset.SegmentsOverlap == "NO"
    assert [item.SegmentNumber for item in dataset.SegmentSequence] == [0, 1, 2]
    background = dataset.SegmentSequence[0]
    assert background.SegmentedPropertyTypeCodeSequence[0].CodeValue == "125040"
    assert "TrackingUID" not in background
    for item in dataset.DimensionIndexSequence:
        assert item.DimensionIndexPointer != 0x0062000B
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        assert "SegmentIdentificationSequence" not in groups
        assert len(dataset.DimensionIndexSequence) == groups.FrameContentSequence[0]["DimensionIndexValues"].VM


def test_tracking_uids_are_those_of_the_set() -> None:
    """Segment n has one tracking UID in all kinds, so that a report can refer to any of them."""
    source = CASES["ct"].series()
    tracking = {
        tuple(item.TrackingUID for item in built(source, found_in(source), kind).SegmentSequence if item.SegmentNumber)
        for kind in KINDS
    }
    assert tracking == {tuple(IDENTITY.uid("segment", number, "tracking") for number in (1, 2))}


def test_overlap_in_a_label_map_is_decided_and_said() -> None:
    """The highest number wins, and each description says so; without overlap nothing is said."""
    source = CASES["sc"].series()
    segmentation = found_in(source)
    artery, vein = segmentation.mask
    assert (artery & vein).any()
    dataset = built(source, segmentation, ResultKind.SEG_LABELMAP)
    masks = {key[0]: mask for key, mask in read_masks(dataset).items()}
    assert np.array_equal(masks[2], vein[0])
    assert np.array_equal(masks[1], (artery & ~vein)[0])
    assert all("highest number" in item.SegmentDescription for item in dataset.SegmentSequence[1:])
    apart = replace(segmentation, mask=np.stack([artery & ~vein, vein]))
    dataset = built(source, apart, ResultKind.SEG_LABELMAP)
    assert not any("highest number" in item.SegmentDescription for item in dataset.SegmentSequence[1:])


def test_segment_that_others_cover_stays_described() -> None:
    """A label map describes all segments, also one of which no pixel is left."""
    source = CASES["ct"].series()
    mask = mask_for(source, 1)
    dataset = built(source, segmentation_of(np.concatenate([mask, mask])), ResultKind.SEG_LABELMAP)
    assert [item.SegmentNumber for item in dataset.SegmentSequence] == [0, 1, 2]
    assert {key[0] for key in read_masks(dataset)} == {2}


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ResultKind.OVERLAY, ResultKind.REPORT])
def test_other_results_are_no_segmentations(kind: ResultKind) -> None:
    """Asking this room for another kind of result is a mistake with a name."""
    source = CASES["sc"].series()
    with pytest.raises(InvalidSegmentationError, match=kind.value):
        build_segmentation(source, found_in(source), IDENTITY, kind=kind)


@pytest.mark.parametrize("value", [-0.01, 1.01, np.nan, np.inf])
@pytest.mark.parametrize("name", ["ct", "xa_run"])
def test_impossible_probabilities_are_refused(name: str, value: float) -> None:
    """One number outside [0, 1], or none, is enough; the other kinds do not look at it."""
    source = CASES[name].series()
    segmentation = found_in(source)
    segmentation.probability[1, 2, 3, 4] = value
    with pytest.raises(InvalidSegmentationError, match="between 0 and 1"):
        build_segmentation(source, segmentation, IDENTITY, kind=ResultKind.SEG_FRACTIONAL)
    build_segmentation(source, segmentation, IDENTITY)


def test_missing_probabilities_are_refused() -> None:
    """A segmenter that decides without probabilities has no fractional result; the text says what to do."""
    source = CASES["sc"].series()
    segmentation = replace(found_in(source), probability=np.zeros((2, 0, 0, 0), np.float16))
    with pytest.raises(InvalidSegmentationError, match="take `seg_fractional` off"):
        build_segmentation(source, segmentation, IDENTITY, kind=ResultKind.SEG_FRACTIONAL)


def test_more_labels_than_a_byte_are_refused() -> None:
    """A label map of 8 bits numbers 255 segments."""
    with pytest.raises(InvalidSegmentationError, match="at most 255"):
        label_map(np.zeros((256, 1, 2, 2), np.bool_))
    assert label_map(np.ones((255, 1, 2, 2), np.bool_)).max() == 255


@pytest.mark.parametrize("made_as", KINDS)
def test_the_validator_knows_the_kinds_apart(made_as: ResultKind) -> None:
    """An object of another kind than the one asked for is refused; strict differs from plain in hints alone."""
    source = CASES["xa_run"].series()
    segmentation = found_in(source)
    dataset = built(source, segmentation, made_as)
    for asked in KINDS:
        if asked is made_as or {asked, made_as} == {ResultKind.SEG, ResultKind.SEG_STRICT}:
            continue
        with pytest.raises(InvalidSegmentationError):
            validate_segmentation(
                dataset, source, segmentation.mask, kind=asked, probability=segmentation.probability, use_dciodvfy=False
            )


@pytest.mark.parametrize(
    ("kind", "step"), [(ResultKind.SEG_FRACTIONAL, 1), (ResultKind.SEG_LABELMAP, 1), (ResultKind.SEG_DEFLATED, 1)]
)
@pytest.mark.parametrize("name", ["ct", "xa_run"])
def test_one_wrong_pixel_is_caught(name: str, kind: ResultKind, step: int) -> None:
    """One stored value that is off by one step fails the validation."""
    source = CASES[name].series()
    segmentation = found_in(source)
    dataset = built(source, segmentation, kind)
    pixels = StoredPixels(dataset)
    frames = np.stack([pixels[index] for index in range(int(dataset.NumberOfFrames))])
    place = (len(frames) // 2, 20, 30)
    frames[place] = not frames[place] if frames.dtype == np.bool_ else (int(frames[place]) + step) % 2
    add_pixels(dataset, frames, kind)
    with pytest.raises(InvalidSegmentationError, match="stored mask differs"):
        validate_segmentation(
            dataset, source, segmentation.mask, kind=kind, probability=segmentation.probability, use_dciodvfy=False
        )


# --- properties -------------------------------------------------------------------------------------------------------

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 19), st.integers(1, 300))


def encoded(frames: np.ndarray, kind: ResultKind) -> Dataset:
    """The pixels in a file and back."""
    source = CASES["sc"].series()
    dataset = build_segmentation(source, found_in(source), IDENTITY, kind=kind)
    add_pixels(dataset, frames, kind)
    return dcmread(BytesIO(encode_segmentation(dataset)))


@settings(max_examples=60, deadline=None)
@given(frames=SHAPES.flatmap(lambda shape: arrays.arrays(np.bool_, shape)))
def test_packing_round_trip(frames: np.ndarray) -> None:
    """Bits of frames of any size come back, one by one, through our reader and through pydicom's."""
    dataset = encoded(frames, ResultKind.SEG)
    pixels = StoredPixels(dataset)
    assert all(np.array_equal(pixels[index], frame) for index, frame in enumerate(frames))
    assert np.array_equal(dataset.pixel_array.reshape(frames.shape), frames)


# pydicom suspects uncompressed data where the compressed happen to be as long, and then reads them rightly
@pytest.mark.filterwarnings("ignore:The number of bytes of compressed pixel data matches:UserWarning")
@settings(max_examples=60, deadline=None)
@example(frames=np.array([[[0, 1, 1, 0, *[1] * 84]]] * 2, np.uint8))
@given(
    frames=SHAPES.flatmap(
        lambda shape: arrays.arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 0, 1, 128, 254, 255]))
    )
)
def test_rle_round_trip(frames: np.ndarray) -> None:
    """Bytes of frames of any size come back from RLE, through our decoder and through pydicom's own."""
    dataset = encoded(frames, ResultKind.SEG_FRACTIONAL)
    pixels = StoredPixels(dataset)
    assert all(np.array_equal(pixels[index], frame) for index, frame in enumerate(frames))
    dataset.pixel_array_options(decoding_plugin="pydicom")
    assert np.array_equal(dataset.pixel_array.reshape(frames.shape), frames)


@settings(max_examples=100, deadline=None)
@given(probability=arrays.arrays(np.float16, (1, 1, 3, 5), elements=st.floats(0, 1, width=16)))
def test_quantised_is_the_nearest_step(probability: np.ndarray) -> None:
    """No stored value is further than half a step from the probability, and the ends are exact."""
    values = quantised(probability, probability.shape)
    assert (np.abs(values - probability.astype(np.float64) * 255) <= 0.5).all()
    assert (values[probability == 0] == 0).all()
    assert (values[probability == 1] == 255).all()


@settings(max_examples=100, deadline=None)
@given(mask=arrays.arrays(np.bool_, st.tuples(st.integers(1, 4), st.integers(1, 2), st.just(3), st.just(4))))
def test_label_maps_keep_the_highest_segment(mask: np.ndarray) -> None:
    """The union is kept, the last segment is kept whole, and overlap is seen exactly where it is."""
    labels = label_map(mask)[0]
    assert np.array_equal(labels > 0, mask.any(axis=0))
    assert np.array_equal(labels == len(mask), mask[-1])
    for index in np.ndindex(labels.shape):
        assert labels[index] == max((n for n, one in enumerate(mask, 1) if one[index]), default=0)
    assert overlaps(mask) == bool((mask.astype(int).sum(axis=0) > 1).any())


def test_many_segments_in_one_object() -> None:
    """Twelve segments of one volume come back from every kind that can hold them."""
    source = CASES["ct"].series()
    mask = mask_for(source, 12)
    classes = [SegmentClass("artery", f"Branch {number}") for number in range(12)]
    segmentation = segmentation_of(mask, classes)
    for kind in KINDS:
        validate_segmentation(
            built(source, segmentation, kind), source, mask, kind=kind, probability=segmentation.probability,
            use_dciodvfy=False,
        )  # fmt: skip


def test_file_meta_names_the_encoding() -> None:
    """The plain object stays Explicit VR Little Endian, whatever else was built before it."""
    source = CASES["sc"].series()
    for kind in (*KINDS, ResultKind.SEG):
        dataset = build_segmentation(source, found_in(source), IDENTITY, kind=kind)
    assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
