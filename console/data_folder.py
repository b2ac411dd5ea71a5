"""The folder that holds spool, results and database: made private, used by one ``vesselq up`` at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom_core.errors import ConfigurationError, ConflictError


def make_data_folder(folder: Path) -> None:
    """Make the data folder, readable by its owner only; one that is there already keeps its mode.

    Raises:
        ConfigurationError: It cannot be made or written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the data folder {folder} cannot be made ({error.strerror}); choose another with --data-folder"
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(f"the data folder {folder} cannot be written; choose another with --data-folder")


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Hold the folder against a second ``vesselq up``; the kernel lets go when this process ends in any way.

    Raises:
        ConflictError: Another one holds it.
    """
    descriptor = os.open(folder / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(
                f"another `vesselq up` uses the data folder {folder}; stop it, or name another with --data-folder"
            ) from None
        yield
    finally:
        os.close(descriptor)
