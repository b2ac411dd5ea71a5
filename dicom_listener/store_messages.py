"""C-STORE from P-DATA-TF PDUs straight to intake: the own data path (PS3.8 section 9.3.5 and annex E, PS3.7 annex E).

Payloads of fragments are views into the buffer of the connection. They are gathered while whole PDUs lie in it, and
written before it is read into again. Messages other than C-STORE are given to the one who knows them.
"""

import struct
import time
from collections.abc import Callable, Mapping

from dicom_listener.command_set import (
    C_STORE_RQ,
    LARGEST_COMMAND_BYTES,
    CommandError,
    CommandSet,
    read_command_set,
    store_response,
    uid_text,
)
from dicom_listener.connection import PDU_HEADER_BYTES
from dicom_listener.handlers import IncomingInstance, StoreRequest

BeginInstance = Callable[[StoreRequest], IncomingInstance]
OtherMessage = Callable[[int, bytes], None]
"""Takes presentation context id and fragment (message control header first) of a message that is no C-STORE-RQ."""
Contexts = Mapping[int, tuple[str, str]]
"""Abstract and transfer syntax UIDs of the accepted presentation contexts."""
_PDV_HEADER = struct.Struct(">LBB")
_LENGTH_BYTES = 4
_COMMAND, _LAST = 1, 2
_NONE_YET = CommandSet(0, 0, b"", b"", b"")
_RESPONSE_HEADER = struct.Struct(">BBLLBB")
_P_DATA_TF = 4
_MOST_PIECES, _ENOUGH_BYTES = 512, 128 * 1024
"""Gathered before they are written: few system calls, and while the bytes are still in the caches of the processor."""
_FREE_FRAGMENTS, _LEAST_FRAGMENT_BYTES = 4096, 256
"""An object may have this many fragments of any size, and more when they are this long on average."""


class InvalidMessageError(ValueError):
    """What came is no message, or not now: the association is to be aborted (PS3.8 table 9-10, Evt19)."""


class StoreMessages:
    """The messages of one association, one after the other.

    Args:
        contexts: What was negotiated.
        begin: Begins an object at intake.
        send: Sends an encoded PDU.
        other: Takes the fragments of messages that are no C-STORE-RQ.
        object_seconds: How long one object may take from its command to its last byte.
    """

    def __init__(
        self,
        contexts: Contexts,
        *,
        begin: BeginInstance,
        send: Callable[[bytes], None],
        other: OtherMessage,
        object_seconds: float,
    ) -> None:
        self._contexts = contexts
        self._begin = begin
        self._send = send
        self._other = other
        self._object_seconds = object_seconds
        self._command_bytes = bytearray()
        self._command = _NONE_YET
        self._context_id = 0
        self._incoming: IncomingInstance | None = None
        self._pieces: list[memoryview] = []
        self._gathered = 0
        self._fragments = 0
        self._size = 0
        self.deadline = float("inf")
        """Moment (``time.monotonic``) until which the message that is on its way must be complete."""

    def take(self, pdu: memoryview) -> None:
        """Take one P-DATA-TF PDU, its header included; ``flush`` before the memory behind it changes.

        Raises:
            InvalidMessageError: See there.
        """
        position, end = PDU_HEADER_BYTES, len(pdu)
        while position < end:
            if end - position < _PDV_HEADER.size:
                raise InvalidMessageError("a PDV is cut off")
            length, context_id, control = _PDV_HEADER.unpack_from(pdu, position)
            following = position + _LENGTH_BYTES + length
            if length < _PDV_HEADER.size - _LENGTH_BYTES or following > end:
                raise InvalidMessageError("a PDV is longer than its PDU")
            self._fragment(context_id, control, pdu[position + _PDV_HEADER.size : following])
            position = following

    def flush(self) -> None:
        """Write what was gathered: the memory that it lies in is about to be used again."""
        pieces, self._pieces, self._gathered = self._pieces, [], 0
        if pieces and self._incoming is not None:
            self._incoming.write(*pieces)

    def abandon(self) -> None:
        """Leave nothing behind of an object that will not be received to the end."""
        incoming, self._incoming = self._incoming, None
        self._pieces, self._gathered = [], 0
        if incoming is not None:
            incoming.abandon()

    def _fragment(self, context_id: int, control: int, payload: memoryview) -> None:
        if self._command is _NONE_YET:
            self._command_fragment(context_id, control, payload)
        elif context_id != self._context_id or control & _COMMAND:
            raise InvalidMessageError("a message within a message")
        elif self._incoming is None:
            self._pass_on(control, payload)
        else:
            self._data_fragment(self._incoming, control, payload)

    def _command_fragment(self, context_id: int, control: int, payload: memoryview) -> None:
        if not control & _COMMAND or (self._command_bytes and context_id != self._context_id):
            raise InvalidMessageError("a data set without command set")
        if not self._command_bytes:
            self.deadline = time.monotonic() + self._object_seconds
        self._context_id = context_id
        self._count(0)
        self._command_bytes += payload
        if len(self._command_bytes) > LARGEST_COMMAND_BYTES:
            raise InvalidMessageError("the command set is too long")
        if not control & _LAST:
            return
        try:
            self._command = read_command_set(self._command_bytes)
        except CommandError as error:
            raise InvalidMessageError(str(error)) from None
        if self._command.command_field == C_STORE_RQ:
            self._begin_object(self._command)
        else:
            self._pass_on(control, self._command_bytes)

    def _begin_object(self, command: CommandSet) -> None:
        syntaxes = self._contexts.get(self._context_id)
        if syntaxes is None:
            raise InvalidMessageError("the presentation context was not accepted")
        request = StoreRequest(uid_text(command.sop_class_uid), uid_text(command.sop_instance_uid), *syntaxes)
        self._incoming = self._begin(request)
        if not command.has_data_set:
            self._finish(self._incoming)

    def _data_fragment(self, incoming: IncomingInstance, control: int, payload: memoryview) -> None:
        self._count(len(payload))
        self._pieces.append(payload)
        self._gathered += len(payload)
        if control & _LAST:
            self._finish(incoming)
        elif len(self._pieces) >= _MOST_PIECES or self._gathered >= _ENOUGH_BYTES:
            self.flush()

    def _count(self, size: int) -> None:
        self._fragments += 1
        self._size += size
        if self._fragments > _FREE_FRAGMENTS + self._size // _LEAST_FRAGMENT_BYTES:
            raise InvalidMessageError("the message is cut into too many fragments")

    def _finish(self, incoming: IncomingInstance) -> None:
        self.flush()
        response = store_response(self._command, incoming.finish())
        context_id = self._context_id
        self._next_message()
        length = len(response) + 2
        header = _RESPONSE_HEADER.pack(_P_DATA_TF, 0, length + _LENGTH_BYTES, length, context_id, _COMMAND | _LAST)
        self._send(header + response)

    def _pass_on(self, control: int, payload: memoryview | bytearray) -> None:
        """Give a fragment of another message away, the command set in one piece."""
        self._count(len(payload))
        ends = bool(control & _LAST) and not (control & _COMMAND and self._command.has_data_set)
        context_id = self._context_id
        if ends:
            self._next_message()
        self._other(context_id, bytes([control]) + bytes(payload))

    def _next_message(self) -> None:
        self._incoming, self._command = None, _NONE_YET
        self._command_bytes = bytearray()
        self._fragments = self._size = 0
        self.deadline = float("inf")
