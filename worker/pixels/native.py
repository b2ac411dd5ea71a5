"""Native (uncompressed) frames to arrays of stored values (PS3.5 section 8)."""

import numpy as np
from numpy.typing import NDArray

from worker.pixels.layout import PixelLayout, StoredValues

_FLOAT_TYPES = {"FloatPixelData": "f4", "DoubleFloatPixelData": "f8"}


def native_frame(stored: NDArray[np.uint8], layout: PixelLayout, keyword: str) -> StoredValues:
    """Interpret the bytes of one frame.

    Args:
        stored: The bytes, for one bit a pixel already unpacked.
        layout: Of the instance.
        keyword: The element they come from.

    Returns:
        ``(rows, columns)`` or ``(rows, columns, 3)``, integers as stored or floats.
    """
    shape = (layout.rows, layout.columns)
    order = "<" if layout.transfer_syntax.is_little_endian else ">"
    if keyword in _FLOAT_TYPES:
        return stored.view(order + _FLOAT_TYPES[keyword]).reshape(shape)
    if layout.bits_allocated == 1:
        return stored.reshape(shape)
    cells = stored.view(f"{order}u{layout.bits_allocated // 8}")
    cells = layout.value_of_cells(cells.astype(cells.dtype.newbyteorder("="), copy=False))
    if layout.samples_per_pixel == 1:
        return cells.reshape(shape)
    if cells.size == 2 * layout.rows * layout.columns:
        return _full_chroma(cells, layout)
    if layout.planar:
        return np.moveaxis(cells.reshape(3, *shape), 0, -1)
    return cells.reshape(*shape, 3)


def _full_chroma(cells: NDArray[np.integer], layout: PixelLayout) -> NDArray[np.integer]:
    """YBR_FULL_422 with one colour for two pixels side by side to one colour a pixel (PS3.3 C.7.6.3.1.2)."""
    pairs = cells.reshape(-1, 4)
    full = np.empty((len(pairs), 2, 3), cells.dtype)
    full[:, :, 0] = pairs[:, :2]
    full[:, :, 1:] = pairs[:, None, 2:]
    return full.reshape(layout.rows, layout.columns, 3)
