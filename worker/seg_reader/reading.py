"""Read frames back from a Segmentation object, independently of how it was written.

Nothing here is shared with the writer or taken from highdicom: a mistake in one of them must not hide in both.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_core.errors import InvalidSegmentationError
from worker.image_stack import FrameIdentity
from worker.seg_reader.stored_pixels import Frame, StoredPixels

MaskKey = tuple[int, str, int]
"""``(SegmentNumber, SOPInstanceUID of the source, 1-based frame number in it)``."""

SEGMENTATION_CLASSES = frozenset({"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"})
"""Segmentation Storage and Label Map Segmentation Storage."""

SEGMENTATION_TYPES = frozenset({"BINARY", "FRACTIONAL", "LABELMAP"})


@dataclass(frozen=True, slots=True)
class FrameDescription:
    """What a Segmentation object says of one of its frames.

    Attributes:
        segment_number: Which segment it shows; 0 in a label map, whose pixels tell.
        sources: The source frames that it covers; mostly one, none where the object does not tell.
        position: ImagePositionPatient in mm, None without geometry.
    """

    segment_number: int
    sources: tuple[FrameIdentity, ...]
    position: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class SegmentedFrame:
    """One frame of a Segmentation object that covers one source frame.

    Attributes:
        segment_number: Which segment it shows; 0 in a label map.
        sop_instance_uid: The source instance that it covers.
        frame_number: The frame of that instance, 1 for a single-frame one.
        position: ImagePositionPatient in mm, None without geometry.
        values: ``(rows, columns)``, bool for BINARY, uint8 for FRACTIONAL, uint8 or uint16 for a label map.
    """

    segment_number: int
    sop_instance_uid: str
    frame_number: int
    position: tuple[float, ...] | None
    values: Frame


def read_masks(dataset: Dataset) -> dict[MaskKey, NDArray[np.bool_]]:
    """All masks of a BINARY or LABELMAP object by segment and source frame, each ``(rows, columns)`` bool.

    Of a label map each frame gives a mask for every segment that it shows; the background (0) is none.

    Raises:
        InvalidSegmentationError: The object is of another kind or its parts contradict each other.
    """
    if dataset.get("SegmentationType") == "FRACTIONAL":
        raise InvalidSegmentationError("The object holds fractions, not masks.")
    masks: dict[MaskKey, NDArray[np.bool_]] = {}
    for frame in iterate_frames(dataset):
        for number, mask in _masks_of(frame):
            key = (number, frame.sop_instance_uid, frame.frame_number)
            if key in masks:
                raise InvalidSegmentationError(
                    "Two frames of the segmentation show the same segment of the same image."
                )
            masks[key] = mask
    return masks


def _masks_of(frame: SegmentedFrame) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    if frame.segment_number:
        yield frame.segment_number, frame.values
    else:
        for label in np.unique(frame.values).tolist():
            if label:
                yield label, frame.values == label


def iterate_frames(dataset: Dataset) -> Iterator[SegmentedFrame]:
    """The frames of a Segmentation object in stored order; only one is decoded at a time.

    Raises:
        InvalidSegmentationError: The object is of another kind, a frame does not refer to exactly one source image, or
            the parts contradict each other.
    """
    check_class(dataset)
    pixels = StoredPixels(dataset)
    for index, description in enumerate(describe_frames(dataset)):
        if len(description.sources) != 1:
            raise InvalidSegmentationError("A frame of the segmentation does not refer to exactly one source image.")
        (source,) = description.sources
        yield SegmentedFrame(
            segment_number=description.segment_number,
            sop_instance_uid=source.sop_instance_uid,
            frame_number=source.frame_number,
            position=description.position,
            values=pixels[index],
        )


def check_class(dataset: Dataset) -> None:
    """Refuse what is no Segmentation object.

    Raises:
        InvalidSegmentationError: Another SOP class, or pixels that do not fit the segmentation type.
    """
    if dataset.get("SOPClassUID") not in SEGMENTATION_CLASSES:
        raise InvalidSegmentationError("The object is not a DICOM Segmentation.")
    kind = dataset.get("SegmentationType")
    if kind not in SEGMENTATION_TYPES:
        raise InvalidSegmentationError("The segmentation is neither BINARY nor FRACTIONAL nor a label map.")
    if (kind == "BINARY") != (dataset.get("BitsAllocated") == 1):
        raise InvalidSegmentationError("The bits of the pixels do not fit the type of the segmentation.")


def describe_frames(dataset: Dataset) -> list[FrameDescription]:
    """What the functional groups say of each frame, in stored order.

    Raises:
        InvalidSegmentationError: The description of a frame is missing or broken.
    """
    try:
        shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
        items = dataset.get("PerFrameFunctionalGroupsSequence") or ()
        if len(items) != int(dataset.get("NumberOfFrames") or 1):
            raise InvalidSegmentationError("The segmentation has another number of frames than of frame descriptions.")
        is_label_map = dataset.get("SegmentationType") == "LABELMAP"
        return [
            FrameDescription(
                segment_number=0 if is_label_map else _segment_number(shared, item),
                sources=tuple(_sources(item) or _sources(shared)),
                position=_position(item) or _position(shared),
            )
            for item in items
        ]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InvalidSegmentationError("An attribute that describes a frame of the segmentation is missing.") from error


def _segment_number(shared: Dataset, item: Dataset) -> int:
    groups = item if "SegmentIdentificationSequence" in item else shared
    return int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _sources(groups: Dataset) -> list[FrameIdentity]:
    return [
        FrameIdentity(str(image.ReferencedSOPInstanceUID), number)
        for derivation in groups.get("DerivationImageSequence") or ()
        for image in derivation.get("SourceImageSequence") or ()
        for number in _frame_numbers(image.get("ReferencedFrameNumber"))
    ]


def _frame_numbers(value: Any) -> list[int]:
    """ReferencedFrameNumber may be absent, one number or several."""
    if value is None or value == "":
        return [1]
    return [int(value)] if isinstance(value, int) else [int(number) for number in value]


def _position(groups: Dataset) -> tuple[float, ...] | None:
    if "PlanePositionSequence" not in groups:
        return None
    return tuple(float(value) for value in groups.PlanePositionSequence[0].ImagePositionPatient)
