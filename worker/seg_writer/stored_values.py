"""What the pixels of each kind of Segmentation object hold and how they are encoded (PS3.3 C.8.20.2, PS3.5 annex G)."""

import struct
from collections.abc import Iterable

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from dicom_core.errors import InvalidSegmentationError
from dicom_core.result import ResultKind
from worker.segmenters.interface import Segmentation

Values = NDArray[np.bool_] | NDArray[np.uint8]

MAXIMUM_FRACTIONAL_VALUE = 255
_MOST_LABELS = 255


def stored_values(segmentation: Segmentation, kind: ResultKind) -> Values:
    """The pixels of an object of this kind.

    Args:
        segmentation: ``mask`` and ``probability`` are ``(classes, frames, rows, columns)``.
        kind: One of ``SEGMENTATIONS``.

    Returns:
        ``(segments, frames, rows, columns)``: bool for the BINARY kinds; uint8 for ``SEG_FRACTIONAL`` (probability x
        255, rounded half to even); uint8 for ``SEG_LABELMAP`` with one entry on the first axis (0 where no segment is).

    Raises:
        InvalidSegmentationError: The probabilities do not fit the mask or leave [0, 1], or there are too many labels.
    """
    if kind is ResultKind.SEG_FRACTIONAL:
        return quantised(segmentation.probability, segmentation.mask.shape)
    if kind is ResultKind.SEG_LABELMAP:
        return label_map(segmentation.mask)
    return segmentation.mask


def quantised(probability: NDArray[np.float16], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Probabilities as FRACTIONAL pixel values, frame by frame: the whole would take four times the memory.

    Raises:
        InvalidSegmentationError: The shape is another one, or a value is no number in [0, 1].
    """
    if probability.shape != shape:
        raise InvalidSegmentationError(
            "The segmenter gave no probability for every pixel of its mask, so there is no fractional segmentation to "
            "write; take `seg_fractional` off the destination."
        )
    values = np.empty(shape, np.uint8)
    for index in np.ndindex(shape[:2]):
        frame = probability[index].astype(np.float32)
        if not (np.isfinite(frame).all() and frame.min(initial=0) >= 0 and frame.max(initial=0) <= 1):
            raise InvalidSegmentationError("The segmenter's probabilities are not all between 0 and 1.")
        values[index] = np.rint(frame * MAXIMUM_FRACTIONAL_VALUE)
    return values


def label_map(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """``(1, frames, rows, columns)`` uint8: the number of the segment, the highest one where several overlap.

    Raises:
        InvalidSegmentationError: There are more segments than a byte can number.
    """
    if len(mask) > _MOST_LABELS:
        raise InvalidSegmentationError(f"A label map holds at most {_MOST_LABELS} segments; ask for `seg` instead.")
    labels = np.zeros((1, *mask.shape[1:]), np.uint8)
    for number, segment in enumerate(mask, 1):
        labels[0][segment] = number
    return labels


def overlaps(mask: NDArray[np.bool_]) -> bool:
    """Whether a pixel belongs to several segments; the mask is ``(segments, frames, rows, columns)``."""
    return len(mask) > 1 and any(
        bool((mask[:, frame].sum(axis=0, dtype="u1") > 1).any()) for frame in range(mask.shape[1])
    )


def add_pixels(dataset: Dataset, frames: Values, kind: ResultKind) -> None:
    """Image Pixel module and what Segmentation Image says of the pixels (PS3.3 C.7.6.3, C.8.20.2).

    BINARY frames follow each other bit by bit without gaps (PS3.5 8.1.1), the others are RLE streams (PS3.5 annex G).

    Args:
        dataset: Filled in place.
        frames: ``(frames, rows, columns)`` in stored order, of the type that ``stored_values`` gives.
        kind: One of ``SEGMENTATIONS``.
    """
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelRepresentation = 0
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.BitsAllocated = dataset.BitsStored = 1 if frames.dtype == np.bool_ else 8
    dataset.HighBit = dataset.BitsStored - 1
    _add_type(dataset, kind)
    if frames.dtype == np.bool_:
        packed = np.packbits(frames.reshape(-1), bitorder="little").tobytes()
        dataset.add_new("PixelData", "OB", packed + b"\0" * (len(packed) % 2))
    else:
        add_rle_pixels(dataset, frames)


def _add_type(dataset: Dataset, kind: ResultKind) -> None:
    if kind is ResultKind.SEG_FRACTIONAL:
        dataset.SegmentationType = "FRACTIONAL"
        dataset.SegmentationFractionalType = "PROBABILITY"
        dataset.MaximumFractionalValue = MAXIMUM_FRACTIONAL_VALUE
    elif kind is ResultKind.SEG_LABELMAP:
        dataset.SegmentationType = "LABELMAP"
        dataset.add_new("PixelPaddingValue", "US", 0)
    else:
        dataset.SegmentationType = "BINARY"


def add_rle_pixels(dataset: Dataset, frames: Iterable[NDArray[np.uint8]]) -> None:
    """Encapsulated Pixel Data with one RLE stream a frame; each frame is ``(rows, columns)`` uint8."""
    dataset.add_new("PixelData", "OB", encapsulate([_rle_stream(frame) for frame in frames]))
    dataset["PixelData"].is_undefined_length = True


def _rle_stream(frame: NDArray[np.uint8]) -> bytes:
    """One byte a pixel makes one RLE segment; rows are encoded apart (PS3.5 G.3.1, G.5)."""
    rows = bytes(imagecodecs.packbits_encode(np.ascontiguousarray(frame)))
    return struct.pack("<16L", 1, 64, *[0] * 14) + rows + b"\0" * (len(rows) % 2)
