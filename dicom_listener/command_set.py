"""Command sets of C-STORE by hand: what of a request is needed, and the answer (PS3.7 section 6.3 and annex E.1).

Always Implicit VR little endian (PS3.7 section 6.3.1). Bytes of UIDs are given back as they came: nothing is converted.
"""

import struct
from dataclasses import dataclass
from typing import Final

from dicom_listener.handlers import Answer

C_STORE_RQ: Final = 0x0001
NO_DATA_SET: Final = 0x0101
"""Command Data Set Type (0000,0800) of messages without a data set."""
LARGEST_COMMAND_BYTES: Final = 64 * 1024
_AFFECTED_SOP_CLASS_UID, _AFFECTED_SOP_INSTANCE_UID = 0x0002, 0x1000
_COMMAND_FIELD, _MESSAGE_ID, _DATA_SET_TYPE = 0x0100, 0x0110, 0x0800
_HEADER = struct.Struct("<HHL")
_NUMBER = struct.Struct("<H")
_GROUP_LENGTH = _HEADER.pack(0, 0, 4)
_STORE_RESPONSE = _HEADER.pack(0, _COMMAND_FIELD, 2) + b"\x01\x80"
_NO_DATA_SET_FOLLOWS = _HEADER.pack(0, _DATA_SET_TYPE, 2) + _NUMBER.pack(NO_DATA_SET)


class CommandError(ValueError):
    """The bytes are no command set."""


@dataclass(frozen=True, slots=True)
class CommandSet:
    """What the data path needs of a command set (PS3.7 table 9.3-1), raw.

    Attributes:
        command_field: (0000,0100); 0x0001 is C-STORE-RQ.
        data_set_type: (0000,0800).
        message_id: (0000,0110), as it came.
        sop_class_uid: (0000,0002), as it came.
        sop_instance_uid: (0000,1000), as it came.
    """

    command_field: int
    data_set_type: int
    message_id: bytes
    sop_class_uid: bytes
    sop_instance_uid: bytes

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows."""
        return self.data_set_type != NO_DATA_SET


def read_command_set(data: bytes | bytearray | memoryview) -> CommandSet:
    """Read a whole command set.

    Raises:
        CommandError: Lengths do not fit, an element is not of group 0000, or the Command Field is missing.
    """
    values: dict[int, bytes] = {}
    position, end = 0, len(data)
    while position < end:
        if end - position < _HEADER.size:
            raise CommandError("it ends within an element")
        group, number, length = _HEADER.unpack_from(data, position)
        position += _HEADER.size
        if group != 0 or length > end - position:
            raise CommandError("an element is of another group or longer than the command set")
        values[number] = bytes(data[position : position + length])
        position += length
    return CommandSet(
        command_field=_number(values.get(_COMMAND_FIELD)),
        data_set_type=_number(values.get(_DATA_SET_TYPE)),
        message_id=values.get(_MESSAGE_ID, b""),
        sop_class_uid=values.get(_AFFECTED_SOP_CLASS_UID, b""),
        sop_instance_uid=values.get(_AFFECTED_SOP_INSTANCE_UID, b""),
    )


def _number(value: bytes | None) -> int:
    if value is None or len(value) != _NUMBER.size:
        raise CommandError("Command Field or Command Data Set Type is missing")
    return int(_NUMBER.unpack(value)[0])


def uid_text(value: bytes) -> str:
    """A UID of a command set without padding; what is no ASCII shows as replacement characters, which no UID has."""
    return value.decode("ascii", "replace").rstrip(" \0")


def store_response(command_set: CommandSet, answer: Answer) -> bytes:
    """Encode a C-STORE-RSP command set (PS3.7 table 9.3-2)."""
    comment = answer.comment.encode("ascii", "replace")
    elements = (
        _element(_AFFECTED_SOP_CLASS_UID, command_set.sop_class_uid)
        + _STORE_RESPONSE
        + _element(0x0120, command_set.message_id)
        + _NO_DATA_SET_FOLLOWS
        + _element(0x0900, _NUMBER.pack(answer.status))
        + (_element(0x0902, comment + b" " * (len(comment) % 2)) if comment else b"")
        + _element(_AFFECTED_SOP_INSTANCE_UID, command_set.sop_instance_uid)
    )
    return _GROUP_LENGTH + struct.pack("<L", len(elements)) + elements


def _element(number: int, value: bytes) -> bytes:
    return _HEADER.pack(0, number, len(value)) + value
