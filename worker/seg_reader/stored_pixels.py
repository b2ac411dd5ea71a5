"""The frames of a Segmentation object as arrays, decoded one by one when they are asked for.

Nothing here is shared with the writer or taken from highdicom: a mistake in one of them must not hide in both.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from dicom_core.errors import InvalidSegmentationError, SourceError
from worker.pixels.codecs import encoded_frame
from worker.pixels.layout import PixelLayout, pixel_layout

Frame = NDArray[Any]
"""``(rows, columns)``: bool where a pixel is one bit, else uint8 or uint16."""

_BITS = (1, 8, 16)


class StoredPixels:
    """The pixels of one Segmentation object.

    Attributes:
        layout: Rows, columns, frames and bits.
    """

    def __init__(self, dataset: Dataset) -> None:
        """Check the length of the pixel data; nothing is decoded.

        Raises:
            InvalidSegmentationError: The pixels are missing, of a kind that no segmentation has, or too few.
        """
        self.layout = _layout(dataset)
        stored = dataset.get("PixelData")
        if not stored:
            raise InvalidSegmentationError("The segmentation holds no pixel data.")
        if self.layout.transfer_syntax.is_encapsulated:
            self._encoded = _encoded_frames(dataset, self.layout)
            self._native: NDArray[np.uint8] = np.empty(0, np.uint8)
        else:
            self._encoded = []
            self._native = _native_bytes(dataset, self.layout)

    def __getitem__(self, index: int) -> Frame:
        """Decode one frame.

        Args:
            index: 0-based.

        Raises:
            InvalidSegmentationError: The encoded frame is damaged or of an encoding that is not taken.
        """
        if not self._encoded:
            return _native_frame(self._native, self.layout, index)
        try:
            values, _ = encoded_frame(self._encoded[index], self.layout)
        except (SourceError, RuntimeError, ValueError) as error:
            raise InvalidSegmentationError(f"Frame {index + 1} of the segmentation cannot be decoded.") from error
        return values.astype(np.bool_) if self.layout.bits_allocated == 1 else values


def _layout(dataset: Dataset) -> PixelLayout:
    try:
        layout = pixel_layout(dataset)
    except (AttributeError, TypeError, ValueError, SourceError) as error:
        raise InvalidSegmentationError(
            "The attributes that describe the pixels of the segmentation are odd."
        ) from error
    if layout.samples_per_pixel != 1 or layout.bits_allocated not in _BITS or layout.signed:
        raise InvalidSegmentationError("The pixels of the object are not those of a segmentation.")
    return layout


def _encoded_frames(dataset: Dataset, layout: PixelLayout) -> list[bytes]:
    try:
        frames = list(generate_frames(dataset.PixelData, number_of_frames=layout.number_of_frames))
    except (ValueError, TypeError) as error:
        raise InvalidSegmentationError("The encapsulated pixel data of the segmentation is damaged.") from error
    if len(frames) != layout.number_of_frames:
        raise InvalidSegmentationError("The pixel data of the segmentation has the wrong length.")
    return frames


def _native_bytes(dataset: Dataset, layout: PixelLayout) -> NDArray[np.uint8]:
    """The bytes of all frames; words of a big endian object are turned (PS3.5 8.1.1)."""
    stored = np.frombuffer(dataset.PixelData, np.uint8)
    bits = layout.number_of_frames * layout.rows * layout.columns * layout.bits_allocated
    expected = (bits + 7) // 8
    if len(stored) != expected + expected % 2:
        raise InvalidSegmentationError("The pixel data of the segmentation has the wrong length.")
    in_words = dataset["PixelData"].VR == "OW" or layout.bits_allocated == 16
    if in_words and not layout.transfer_syntax.is_little_endian:
        return stored.reshape(-1, 2)[:, ::-1].reshape(-1)
    return stored


def _native_frame(stored: NDArray[np.uint8], layout: PixelLayout, index: int) -> Frame:
    """One frame; of one bit a pixel it may start in the middle of a byte, the first pixel in the lowest bit."""
    shape = (layout.rows, layout.columns)
    size = layout.rows * layout.columns
    first = index * size
    if layout.bits_allocated == 1:
        part = stored[first // 8 : (first + size + 7) // 8]
        bits = np.unpackbits(part, bitorder="little")[first % 8 : first % 8 + size]
        return bits.view(np.bool_).reshape(shape)
    cells = stored[: stored.size - stored.size % (layout.bits_allocated // 8)].view(f"<u{layout.bits_allocated // 8}")
    return cells[first : first + size].reshape(shape)
