"""The fingerprint of a data set: what damage, duplicates and conflicts are found by.

BLAKE3 with 256 bits: as little as with SHA-256 can anybody make two data sets of one fingerprint. SHA-256 takes ten
times as long and more on a processor without instructions for it; it was half of what receiving a CT slice cost.
"""

import base64
import hashlib
from typing import Protocol

from blake3 import blake3

_BLAKE3 = "blake3-"


class _Hash(Protocol):
    def update(self, data: bytes | memoryview, /) -> object: ...
    def digest(self) -> bytes: ...


class Fingerprint:
    """Over bytes that come one after the other; ``str`` of it is the fingerprint of those that came so far.

    ``blake3-`` and the hash in base64 (RFC 4648 section 5, without padding). Older ones are SHA-256 in 64 hexadecimal
    digits.

    Args:
        like: A fingerprint that it will be compared with decides the algorithm; "" for that of new ones.
    """

    def __init__(self, like: str = "") -> None:
        self._older = is_older(like)
        self._hash: _Hash = hashlib.sha256() if self._older else blake3()

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes. Other threads run meanwhile."""
        self._hash.update(data)

    def __str__(self) -> str:
        digest = self._hash.digest()
        return digest.hex() if self._older else _BLAKE3 + base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def is_older(fingerprint: str) -> bool:
    """Whether a release made it that knew SHA-256 alone."""
    return bool(fingerprint) and not fingerprint.startswith(_BLAKE3)
