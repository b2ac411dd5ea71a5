"""Encoded frames to arrays of stored values: one small function a family of transfer syntaxes.

imagecodecs releases the interpreter lock, so that frames decode in parallel threads; openjpeg (HTJ2K) holds it.
"""

from collections.abc import Callable
from functools import partial

import imagecodecs
import numpy as np
import openjpeg
from pydicom import uid

from dicom_core.errors import DamagedSourceError, UnsupportedSourceError
from worker.pixels.codestream import Codestream, jpeg2000_codestream, jpeg_codestream
from worker.pixels.layout import PixelLayout, StoredValues

Decoded = tuple[StoredValues, bool]
"""``(rows, columns)`` or ``(rows, columns, 3)`` stored values, and whether they are YBR and not yet RGB."""


def encoded_frame(frame: bytes, layout: PixelLayout) -> Decoded:
    """Decode one frame.

    Args:
        frame: The encoded stream.
        layout: Of the instance.

    Returns:
        The stored values and whether their colour is still YBR: no codec converts it a second time.

    Raises:
        DamagedSourceError: The stream contradicts the header.
        UnsupportedSourceError: No decoder for the transfer syntax.
    """
    decoder = _DECODERS.get(layout.transfer_syntax)
    if decoder is None:
        raise UnsupportedSourceError(f"the transfer syntax {layout.transfer_syntax.name} is not taken")
    values, is_ybr = decoder(frame, layout)
    expected = (layout.rows, layout.columns) if layout.samples_per_pixel == 1 else (layout.rows, layout.columns, 3)
    if values.shape != expected:
        raise DamagedSourceError("the decoded frame has another size than the header says")
    if values.dtype.itemsize * 8 > max(8, layout.bits_allocated):
        raise DamagedSourceError("the encoded samples are deeper than BitsAllocated says")
    return values, is_ybr


def _check_size(stream: Codestream, layout: PixelLayout) -> None:
    if (stream.rows, stream.columns) != (layout.rows, layout.columns):
        raise DamagedSourceError(
            f"the encoded stream has {stream.rows} x {stream.columns} pixels, the header says "
            f"{layout.rows} x {layout.columns}"
        )
    if stream.samples != layout.samples_per_pixel:
        raise DamagedSourceError(f"the encoded stream has {stream.samples} samples, not {layout.samples_per_pixel}")


def _with_sign(values: StoredValues, layout: PixelLayout) -> StoredValues:
    """Codecs return unsigned numbers where the header means two's complement of BitsStored."""
    if not layout.signed or values.dtype.kind == "i":
        return values
    container = np.dtype(f"u{max(layout.bits_allocated, 8) // 8}")
    unused = 8 * container.itemsize - layout.bits_stored
    signed = values.astype(container) << unused
    return signed.view(f"i{container.itemsize}") >> unused


def _jpeg(frame: bytes, layout: PixelLayout) -> Decoded:
    stream = jpeg_codestream(frame)
    _check_size(stream, layout)
    if stream.samples == 1:
        return _with_sign(imagecodecs.jpeg8_decode(frame), layout), False
    is_ybr = layout.is_ybr if stream.is_ybr is None else stream.is_ybr
    space = "YCBCR" if is_ybr else "RGB"
    return imagecodecs.jpeg8_decode(frame, colorspace=space, outcolorspace=space), is_ybr


def _jpeg_ls(frame: bytes, layout: PixelLayout) -> Decoded:
    _check_size(jpeg_codestream(frame), layout)
    return _with_sign(imagecodecs.jpegls_decode(frame), layout), layout.is_ybr


def _jpeg_2000(frame: bytes, layout: PixelLayout) -> Decoded:
    return _wavelet(frame, layout, partial(imagecodecs.jpeg2k_decode, numthreads=1))


def _high_throughput_jpeg_2000(frame: bytes, layout: PixelLayout) -> Decoded:
    # Not imagecodecs.htj2k_decode, which is twice as fast but returns damaged streams as pictures without an error.
    return _wavelet(frame, layout, openjpeg.decode)


def _wavelet(frame: bytes, layout: PixelLayout, decoder: Callable[[bytes], StoredValues]) -> Decoded:
    stream = jpeg2000_codestream(frame)
    _check_size(stream, layout)
    values = decoder(frame[stream.start :])
    return _with_sign(values, layout), layout.is_ybr if stream.is_ybr is None else stream.is_ybr


def _rle(frame: bytes, layout: PixelLayout) -> Decoded:
    """PS3.5 annex G: a plane for each byte of each sample. The fixed output is what stops an expanding bomb."""
    cell = layout.bits_allocated // 8
    planes = layout.samples_per_pixel * cell
    size = planes * layout.rows * layout.columns
    if int.from_bytes(frame[:4], "little") != planes:
        raise DamagedSourceError("the RLE stream has another number of segments than the header says")
    # Two bytes become at most 128, so a short stream cannot fill a large frame and nothing is allocated for it.
    if size > 64 * len(frame):
        raise DamagedSourceError("the RLE stream is too short for the size that the header says")
    decoded = imagecodecs.dicomrle_decode(frame, np.dtype(f"<u{cell}"), out=bytearray(size))
    if len(decoded) != size:
        raise DamagedSourceError("the RLE stream is too short for the size that the header says")
    cells = layout.value_of_cells(np.frombuffer(decoded, f"u{cell}"))
    values = cells.reshape(layout.samples_per_pixel, layout.rows, layout.columns)
    return values[0] if layout.samples_per_pixel == 1 else np.moveaxis(values, 0, -1), layout.is_ybr


_DECODERS: dict[str, Callable[[bytes, PixelLayout], Decoded]] = {
    **dict.fromkeys(uid.JPEGTransferSyntaxes, _jpeg),
    **dict.fromkeys(uid.JPEGLSTransferSyntaxes, _jpeg_ls),
    uid.JPEG2000Lossless: _jpeg_2000,
    uid.JPEG2000: _jpeg_2000,
    uid.HTJ2KLossless: _high_throughput_jpeg_2000,
    uid.HTJ2KLosslessRPCL: _high_throughput_jpeg_2000,
    uid.HTJ2K: _high_throughput_jpeg_2000,
    uid.RLELossless: _rle,
}
