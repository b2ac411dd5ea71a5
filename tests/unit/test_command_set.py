"""Command sets by hand: what is read of a C-STORE-RQ, and the encoded answer, against what pynetdicom makes of them."""

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage
from pynetdicom.dimse_messages import C_STORE_RSP
from pynetdicom.dsutils import decode
from store_scu import store_command

from dicom_listener.command_set import CommandError, CommandSet, read_command_set, store_response, uid_text
from dicom_listener.handlers import Answer, Status


def _command(sop_instance_uid: str = "1.2.3") -> CommandSet:
    return read_command_set(store_command(CTImageStorage, sop_instance_uid))


@pytest.mark.parametrize(
    "answer",
    [
        Answer(Status.SUCCESS),
        Answer(Status.DUPLICATE_SOP_INSTANCE, "kept aside"),
        Answer(Status.OUT_OF_RESOURCES, "x" * 63),
        Answer(Status.CANNOT_UNDERSTAND, "x" * 64),
    ],
)
@pytest.mark.parametrize("sop_instance_uid", ["1.2.3", "1.2.34"])
def test_encoded_answer_is_what_pynetdicom_decodes(answer: Answer, sop_instance_uid: str) -> None:
    """Our bytes are a C-STORE-RSP with status, comment, both UIDs, the message id and an exact group length."""
    encoded = store_response(_command(sop_instance_uid), answer)
    message = C_STORE_RSP()
    message.command_set = decode(io.BytesIO(encoded), True, True)
    assert message.command_set.CommandGroupLength == len(encoded) - 12
    assert message.command_set.CommandField == 0x8001
    assert message.command_set.CommandDataSetType == 0x0101
    response = message.message_to_primitive()
    assert response.Status == answer.status
    assert (response.ErrorComment or "") == answer.comment
    assert response.AffectedSOPInstanceUID == sop_instance_uid
    assert response.AffectedSOPClassUID == CTImageStorage
    assert response.MessageIDBeingRespondedTo == 1


def test_elements_are_in_order() -> None:
    """PS3.7 section 6.3: the elements of a command set come in ascending order."""
    encoded = store_response(_command(), Answer(Status.OUT_OF_RESOURCES, "full"))
    tags, position = [], 0
    while position < len(encoded):
        group, number, length = struct.unpack_from("<HHL", encoded, position)
        tags.append((group, number))
        assert length % 2 == 0
        position += 8 + length
    assert tags == sorted(tags)


def test_request_is_read() -> None:
    """The five values of a C-STORE-RQ that matter, raw; padding goes when a UID becomes text."""
    command = _command("1.2.3")
    assert command == CommandSet(1, 1, b"\x01\x00", CTImageStorage.encode() + b"\0", b"1.2.3\0")
    assert uid_text(command.sop_instance_uid) == "1.2.3"
    assert command.has_data_set
    assert not read_command_set(_without_data_set(store_command(CTImageStorage, "1.2.3"))).has_data_set


def _without_data_set(command: bytes) -> bytes:
    before = struct.pack("<HHLH", 0, 0x0800, 2, 1)
    assert before in command
    return command.replace(before, struct.pack("<HHLH", 0, 0x0800, 2, 0x0101))


def test_what_is_no_ascii_is_no_uid() -> None:
    """Bytes of other character sets and line breaks stay visible as what no UID has."""
    assert uid_text(b"1.2\xff\xe4") == "1.2\ufffd\ufffd"
    assert uid_text(b"1.2.3 ") == "1.2.3"
    assert uid_text(b"1.2\n[INFO]") == "1.2\n[INFO]"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0",
        struct.pack("<HHL", 0, 0x0100, 0xFFFFFFFF),
        struct.pack("<HHLH", 8, 0x0100, 2, 1),
        struct.pack("<HHLH", 0, 0x0100, 2, 1),
        struct.pack("<HHLL", 0, 0x0100, 4, 1) + struct.pack("<HHLH", 0, 0x0800, 2, 1),
        b"garbage that is no command set at all",
    ],
    ids=["empty", "cut", "length", "other group", "no data set type", "long number", "garbage"],
)
def test_damaged_command_sets(data: bytes) -> None:
    """What is no command set has its own error, whatever the lengths say."""
    with pytest.raises(CommandError):
        read_command_set(data)


@given(st.binary(max_size=200), st.integers(0, 130), st.integers(0, 255))
def test_any_bytes_are_read_or_refused(data: bytes, place: int, value: int) -> None:
    """Random bytes, and a request with one byte changed, give a command set or CommandError, nothing else."""
    changed = bytearray(store_command(CTImageStorage, "1.2.3"))
    changed[place % len(changed)] = value
    for candidate in (data, bytes(changed)):
        try:
            command = read_command_set(candidate)
        except CommandError:
            continue
        assert isinstance(uid_text(command.sop_instance_uid), str)
