"""How much an A-ASSOCIATE-RQ may hold before anything is made of it."""

import pytest
from hostile_peer import associate_request, item
from hypothesis import given
from hypothesis import strategies as st

from dicom_listener.association_request import (
    MOST_CONTEXTS,
    MOST_TRANSFER_SYNTAXES,
    MOST_USER_ITEMS,
    RequestLimitError,
    check_request,
)

SYNTAX = "1.2.840.10008.1.2"


def test_the_largest_sensible_request_is_fine() -> None:
    """Every identifier used, each with all transfer syntaxes there are, and two user items for each context."""
    contexts = [(f"1.2.3.{number}", (SYNTAX,) * MOST_TRANSFER_SYNTAXES) for number in range(MOST_CONTEXTS)]
    check_request(associate_request(contexts=contexts, user_items=item(0x54, bytes(20)) * (2 * MOST_CONTEXTS)))


@pytest.mark.parametrize(
    "request_pdu",
    [
        associate_request(contexts=[("1.2.3", (SYNTAX,))] * (MOST_CONTEXTS + 1)),
        associate_request(contexts=[("1.2.3", (SYNTAX,) * (MOST_TRANSFER_SYNTAXES + 1))]),
        associate_request(user_items=item(0x54, b"") * MOST_USER_ITEMS),
        associate_request() + item(0x99, b"") * (MOST_CONTEXTS + MOST_USER_ITEMS),
        associate_request() + b"\x50\0\xff\xff",
        associate_request() + b"\x50\0",
    ],
    ids=["contexts", "transfer syntaxes", "user items", "unknown items", "too long", "cut off"],
)
def test_more_than_anybody_needs(request_pdu: bytes) -> None:
    """Each kind of item has a cap, and lengths must fit."""
    with pytest.raises(RequestLimitError):
        check_request(request_pdu)


@given(st.integers(0, 300), st.integers(0, 255), st.integers(0, 300))
def test_damaged_requests_are_refused_or_fine(place: int, value: int, length: int) -> None:
    """A byte changed and the end cut off: RequestLimitError or nothing, quickly."""
    changed = bytearray(associate_request())
    changed[place % len(changed)] = value
    try:
        check_request(bytes(changed[: length or None]))
    except RequestLimitError:
        return
