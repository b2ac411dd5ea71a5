"""The File Meta Information of received files (PS3.10 section 7.1): the same for the same object, every time.

No time, no AE title and no number of ours is in it, so that a repeated object replaces equal bytes by equal bytes.
"""

import struct
from functools import lru_cache

from dicom_core.identifiers import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Encode group 0002 in Explicit VR little endian, group length first.

    Args:
        sop_class_uid: (0002,0002), a conformant UID.
        sop_instance_uid: (0002,0003), a conformant UID.
        transfer_syntax_uid: (0002,0010), of the presentation context that carried the object.
    """
    before, after = _around_the_instance(sop_class_uid, transfer_syntax_uid)
    instance = _element(0x0003, b"UI", sop_instance_uid.encode("ascii"), padding=b"\0")
    group_length = len(before) + len(instance) + len(after)
    return _element(0x0000, b"UL", struct.pack("<L", group_length)) + before + instance + after


@lru_cache(maxsize=1024)
def _around_the_instance(sop_class_uid: str, transfer_syntax_uid: str) -> tuple[bytes, bytes]:
    # OB has a 32 bit length behind two reserved bytes
    version = struct.pack("<HH2sHL", 0x0002, 0x0001, b"OB", 0, 2) + b"\0\1"
    before = version + _element(0x0002, b"UI", sop_class_uid.encode("ascii"), padding=b"\0")
    after = (
        _element(0x0010, b"UI", transfer_syntax_uid.encode("ascii"), padding=b"\0")
        + _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode("ascii"), padding=b"\0")
        + _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii"), padding=b" ")
    )
    return before, after


def _element(number: int, vr: bytes, value: bytes, *, padding: bytes = b"") -> bytes:
    if len(value) % 2:
        value += padding
    return struct.pack("<HH2sH", 0x0002, number, vr, len(value)) + value
