"""The three outcomes of a storage request, told apart by its DIMSE status."""

from pathlib import Path

import pytest

from dicom_core.errors import DeliveryError, PermanentDeliveryError, TransientDeliveryError
from worker.destinations.interface import dimse_status_in_words, judge_dimse_status, open_object

STORED = {0x0000, 0x0001, 0x0107, 0x0111, 0x0116} | set(range(0xB000, 0xC000))
TRANSIENT = {0x0110, 0x0213, 0xFE00} | set(range(0xA700, 0xA800))


def outcome(status: int) -> str | tuple[type[Exception], bool, int | None]:
    try:
        judge_dimse_status(status, "the PACS")
    except DeliveryError as error:
        return type(error), error.retryable, error.status
    return "stored"


def test_every_status_has_the_class_of_the_table() -> None:
    """All 65536 statuses; whatever the table does not name is permanent."""
    for status in range(0x10000):
        if status in STORED:
            assert outcome(status) == "stored", f"0x{status:04X}"
        elif status in TRANSIENT:
            assert outcome(status) == (TransientDeliveryError, True, status), f"0x{status:04X}"
        else:
            assert outcome(status) == (PermanentDeliveryError, False, status), f"0x{status:04X}"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0x0000, "0x0000 stored"),
        (0xB123, "0xB123 stored with a warning"),
        (0xB000, "0xB000 stored with a warning: data elements were coerced"),
        (0xA7AB, "0xA7AB out of resources"),
        (0xA900, "0xA900 the data set does not match the SOP class"),
        (0xC123, "0xC123 the data set cannot be understood"),
        (0x0122, "0x0122 SOP class not supported"),
        (0x1234, "0x1234 refused"),
    ],
)
def test_statuses_are_told_in_words(status: int, words: str) -> None:
    """The code comes first, its meaning in the Standard behind it."""
    assert dimse_status_in_words(status) == words


def test_a_duplicate_counts_as_stored_and_says_so() -> None:
    """0x0111: our UIDs are derived from the content, so what is there is what was sent."""
    assert "same object" in judge_dimse_status(0x0111, "the PACS")


def test_the_error_names_the_destination() -> None:
    """Whoever reads the record must see who refused."""
    with pytest.raises(PermanentDeliveryError, match="the PACS refused the object: 0x0124 not authorised"):
        judge_dimse_status(0x0124, "the PACS")


def test_a_missing_file_is_permanent_and_another_fault_is_not(tmp_path: Path) -> None:
    """A file that is gone stays gone; a disk that cannot be read may be mended."""
    with pytest.raises(PermanentDeliveryError, match="is missing"):
        open_object(tmp_path / "gone.dcm")
    with pytest.raises(TransientDeliveryError, match="cannot be read"):
        open_object(tmp_path)
