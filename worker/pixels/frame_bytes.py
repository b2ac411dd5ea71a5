"""The stored bytes of single frames in a file, native or encapsulated (PS3.5 annex A), without decoding them."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from dicom_core.errors import DamagedSourceError
from worker.pixels.layout import PixelLayout

_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_UNDEFINED_LENGTH = 0xFFFFFFFF

StoredFrame = bytes | NDArray[np.uint8]
"""One encoded stream, or the native bytes of one frame mapped from the file."""


def stored_frames(dataset: Dataset, path: Path, layout: PixelLayout) -> Iterator[tuple[str, StoredFrame]]:
    """Yield the keyword of the element that holds the pixels and the bytes of each frame, in the object's order.

    Nothing is read before it is asked for; native pixels are mapped from the file, not copied. Frames of one bit that
    do not begin at a whole byte (PS3.5 8.1.1) come unpacked, one byte a pixel.

    Args:
        dataset: The instance's header.
        path: Its file.
        layout: Its layout.

    Raises:
        DamagedSourceError: There are no pixels, fewer than the header says, or they are not where they should be.
    """
    with path.open("rb") as file:
        keyword, element = _pixel_element(file)
        is_encapsulated = layout.transfer_syntax.is_encapsulated
        if (element.length == _UNDEFINED_LENGTH) != is_encapsulated:
            raise DamagedSourceError("the pixel data is not stored as the transfer syntax says; send it again")
        if is_encapsulated:
            file.seek(element.value_tell)
            frames: Iterator[StoredFrame] = _encapsulated_frames(file, dataset, layout.number_of_frames)
        else:
            frames = _native_frames(path, element, layout)
        for frame in frames:
            yield keyword, frame


def _pixel_element(file: BinaryIO) -> tuple[str, RawDataElement]:
    """Find the pixels without reading them."""
    dataset = dcmread(file, specific_tags=list(_PIXEL_KEYWORDS), defer_size=0)
    for keyword in _PIXEL_KEYWORDS:
        if keyword in dataset:
            return keyword, cast("RawDataElement", dataset.get_item(keyword, keep_deferred=True))
    raise DamagedSourceError("the object holds no pixel data; send it again")


def _encapsulated_frames(file: BinaryIO, dataset: Dataset, number_of_frames: int) -> Iterator[bytes]:
    tables = [dataset.get(keyword) for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")]
    found = 0
    for frame in generate_frames(
        file,
        number_of_frames=number_of_frames,
        extended_offsets=(tables[0], tables[1]) if all(tables) else None,
    ):
        found += 1
        yield frame
        if found == number_of_frames:
            return
    raise DamagedSourceError(f"only {found} of {number_of_frames} frames are in the file; send it again")


def _native_frames(path: Path, element: RawDataElement, layout: PixelLayout) -> Iterator[NDArray[np.uint8]]:
    available = min(element.length, path.stat().st_size - element.value_tell)
    pixels = layout.rows * layout.columns
    bits = pixels * layout.samples_per_pixel * layout.bits_allocated
    if layout.photometric_interpretation == "YBR_FULL_422" and available * 8 < bits * layout.number_of_frames:
        bits = bits * 2 // 3  # two pixels share their colour: Y Y B R (PS3.3 C.7.6.3.1.2)
    needed = (bits * layout.number_of_frames + 7) // 8
    # Bytes in words of 16 bits arrive swapped (PS3.5 A.3, 8.1.1).
    in_words = element.VR == "OW" and layout.bits_allocated <= 8 and not layout.transfer_syntax.is_little_endian
    if in_words:
        needed += needed % 2
    if available < needed:
        raise DamagedSourceError(f"the pixel data holds {max(available, 0)} of {needed} bytes; send it again")
    stored: NDArray[np.uint8] = np.memmap(path, np.uint8, "r", offset=element.value_tell, shape=(needed,))
    if in_words:
        stored = stored.reshape(-1, 2)[:, ::-1].reshape(-1)
    for number in range(layout.number_of_frames):
        first_bit = number * bits
        frame = stored[first_bit // 8 : (first_bit + bits + 7) // 8]
        yield _unpacked(frame, first_bit % 8, bits) if layout.bits_allocated == 1 else frame


def _unpacked(stored: NDArray[np.uint8], skip: int, bits: int) -> NDArray[np.uint8]:
    """One byte for each bit, the first pixel in the lowest bit."""
    return np.unpackbits(stored, bitorder="little")[skip : skip + bits]
