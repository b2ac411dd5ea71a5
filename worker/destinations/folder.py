"""A folder as destination: one file an object, durable, named by UIDs."""

import errno
import hashlib
import os
import secrets
import shutil
from pathlib import Path

from dicom_core.errors import DeliveryError, PermanentDeliveryError, TransientDeliveryError
from dicom_core.identifiers import is_uid
from dicom_core.setting_tables import FolderSettings
from dicom_core.spool import sync_folder
from worker.destinations.interface import open_object

_NEEDS_AN_OPERATOR = frozenset(
    {errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}
)
_GROUP_FOLDER, _GROUP_FILE = 0o770, 0o660
_COPY_BYTES = 1024 * 1024


class Folder:
    """Writes ``PATH/StudyInstanceUID/SOPInstanceUID.dcm``.

    A file appears under its name only when it is complete and on the disk; it never changes afterwards.
    """

    def __init__(self, settings: FolderSettings) -> None:
        self.name = settings.name
        self._path = settings.path

    def describe(self) -> str:
        """The folder."""
        return f"folder {self._path}"

    def send(
        self,
        file: Path,
        *,
        sop_instance_uid: str,
        study_instance_uid: str,
        series_instance_uid: str,  # noqa: ARG002  part of the Protocol
    ) -> str:
        """Copy the file; equal content that is there already is fine. See ``Destination.send``."""
        for uid in (study_instance_uid, sop_instance_uid):
            if not is_uid(uid):
                raise PermanentDeliveryError(f"{uid!r} is not a UID and cannot name a file")
        final = self._path / study_instance_uid / f"{sop_instance_uid}.dcm"
        try:
            if final.exists():
                return self._answer_for_existing(file, final)
            self._make_folder(final.parent)
            self._write(file, final)
        except OSError as error:
            raise self._delivery_error(error) from error
        return f"written to {final}"

    def check(self) -> str:
        """Write and remove an empty file. See ``Destination.check``."""
        probe = self._path / f".{secrets.token_hex(8)}.check"
        try:
            self._make_folder(self._path)
            probe.touch()
            probe.unlink()
            free_bytes = shutil.disk_usage(self._path).free
        except OSError as error:
            raise self._delivery_error(error) from error
        return f"writable, {free_bytes // 1024**2} MiB free"

    def close(self) -> None:
        """Nothing is kept open."""

    def _answer_for_existing(self, file: Path, final: Path) -> str:
        if _sha256(file) != _sha256(final):
            raise PermanentDeliveryError(f"{final} exists with other content; move it away and send again")
        _sync(final.parent)  # whoever wrote it may have died before this step
        return "already there with equal content"

    def _make_folder(self, folder: Path) -> None:
        folder.mkdir(mode=_GROUP_FOLDER, parents=True, exist_ok=True)
        _sync(folder.parent)

    def _write(self, file: Path, final: Path) -> None:
        for leftover in final.parent.glob(f".{final.stem}.*.part"):
            leftover.unlink(missing_ok=True)
        temporary = final.parent / f".{final.stem}.{secrets.token_hex(8)}.part"
        try:
            with open_object(file) as source:
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _GROUP_FILE)
                with os.fdopen(descriptor, "wb") as copy:
                    shutil.copyfileobj(source, copy, _COPY_BYTES)
                    copy.flush()
                    os.fsync(copy.fileno())
            temporary.rename(final)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(final.parent)

    def _delivery_error(self, error: OSError) -> DeliveryError:
        kind = PermanentDeliveryError if error.errno in _NEEDS_AN_OPERATOR else TransientDeliveryError
        return kind(f"the folder {self._path} does not take the object: {error.strerror}")


def _sync(folder: Path) -> None:
    try:
        sync_folder(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # network shares that cannot synchronise a folder
            raise


def _sha256(file: Path) -> str:
    with open_object(file) as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
