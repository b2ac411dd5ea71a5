"""A private PostgreSQL cluster for the tests, on a unix socket in a folder of its own, from the installed binaries.

::

    with PostgresqlServer() as server:
        url = server.create_database("one")
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from loopback import kill_process, start_process, wait_until

_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
BINARIES = _FOLDERS[-1] if _FOLDERS and shutil.which("setpriv") else None
NOT_INSTALLED = "PostgreSQL is not installed (apt-get install postgresql)"
OWNER = "postgres"
"""Account of the operating system and role of the database: it may do everything."""


class PostgresqlServer:
    """A cluster that lives as long as the ``with`` block.

    Attributes:
        folder: Holds the cluster, its socket and its log.
        process: The running server.
    """

    def __init__(self, *, durable: bool = False, folder: Path | None = None) -> None:
        """Prepare, start nothing.

        Args:
            durable: Whether commits wait for the disk; tests that only kill processes need not.
            folder: Of a cluster that stays when the server stops, and is used again when it is there.
        """
        self._durable = durable
        self._stays = folder is not None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="postgresql-"))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make the cluster and wait until it takes connections."""
        assert BINARIES is not None, NOT_INSTALLED
        self.folder.mkdir(exist_ok=True)
        if os.geteuid() == 0:  # it refuses to run as root
            account = pwd.getpwnam(OWNER)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        data = self.folder / "data"
        if not data.exists():
            make = [*_without_root(), BINARIES / "initdb", "-D", data, "-U", OWNER, "-A", "trust", "-E", "UTF8", "-N"]
            subprocess.run([str(part) for part in make], check=True, capture_output=True, cwd=self.folder)
        settings = [
            "listen_addresses=",
            f"fsync={'on' if self._durable else 'off'}",
            "max_connections=200",
            f"unix_socket_directories={self.folder}",
        ]
        arguments = [*_without_root(), BINARIES / "postgres", "-D", data]
        for setting in settings:
            arguments += ["-c", setting]
        self.process = start_process(arguments, log_file=self.folder / "server.log", folder=self.folder)
        wait_until(self.answers, "postgres", process=self.process)

    def answers(self) -> bool:
        """Whether it takes connections."""
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Make a database, as a copy of ``template``, and return its SQLAlchemy URL."""
        with self._connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
        return self.url(name)

    def url(self, name: str, *, role: str = OWNER) -> str:
        """SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://{role}@/{name}?host={self.folder}"

    def stop(self) -> None:
        """End it, whoever is connected, and remove the folder unless it is one that stays."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60 if self._stays else 10)
            except subprocess.TimeoutExpired:
                kill_process(self.process)
            self.process = None
        if not self._stays:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _connect(self) -> psycopg.Connection:
        where = f"user={OWNER} dbname=postgres host={self.folder}"
        return psycopg.connect(where, autocommit=True, connect_timeout=5)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _without_root() -> list[str | Path]:
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--init-groups"]
