"""Parts of a series: each phase and each enhanced instance becomes a segmentation that refers to its own frames."""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import dicom_sources
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from seg_cases import IDENTITY, mask_for, segmentation_of

from dicom_core.errors import SourceTooLargeError
from dicom_core.result import ResultKind
from worker.pixels.decoding import decode
from worker.seg_writer.validation import validate_segmentation
from worker.seg_writer.writer import build_segmentation, encode_segmentation
from worker.source_images.reading import read_series
from worker.source_series import SourceKind, SourceSeries


def two_phases(frames: int = 8) -> Dataset:
    """An enhanced object with two time points at each place, stored by turns."""
    dataset = dicom_sources.enhanced_mr(frames=frames)[0]
    for index, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        groups.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 3 * (index // 2)]
        groups.FrameContentSequence[0].TemporalPositionIndex = index % 2 + 1
    return dataset


def three_planes() -> Dataset:
    """An enhanced object with six transversal frames, then two coronal ones."""
    dataset = dicom_sources.enhanced_ct(frames=8)[0]
    shared = dataset.SharedFunctionalGroupsSequence[0]
    del shared.PlaneOrientationSequence
    for index, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        cosines = [1, 0, 0, 0, 1, 0] if index < 6 else [1, 0, 0, 0, 0, -1]
        groups.PlaneOrientationSequence = [dicom_sources.item(ImageOrientationPatient=cosines)]
    return dataset


def parts_of(datasets: Sequence[Dataset], folder: Path) -> tuple[SourceSeries, ...]:
    return read_series(dicom_sources.save(datasets, folder))


def written(source: SourceSeries, kind: ResultKind, *, omit_empty_frames: bool) -> Dataset:
    """A segmentation of the part, read back from its bytes; the usual kind is checked bit for bit."""
    segmentation = segmentation_of(mask_for(source))
    dataset = build_segmentation(source, segmentation, IDENTITY, kind=kind, omit_empty_frames=omit_empty_frames)
    read = dcmread(BytesIO(encode_segmentation(dataset)))
    if kind is ResultKind.SEG:
        validate_segmentation(read, source, segmentation.mask)
    return read


def referenced_frames(segmentation: Dataset) -> list[int]:
    images = [
        groups.DerivationImageSequence[0].SourceImageSequence[0]
        for groups in segmentation.PerFrameFunctionalGroupsSequence
    ]
    return sorted(int(image.ReferencedFrameNumber) for image in images)


@pytest.mark.parametrize("kind", [ResultKind.SEG, ResultKind.SEG_FRACTIONAL, ResultKind.SEG_LABELMAP])
def test_a_phase_of_an_enhanced_object_refers_to_its_own_frames(kind: ResultKind, tmp_path: Path) -> None:
    """Frames of the other phase, at the same places, are neither in the object nor referred to; masks are exact."""
    first, second = parts_of([two_phases()], tmp_path)
    # mask_for leaves the first frame of the stack empty
    assert referenced_frames(written(first, kind, omit_empty_frames=True)) == [3, 5, 7]
    assert referenced_frames(written(second, kind, omit_empty_frames=True)) == [4, 6, 8]
    assert referenced_frames(written(second, kind, omit_empty_frames=False)) == [2, 4, 6, 8]


def test_frames_of_another_orientation_do_not_disturb(tmp_path: Path) -> None:
    """The larger of two orientations in one enhanced object is segmented; the others are told and left alone."""
    (source,) = parts_of([three_planes()], tmp_path)
    assert source.warnings == ("2 left out: another orientation than most slices",)
    segmentation = written(source, ResultKind.SEG, omit_empty_frames=False)
    assert referenced_frames(segmentation) == [1, 2, 3, 4, 5, 6]


def test_two_phases_of_slices_refer_to_their_own_instances(tmp_path: Path) -> None:
    """Each phase of a series of slices names its own instances and none of the other's."""
    slices = dicom_sources.ct_series(frames=6)
    for index, dataset in enumerate(slices):
        dataset.TemporalPositionIdentifier = index // 3 + 1
        dataset.ImagePositionPatient = [0, 0, 2 * (index % 3)]
    for number, source in enumerate(parts_of(slices, tmp_path)):
        segmentation = written(source, ResultKind.SEG, omit_empty_frames=False)
        own = {str(dataset.SOPInstanceUID) for dataset in slices[3 * number : 3 * number + 3]}
        named = segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        assert {str(item.ReferencedSOPInstanceUID) for item in named} == own


def test_one_slice_over_time_is_written_as_pictures(tmp_path: Path) -> None:
    """Moments of one slice need no geometry: each frame of the object refers to one moment."""
    slices = dicom_sources.ct_series(frames=5, ImagePositionPatient=[0, 0, 0])
    for index, dataset in enumerate(slices):
        dataset.TriggerTime = 40 * index
    (source,) = parts_of(slices, tmp_path)
    assert source.kind is SourceKind.PICTURES
    segmentation = written(source, ResultKind.SEG, omit_empty_frames=False)
    assert "FrameOfReferenceUID" not in segmentation
    assert int(segmentation.NumberOfFrames) == 5


def test_the_series_description_names_the_part(tmp_path: Path) -> None:
    """A list of series tells the phases apart, also where the model's name is too long for it."""
    parts = parts_of([two_phases()], tmp_path)
    descriptions = [
        build_segmentation(part, segmentation_of(mask_for(part)), IDENTITY).SeriesDescription for part in parts
    ]
    assert descriptions == [f"Vessels of series 1, phase {number} of 2 (ridge 1.0)" for number in (1, 2)]
    long_name = replace(IDENTITY, model_name="m" * 64, generation=3)
    text = build_segmentation(parts[1], segmentation_of(mask_for(parts[1])), long_name).SeriesDescription
    assert len(text) == 64
    assert text.startswith("Vessels of series 1, phase 2 of 2 (mmm")
    assert text.endswith(" v3")


def test_only_the_frames_of_the_part_are_decoded(tmp_path: Path) -> None:
    """Pixels of a phase are those of its frames, and the limit counts no others."""
    dataset = two_phases()
    stored = dataset.pixel_array.astype(np.float32)
    parts = parts_of([dataset], tmp_path)
    phase_bytes = 4 * stored[0].size * 4
    for number, part in enumerate(parts):
        assert np.array_equal(decode(part, maximum_bytes=phase_bytes).pixels, stored[number::2])
        with pytest.raises(SourceTooLargeError):
            decode(part, maximum_bytes=phase_bytes - 1)
