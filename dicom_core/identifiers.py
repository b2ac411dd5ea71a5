"""UID and AE title checks, and unique identifiers that are derived rather than drawn.

A derived UID makes a retry byte-identical and gives other content another UID: the value is a hash over everything
that decides the content (PS3.5 B.2, "UUID derived UID": the root 2.25 followed by a 128 bit integer).
"""

import hashlib
import re

_UID = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+")
_AE_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")
MAXIMUM_UID_LENGTH = 64
"""PS3.5 section 9.1."""


def is_uid(value: str) -> bool:
    """Whether ``value`` is a UID of PS3.5 section 9.1: digits and dots, no leading zeros, at most 64 characters."""
    return len(value) <= MAXIMUM_UID_LENGTH and _UID.fullmatch(value) is not None


def is_ae_title(value: str) -> bool:
    r"""Whether ``value`` is an AE of PS3.5 section 6.2: 1-16 characters of ISO 646 without ``\``, not only spaces."""
    return _AE_TITLE.fullmatch(value) is not None and value.strip() != ""


def derived_uid(*parts: str | int) -> str:
    """A UID that is the same for the same parts, on every machine and in every run.

    Args:
        parts: Everything that decides the identity, most general first: site key, study, series, generation, model,
            configuration, and a word for what the UID names (``"series"``, ``"sop"``).

    Returns:
        ``2.25.`` and the decimal form of 128 bits of SHA-256 over the parts, shaped as a version 8 UUID (RFC 9562).
    """
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()[:16]
    number = int.from_bytes(digest, "big")
    number = number & ~(0xF << 76) | (0x8 << 76)  # UUID version 8: custom hash
    number = number & ~(0x3 << 62) | (0x2 << 62)  # RFC 9562 variant
    return f"2.25.{number}"


MANUFACTURER = "vesselq"
"""(0008,0070) of every object that vesselq makes; the loop guard looks for it."""
IMPLEMENTATION_CLASS_UID = derived_uid("vesselq", "implementation class")
"""(0002,0012) of every file and association of ours (PS3.7 D.3.3.2)."""
IMPLEMENTATION_VERSION_NAME = "VESSELQ"
"""(0002,0013), 1 to 16 characters; without a number, so that an upgrade leaves retried files byte-identical."""
