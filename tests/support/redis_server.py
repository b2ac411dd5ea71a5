"""A private redis-server for the tests, on a unix socket in a folder of its own, without persistence.

::

    with RedisServer(tmp_path) as redis_server:
        client = redis.Redis.from_url(redis_server.url)
        redis_server.kill()      # kill -9: everything in it is lost
        redis_server.restart()   # the same address, empty
"""

import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from loopback import kill_process, start_process, stop_process, wait_until

BINARY = shutil.which("redis-server")
NOT_INSTALLED = "redis-server is not installed (apt-get install redis-server)"


class RedisServer:
    """A redis-server.

    Attributes:
        folder: Holds its log, and its append-only file where ``persistent``.
        url: For Celery, redis-py and ``VESSELQ_REDIS_URL``: ``unix://...``, or ``redis://...`` where ``port`` is given.
        process: The running server, None before ``start`` and after ``stop``.
    """

    def __init__(self, folder: Path, *, port: int = 0, persistent: bool = False) -> None:
        """Prepare, start nothing.

        Args:
            folder: Made if missing.
            port: TCP port on loopback; 0 for a unix socket only.
            persistent: Whether it keeps an append-only file, synchronised at every write.
        """
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self._port = port
        self._persistent = persistent
        # A socket address holds at most 107 bytes; folders of pytest can be longer.
        self._socket_folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self.socket_path = self._socket_folder / "redis.sock"
        self.url = f"redis://127.0.0.1:{port}/0" if port else f"unix://{self.socket_path}"

    def start(self) -> None:
        """Start and wait until it answers PING."""
        assert BINARY is not None, NOT_INSTALLED
        self.folder.mkdir(parents=True, exist_ok=True)
        arguments = [BINARY, "--port", str(self._port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket_path)]
        arguments += ["--dir", str(self.folder), "--save", "", "--maxmemory-policy", "noeviction"]
        arguments += ["--appendonly", "yes" if self._persistent else "no", "--appendfsync", "always"]
        self.process = start_process(arguments, log_file=self.folder / "redis.log")
        wait_until(self.answers, "redis-server", process=self.process)

    def answers(self) -> bool:
        """Whether it answers PING."""
        with redis.Redis.from_url(self.url, socket_timeout=2) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def client(self) -> redis.Redis:
        """A client of it; close it."""
        return redis.Redis.from_url(self.url, socket_timeout=5)

    def kill(self) -> None:
        """Kill -9."""
        assert self.process is not None, "the server does not run"
        kill_process(self.process)
        self.process = None

    def restart(self) -> None:
        """Start again under the same address, after ``kill``, ``stop`` or while it runs."""
        self._end()
        self.start()

    def stop(self) -> None:
        """End it and remove the socket."""
        self._end()
        shutil.rmtree(self._socket_folder, ignore_errors=True)

    def _end(self) -> None:
        if self.process is not None:
            stop_process(self.process)
            self.process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
