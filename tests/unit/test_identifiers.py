"""UIDs, AE titles, derived identifiers."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from dicom_core.identifiers import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    derived_uid,
    is_ae_title,
    is_uid,
)


@pytest.mark.parametrize("value", ["1.2", "0.0", "1.2.840.10008.1.2", "2.25.1", "1." + "9" * 62])
def test_uids_of_the_standard_are_uids(value):
    """PS3.5 section 9.1."""
    assert is_uid(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "1",
        "1.",
        ".1",
        "1..2",
        "1.02",
        "01.2",
        "1.2 ",
        " 1.2",
        "1.2\n",
        "1.2\x00",
        "1.-2",
        "1.2a",
        "1.٢",
        "../../etc/passwd",
        "/etc/cron.d/x",
        "1.2.3\n[INFO] fake",
        "1." + "9" * 63,
    ],
)
def test_anything_else_is_no_uid(value):
    """Leading zeros, other digits, padding, paths, line ends, 65 characters."""
    assert not is_uid(value)


@pytest.mark.parametrize("value", ["A", "STORE_SCP", "16 CHARACTERS OK", " X ", "a-b.c/d[1]"])
def test_ae_titles_of_the_standard_are_ae_titles(value):
    """PS3.5 section 6.2."""
    assert is_ae_title(value)


@pytest.mark.parametrize("value", ["", " ", " " * 16, "17 CHARACTERS NO!", "A\\B", "A\n", "\x1b[0m", "Ä", "A\x7f"])
def test_anything_else_is_no_ae_title(value):
    """Empty, blank, too long, backslash, control and other characters."""
    assert not is_ae_title(value)


@given(st.lists(st.text() | st.integers(), min_size=1))
def test_a_derived_uid_is_a_valid_uuid_derived_uid(parts):
    """``2.25.`` and a version 8 UUID of the RFC variant; the same for the same parts; at most 64 characters."""
    value = derived_uid(*parts)
    assert is_uid(value)
    assert UID(value).is_valid
    number = uuid.UUID(int=int(value.removeprefix("2.25.")))
    assert (number.version, number.variant) == (8, uuid.RFC_4122)
    assert derived_uid(*parts) == value


def test_derived_uids_do_not_change_between_releases():
    """A retry after an upgrade must give the same UID: this value is written down."""
    assert derived_uid("site", "1.2.3", 1, "sop") == "2.25.315809526984624368710469800052943298799"


@given(st.tuples(st.text("ab1"), st.text("ab1")), st.tuples(st.text("ab1"), st.text("ab1")))
def test_other_parts_are_another_uid(one, other):
    """Parts do not run into each other."""
    assert (derived_uid(*one) == derived_uid(*other)) == (one == other)


def test_the_implementation_names_fit_their_fields():
    """(0002,0012) is a UID, (0002,0013) has 1 to 16 characters."""
    assert is_uid(IMPLEMENTATION_CLASS_UID)
    assert 1 <= len(IMPLEMENTATION_VERSION_NAME) <= 16
