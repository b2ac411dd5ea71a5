"""Any Segmentation object is read in one call: ours exactly, others' as far as they tell, odd ones in a sentence."""

import os
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless
from seg_cases import ARTERY_AND_VEIN, CASES, IDENTITY_WITH_WEIGHTS, mask_for, segmentation_of

from dicom_core.errors import InvalidSegmentationError, NotFoundError
from dicom_core.result import SEGMENTATIONS, ResultKind
from worker.image_stack import FrameIdentity
from worker.seg_reader.segmentation_object import SegmentationObject, read_segmentation
from worker.seg_writer.writer import build_segmentation, save_segmentation
from worker.segmenters.interface import Segmentation
from worker.source_series import SourceKind, SourceSeries

SHARED = Path(os.environ.get("VESSELQ_SHARED", Path(__file__).resolve().parents[3] / "shared"))
KINDS = sorted(SEGMENTATIONS)


def found_in(source: SourceSeries) -> Segmentation:
    """Two overlapping segments with probabilities that are more than yes and no."""
    mask = mask_for(source, 2)
    noise = np.random.default_rng(3).random(mask.shape)
    probability = np.where(mask, 0.5 + noise / 2, noise * 0.4).astype(np.float16)
    return replace(segmentation_of(mask, ARTERY_AND_VEIN), probability=probability)


def read(path: Path, source: SourceSeries, segmentation: Segmentation, kind: ResultKind) -> SegmentationObject:
    save_segmentation(build_segmentation(source, segmentation, IDENTITY_WITH_WEIGHTS, kind=kind), path)
    return read_segmentation(path)


def expected_masks(segmentation: Segmentation, kind: ResultKind) -> np.ndarray:
    """``(segments, frames, rows, columns)`` bool as it must come back."""
    artery, vein = segmentation.mask
    return np.stack([artery & ~vein, vein]) if kind is ResultKind.SEG_LABELMAP else segmentation.mask


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_masks_by_segment_and_source_frame(name: str, kind: ResultKind, tmp_path: Path) -> None:
    """Every mask is found under its segment, instance and frame; what has no frame was empty."""
    source = CASES[name].series()
    segmentation = found_in(source)
    found = read(tmp_path / "seg.dcm", source, segmentation, kind)
    masks = found.masks
    for segment, layer in enumerate(expected_masks(segmentation, kind), 1):
        for frame, mask in zip(source.frames, layer, strict=True):
            key = (segment, frame.sop_instance_uid, frame.frame_number)
            assert np.array_equal(masks[key], mask) if key in masks else not mask.any()
    frames = {(frame.sop_instance_uid, frame.frame_number) for frame in source.frames}
    assert {key[1:] for key in masks} <= frames
    assert len(list(masks)) == len(masks)


@pytest.mark.parametrize("name", ["ct", "enhanced_mr", "xa_run_of_several", "several_op"])
def test_fractions(name: str, tmp_path: Path) -> None:
    """Probabilities come back within half a step of 1/255; the masks of a fractional object are its upper half."""
    source = CASES[name].series()
    segmentation = found_in(source)
    found = read(tmp_path / "seg.dcm", source, segmentation, ResultKind.SEG_FRACTIONAL)
    assert found.fractional_type == "PROBABILITY"
    for (segment, uid, number), fraction in found.fractions.items():
        index = source.frames.index(FrameIdentity(uid, number))
        assert fraction.dtype == np.float32
        assert np.abs(fraction - segmentation.probability[segment - 1, index]).max() <= 0.5 / 255 + 1e-6
        assert np.array_equal(found.masks[segment, uid, number], fraction >= 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_told(kind: ResultKind, tmp_path: Path) -> None:
    """Names, codes, colours, maker and warnings of our own object."""
    source = CASES["ct"].series()
    found = read(tmp_path / "seg.dcm", source, found_in(source), kind)
    header = source.datasets[0]
    assert found.study_instance_uid == header.StudyInstanceUID
    assert found.source_instances == {instance.SOPInstanceUID for instance in source.datasets}
    assert (found.rows, found.columns) == (header.Rows, header.Columns)
    assert found.equipment.startswith("vesselq vesselnet")
    assert found.created == "2024-02-29 12:00:00"
    assert found.warnings == ("not reviewed by a physician",)
    artery, vein = found.segments
    assert [(one.number, one.label) for one in found.segments] == [(1, "Artery"), (2, "Vein")]
    assert artery.type == ("51114001", "SCT", "Artery")
    assert artery.category[0] == "91723000"
    assert artery.colour == (216, 101, 79)
    assert vein.colour == (0, 151, 206)
    assert vein.algorithm == "vesselnet 1.0"
    assert vein.region == "Chest"
    assert artery.tracking_uid == IDENTITY_WITH_WEIGHTS.uid("segment", 1, "tracking")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["ct", "xa_run"])
def test_counts(name: str, kind: ResultKind, tmp_path: Path) -> None:
    """Voxels and frames by segment, counted from what is stored."""
    source = CASES[name].series()
    segmentation = found_in(source)
    counts = read(tmp_path / "seg.dcm", source, segmentation, kind).counted()
    for number, layer in enumerate(expected_masks(segmentation, kind), 1):
        assert counts[number] == (int(layer.any(axis=(1, 2)).sum()), int(layer.sum()))


@pytest.mark.parametrize("name", CASES)
def test_geometry_is_that_of_the_source(name: str, tmp_path: Path) -> None:
    """Objects in the patient have orientation and spacing; hints for viewers are not taken for a place."""
    source = CASES[name].series()
    found = read(tmp_path / "seg.dcm", source, found_in(source), ResultKind.SEG)
    if CASES[name].kind in (SourceKind.RUN, SourceKind.PICTURES):
        assert found.geometry is None
        return
    assert found.geometry is not None
    assert found.geometry.frame_of_reference_uid == source.datasets[0].FrameOfReferenceUID
    assert len(found.geometry.orientation) == 6
    assert all(0 < spacing < 1 for spacing in found.geometry.spacing_mm)
    assert all(frame.position is not None for frame in found.frames)


def test_fractions_of_a_binary_object_are_refused(tmp_path: Path) -> None:
    """There are none."""
    source = CASES["sc"].series()
    found = read(tmp_path / "seg.dcm", source, found_in(source), ResultKind.SEG)
    with pytest.raises(InvalidSegmentationError, match="FRACTIONAL"):
        _ = found.fractions


# --- objects of others ------------------------------------------------------------------------------------------------


def plain(path: Path, name: str = "ct") -> Dataset:
    source = CASES[name].series()
    save_segmentation(build_segmentation(source, found_in(source), IDENTITY_WITH_WEIGHTS), path)
    return dcmread(path)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, JPEG2000Lossless])
def test_highdicom_binary(syntax: str, tmp_path: Path) -> None:
    """What highdicom writes is read, also where a pixel of one bit is a JPEG 2000 sample."""
    source = CASES["ct"].series()
    mask = mask_for(source)[0]
    _highdicom(source, mask, "BINARY", syntax, tmp_path / "seg.dcm")
    masks = read_segmentation(tmp_path / "seg.dcm").masks
    for (_, uid, _), found in masks.items():
        assert np.array_equal(found, mask[source.frames.index(FrameIdentity(uid, 1))])
    assert len(masks) == mask.any(axis=(1, 2)).sum()


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, JPEGLSLossless])
def test_highdicom_fractional(syntax: str, tmp_path: Path) -> None:
    """Fractions, also in an encoding that dcmqi cannot read."""
    source = CASES["ct"].series()
    fraction = np.round(np.random.default_rng(0).random(mask_for(source)[0].shape) * 255) / 255
    _highdicom(source, fraction.astype(np.float32), "FRACTIONAL", syntax, tmp_path / "seg.dcm")
    fractions = read_segmentation(tmp_path / "seg.dcm").fractions
    for (_, uid, _), found in fractions.items():
        assert np.allclose(found, fraction[source.frames.index(FrameIdentity(uid, 1))], atol=1e-6)
    assert len(fractions) == len(source.frames)


def _highdicom(source: SourceSeries, pixels: np.ndarray, kind: str, syntax: str, path: Path) -> None:
    description = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label="Vessel",
        segmented_property_category=highdicom.sr.CodedConcept("91723000", "SCT", "Anatomical Structure"),
        segmented_property_type=highdicom.sr.CodedConcept("59820001", "SCT", "Blood vessel"),
        algorithm_type="MANUAL",
    )
    highdicom.seg.Segmentation(
        source_images=list(source.datasets), pixel_array=pixels, segmentation_type=kind,
        segment_descriptions=[description], series_instance_uid="1.2.3", series_number=1, sop_instance_uid="1.2.4",
        instance_number=1, manufacturer="m", manufacturer_model_name="n", software_versions="1",
        device_serial_number="1", transfer_syntax_uid=syntax,
    ).save_as(path)  # fmt: skip


def test_manual_segment_without_colour_or_algorithm(tmp_path: Path) -> None:
    """What another object does not tell is empty, and it is not called unreviewed."""
    source = CASES["ct"].series()
    _highdicom(source, mask_for(source)[0], "BINARY", ImplicitVRLittleEndian, tmp_path / "seg.dcm")
    found = read_segmentation(tmp_path / "seg.dcm")
    (segment,) = found.segments
    assert (segment.colour, segment.algorithm, segment.region, segment.description) == (None, "", "", "")
    assert found.warnings == ()


def test_several_source_images_a_frame(tmp_path: Path) -> None:
    """A frame that was made from three slices is found under the first, and the reader is told."""
    dataset = plain(tmp_path / "seg.dcm")
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        images = groups.DerivationImageSequence[0].SourceImageSequence
        for number in range(2):
            other = deepcopy(images[0])
            other.ReferencedSOPInstanceUID = f"1.2.3.{number}"
            images.append(other)
    dataset.save_as(tmp_path / "seg.dcm")
    found = read_segmentation(tmp_path / "seg.dcm")
    assert "frames cover several source images each" in found.warnings
    assert all(len(frame.sources) == 3 for frame in found.frames)
    assert "1.2.3.0" not in {key[1] for key in found.masks}


def test_several_frames_of_one_image(tmp_path: Path) -> None:
    """One reference may list several frame numbers."""
    dataset = plain(tmp_path / "seg.dcm", "xa_run")
    image = dataset.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    image.ReferencedFrameNumber = [1, 2]
    dataset.save_as(tmp_path / "seg.dcm")
    assert [source.frame_number for source in read_segmentation(tmp_path / "seg.dcm").frames[0].sources] == [1, 2]


def test_frames_without_source(tmp_path: Path) -> None:
    """Frames that name no image are counted and said; only their masks by image are refused."""
    dataset = plain(tmp_path / "seg.dcm")
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        del groups.DerivationImageSequence
    dataset.save_as(tmp_path / "seg.dcm")
    found = read_segmentation(tmp_path / "seg.dcm")
    assert any("do not name their source image" in warning for warning in found.warnings)
    assert sum(voxels for _, voxels in found.counted().values()) > 0
    with pytest.raises(InvalidSegmentationError, match="does not name its source"):
        _ = found.masks


def test_two_frames_of_one_image(tmp_path: Path) -> None:
    """Two masks of one segment and image contradict each other, which is an error only where masks are asked for."""
    dataset = plain(tmp_path / "seg.dcm")
    groups = dataset.PerFrameFunctionalGroupsSequence
    groups[1].DerivationImageSequence = groups[0].DerivationImageSequence
    dataset.save_as(tmp_path / "seg.dcm")
    found = read_segmentation(tmp_path / "seg.dcm")
    with pytest.raises(InvalidSegmentationError, match="the same segment of the same image"):
        _ = found.masks


def lose(*keywords: str):
    def fault(dataset: Dataset) -> None:
        for keyword in keywords:
            delattr(dataset, keyword)

    return fault


def encapsulated_nonsense(dataset: Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\x00\xe0\x02\x00\x00\x00ab"
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


ODD = {
    "no pixels": lose("PixelData"),
    "no size": lose("Rows"),
    "no type": lose("SegmentationType"),
    "no class": lose("SOPClassUID"),
    "no frames": lose("PerFrameFunctionalGroupsSequence"),
    "fewer frames": lambda dataset: setattr(dataset, "NumberOfFrames", 3),
    "colour": lambda dataset: setattr(dataset, "SamplesPerPixel", 3),
    "short pixels": lambda dataset: setattr(dataset, "PixelData", dataset.PixelData[:-2]),
    "nonsense": encapsulated_nonsense,
    "tiled": lambda dataset: setattr(dataset, "DimensionOrganizationType", "TILED_FULL"),
    "no segment number": lambda dataset: delattr(dataset.SegmentSequence[0], "SegmentNumber"),
    "empty type": lambda dataset: setattr(dataset, "SegmentationType", "OTHER"),
    "eight bits": lambda dataset: setattr(dataset, "BitsAllocated", 8),
}


@pytest.mark.parametrize("fault", ODD)
def test_odd_objects_end_in_a_sentence(fault: str, tmp_path: Path) -> None:
    """Whatever is wrong with a file, the error is ours and holds no value of the file."""
    dataset = plain(tmp_path / "seg.dcm")
    ODD[fault](dataset)
    dataset.save_as(tmp_path / "odd.dcm")
    with pytest.raises(InvalidSegmentationError) as raised:
        read_segmentation(tmp_path / "odd.dcm").counted()
    assert "Generated" not in str(raised.value)
    assert str(raised.value).endswith(".")


def test_damaged_frame_is_named(tmp_path: Path) -> None:
    """A broken RLE stream is found when its frame is decoded, and only then."""
    source = CASES["xa_run"].series()
    path = tmp_path / "seg.dcm"
    save_segmentation(
        build_segmentation(source, found_in(source), IDENTITY_WITH_WEIGHTS, kind=ResultKind.SEG_FRACTIONAL), path
    )
    content = bytearray(path.read_bytes())
    start = content.rindex(b"\x01\x00\x00\x00\x40\x00\x00\x00")
    content[start] = 9
    path.write_bytes(content)
    found = read_segmentation(path)
    assert found.stored(0).any()
    with pytest.raises(InvalidSegmentationError, match=f"Frame {len(found.frames)} "):
        found.counted()


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "no DICOM"), (b"nothing of the kind" * 20, "no DICOM"), (None, "no file")]
)
def test_other_files_end_in_a_sentence(content: bytes | None, words: str, tmp_path: Path) -> None:
    """Empty files, text and paths that do not exist."""
    path = tmp_path / "file.dcm"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises((InvalidSegmentationError, NotFoundError), match=words):
        read_segmentation(path)


@pytest.mark.parametrize("cut", [200, 1000, 3000, 9000, 15000])
def test_truncated_files_end_in_a_sentence(cut: int, tmp_path: Path) -> None:
    """A file that ends anywhere is refused, not half read."""
    plain(tmp_path / "seg.dcm")
    content = (tmp_path / "seg.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(content[:cut])
    with pytest.raises(InvalidSegmentationError):
        read_segmentation(tmp_path / "cut.dcm").counted()


@pytest.mark.skipif(not (SHARED / "data" / "dicom" / "highdicom").is_dir(), reason="the reference files are missing")
def test_published_files() -> None:
    """Every published file is read, with as many voxels as highdicom sees, or refused in a sentence."""
    read_names = set()
    for path in sorted((SHARED / "data" / "dicom" / "highdicom").glob("*.dcm")):
        try:
            found = read_segmentation(path)
        except InvalidSegmentationError:
            continue
        read_names.add(path.name)
        pixels = highdicom.seg.segread(path).pixel_array
        stored = np.stack([found.stored(index) for index in range(len(found.frames))])
        assert np.array_equal(stored, pixels.reshape(stored.shape)), path.name
    assert len(read_names) == 11
