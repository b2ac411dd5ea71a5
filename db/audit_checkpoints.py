"""Signed checkpoints of the audit log, kept outside the database: what a chain alone cannot show.

A checkpoint says with an Ed25519 signature (RFC 8032) that the log had a certain last row at a certain time, and names
the checkpoint before it by its hash. One JSON object a line is appended to ``checkpoints.jsonl`` and made durable; the
public key lies beside it. Who can write to the database but not there can no longer cut the end of the log off or
replace rows and chain them anew, up to the last checkpoint.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from db.signing_keys import fingerprint, keep_public_key, private_key, public_key
from dicom_core.errors import AuditError
from dicom_core.settings import Settings
from dicom_core.spool import sync_folder

if TYPE_CHECKING:  # slow to import, and most processes sign nothing
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    from dicom_core.settings import Settings

FIRST_PREVIOUS = "0" * 64
"""What the first checkpoint continues."""
_FILE, _PUBLIC_KEY = "checkpoints.jsonl", "public_key.pem"
_TAIL_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One line of the file.

    Attributes:
        number: From 1.
        sequence: The last row of the log at that time.
        row_hash: Its hash.
        at: Time of the database when it was signed, ISO 8601 in UTC.
        previous: SHA-256 over the line before, 64 zeros for the first.
        key: SHA-256 over the raw public key.
        signature: Ed25519 over the canonical JSON of all the others, in hexadecimal.
    """

    number: int
    sequence: int
    row_hash: str
    at: str
    previous: str
    key: str
    signature: str = ""

    @property
    def signed(self) -> bytes:
        """The bytes under the signature."""
        content = {name: value for name, value in asdict(self).items() if name != "signature"}
        return _json(content).encode()

    @property
    def line(self) -> bytes:
        """What is in the file, without the line feed."""
        return _json(asdict(self)).encode()

    @property
    def hash(self) -> str:
        """What the next one names as ``previous``."""
        return hashlib.sha256(self.line).hexdigest()


class CheckpointFile:
    """The checkpoints of one log.

    Attributes:
        folder: Holds the file and the public key.
        path: The file.
    """

    def __init__(self, folder: Path, key_file: Path) -> None:
        self.folder = folder
        self.path = folder / _FILE
        self._key_file = key_file

    @classmethod
    def of(cls, settings: "Settings") -> "CheckpointFile":
        """The one that the settings name."""
        return cls(settings.checkpoint_folder, settings.signing_key_file)

    def read(self, public_key_file: Path | None = None) -> Iterator[Checkpoint]:
        """The checkpoints that are there now, each one's signature and place checked when it is asked for.

        Args:
            public_key_file: The key that one trusts; else the one beside the checkpoints.

        Raises:
            AuditError: The file or its key cannot be read; in the middle: the next checkpoint is not what was signed.
        """
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return iter(())
        except OSError as error:
            raise _unreadable(self.path, error) from error
        return self._checked(size, public_key_file or self.folder / _PUBLIC_KEY)

    def unchecked(self) -> Iterator[Checkpoint]:
        """Those that are there, for somebody who checks their signatures: to look at all of them takes minutes.

        Raises:
            AuditError: The file cannot be read, when it is come to.
        """
        try:
            with self.path.open("rb") as file:
                for line in file:
                    if (checkpoint := _parsed(line)) is not None:
                        yield checkpoint
        except FileNotFoundError:
            return
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def last(self) -> Checkpoint | None:
        """The last one, unchecked; None when there is none.

        Raises:
            AuditError: The file cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                return _last(file)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(self.path, error) from error

    @contextmanager
    def extending(self) -> Iterator["CheckpointWriter"]:
        """Nobody else appends within the block. Folder and keys are made when they are not there.

        Raises:
            AuditError: The folder or the file cannot be written.
            ConfigurationError: The private key cannot be used, or is not that of the checkpoints that are there.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            key = private_key(self._key_file)
            keep_public_key(key, self.folder / _PUBLIC_KEY)
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "ab+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                sync_folder(self.folder)
                yield CheckpointWriter(file, key)
        except OSError as error:
            raise AuditError(f"no checkpoint can be written to {self.path}: {error.strerror}") from error

    def _checked(self, size: int, public_key_file: Path) -> Iterator[Checkpoint]:
        key = public_key(public_key_file)
        before = FIRST_PREVIOUS
        try:
            with self.path.open("rb") as file:
                while file.tell() < size:
                    if (checkpoint := _parsed(file.readline())) is not None:
                        _check(checkpoint, before, key)
                        before = checkpoint.hash
                        yield checkpoint
        except OSError as error:
            raise _unreadable(self.path, error) from error


class CheckpointWriter:
    """The right to append, from ``CheckpointFile.extending``.

    Attributes:
        last: The last checkpoint of the file, None when there is none.
    """

    def __init__(self, file: IO[bytes], key: "Ed25519PrivateKey") -> None:
        self._file = file
        self._key = key
        self.last = _last(file)

    def append(self, sequence: int, row_hash: str, at: str) -> Checkpoint:
        """Sign and make durable.

        Args:
            sequence: The last row of the log.
            row_hash: Its hash.
            at: The database's time.
        """
        number, previous = (self.last.number + 1, self.last.hash) if self.last else (1, FIRST_PREVIOUS)
        unsigned = Checkpoint(number, sequence, row_hash, at, previous, fingerprint(self._key.public_key()))
        checkpoint = replace(unsigned, signature=self._key.sign(unsigned.signed).hex())
        # a line that a power cut left unfinished is no checkpoint and stays
        feed = b"\n" if _ends_within_a_line(self._file) else b""
        self._file.write(feed + checkpoint.line + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.last = checkpoint
        return checkpoint


def _check(checkpoint: Checkpoint, before: str, key: "Ed25519PublicKey") -> None:
    from cryptography.exceptions import InvalidSignature

    name = f"checkpoint {checkpoint.number} of row {checkpoint.sequence}"
    if checkpoint.key != fingerprint(key):
        raise AuditError(
            f"{name} was signed with another key, {checkpoint.key}, than the one that is trusted, {fingerprint(key)}: "
            "take the public key of this installation; if it is that one, somebody else made the checkpoints"
        )
    try:
        key.verify(bytes.fromhex(checkpoint.signature), checkpoint.signed)
    except (InvalidSignature, ValueError):
        raise AuditError(f"{name} is not what was signed") from None
    if checkpoint.previous != before:
        raise AuditError(f"{name} does not continue the checkpoint before it: one is missing or out of its place")


def _last(file: IO[bytes]) -> Checkpoint | None:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    found = (_parsed(line) for line in reversed(file.read().split(b"\n")))
    return next((checkpoint for checkpoint in found if checkpoint is not None), None)


def _ends_within_a_line(file: IO[bytes]) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def _parsed(line: bytes) -> Checkpoint | None:
    """The checkpoint of a line, None if it is unfinished: were it more, the next one's ``previous`` would miss it."""
    try:
        checkpoint = Checkpoint(**json.loads(line))
    except (ValueError, TypeError):
        return None
    types = {name: type(value) for name, value in asdict(checkpoint).items()}
    return checkpoint if types == _TYPES else None


_TYPES: dict[str, type] = {
    field.name: int if field.name in ("number", "sequence") else str for field in fields(Checkpoint)
}


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _unreadable(path: Path, error: OSError) -> AuditError:
    return AuditError(f"the checkpoints in {path} cannot be read: {error.strerror}")
