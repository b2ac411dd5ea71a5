"""Child processes that are started again when they die, and that never outlive their parent.

A child is told by the kernel when the thread that started it ends (``PR_SET_PDEATHSIG`` of prctl(2)), so that even
kill -9 of the parent leaves nothing behind. That is why one thread starts, watches and stops all of them.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dicom_core.errors import UnavailableError
from dicom_core.logs import get_logger

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
"""Back-off between starts of a child that dies; doubles from the first to the longest."""
LONG_LIFE_SECONDS = 60.0
"""A child that lived this long begins again with the first pause."""
_LOOK_SECONDS = 0.1
_KILL_SECONDS = 5.0
log = get_logger("up")


@dataclass(slots=True)
class Child:
    """One program to keep running.

    Attributes:
        name: For logs.
        arguments: Program and arguments.
        environment: All of it.
        log_file: What it prints is appended here; None: it prints where this process prints.
        stop_round: Children of a lower round are told to stop earlier.
        stop_seconds: How long it may take to stop before it is killed.
        pause_seconds: Before it is started again, the next time it dies.
        process: While it runs.
        starts: How often it was started.
    """

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    log_file: Path | None = None
    stop_round: int = 0
    stop_seconds: float = 15.0
    pause_seconds: float = FIRST_PAUSE_SECONDS
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    _started_at: float = field(default=0.0, repr=False)
    _next_start_at: float = field(default=0.0, repr=False)

    def start(self) -> None:
        """Start it, in a session of its own: Ctrl-C of a terminal reaches the parent alone."""
        program = [sys.executable, "-P", "-m", "console.child", str(os.getpid()), *self.arguments]
        if self.log_file is None:
            self.process = subprocess.Popen(
                program, stdin=subprocess.DEVNULL, env=dict(self.environment), start_new_session=True
            )
        else:
            with self.log_file.open("ab") as out:
                self.process = subprocess.Popen(
                    program, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=dict(self.environment),
                    start_new_session=True,
                )  # fmt: skip
        self.starts += 1
        self._started_at = time.monotonic()

    def keep_alive(self) -> None:
        """Start it again if it is dead and its pause is over."""
        now = time.monotonic()
        if self.process is not None:
            code = self.process.poll()
            if code is None:
                return
            if now - self._started_at > LONG_LIFE_SECONDS:
                self.pause_seconds = FIRST_PAUSE_SECONDS
            log.error(
                "child died", child=self.name, exit_code=code, starts=self.starts, pause_seconds=self.pause_seconds
            )
            self.process, self._next_start_at = None, now + self.pause_seconds
            self.pause_seconds = min(2 * self.pause_seconds, LONGEST_PAUSE_SECONDS)
        if now >= self._next_start_at:
            self.start()

    def tell(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def wait_for_end(self, seconds: float) -> bool:
        """Whether it is over within that time."""
        if self.process is None:
            return True
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


class Children:
    """Keeps children running from ``start`` to ``stop``."""

    def __init__(self, children: Sequence[Child]) -> None:
        self.children = tuple(children)
        self._over = threading.Event()
        self._started = threading.Event()
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="children", daemon=True)

    def start(self) -> None:
        """Start all of them.

        Raises:
            UnavailableError: The system starts no processes.
        """
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self.stop()
            raise UnavailableError(f"a process cannot be started: {self._failure.strerror}")

    def stop(self) -> None:
        """Stop all of them, round by round; returns when none is left."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            for child in self.children:
                child.start()
        except OSError as error:
            self._failure = error
        self._started.set()
        while self._failure is None and not self._over.wait(_LOOK_SECONDS):
            for child in self.children:
                try:
                    child.keep_alive()
                except OSError as error:  # the system is short of processes or memory for now
                    log.warning("child not started", child=child.name, reason=error.strerror)
        self._over.wait()
        self._stop_all()

    def _stop_all(self) -> None:
        for number in sorted({child.stop_round for child in self.children}):
            group = [child for child in self.children if child.stop_round == number]
            for child in group:
                child.tell(signal.SIGTERM)
            deadline = time.monotonic() + max(child.stop_seconds for child in group)
            for child in group:
                if not child.wait_for_end(max(0.0, deadline - time.monotonic())):
                    log.warning("child killed", child=child.name)
                    child.tell(signal.SIGKILL)
                    child.wait_for_end(_KILL_SECONDS)
