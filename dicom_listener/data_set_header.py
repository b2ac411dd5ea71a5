"""The few elements of a data set that intake needs, read from its first bytes without decoding anything else.

A walk over lengths, not a parser: no value but the wanted ones is copied, nesting costs no recursion, nothing beyond
the bytes at hand is asked for. Damaged data ends in ``HeaderError``.
"""

import struct
from dataclasses import dataclass, field
from typing import Literal

from pydicom.charset import python_encoding
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

SOP_CLASS_UID, SOP_INSTANCE_UID, MODALITY = 0x00080016, 0x00080018, 0x00080060
STUDY_INSTANCE_UID, SERIES_INSTANCE_UID = 0x0020000D, 0x0020000E
SPECIFIC_CHARACTER_SET, PATIENT_ID, ISSUER_OF_PATIENT_ID = 0x00080005, 0x00100020, 0x00100021
_WANTED = frozenset({SOP_CLASS_UID, SOP_INSTANCE_UID, MODALITY, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID})
_PATIENT = frozenset({SPECIFIC_CHARACTER_SET, PATIENT_ID, ISSUER_OF_PATIENT_ID})
_LAST = max(_WANTED)
_LONGEST_VALUE = 256
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LITTLE, _BIG = struct.Struct("<HH2sH"), struct.Struct(">HH2sH")
"""Tag, VR, length of 16 bits."""
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split(b" "))
"""PS3.5 section 7.1.2: two reserved bytes and a length of 32 bits follow."""


class HeaderError(ValueError):
    """The bytes are no data set in the announced transfer syntax."""


class HeaderIncompleteError(HeaderError):
    """The bytes end before the last wanted element can be ruled out."""


@dataclass(frozen=True, slots=True)
class Header:
    """The wanted elements, "" for those that are absent or empty."""

    sop_class_uid: str
    sop_instance_uid: str
    modality: str
    study_instance_uid: str
    series_instance_uid: str
    patient_id: str = field(default="", repr=False)
    """For the pseudonym alone: it goes no further than intake."""
    issuer_of_patient_id: str = field(default="", repr=False)


def read_header(data: bytes, transfer_syntax_uid: str, *, complete: bool) -> Header:
    """Read the wanted elements.

    Args:
        data: The data set from its first byte; any prefix that reaches beyond (0020,000E).
        transfer_syntax_uid: How it is encoded; encapsulated syntaxes are Explicit VR little endian (PS3.5 annex A.4).
        complete: Whether ``data`` is all there is, so that its end is the end of the data set.

    Raises:
        HeaderIncompleteError: ``data`` is too short and not complete.
        HeaderError: The encoding is damaged.
    """
    walk = _Walk(data, transfer_syntax_uid)
    values: dict[int, str] = {}
    patient: dict[int, bytes] = {}
    try:
        while walk.position < len(data) or not complete:
            tag, length = walk.element()
            if tag > _LAST:
                break
            if tag in _WANTED:
                values[tag] = walk.text(length)
            elif tag in _PATIENT:
                patient[tag] = walk.name(length)
            walk.skip(length)
    except HeaderIncompleteError:
        if complete:
            raise HeaderError("the data set ends within an element") from None
        raise
    return Header(
        sop_class_uid=values.get(SOP_CLASS_UID, ""),
        sop_instance_uid=values.get(SOP_INSTANCE_UID, ""),
        modality=values.get(MODALITY, ""),
        study_instance_uid=values.get(STUDY_INSTANCE_UID, ""),
        series_instance_uid=values.get(SERIES_INSTANCE_UID, ""),
        patient_id=_decoded(PATIENT_ID, patient),
        issuer_of_patient_id=_decoded(ISSUER_OF_PATIENT_ID, patient),
    )


def _decoded(tag: int, patient: dict[int, bytes]) -> str:
    """The value in its character set (PS3.3 C.12.1.1.2), byte for byte where that is unknown or has code extensions."""
    value = patient.get(tag, b"")
    if value.isascii():
        return value.decode("ascii")
    character_set = patient.get(SPECIFIC_CHARACTER_SET, b"").decode("ascii", "replace")
    try:
        return value.decode(python_encoding.get(character_set, "latin-1"))
    except (UnicodeDecodeError, LookupError):  # other bytes than announced, or a set that Python has no codec for
        return value.decode("latin-1")


class _Walk:
    """A position in encoded elements."""

    def __init__(self, data: bytes, transfer_syntax_uid: str) -> None:
        self._data = data
        self._order: Literal["big", "little"] = "big" if transfer_syntax_uid == ExplicitVRBigEndian else "little"
        self._head = _BIG if self._order == "big" else _LITTLE
        self._implicit = transfer_syntax_uid == ImplicitVRLittleEndian
        self._vr = b""
        self.position = 0

    def element(self) -> tuple[int, int]:
        """Read tag and length of the element here and move to its value."""
        start = self.position
        self._move(8)
        group, number, self._vr, length = self._head.unpack_from(self._data, start)
        tag = group << 16 | number
        # items and delimiters have no VR (PS3.5 section 7.5); a VR that is none: the sender switched to implicit
        if self._implicit or group == 0xFFFE or not (self._vr.isalpha() and self._vr.isupper()):
            return tag, self._number(self._data[start + 4 : start + 8])
        if self._vr in _LONG_VRS:
            return tag, self._number(self._take(4))
        return tag, length

    def text(self, length: int) -> str:
        """The value here, without padding; the position stays."""
        if length > _LONGEST_VALUE:
            raise HeaderError("an identifier is longer than any identifier may be")
        return self._data[self.position : self.position + length].decode("ascii", "replace").strip(" \0")

    def name(self, length: int) -> bytes:
        """The value here, without padding; empty if it is longer than any name. The position stays."""
        if length > _LONGEST_VALUE:
            return b""  # a broken name of the patient is no reason to refuse the object
        return self._data[self.position : self.position + length].strip(b" \0")

    def skip(self, length: int) -> None:
        """Move behind the value here, behind its delimiter if its length is undefined."""
        if length != _UNDEFINED:
            self._move(length)
            return
        explicit_outside = not self._implicit
        self._implicit = self._implicit or self._vr == b"UN"  # PS3.5 section 6.2.2 note 4: implicit within
        self._skip_items()
        self._implicit = not explicit_outside

    def _skip_items(self) -> None:
        open_lengths = 1  # sequences and items of undefined length that are not closed yet
        while open_lengths:
            tag, length = self.element()
            if tag in (_ITEM_END, _SEQUENCE_END):
                open_lengths -= 1
            elif length == _UNDEFINED:
                open_lengths += 1
            else:
                self._move(length)

    def _take(self, count: int) -> bytes:
        start = self.position
        self._move(count)
        return self._data[start : self.position]

    def _move(self, count: int) -> None:
        if self.position + count > len(self._data):
            raise HeaderIncompleteError("it is longer than intake reads")
        self.position += count

    def _number(self, data: bytes) -> int:
        return int.from_bytes(data, self._order)
