"""How much an A-ASSOCIATE-RQ may hold, looked at before any object is made of it (PS3.8 section 9.3.2)."""

import struct
from collections.abc import Iterator

MOST_CONTEXTS = 128
"""Presentation context identifiers are the odd numbers from 1 to 255 (PS3.8 section 9.3.2.2)."""
MOST_TRANSFER_SYNTAXES = 64
MOST_USER_ITEMS = 512
"""Role selections and extended negotiations for every context, twice over."""
_ITEMS_AT = 74
"""PDU header, protocol version, AE titles and reserved bytes come before (PS3.8 table 9-11)."""
_PRESENTATION_CONTEXT, _USER_INFORMATION = 0x20, 0x50
_CONTEXT_SUB_ITEMS_AT = 4
_ITEM = struct.Struct(">BBH")


class RequestLimitError(ValueError):
    """The request has more items than any sender needs, or they do not fit into it."""


def check_request(pdu: bytes | memoryview) -> None:
    """Refuse an A-ASSOCIATE-RQ that would cost more to decode than it can be worth.

    Args:
        pdu: Its header included.

    Raises:
        RequestLimitError: See there.
    """
    contexts = 0
    for kind, begin, end in _items(pdu, _ITEMS_AT, len(pdu), MOST_CONTEXTS + MOST_USER_ITEMS):
        if kind == _PRESENTATION_CONTEXT:
            contexts += 1
            # one of them is the abstract syntax
            _count(pdu, begin + _CONTEXT_SUB_ITEMS_AT, end, MOST_TRANSFER_SYNTAXES + 1)
        elif kind == _USER_INFORMATION:
            _count(pdu, begin, end, MOST_USER_ITEMS)
    if contexts > MOST_CONTEXTS:
        raise RequestLimitError("more presentation contexts than there are identifiers")


def _count(pdu: bytes | memoryview, begin: int, end: int, most: int) -> None:
    for _ in _items(pdu, begin, end, most):
        pass


def _items(pdu: bytes | memoryview, begin: int, end: int, most: int) -> Iterator[tuple[int, int, int]]:
    """Type, first byte of the value and the byte behind it, of each item."""
    position, count = begin, 0
    while position < end:
        count += 1
        if count > most or end - position < _ITEM.size:
            raise RequestLimitError("too many items, or one is cut off")
        kind, _, length = _ITEM.unpack_from(pdu, position)
        position += _ITEM.size
        if position + length > end:
            raise RequestLimitError("an item is longer than what it is in")
        yield kind, position, position + length
        position += length
