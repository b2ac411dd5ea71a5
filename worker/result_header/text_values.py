"""Text and numbers that fit their value representation, whatever was put in (PS3.5 section 6.2).

The Standard counts characters, some readers (dciodvfy among them) count bytes; text is cut so that both are content.
"""

import math
import re
from collections.abc import Iterable

from pydicom.valuerep import format_number_as_ds

LONG_STRING = 64
SHORT_TEXT = 1024
LONG_TEXT = 10240

_NOT_IN_STRINGS = re.compile(r"[\x00-\x1f\x7f-\x9f\\\ud800-\udfff]+")
_NOT_IN_TEXT = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]+")
_DECIMAL_STRING_LENGTH = 16


def long_string(text: str, size: int = LONG_STRING) -> str:
    """``text`` as LO: no control characters, no backslash (it separates values), at most ``size`` bytes of UTF-8."""
    return _cut(_NOT_IN_STRINGS.sub(" ", text).strip(), size)


def short_text(text: str) -> str:
    """``text`` as ST: no control characters but line ends, at most 1024 bytes of UTF-8."""
    return _cut(_NOT_IN_TEXT.sub(" ", text), SHORT_TEXT)


def long_text(text: str) -> str:
    """``text`` as LT: no control characters but line ends, at most 10240 bytes of UTF-8."""
    return _cut(_NOT_IN_TEXT.sub(" ", text), LONG_TEXT)


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore").rstrip()


def decimal_strings(values: Iterable[object]) -> list[str]:
    """Numbers as DS of at most 16 characters; a number that already fits keeps the digits of its source.

    Raises:
        ValueError: A value is no finite number.
    """
    strings = []
    for value in values:
        text = str(value).strip()
        if not math.isfinite(float(text)):
            raise ValueError("not a finite number")
        strings.append(text if len(text) <= _DECIMAL_STRING_LENGTH else format_number_as_ds(float(text)))
    return strings
