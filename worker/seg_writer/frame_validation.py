"""Whether the frames of a Segmentation object say what the segmenter said, each about the right source frame."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_core.errors import InvalidSegmentationError
from dicom_core.result import ResultKind
from worker.image_stack import FrameIdentity
from worker.seg_reader.reading import SegmentedFrame, iterate_frames
from worker.seg_reader.stored_pixels import Frame
from worker.source_series import SourceKind, SourceSeries

_POSITION_TOLERANCE_MM = 1e-3
_MAXIMUM = 255


def frame_problems(
    dataset: Dataset, source: SourceSeries, mask: NDArray[np.bool_], probability: Frame | None, kind: ResultKind
) -> list[str]:
    """What is wrong with the frames of an object, each problem once.

    Args:
        dataset: As read from its file.
        source: What it was made from.
        mask: ``(segments, frames, rows, columns)`` bool.
        probability: The same axes, float in [0, 1]; needed for ``SEG_FRACTIONAL`` alone.
        kind: Which object it must be.
    """
    numbers = [item.get("SegmentNumber") for item in dataset.get("SegmentSequence") or ()]
    first = 0 if kind is ResultKind.SEG_LABELMAP else 1
    if numbers != list(range(first, len(mask) + 1)):
        return ["SegmentSequence does not number the segments of the mask from 1"]
    check = _FrameCheck(source, mask, probability, kind)
    problems: list[str] = []
    try:
        for frame in iterate_frames(dataset):
            problems += check.problems(frame)
    except InvalidSegmentationError as error:
        return [*problems, str(error).rstrip(".")]
    if check.has_lost_a_frame():
        problems.append("a frame with vessels is not in the object")
    return sorted(set(problems))


class _FrameCheck:
    """Compares frame after frame and remembers which were seen."""

    def __init__(
        self, source: SourceSeries, mask: NDArray[np.bool_], probability: Frame | None, kind: ResultKind
    ) -> None:
        self._source = source
        self._mask = mask
        self._probability = probability
        self._kind = kind
        self._index_of = {identity: index for index, identity in enumerate(source.frames)}
        self._headers = {str(header.SOPInstanceUID): header for header in source.datasets}
        layers = 1 if kind is ResultKind.SEG_LABELMAP else len(mask)
        self._seen = np.zeros((layers, mask.shape[1]), np.bool_)

    def problems(self, frame: SegmentedFrame) -> Iterator[str]:
        index = self._index_of.get(FrameIdentity(frame.sop_instance_uid, frame.frame_number))
        layer = 0 if self._kind is ResultKind.SEG_LABELMAP else frame.segment_number - 1
        if not 0 <= layer < len(self._seen):
            yield "a frame belongs to a segment that is not described"
        elif index is None:
            if not self._is_unused_source_frame(frame):
                yield "a frame refers to an image that is not a source"
        elif self._seen[layer, index]:
            yield "two frames show the same segment of the same image"
        else:
            self._seen[layer, index] = True
            if not self._agrees(frame.values, layer, index):
                yield "a stored mask differs from the segmenter's"
            if not self._position_agrees(frame):
                yield "the position of a frame is not that of its source image"

    def has_lost_a_frame(self) -> bool:
        """Whether a frame that is not in the object has a value other than 0."""
        lost = np.argwhere(~self._seen).tolist()
        return any(not self._agrees(np.zeros(self._mask.shape[2:], np.uint8), layer, index) for layer, index in lost)

    def _agrees(self, values: Frame, layer: int, index: int) -> bool:
        """Whether stored pixels say what the segmenter said; said again here, not taken from the writer."""
        if self._kind is ResultKind.SEG_FRACTIONAL:
            if self._probability is None or self._probability.shape != self._mask.shape:
                return False
            exact = self._probability[layer, index].astype(np.float64) * _MAXIMUM
            return bool((np.abs(values - exact) <= 0.5).all())
        if self._kind is ResultKind.SEG_LABELMAP:
            numbers = np.arange(1, len(self._mask) + 1, dtype=np.uint8)[:, None, None]
            return np.array_equal(values, (self._mask[:, index] * numbers).max(axis=0))
        return np.array_equal(values, self._mask[layer, index])

    def _is_unused_source_frame(self, frame: SegmentedFrame) -> bool:
        """An empty frame of the multi-frame source that the segmenter did not get (``omit_empty_frames=False``)."""
        header = self._source.datasets[0]
        known = self._source.kind is SourceKind.ENHANCED and frame.sop_instance_uid == header.SOPInstanceUID
        return known and frame.frame_number <= int(header.NumberOfFrames) and not frame.values.any()

    def _position_agrees(self, frame: SegmentedFrame) -> bool:
        if self._source.kind in (SourceKind.RUN, SourceKind.PICTURES):
            return frame.position is None
        header = self._headers[frame.sop_instance_uid]
        if self._source.kind is SourceKind.ENHANCED:
            groups = header.PerFrameFunctionalGroupsSequence[frame.frame_number - 1]
            groups = groups if "PlanePositionSequence" in groups else header.SharedFunctionalGroupsSequence[0]
            header = groups.PlanePositionSequence[0]
        expected = [float(value) for value in header.ImagePositionPatient]
        return frame.position is not None and np.allclose(frame.position, expected, rtol=0, atol=_POSITION_TOLERANCE_MM)
