"""How the pixels of one instance are stored: the Image Pixel module (PS3.3 C.7.6.3), checked before any decoding."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_core.errors import DamagedSourceError, UnsupportedSourceError

_GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_BITS_ALLOCATED = (1, 8, 16, 32, 64)

StoredValues = NDArray[Any]
"""One frame as stored, before any lookup table: ``(rows, columns)`` or ``(rows, columns, 3)``, integers or floats."""


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """The Image Pixel module of one instance in plain numbers, under the names of the Standard.

    Attributes:
        transfer_syntax: How the data set and its pixels are encoded.
        rows: Rows.
        columns: Columns.
        samples_per_pixel: 1 or 3.
        number_of_frames: Frames.
        bits_allocated: 1, 8, 16, 32 or 64.
        bits_stored: 1 to ``bits_allocated``.
        high_bit: Highest bit of the value in its cell.
        signed: Whether PixelRepresentation is two's complement.
        planar: Whether native samples are stored plane by plane (PlanarConfiguration 1).
        photometric_interpretation: PhotometricInterpretation.
    """

    transfer_syntax: UID
    rows: int
    columns: int
    samples_per_pixel: int
    number_of_frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    planar: bool
    photometric_interpretation: str

    @property
    def is_colour(self) -> bool:
        """Whether the decoded frame is RGB."""
        return self.samples_per_pixel == 3 or self.photometric_interpretation == "PALETTE COLOR"

    @property
    def is_ybr(self) -> bool:
        """Whether stored samples are luminance and colour differences that no codec turns into RGB."""
        return self.photometric_interpretation.startswith("YBR_FULL")

    @property
    def decoded_bytes(self) -> int:
        """Memory that all frames take when decoded: RGB, or float32, or the stored cells where these are larger."""
        cell = max(self.bits_allocated // 8 * self.samples_per_pixel, 3 if self.is_colour else 4)
        return self.rows * self.columns * self.number_of_frames * cell

    @property
    def stored_range(self) -> tuple[int, int]:
        """The least and greatest value that ``bits_stored`` can hold."""
        if self.signed:
            return -(1 << (self.bits_stored - 1)), (1 << (self.bits_stored - 1)) - 1
        return 0, (1 << self.bits_stored) - 1

    def value_of_cells(self, cells: NDArray[np.unsignedinteger]) -> NDArray[np.integer]:
        """Cut the value out of cells of ``bits_allocated``: overlay bits fall away, the sign is extended (PS3.5 8.1.1).

        Args:
            cells: Any shape, an unsigned dtype of ``bits_allocated``.

        Returns:
            The same shape, signed or unsigned as PixelRepresentation says.
        """
        kind = np.dtype(f"{'i' if self.signed else 'u'}{cells.dtype.itemsize}")
        above, below = self.bits_allocated - self.high_bit - 1, self.bits_allocated - self.bits_stored
        if not above and not below:
            return cells.view(kind)
        value: NDArray[np.integer] = (cells << above).view(kind) >> below
        return value


def pixel_layout(dataset: Dataset) -> PixelLayout:
    """Read and check the layout of one instance.

    Raises:
        UnsupportedSourceError: A kind of pixel that is not taken.
        DamagedSourceError: The numbers contradict each other.
    """
    allocated = int(dataset.get("BitsAllocated") or 0)
    stored = int(dataset.get("BitsStored", allocated) or 0)
    high_bit = int(dataset.get("HighBit", stored - 1))
    if not stored - 1 <= high_bit < allocated:
        high_bit = stored - 1  # what PS3.5 8.1.1 has demanded since 2011; older writers get it wrong
    layout = PixelLayout(
        transfer_syntax=UID(dataset.file_meta.TransferSyntaxUID),
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        samples_per_pixel=int(dataset.get("SamplesPerPixel") or 1),
        number_of_frames=int(dataset.get("NumberOfFrames") or 1),
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high_bit,
        signed=dataset.get("PixelRepresentation") == 1,
        planar=dataset.get("PlanarConfiguration") == 1,
        photometric_interpretation=str(dataset.get("PhotometricInterpretation") or "").strip(),
    )
    _check(layout)
    return layout


def _check(layout: PixelLayout) -> None:
    if layout.bits_allocated not in _BITS_ALLOCATED:
        raise UnsupportedSourceError(f"{layout.bits_allocated} bits allocated are not taken")
    if not 1 <= layout.bits_stored <= layout.bits_allocated:
        raise DamagedSourceError(
            f"BitsStored is {layout.bits_stored}, but BitsAllocated is {layout.bits_allocated}; the object is damaged"
        )
    photometric, samples = layout.photometric_interpretation, layout.samples_per_pixel
    if photometric not in _GREY + _COLOUR:
        raise UnsupportedSourceError("the PhotometricInterpretation is missing or is not taken")
    if samples != (3 if photometric in _COLOUR else 1):
        raise DamagedSourceError(f"SamplesPerPixel is {samples}, which contradicts the PhotometricInterpretation")
    if layout.is_colour and ((layout.signed and samples == 3) or layout.bits_allocated not in (8, 16, 32)):
        raise UnsupportedSourceError("signed colour and colour of this depth are not taken")
