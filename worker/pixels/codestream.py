"""What an encoded frame says about itself, read before a decoder allocates anything.

JPEG (ISO/IEC 10918-1 annex B) and JPEG-LS (14495-1 annex C) share their marker structure; JPEG 2000 (15444-1 annex A)
and HTJ2K (15444-15) share theirs.
"""

import struct
from dataclasses import dataclass

from dicom_core.errors import DamagedSourceError

_START_OF_FRAME = (set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {0xF7}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_APP0, _APP14, _START_OF_SCAN = 0xE0, 0xEE, 0xDA
_END_OF_IMAGE = b"\xff\xd9"
_J2K_START, _J2K_CODING_STYLE, _J2K_START_OF_TILE = b"\xff\x4f\xff\x51", 0xFF52, 0xFF90


@dataclass(frozen=True, slots=True)
class Codestream:
    """Size and colour of one encoded frame.

    Attributes:
        rows: Height.
        columns: Width.
        samples: Components.
        is_ybr: Whether the decoder returns luminance and colour differences; None where the stream does not tell.
        start: Where the stream begins in the bytes of the frame.
    """

    rows: int
    columns: int
    samples: int
    is_ybr: bool | None
    start: int = 0


def jpeg_codestream(frame: bytes) -> Codestream:
    """Read a JPEG or JPEG-LS header up to the start of frame.

    Raises:
        DamagedSourceError: The bytes are no such header, or the stream has no end.
    """
    if frame[:2] != b"\xff\xd8":
        raise DamagedSourceError("the pixel data is no JPEG stream")
    says_ybr: bool | None = None
    place = 2
    while place + 4 <= len(frame):
        if frame[place] != 0xFF:
            break
        marker = frame[place + 1]
        if marker == 0xFF or marker in _WITHOUT_LENGTH:
            place += 1 if marker == 0xFF else 2
            continue
        segment = frame[place + 4 : place + 2 + int.from_bytes(frame[place + 2 : place + 4], "big")]
        if marker in _START_OF_FRAME:
            if frame.rfind(_END_OF_IMAGE) < place:
                # libjpeg would fill the rest with grey, and CharLS takes half a minute to find out.
                raise DamagedSourceError("the JPEG stream ends early; send it again")
            return _start_of_frame(segment, says_ybr)
        if marker == _START_OF_SCAN:
            break
        says_ybr = _colour_of_application_marker(marker, segment, says_ybr)
        place += 4 + len(segment)
    raise DamagedSourceError("the JPEG stream has no start of frame")


def _colour_of_application_marker(marker: int, segment: bytes, says_ybr: bool | None) -> bool | None:
    """Adobe's marker names the transform, JFIF always means YCbCr; without them the DICOM header has the word."""
    if marker == _APP14 and segment[:5] == b"Adobe" and len(segment) >= 12:
        return segment[11] != 0
    if marker == _APP0 and segment[:5] == b"JFIF\0" and says_ybr is None:
        return True
    return says_ybr


def _start_of_frame(segment: bytes, says_ybr: bool | None) -> Codestream:
    _, rows, columns, samples = struct.unpack_from(">BHHB", segment)
    components = [segment[6 + 3 * number : 9 + 3 * number] for number in range(samples)]
    if bytes(component[0] for component in components).upper() == b"RGB":
        says_ybr = False
    elif samples == 3 and len({component[1] for component in components}) > 1:
        says_ybr = True  # only colour differences are ever stored coarser than luminance
    return Codestream(rows, columns, samples, says_ybr)


def jpeg2000_codestream(frame: bytes) -> Codestream:
    """Read a JPEG 2000 main header, also inside a JP2 file, up to the coding style.

    Raises:
        DamagedSourceError: The bytes are no such header.
    """
    start = frame.find(_J2K_START)
    if start < 0:
        raise DamagedSourceError("the pixel data is no JPEG 2000 stream")
    right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
    (samples,) = struct.unpack_from(">H", frame, start + 40)
    transformed = _has_component_transform(frame, start + 2)
    # The inverse of a multiple component transform gives RGB; nothing else in the stream tells of colour.
    return Codestream(bottom - top, right - left, samples, False if transformed else None, start)


def _has_component_transform(frame: bytes, place: int) -> bool:
    while place + 10 <= len(frame):
        marker, length = struct.unpack_from(">HH", frame, place)
        if marker == _J2K_CODING_STYLE:
            return frame[place + 8] == 1
        if marker == _J2K_START_OF_TILE or length < 2:
            break
        place += 2 + length
    raise DamagedSourceError("the JPEG 2000 stream has no coding style")
