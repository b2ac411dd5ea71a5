"""Stored colour to RGB of eight bits (PS3.3 C.7.6.3.1.2, C.7.6.3.1.5)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, convert_color_space

from worker.pixels.layout import PixelLayout, StoredValues


def rgb_of_samples(values: StoredValues, layout: PixelLayout, *, is_ybr: bool) -> NDArray[np.uint8]:
    """Scale three unsigned samples to eight bits and convert them to RGB if they are not.

    Args:
        values: ``(rows, columns, 3)`` unsigned, ``bits_stored`` deep.
        layout: Of the instance.
        is_ybr: Whether the samples are YBR_FULL.

    Returns:
        ``(rows, columns, 3)`` uint8.
    """
    if layout.bits_stored > 8:
        samples = (values.astype(np.float32) * (255 / layout.stored_range[1])).round().astype(np.uint8)
    else:
        samples = values.astype(np.uint8)
    return convert_color_space(samples, "YBR_FULL", "RGB") if is_ybr else samples


@dataclass(frozen=True, slots=True)
class Palette:
    """A palette ready to be applied in any thread.

    Attributes:
        first: The stored value of the first entry.
        table: ``(entries, 3)`` uint8 RGB.
    """

    first: int
    table: NDArray[np.uint8]

    def rgb(self, values: StoredValues) -> NDArray[np.uint8]:
        """Look up ``(rows, columns)`` stored values; those outside take the first or last entry (C.7.6.3.1.5)."""
        colours: NDArray[np.uint8] = self.table[(values.astype(np.int64) - self.first).clip(0, len(self.table) - 1)]
        return colours


def palette_of(dataset: Dataset) -> Palette:
    """Expand the palette tables of a PALETTE COLOR image, segmented ones too."""
    entries, first, _ = (int(number) for number in dataset.RedPaletteColorLookupTableDescriptor)
    table = apply_color_lut(np.arange(first, first + (entries or 1 << 16)), dataset)[:, :3]
    eight_bits = table if table.dtype == np.uint8 else (table >> 8).astype(np.uint8)
    return Palette(first, eight_bits)
