"""A listener in a process of its own, for tests that need real signals, real sockets and real crashes.

``python listener_process.py SETTINGS.json``: writes host and port to ``ready`` in the data folder.
``python listener_process.py SETTINGS.json crash POINT...``: one listener after the other, each killing itself with
SIGKILL at that step of storing, and writes to ``ready-POINT``.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any

STARTUP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class RunningListener:
    """A listener that accepts associations."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path


@contextlib.contextmanager
def listener_process(folder: Path, *arguments: str, **tables: Any) -> Iterator[RunningListener]:
    """Run a listener on a free loopback port with ``folder`` as its data folder; killed at the end if still there."""
    with _started(folder, *arguments, **tables) as (process, ready):
        yield RunningListener(process, _wait_for_port(process, ready, folder / "listener.log"), folder / "listener.log")


@contextlib.contextmanager
def _started(folder: Path, *arguments: str, **tables: Any) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    folder.mkdir(parents=True, exist_ok=True)
    settings_file, ready, log = folder / "settings.json", folder / "ready", folder / "listener.log"
    settings_file.write_text(json.dumps({"data_folder": str(folder), **tables}))
    ready.unlink(missing_ok=True)
    root = Path(__file__).resolve().parents[2]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, __file__, str(settings_file), *arguments],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
            stderr=output,
        )
    try:
        yield process, ready
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@contextlib.contextmanager
def crash_points(folder: Path, points: Sequence[int], **tables: Any) -> Iterator[Iterator[int]]:
    """Run one listener after the other on ``folder``, each killing itself at another step of storing, counted from 1.

    Yields:
        The port of each, while it lives. Asking for the next kills a listener that did not reach its step.
    """
    with _started(folder, "crash", *map(str, points), **tables) as (process, ready):

        def ports() -> Iterator[int]:
            for point in points:
                yield _wait_for_port(process, ready.with_name(f"ready-{point}"), folder / "listener.log")
                (folder / f"done-{point}").touch()

        yield ports()
        process.wait(STARTUP_SECONDS)  # it ends the last listener, which nobody would if it were killed before


@contextlib.contextmanager
def listener_thread(folder: Path, **tables: Any) -> Iterator[tuple[int, threading.Event]]:
    """Run a listener in a thread of this process: quicker to start, nothing to kill.

    Yields:
        Its port, and the event that stops it. Leaving the block stops it and raises what ended it.
    """
    from db import migrate
    from db.session import Record
    from dicom_core.settings import Settings
    from dicom_listener import process

    settings = Settings(data_folder=folder, **tables)
    folder.mkdir(parents=True, exist_ok=True)
    record = Record(settings.effective_database_url, process="test")
    migrate.upgrade(record)
    record.close()
    bound: Queue[int] = Queue()
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(process.run, settings, ready=lambda _, port: bound.put(port), stop=stop)
        running.add_done_callback(lambda _: bound.put(0))
        try:
            yield bound.get(timeout=STARTUP_SECONDS) or running.result(), stop
        finally:
            stop.set()
            running.result(STARTUP_SECONDS)


def _wait_for_port(process: subprocess.Popen[bytes], ready: Path, log: Path) -> int:
    deadline = time.monotonic() + STARTUP_SECONDS
    while not ready.exists() or not ready.read_text().endswith("\n"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the listener did not start:\n{log.read_text()[-4000:]}")
        time.sleep(0.01)
    return int(ready.read_text().split()[1])


def settings_tables(**listener: Any) -> Mapping[str, Any]:
    """Settings for tests: the peer TESTER may call from this machine, and no disk is too small."""
    return {
        "listener": {"port": 0, "low_water_bytes": 0, "critical_water_bytes": 0, **listener},
        "peers": [{"name": "tester", "ae_title": "TESTER", "addresses": ["127.0.0.1"]}],
    }


# --- inside the process -----------------------------------------------------------------------------------------------


class _CrashPoints:
    """Counts the steps of storing and kills the process before or after one of them."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._passed = 0

    def step(self) -> None:
        """One moment between two system calls."""
        self._passed += 1
        if self._passed == self._at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, name: str) -> None:
        """Have a moment before and after every call of ``owner.name``."""
        original: Callable[..., Any] = getattr(owner, name)

        def stepping(*arguments: Any, **keywords: Any) -> Any:
            self.step()
            result = original(*arguments, **keywords)
            self.step()
            return result

        setattr(owner, name, stepping)


def _arm(at: int) -> None:
    from db import arrivals
    from dicom_core import spool
    from dicom_listener import store_messages

    points = _CrashPoints(at)
    points.around(spool.Spool, "receive")
    points.around(spool.IncomingFile, "write")
    points.around(os, "fsync")
    points.around(Path, "rename")
    points.around(spool.Spool, "synchronise")
    points.around(arrivals.Arrivals, "record")
    points.around(arrivals.Arrivals, "count")
    points.around(store_messages, "store_response")


def main() -> None:
    """Run a listener until it is told to stop, or a row of them that crash."""
    from db import migrate
    from db.session import Record
    from dicom_core.logs import configure_logs
    from dicom_core.settings import Settings

    settings = Settings(**json.loads(Path(sys.argv[1]).read_text()))
    configure_logs("listener", "INFO", json=True)
    record = Record(settings.effective_database_url, process="test")
    migrate.upgrade(record)
    record.close()
    if len(sys.argv) == 2:
        _run(settings)
        return
    for point in sys.argv[3:]:
        _crash(settings, int(point))


def _run(settings: Any, point: int = 0) -> None:
    from dicom_listener import process

    def ready(host: str, port: int) -> None:
        if point:
            _arm(point)
        (settings.data_folder / (f"ready-{point}" if point else "ready")).write_text(f"{host} {port}\n")

    process.run(settings, ready=ready)


def _crash(settings: Any, point: int) -> None:
    """Run a listener in a forked process, all modules being loaded already, until it dies or has served."""
    from dicom_listener import process, recovery

    assert process
    child = os.fork()
    if not child:
        # what one crash leaves behind must still be there when the test looks
        process.recover = lambda *_, **__: recovery.Recovered()
        _run(settings, point)
        os._exit(0)
    done = settings.data_folder / f"done-{point}"
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if done.exists():
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)


if __name__ == "__main__":
    main()
