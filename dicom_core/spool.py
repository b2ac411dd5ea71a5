"""Where received bytes live, and the order of steps that makes them durable.

``tmp/*.part`` -> fsync(file) -> rename into ``instances/XX/`` -> fsync(folder) -> (the record's transaction) -> answer.
Both folders are on one file system. Names are hashes, never text from the wire. A file name holds the hash of the SOP
Instance UID and of all that is in the file, so that writing the same object again replaces equal bytes by equal bytes,
and other content under the same UID is another file.
"""

import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dicom_core.errors import SpoolDamagedError, SpoolError, SpoolFullError
from dicom_core.fingerprint import Fingerprint, is_older

PREAMBLE = bytes(128) + b"DICM"
"""PS3.10 section 7.1. Zeros: a preamble from the wire could make the file an executable as well."""
_SHARDS = [f"{number:02x}" for number in range(256)]
_ASIDE_SECONDS = 30 * 86400
_COPY_BYTES = 1024 * 1024
_MOST_PIECES = 512
"""Of one write; systems allow at least 1024 (IOV_MAX)."""
_PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600


@dataclass(frozen=True, slots=True)
class SpooledFile:
    """A file whose bytes are on the disk under their final name; its folder is not yet synchronised.

    Attributes:
        path: Relative to the spool folder.
        fingerprint: Of the data set as received.
        size_bytes: Of the whole file.
    """

    path: str
    fingerprint: str
    size_bytes: int


class IncomingFile:
    """One object while it is being received. Use as a context manager: left without ``keep``, nothing stays behind."""

    def __init__(self, spool: "Spool", file_meta: bytes) -> None:
        self._spool = spool
        self._path = spool.path(f"tmp/{secrets.token_hex(16)}.part")
        self._kept = False
        self._meta_hash = hashlib.sha256(file_meta)
        self._size = len(PREAMBLE) + len(file_meta)
        try:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE_FILE)
        except OSError as error:
            raise _spool_error("a file in the spool cannot be made", error) from error
        self._fingerprint = Fingerprint()
        try:
            self._write_all(PREAMBLE + file_meta)
        except OSError as error:
            self.__exit__()
            raise _spool_error("a file in the spool cannot be written", error) from error

    def write(self, *pieces: bytes | memoryview) -> None:
        """Append bytes of the data set, in one system call.

        Raises:
            SpoolFullError: The disk is full.
            SpoolError: The disk does not take the bytes.
        """
        try:
            self._write_all(*pieces)
            self._size += sum(map(len, pieces))
            for piece in pieces:
                self._fingerprint.update(piece)
        except OSError as error:
            raise _spool_error("a file in the spool cannot be written", error) from error

    def keep(self, sop_instance_uid: str, like: str = "") -> SpooledFile:
        """Synchronise the bytes and give the file its final name. The caller synchronises the folder.

        Args:
            sop_instance_uid: Decides the name, with the content.
            like: The fingerprint under which an older release knows this instance, "" for none: it gets one that can be
                compared with that, and the same name if it has the same content.
        """
        try:
            os.fsync(self._descriptor)
            self._close()
            fingerprint = self._fingerprint_like(like)
            # the meta too: equal bytes under another transfer syntax are another object and must not replace this file
            self._meta_hash.update(fingerprint.encode())
            content = self._meta_hash.hexdigest()[:32]
            name = f"{hashlib.sha256(sop_instance_uid.encode()).hexdigest()[:32]}-{content}.dcm"
            path = f"instances/{name[:2]}/{name}"
            self._path.rename(self._spool.path(path))
            self._kept = True
        except OSError as error:
            raise _spool_error("a file in the spool cannot be made durable", error) from error
        return SpooledFile(path, fingerprint, self._size)

    def _fingerprint_like(self, other: str) -> str:
        if not is_older(other):
            return str(self._fingerprint)
        with self._path.open("rb") as file:
            return data_set_fingerprint(file, other)

    def _write_all(self, *pieces: bytes | memoryview) -> None:
        for start in range(0, len(pieces), _MOST_PIECES):
            group = pieces[start : start + _MOST_PIECES]
            written = os.writev(self._descriptor, group)
            if written < sum(map(len, group)):  # the disk is full, or a signal came
                rest = memoryview(b"".join(group))[written:]
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]

    def _close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def __enter__(self) -> "IncomingFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        if not self._kept:
            self._path.unlink(missing_ok=True)


class Spool:
    """The folder of received instances."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._name = str(folder)

    def prepare(self) -> None:
        """Make the folders, durable, readable by the owner only.

        Raises:
            SpoolError: The folder cannot be made or written.
        """
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            for part in (".", "tmp", "instances", *(f"instances/{shard}" for shard in _SHARDS)):
                (self.folder / part).mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
            for folder in (self.folder / "instances", self.folder, self.folder.parent):
                sync_folder(folder)
        except OSError as error:
            raise _spool_error(f"the spool folder {self.folder} cannot be used", error) from error

    def receive(self, file_meta: bytes) -> IncomingFile:
        """Begin a file with the encoded File Meta Information (PS3.10 section 7.1, group 0002 elements only)."""
        return IncomingFile(self, file_meta)

    def synchronise(self, files: Iterable[SpooledFile]) -> None:
        """Make the names of ``files`` durable, each folder once.

        Raises:
            SpoolError: A folder cannot be synchronised.
        """
        try:
            for folder in {file.path.rpartition("/")[0] for file in files}:
                sync_folder(self.path(folder))
        except OSError as error:
            raise _spool_error("a folder of the spool cannot be made durable", error) from error

    def path(self, relative: str) -> Path:
        """The absolute path of a recorded file."""
        return Path(f"{self._name}/{relative}")  # a third of the time of the operator, and every object needs it thrice

    def free_bytes(self) -> int:
        """Free space of the file system, for the low-water marks."""
        return shutil.disk_usage(self.folder).free

    def kept_paths(self) -> Iterator[str]:
        """Relative paths of all files under their final name."""
        for path in (self.folder / "instances").glob("??/*.dcm"):
            yield str(path.relative_to(self.folder))

    def unfinished_paths(self) -> Iterator[Path]:
        """Files of objects that were never received to the end."""
        yield from (self.folder / "tmp").glob("*.part")

    def set_aside(self, relative: str) -> None:
        """Move a file that no row knows out of the way; a person can look at it, and it goes after a month."""
        aside = self.folder / "aside"
        aside.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
        for old in aside.iterdir():
            if time.time() - old.stat().st_mtime > _ASIDE_SECONDS:
                old.unlink(missing_ok=True)
        self.path(relative).rename(aside / Path(relative).name)

    def remove(self, relative: str) -> None:
        """Remove a file that no row needs any more; one that is gone already is fine."""
        self.path(relative).unlink(missing_ok=True)

    def verify(self, relative: str, fingerprint: str) -> None:
        """Compare a file with its recorded fingerprint.

        Raises:
            SpoolDamagedError: The file is missing, cannot be read or has other content.
        """
        try:
            with self.path(relative).open("rb") as file:
                actual = data_set_fingerprint(file, fingerprint)
        except OSError as error:
            raise SpoolDamagedError(f"spool file {relative} cannot be read: {error.strerror}") from error
        if actual != fingerprint:
            raise SpoolDamagedError(f"spool file {relative} has other content than was received")


def data_set_fingerprint(file: BinaryIO, like: str = "") -> str:
    """Of the data set in a DICOM file that this module wrote: preamble and group 0002 are left out.

    Args:
        file: Read from its beginning.
        like: The fingerprint that it will be compared with.
    """
    head = file.read(len(PREAMBLE) + 12)
    if len(head) < len(PREAMBLE) + 12 or head[128:132] != b"DICM":
        raise SpoolDamagedError("a spool file has lost its beginning")
    # (0002,0000) FileMetaInformationGroupLength, explicit VR little endian: tag, UL, 4, value
    file.seek(len(PREAMBLE) + 12 + int.from_bytes(head[-4:], "little"))
    fingerprint = Fingerprint(like)
    while chunk := file.read(_COPY_BYTES):
        fingerprint.update(chunk)
    return str(fingerprint)


def sync_folder(folder: Path) -> None:
    """Make names in ``folder`` durable (fsync of the directory)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def keep_file(temporary: Path, final: Path) -> None:
    """Make a finished file durable under its final name: fsync, rename, fsync of the folder.

    Raises:
        SpoolError: The disk does not take it.
    """
    try:
        final.parent.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.rename(final)
        sync_folder(final.parent)
        sync_folder(final.parent.parent)
    except OSError as error:
        raise _spool_error("a result cannot be made durable", error) from error


def _spool_error(what: str, error: OSError) -> SpoolError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    kind = SpoolFullError if full else SpoolError
    return kind(f"{what}: {error.strerror}")
