"""The Per-Frame Functional Groups Sequence of a SEG without geometry, encoded straight to bytes.

A segmentation has one item for every segment of every frame, and making, copying and encoding each of them through
``Dataset`` takes far more time than the pixels. All items are alike, so their parts are encoded once for each source
frame and once for each segment, and joined. pydicom parses the bytes when somebody looks at the sequence.

Encoding: Explicit VR Little Endian with explicit lengths (PS3.5 sections 7.1.2 and 7.5).
"""

import struct
from collections.abc import Iterable

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


def per_frame_element(source: SourceSeries, wanted: NDArray[np.bool_]) -> RawDataElement:
    """The encoded sequence, in the order of the pixels: by segment, then by frame.

    Args:
        source: Of kind ``RUN`` or ``PICTURES``.
        wanted: ``(segments, frames)`` bool: which frames of the mask are stored.
    """
    headers = {str(header.SOPInstanceUID): header for header in source.datasets}
    derivations = [_derivation_image(headers[frame.sop_instance_uid], frame) for frame in source.frames]
    items: list[bytes] = []
    for segment, frames in enumerate(wanted, 1):
        identification = _segment_identification(segment)
        items += (
            derivations[index] + _frame_content(source.kind, segment, index + 1) + identification
            for index in np.flatnonzero(frames).tolist()
        )
    value = b"".join(map(_item, items))
    tag = Tag("PerFrameFunctionalGroupsSequence")
    return RawDataElement(tag, "SQ", len(value), value, 0, is_implicit_VR=False, is_little_endian=True)


def _segment_identification(segment: int) -> bytes:
    number = _element("ReferencedSegmentNumber", b"US", struct.pack("<H", segment))
    return _sequence("SegmentIdentificationSequence", [number])


def _frame_content(kind: SourceKind, segment: int, position: int) -> bytes:
    """Frame Content macro (PS3.3 C.7.6.16.2.2) with the indices of the dimensions; elements in the order of tags."""
    if kind is SourceKind.RUN:
        place = _element("TemporalPositionIndex", b"UL", struct.pack("<L", position))
        indices = _element("DimensionIndexValues", b"UL", struct.pack("<2L", segment, position))
        return _sequence("FrameContentSequence", [place + indices])
    place = _text("StackID", b"SH", "1") + _element("InStackPositionNumber", b"UL", struct.pack("<L", position))
    indices = _element("DimensionIndexValues", b"UL", struct.pack("<3L", segment, 1, position))
    return _sequence("FrameContentSequence", [place + indices])


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
