"""Real servers on loopback for the tests: free ports, waiting until something listens, stopping by process id.

::

    port = free_port()
    process = start_process(["storescp", str(port)], log_file=tmp_path / "storescp.log")
    wait_for_port(port, process=process)
    ...
    stop_process(process)
"""

import os
import random
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

LOOPBACK = "127.0.0.1"
_PAUSE_SECONDS = 0.02


_PORTS = range(20_000, 32_000)
"""Below those that outgoing connections take: one of them would be gone before the server is there."""


def free_port() -> int:
    """A TCP port on which nothing listens now."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port


def start_process(
    arguments: Sequence[str | Path],
    *,
    log_file: Path,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own; what it prints is appended to ``log_file``.

    Args:
        arguments: Program and arguments; no shell.
        log_file: For standard output and error.
        folder: Working folder.
        environment: Variables besides those of this process.
    """
    with log_file.open("ab") as log:
        return subprocess.Popen(
            [str(argument) for argument in arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )


def stop_process(process: subprocess.Popen[bytes], *, timeout_seconds: float = 10) -> int:
    """End ``process`` by SIGTERM, by SIGKILL when that takes too long, and return its exit code."""
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        return kill_process(process)


def kill_process(process: subprocess.Popen[bytes]) -> int:
    """End ``process`` by SIGKILL, without any chance to tidy up, and return its exit code."""
    process.kill()
    return process.wait(10)


def wait_until(
    condition: Callable[[], bool],
    what: str,
    *,
    timeout_seconds: float = 20,
    process: subprocess.Popen[bytes] | None = None,
) -> None:
    """Wait until ``condition()`` is true.

    Args:
        condition: Asked about fifty times a second; must not block for long.
        what: Ends the sentence of the error.
        timeout_seconds: Longest wait.
        process: When it ends, waiting has no sense any more.

    Raises:
        TimeoutError: The condition did not become true, or ``process`` ended.
    """
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if process is not None and process.poll() is not None:
            raise TimeoutError(f"process {process.args!r} ended with {process.returncode} while waiting for {what}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_seconds} s in vain for {what}")
        time.sleep(_PAUSE_SECONDS)


def is_listening(port: int) -> bool:
    """Whether a connection to ``port`` of loopback succeeds."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1):
            return True
    except OSError:
        return False


def wait_for_port(port: int, *, timeout_seconds: float = 20, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until something listens on ``port`` of loopback.

    Raises:
        TimeoutError: Nothing does, or ``process`` ended.
    """
    wait_until(lambda: is_listening(port), f"port {port}", timeout_seconds=timeout_seconds, process=process)
