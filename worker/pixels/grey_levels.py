"""Stored grey values to modality units, and the range that the VOI window shows (PS3.3 C.11.1, C.11.2)."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_core.errors import DamagedSourceError
from worker.pixels.layout import PixelLayout, StoredValues
from worker.source_images.functional_groups import functional_group
from worker.source_images.headers import numbers

BROKEN_MODALITY_LUT = "the Modality LUT contradicts its descriptor; the pixels are used as stored"
BROKEN_RESCALE = "rescale slope or intercept is no usable number; the pixels are used as stored"
_LARGEST_NUMBER = 1e9
"""A window or rescale beyond any unit in use: the number is damaged or hostile."""


@dataclass(frozen=True, slots=True)
class Table:
    """A lookup table: ``entries`` float32, the first one for the input ``first``."""

    first: int
    entries: NDArray[np.float32]

    def look_up(self, values: StoredValues) -> NDArray[np.float32]:
        """Inputs outside take the first or last entry (PS3.3 C.11.1.1.1)."""
        outputs: NDArray[np.float32] = self.entries[
            (values.astype(np.int64) - self.first).clip(0, len(self.entries) - 1)
        ]
        return outputs


@dataclass(frozen=True, slots=True)
class GreyScale:
    """From stored values to float32 modality units in which larger is brighter. Usable in any thread.

    Attributes:
        slope: RescaleSlope.
        intercept: RescaleIntercept.
        table: Used instead of slope and intercept where there is one.
        mirror: For MONOCHROME1: values are subtracted from it, None otherwise.
        padding: ``(low, high)`` stored values that stand for "no image" (PS3.3 C.7.5.1.1.2), both included.
        display_range: ``(low, high)`` in the units of the result, None where no window is given.
        warnings: What could not be honoured.
    """

    slope: float = 1.0
    intercept: float = 0.0
    table: Table | None = None
    mirror: float | None = None
    padding: tuple[float, float] | None = None
    display_range: tuple[float, float] | None = None
    warnings: tuple[str, ...] = ()

    def modality(self, values: StoredValues) -> NDArray[np.float32]:
        """Apply the Modality LUT or rescale alone."""
        if self.table is not None:
            return self.table.look_up(values)
        units: NDArray[np.float32] = (values * np.float32(self.slope)).astype(np.float32, copy=False)
        units += np.float32(self.intercept)
        return units

    def apply(self, values: StoredValues, out: NDArray[np.float32]) -> None:
        """Write the picture of ``values`` to ``out``; padding takes the darkest value of the picture.

        Args:
            values: ``(rows, columns)`` stored values.
            out: ``(rows, columns)`` float32.
        """
        out[...] = self.modality(values)
        if self.mirror is not None:
            np.subtract(np.float32(self.mirror), out, out=out)
        empty = ~np.isfinite(out) if values.dtype.kind == "f" else None
        if self.padding is not None:
            padded = (values >= self.padding[0]) & (values <= self.padding[1])
            empty = padded if empty is None else empty | padded
        if empty is not None and empty.any():
            out[empty] = 0.0 if empty.all() else out[~empty].min()


def grey_scale(dataset: Dataset, frame_number: int, layout: PixelLayout) -> GreyScale:
    """How the grey values of one frame are to be read.

    Args:
        dataset: The header.
        frame_number: 1-based; functional groups of the frame go before attributes of the whole object.
        layout: Of the instance.
    """
    transformation = functional_group(dataset, frame_number, "PixelValueTransformationSequence") or dataset
    voi = functional_group(dataset, frame_number, "FrameVOILUTSequence") or dataset
    scale = replace(_modality(transformation, layout), padding=_padding(dataset, layout))
    display_range = _display_range(voi)
    if layout.photometric_interpretation == "MONOCHROME1":
        mirror = _mirror(scale, layout)
        scale = replace(scale, mirror=mirror)
        if display_range:
            display_range = (mirror - display_range[1], mirror - display_range[0])
    return replace(scale, display_range=display_range)


def _modality(source: Dataset, layout: PixelLayout) -> GreyScale:
    """The Modality LUT (PS3.3 C.11.1) of the object or of one frame; a broken one is left out with a warning."""
    tables = source.get("ModalityLUTSequence")
    if tables:
        table = _table(tables[0], signed=layout.signed)
        return GreyScale(warnings=(BROKEN_MODALITY_LUT,)) if table is None else GreyScale(table=table)
    try:
        slope = (numbers(source, "RescaleSlope", 1) or (1.0,))[0]
        intercept = (numbers(source, "RescaleIntercept", 1) or (0.0,))[0]
    except (ValueError, DamagedSourceError):
        return GreyScale(warnings=(BROKEN_RESCALE,))
    if slope == 0 or not abs(slope) < _LARGEST_NUMBER or not abs(intercept) < _LARGEST_NUMBER:
        return GreyScale(warnings=(BROKEN_RESCALE,))
    return GreyScale(slope=slope, intercept=intercept)


def _table(item: Dataset, *, signed: bool) -> Table | None:
    """A LUT of PS3.3 C.11.1.1.1, None where its data is not what its descriptor says."""
    entries, first, bits = (int(number) for number in item.LUTDescriptor)
    entries = entries or 1 << 16
    if signed and first >= 1 << 15:
        first -= 1 << 16  # read as US where the VR is ambiguous
    data = item.LUTData
    if isinstance(data, bytes):
        # Entries of eight bits may be packed, two in a word.
        values = np.frombuffer(data, "u1" if bits <= 8 and len(data) in (entries, entries + 1) else "<u2")
        values = values[:entries]
    else:
        values = np.atleast_1d(np.asarray(data))
    if len(values) != entries or int(values.max()) >= 1 << bits:
        return None
    return Table(first, values.astype(np.float32))


def _mirror(scale: GreyScale, layout: PixelLayout) -> float:
    """What MONOCHROME1 values are subtracted from, so that they stay in their own range; deep ones are just negated."""
    if layout.bits_stored > 16:
        return 0.0
    return float(scale.modality(np.array(layout.stored_range)).sum())


def _padding(dataset: Dataset, layout: PixelLayout) -> tuple[float, float] | None:
    """The range of stored values that mean "nothing here", None where there is none."""
    ends = [dataset.get(keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    values = [int(end) for end in ends if isinstance(end, int)]
    if not values or ends[0] is None:
        return None
    if layout.signed:  # written as US by many, whatever PixelRepresentation says
        values = [value - (1 << layout.bits_allocated) if value > layout.stored_range[1] else value for value in values]
    return min(values), max(values)


def _display_range(source: Dataset) -> tuple[float, float] | None:
    """The first window, else the VOI LUT, as the range that it spreads over the display; None where neither is sane."""
    try:
        centre, width = (_first_number(source, keyword) for keyword in ("WindowCenter", "WindowWidth"))
        if centre is None or width is None:
            tables = source.get("VOILUTSequence")
            table = _table(tables[0], signed=False) if tables else None
            return None if table is None else _range_of_table(table)
        low, high = _range_of_window(centre, width, str(source.get("VOILUTFunction") or "LINEAR"))
    except (ValueError, TypeError):
        return None
    sane = -_LARGEST_NUMBER < low < high < _LARGEST_NUMBER
    return (low, high) if sane else None


def _first_number(source: Dataset, keyword: str) -> float | None:
    value = source.get(keyword)
    if value is None or value == "":
        return None
    values = [value] if isinstance(value, int | float) else list(value)
    return float(values[0]) if values else None


def _range_of_window(centre: float, width: float, function: str) -> tuple[float, float]:
    """PS3.3 C.11.2.1.2.1 (LINEAR), C.11.2.1.3.2 (LINEAR_EXACT), C.11.2.1.3.1 (SIGMOID, from 2 % to 98 % of it)."""
    if function == "LINEAR":
        return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    half = width if function == "SIGMOID" else width / 2
    return centre - half, centre + half


def _range_of_table(table: Table) -> tuple[float, float] | None:
    """The inputs between which the output changes."""
    changes = np.flatnonzero(np.diff(table.entries))
    if not len(changes):
        return None
    return float(table.first + changes[0]), float(table.first + changes[-1] + 1)
