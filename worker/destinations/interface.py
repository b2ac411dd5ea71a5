"""The one Protocol behind which every destination stands, and how answers are told apart.

A destination either stores an object, or it may do so later (``TransientDeliveryError``), or it will not
(``PermanentDeliveryError``). Who calls decides how often and how long; a destination never waits for better times.
"""

from io import BufferedReader
from pathlib import Path
from typing import Protocol

from dicom_core.errors import PermanentDeliveryError, TransientDeliveryError

DUPLICATE_SOP_INSTANCE = 0x0111
"""PS3.7 C.5.6."""
_WORDS = {
    0x0000: "stored",
    0x0001: "stored with a warning: optional attributes are not supported",
    0x0107: "stored with a warning: attribute list",
    0x0110: "processing failure",
    DUPLICATE_SOP_INSTANCE: "already there: UIDs are derived from the content, so it is the same object",
    0x0112: "no such object instance",
    0x0116: "stored with a warning: attribute value out of range",
    0x0117: "invalid SOP instance",
    0x0122: "SOP class not supported",
    0x0124: "not authorised",
    0x0210: "duplicate invocation",
    0x0211: "unrecognised operation",
    0x0212: "mistyped argument",
    0x0213: "resource limitation",
    0xB000: "stored with a warning: data elements were coerced",
    0xB006: "stored with a warning: elements were discarded",
    0xB007: "stored with a warning: the data set does not match the SOP class",
    0xFE00: "cancelled",
}
_CLASS_WORDS = {0xA7: "out of resources", 0xA9: "the data set does not match the SOP class"}
_WARNINGS = frozenset({0x0001, 0x0107, 0x0116})
_TRANSIENT = frozenset({0x0110, 0x0213, 0xFE00})


class Destination(Protocol):
    """A place that takes result objects, made once and used for many of them, from several threads at a time."""

    name: str
    """The word that rules use."""

    def describe(self) -> str:
        """What and where it is, for logs and lists, without secrets."""
        ...

    def send(self, file: Path, *, sop_instance_uid: str, study_instance_uid: str, series_instance_uid: str) -> str:
        """Store one object.

        Args:
            file: A DICOM file (PS3.10) that does not change any more.
            sop_instance_uid: Of the object in ``file``.
            study_instance_uid: Of the object in ``file``.
            series_instance_uid: Of the object in ``file``.

        Returns:
            What the destination answered, in words. The object is stored there now.

        Raises:
            TransientDeliveryError: It may take the object later.
            PermanentDeliveryError: It will not take this object; ``status`` is what it answered, if it did.
        """
        ...

    def check(self) -> str:
        """Find out cheaply whether the destination is alive, without storing anything.

        Returns:
            What was done and answered, in words.

        Raises:
            TransientDeliveryError: It does not answer or is busy.
            PermanentDeliveryError: It answers, but not to us or not to that.
        """
        ...

    def close(self) -> None:
        """Let go of connections. Sending again opens new ones."""
        ...


def dimse_status_in_words(status: int) -> str:
    """The status with its meaning in PS3.7 annex C and PS3.4 table B.2-1, for example ``"0x0000 stored"``."""
    words = _WORDS.get(status) or _CLASS_WORDS.get(status >> 8)
    if words is None:
        words = {0xB: "stored with a warning", 0xC: "the data set cannot be understood"}.get(status >> 12, "refused")
    return f"0x{status:04X} {words}"


def judge_dimse_status(status: int, destination: str) -> str:
    """Tell the three outcomes of a storage request apart by its DIMSE status.

    The same codes stand in the Failure Reason and Warning Reason of STOW-RS (PS3.18 annex I.2).

    Args:
        status: Of the C-STORE response.
        destination: Begins the sentence of the error.

    Returns:
        The status in words, for success, warnings and for an object that is there already.

    Raises:
        TransientDeliveryError: Out of resources (0xA7xx), processing failure (0x0110), resource limitation (0x0213).
        PermanentDeliveryError: Every other failure.
    """
    words = dimse_status_in_words(status)
    if status in (0x0000, DUPLICATE_SOP_INSTANCE) or status in _WARNINGS or status >> 12 == 0xB:
        return words
    if status in _TRANSIENT or status >> 8 == 0xA7:
        raise TransientDeliveryError(f"{destination} did not take the object now: {words}", status=status)
    raise PermanentDeliveryError(f"{destination} refused the object: {words}", status=status)


def open_object(file: Path) -> BufferedReader:
    """Open the file of an object for reading.

    Raises:
        PermanentDeliveryError: There is no such file.
        TransientDeliveryError: It cannot be read now.
    """
    try:
        return file.open("rb")
    except FileNotFoundError as error:
        raise PermanentDeliveryError(f"the file {file.name} of the result is missing; segment the series again") from (
            error
        )
    except OSError as error:
        raise TransientDeliveryError(f"the file {file.name} of the result cannot be read: {error.strerror}") from error
