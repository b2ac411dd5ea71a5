"""The Per-Frame Functional Groups Sequence of a SEG without geometry, encoded straight to bytes.

A segmentation has one item for every segment of every frame, and making, copying and encoding each of them through
``Dataset`` takes far more time than the pixels. All items are alike, so their parts are encoded once for each source
frame and once for each segment, and joined. pydicom parses the bytes when somebody looks at the sequence.

Encoding: Explicit VR Little Endian with explicit lengths (PS3.5 sections 7.1.2 and 7.5).
"""

import struct
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.tag import Tag

from worker.image_stack import FrameIdentity
from worker.source_series import SourceKind, SourceSeries

_LONG_HEADER = frozenset({b"SQ", b"OB", b"UT"})
"""Of the value representations used here, those with a 32 bit length field."""
_ITEM = b"\xfe\xff\x00\xe0"

Place = tuple[bytes, tuple[int, ...]]
"""Encoded attributes of Frame Content and the indices of the dimensions after the segment."""


def per_frame_element(source: SourceSeries, wanted: NDArray[np.bool_], *, by_segment: bool = True) -> RawDataElement:
    """The encoded sequence, in the order of the pixels: by segment, then by frame.

    Args:
        source: Of kind ``RUN`` or ``PICTURES``.
        wanted: ``(segments, frames)`` bool: which frames of the mask are stored.
        by_segment: False for a label map, whose frames belong to no segment.
    """
    headers = {str(header.SOPInstanceUID): header for header in source.datasets}
    derivations = [_derivation_image(headers[frame.sop_instance_uid], frame) for frame in source.frames]
    places = list(_places(source))
    items: list[bytes] = []
    for segment, frames in enumerate(wanted, 1):
        identification = _segment_identification(segment) if by_segment else b""
        first_index = (segment,) if by_segment else ()
        items += (
            derivations[index] + _frame_content(first_index, places[index]) + identification
            for index in np.flatnonzero(frames).tolist()
        )
    value = b"".join(map(_item, items))
    tag = Tag("PerFrameFunctionalGroupsSequence")
    return RawDataElement(tag, "SQ", len(value), value, 0, is_implicit_VR=False, is_little_endian=True)


def _segment_identification(segment: int) -> bytes:
    number = _element("ReferencedSegmentNumber", b"US", struct.pack("<H", segment))
    return _sequence("SegmentIdentificationSequence", [number])


def _frame_content(first_index: tuple[int, ...], place: Place) -> bytes:
    """Frame Content macro (PS3.3 C.7.6.16.2.2) with the indices of the dimensions; elements in the order of tags."""
    attributes, indices = place
    indices = first_index + indices
    values = struct.pack(f"<{len(indices)}L", *indices)
    return _sequence("FrameContentSequence", [attributes + _element("DimensionIndexValues", b"UL", values)])


def position_dimensions(source: SourceSeries) -> tuple[str, ...]:
    """What orders the frames of one segment: time for a run, the place among pictures."""
    if source.kind is SourceKind.PICTURES:
        return ("StackID", "InStackPositionNumber")
    return ("TemporalPositionIndex",)


def _places(source: SourceSeries) -> Iterator[Place]:
    """Where each frame stands, for ``position_dimensions``."""
    for position, _ in enumerate(source.frames, 1):
        if source.kind is SourceKind.PICTURES:
            yield _stack_position(position), (1, position)
        else:
            yield _time(position), (position,)


def _stack_position(position: int) -> bytes:
    number = _element("InStackPositionNumber", b"UL", struct.pack("<L", position))
    return _text("StackID", b"SH", "1") + number


def _time(position: int) -> bytes:
    return _element("TemporalPositionIndex", b"UL", struct.pack("<L", position))


def _derivation_image(header: Dataset, frame: FrameIdentity) -> bytes:
    """Derivation Image macro (PS3.3 C.7.6.16.2.6): the one frame that this one covers pixel by pixel."""
    multi_frame = int(header.get("NumberOfFrames") or 1) > 1
    image = (
        _text("ReferencedSOPClassUID", b"UI", header.SOPClassUID)
        + _text("ReferencedSOPInstanceUID", b"UI", header.SOPInstanceUID)
        + (_text("ReferencedFrameNumber", b"IS", str(frame.frame_number)) if multi_frame else b"")
        + _text("SpatialLocationsPreserved", b"CS", "YES")
        + _code("PurposeOfReferenceCodeSequence", codes.DCM.SourceImageForImageProcessingOperation)
    )
    derivation = _sequence("SourceImageSequence", [image]) + _code(
        "DerivationCodeSequence", codes.DCM.SegmentationImageDerivation
    )
    return _sequence("DerivationImageSequence", [derivation])


def _code(keyword: str, code: Code) -> bytes:
    item = (
        _text("CodeValue", b"SH", code.value)
        + _text("CodingSchemeDesignator", b"SH", code.scheme_designator)
        + _text("CodeMeaning", b"LO", code.meaning)
    )
    return _sequence(keyword, [item])


def _sequence(keyword: str, items: Iterable[bytes]) -> bytes:
    return _element(keyword, b"SQ", b"".join(map(_item, items)))


def _item(content: bytes) -> bytes:
    return _ITEM + struct.pack("<L", len(content)) + content


def _text(keyword: str, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii")
    return _element(keyword, vr, value + (b"\0" if vr == b"UI" else b" ") * (len(value) % 2))


def _element(keyword: str, vr: bytes, value: bytes) -> bytes:
    tag = Tag(keyword)
    length = struct.pack("<2xL" if vr in _LONG_HEADER else "<H", len(value))
    return struct.pack("<HH", tag.group, tag.element) + vr + length + value
