"""Read masks back from a Segmentation object, independently of how it was written.

Nothing here is shared with the writer or taken from highdicom: a mistake in one of them must not hide in both.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, SegmentationStorage

from dicom_core.errors import InvalidSegmentationError

MaskKey = tuple[int, str, int]
"""``(SegmentNumber, SOPInstanceUID of the source, 1-based frame number in it)``."""


@dataclass(frozen=True, slots=True)
class SegmentedFrame:
    """One frame of a Segmentation object.

    Attributes:
        segment_number: Which segment it shows.
        sop_instance_uid: The source instance that it covers.
        frame_number: The frame of that instance, 1 for a single-frame one.
        position: ImagePositionPatient in mm, None without geometry.
        mask: ``(rows, columns)`` bool.
    """

    segment_number: int
    sop_instance_uid: str
    frame_number: int
    position: tuple[float, ...] | None
    mask: NDArray[np.bool_]

    @property
    def key(self) -> MaskKey:
        """What the frame is about."""
        return self.segment_number, self.sop_instance_uid, self.frame_number


def read_masks(dataset: Dataset) -> dict[MaskKey, NDArray[np.bool_]]:
    """All masks of a BINARY Segmentation object by segment and source frame, each ``(rows, columns)`` bool.

    Raises:
        InvalidSegmentationError: The object is of another kind or its parts contradict each other.
    """
    masks: dict[MaskKey, NDArray[np.bool_]] = {}
    for frame in iterate_frames(dataset):
        if frame.key in masks:
            raise InvalidSegmentationError("Two frames of the segmentation show the same segment of the same image.")
        masks[frame.key] = frame.mask
    return masks


def iterate_frames(dataset: Dataset) -> Iterator[SegmentedFrame]:
    """The frames of a BINARY Segmentation object in stored order; only one mask is unpacked at a time.

    Raises:
        InvalidSegmentationError: The object is of another kind or its parts contradict each other.
    """
    try:
        packed, shape = _packed_pixels(dataset)
        shared = dataset.SharedFunctionalGroupsSequence[0]
        items = dataset.PerFrameFunctionalGroupsSequence
        if len(items) != shape[0]:
            raise InvalidSegmentationError("The segmentation has another number of frames than of frame descriptions.")
        for index, item in enumerate(items):
            segment_number, image = _segment_and_source(shared, item)
            yield SegmentedFrame(
                segment_number=segment_number,
                sop_instance_uid=str(image.ReferencedSOPInstanceUID),
                frame_number=_frame_number(image),
                position=_position(item),
                mask=_unpack(packed, index, shape[1], shape[2]),
            )
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise InvalidSegmentationError("An attribute that describes a frame of the segmentation is missing.") from error


def _packed_pixels(dataset: Dataset) -> tuple[NDArray[np.uint8], tuple[int, int, int]]:
    if dataset.SOPClassUID != SegmentationStorage or dataset.SegmentationType != "BINARY" or dataset.BitsAllocated != 1:
        raise InvalidSegmentationError("The object is not a BINARY segmentation.")
    if dataset.file_meta.TransferSyntaxUID not in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        raise InvalidSegmentationError("The segmentation is compressed.")
    shape = (int(dataset.NumberOfFrames), int(dataset.Rows), int(dataset.Columns))
    bits = shape[0] * shape[1] * shape[2]
    expected = (bits + 7) // 8
    if len(dataset.PixelData) != expected + expected % 2:
        raise InvalidSegmentationError("The pixel data of the segmentation has the wrong length.")
    return np.frombuffer(dataset.PixelData, np.uint8), shape


def _unpack(packed: NDArray[np.uint8], index: int, rows: int, columns: int) -> NDArray[np.bool_]:
    """One frame; it may start in the middle of a byte, the first pixel in the lowest bit (PS3.5 8.1.1)."""
    first, size = index * rows * columns, rows * columns
    part = packed[first // 8 : (first + size + 7) // 8]
    bits = np.unpackbits(part, bitorder="little")[first % 8 : first % 8 + size]
    return bits.astype(np.bool_).reshape(rows, columns)


def _segment_and_source(shared: Dataset, item: Dataset) -> tuple[int, Dataset]:
    groups = item if "SegmentIdentificationSequence" in item else shared
    images = [image for derivation in item.DerivationImageSequence for image in derivation.SourceImageSequence]
    if len(images) != 1:
        raise InvalidSegmentationError("A frame of the segmentation does not refer to exactly one source image.")
    return int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber), images[0]


def _frame_number(image: Dataset) -> int:
    number = image.get("ReferencedFrameNumber")
    return 1 if number is None else int(number)


def _position(item: Dataset) -> tuple[float, ...] | None:
    if "PlanePositionSequence" not in item:
        return None
    return tuple(float(value) for value in item.PlanePositionSequence[0].ImagePositionPatient)
