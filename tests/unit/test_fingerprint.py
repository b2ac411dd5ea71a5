"""The fingerprint of a data set: its form, and that of older releases."""

import base64
import hashlib

from dicom_core.fingerprint import Fingerprint, is_older


def _of(*pieces: bytes | memoryview, like: str = "") -> str:
    fingerprint = Fingerprint(like)
    for piece in pieces:
        fingerprint.update(piece)
    return str(fingerprint)


def test_it_is_blake3_and_names_its_algorithm() -> None:
    """The hash of nothing and of ``abc`` as the authors of BLAKE3 publish them; it fits the column of the record."""
    for data, published in (
        (b"", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
        (b"abc", "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"),
    ):
        name, _, digest = _of(data).partition("-")
        assert name == "blake3"
        assert base64.urlsafe_b64decode(digest + "=").hex() == published
    assert len(_of(b"abc")) <= 64


def test_pieces_do_not_matter() -> None:
    """Bytes and views, in any pieces, and the text may be asked for on the way."""
    fingerprint = Fingerprint()
    fingerprint.update(b"a")
    assert str(fingerprint) == _of(b"a")
    fingerprint.update(memoryview(bytearray(b"-bc-"))[1:3])
    assert str(fingerprint) == _of(b"abc") == _of(b"ab", b"", b"c")


def test_older_ones_are_sha_256() -> None:
    """What is to be compared with one of an older release is made in its way."""
    older = hashlib.sha256(b"abc").hexdigest()
    assert is_older(older)
    assert _of(b"a", b"bc", like=older) == older
    assert not is_older(_of(b"abc"))
    assert not is_older("")
    assert _of(b"abc", like=_of(b"other")) == _of(b"abc")
