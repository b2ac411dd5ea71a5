"""Directly encoded frame items are the bytes that pydicom would have written."""

from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from seg_cases import CASES, IDENTITY, mask_for, segmentation_of

from worker.seg_writer.writer import build_segmentation, encode_segmentation
from worker.source_series import SourceKind


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if case.kind in (SourceKind.RUN, SourceKind.PICTURES)]
)
def test_same_bytes_as_pydicom(name: str) -> None:
    """Parsing every sequence and writing it again through pydicom changes nothing."""
    source = CASES[name].series()
    dataset = build_segmentation(source, segmentation_of(mask_for(source, 2)), IDENTITY)
    content = encode_segmentation(dataset)
    parsed = dcmread(BytesIO(content))
    parsed.walk(lambda _dataset, element: element.value)
    parsed.set_original_encoding(None, None)  # forces pydicom to encode anew
    assert encode_segmentation(parsed) == content


def test_looking_at_the_frames_does_not_change_the_file() -> None:
    """The sequence may be parsed before saving."""
    source = CASES["xa_run"].series()
    segmentation = segmentation_of(mask_for(source, 2))
    dataset = build_segmentation(source, segmentation, IDENTITY)
    assert len(dataset.PerFrameFunctionalGroupsSequence) == 18
    assert dataset.PerFrameFunctionalGroupsSequence[9].FrameContentSequence[0].DimensionIndexValues == [2, 2]
    untouched = build_segmentation(source, segmentation, IDENTITY)
    assert encode_segmentation(dataset) == encode_segmentation(untouched)


def test_changes_to_the_frames_are_written() -> None:
    """A caller who edits a parsed frame finds the edit in the file."""
    source = CASES["xa_run"].series()
    dataset = build_segmentation(source, segmentation_of(mask_for(source)), IDENTITY)
    dataset.PerFrameFunctionalGroupsSequence[0].FrameContentSequence[0].FrameComments = "edited"
    written = dcmread(BytesIO(encode_segmentation(dataset)))
    assert written.PerFrameFunctionalGroupsSequence[0].FrameContentSequence[0].FrameComments == "edited"


def test_frame_numbers_of_any_length() -> None:
    """Frame numbers with one to four digits refer to their frames."""
    source = CASES["xa_run"].series(frames=1001, rows=2, columns=3)
    mask = np.zeros((1, 1001, 2, 3), np.bool_)
    chosen = [1, 9, 10, 99, 100, 999, 1000, 1001]
    mask[0, [number - 1 for number in chosen], 1, 2] = True
    dataset = dcmread(BytesIO(encode_segmentation(build_segmentation(source, segmentation_of(mask), IDENTITY))))
    numbers = [
        groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        for groups in dataset.PerFrameFunctionalGroupsSequence
    ]
    assert numbers == chosen
