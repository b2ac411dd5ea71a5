"""The Ed25519 keys (RFC 8032) that sign checkpoints of the audit log, as PEM files."""

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_core.errors import AuditError, ConfigurationError
from dicom_core.spool import sync_folder

if TYPE_CHECKING:  # slow to import, and most processes sign nothing
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


def fingerprint(key: "Ed25519PublicKey") -> str:
    """SHA-256 over the raw public key, in hexadecimal: short enough to be kept on paper."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def private_key(file: Path) -> "Ed25519PrivateKey":
    """The key of ``file``, which is drawn and written for its owner alone when it is not there.

    Raises:
        ConfigurationError: The file holds no such key.
        OSError: It cannot be read or written.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if not file.exists():
        _draw_key(file)
    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{file} is no private key in PEM without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{file} is no Ed25519 key: checkpoints are signed with one")
    return key


def keep_public_key(key: "Ed25519PrivateKey", file: Path) -> None:
    """Have the public half in ``file``.

    Raises:
        ConfigurationError: That of another key is there.
        OSError: It cannot be read or written.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    text = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if not file.exists():
        _write_once(file, text, 0o644)
    if file.read_bytes() != text:
        raise ConfigurationError(
            f"the checkpoints in {file.parent} were signed with another key: bring back the file that "
            "audit.signing_key_file names, or name a new audit.checkpoint_folder and keep the old one"
        )


def public_key(file: Path) -> "Ed25519PublicKey":
    """The key of ``file``.

    Raises:
        AuditError: There is none.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(file.read_bytes())
    except OSError as error:
        raise AuditError(f"the public key of the checkpoints, {file}, cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise AuditError(f"the public key of the checkpoints, {file}, is no key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise AuditError(f"the public key of the checkpoints, {file}, is no Ed25519 key")
    return key


def _draw_key(file: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write_once(file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)


def _write_once(file: Path, content: bytes, mode: int) -> None:
    """Whole or not at all; what another process wrote meanwhile stays."""
    descriptor, temporary = tempfile.mkstemp(dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            out.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(temporary, file)
    finally:
        Path(temporary).unlink()
    sync_folder(file.parent)
