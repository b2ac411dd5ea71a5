"""The parent's side of the child process: start it, hand it work, watch it, replace it.

A child that dies, hangs or grows costs one attempt of one job, never the worker.
"""

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable

import psutil

from dicom_core import errors
from dicom_core.errors import DeadlineError, RunnerBusyError, RunnerDiedError, VesselqError
from dicom_core.logs import get_logger
from dicom_core.setting_tables import WorkerSettings
from dicom_core.settings import ENVIRONMENT_PREFIX
from worker.device_facts import DeviceFacts
from worker.series_messages import REQUEST_FILE, SeriesRequest, SeriesResult, StageCallback

POLL_SECONDS = 0.1
"""How soon an interruption is noticed."""
STOP_SECONDS = 5.0
"""How long a child may take to end by itself when it is not wanted any more."""
Interruption = Callable[[], VesselqError | None]
"""Asked again and again while the child works: an error to raise instead of waiting on, or None."""
log = get_logger("runner")


class Runner:
    """One child process at a time. Not safe to share between threads."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._child: subprocess.Popen[bytes] | None = None
        self._jobs_done = 0
        self._device: DeviceFacts | None = None

    @property
    def child_pid(self) -> int | None:
        """Process id of the child, None while there is none."""
        return self._child.pid if self._child else None

    @property
    def device(self) -> str:
        """What the child computes with, in words; "" as long as none has told."""
        return self._device.name if self._device else ""

    def resources(self) -> dict[str, str | int | None]:
        """Device and bytes of memory as they were last known, for the operator. May be asked by any thread."""
        child, device = self._child, self._device
        return {
            "device": device.name if device else "",
            "device_memory_used_bytes": device.memory_used_bytes if device and child else None,
            "device_memory_total_bytes": device.memory_total_bytes if device else None,
            "child_resident_bytes": _resident_bytes(child.pid) if child else None,
            "resident_bytes": _resident_bytes(os.getpid()),
        }

    def run(self, request: SeriesRequest, *, progress: StageCallback, interruption: Interruption) -> SeriesResult:
        """Have the child work on one series.

        Raises:
            DeadlineError: It took longer than the deadline; the child is gone.
            RunnerDiedError: The child ended; the next call starts another.
            VesselqError: What the child reported, or what ``interruption`` returned.
        """
        child = self._ready_child()
        try:
            result = self._converse(child, request, progress, interruption)
        except VesselqError as error:
            if isinstance(error, _ReportedError) and not isinstance(error.cause, RunnerBusyError):
                raise error.cause from None
            self.stop()  # a child that hangs or has run out of memory is not used again
            raise getattr(error, "cause", error) from None
        finally:
            self._jobs_done += 1
            self._recycle_if_due()
        return result

    def _ready_child(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is not None:
            self.stop()
        if self._child is None:
            self._child = self._start()
            self._jobs_done = 0
        return self._child

    def _start(self) -> subprocess.Popen[bytes]:
        threads = self._settings.threads or os.cpu_count() or 1
        limits = (
            self._settings.memory_limit_bytes,
            self._settings.model_memory_bytes,
            int(self._settings.deadline_seconds * threads),
            threads,
        )
        # our own variables hold secrets (database, destinations), which the process that decodes a stranger's pixels
        # has no use for: everything that it needs is in the request
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}
        environment = {**inherited, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "worker.child_start", *(str(limit) for limit in limits)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        log.info("child started", child_pid=child.pid)
        return child

    def _converse(
        self,
        child: subprocess.Popen[bytes],
        request: SeriesRequest,
        progress: StageCallback,
        interruption: Interruption,
    ) -> SeriesResult:
        if child.stdin is None or child.stdout is None:
            raise RunnerDiedError("the child process has no pipes")
        deadline = time.monotonic() + self._settings.deadline_seconds
        try:
            # through a file: a long list of paths would fill the pipe and block here if the child does not read
            message = request.output_folder / REQUEST_FILE
            message.write_text(request.model_dump_json(), encoding="utf-8")
            child.stdin.write(json.dumps(str(message)).encode() + b"\n")
            child.stdin.flush()
        except BrokenPipeError as error:
            raise RunnerDiedError(self._epitaph(child)) from error
        unread = b""
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while True:
                if (reason := interruption()) is not None:
                    raise reason
                if time.monotonic() > deadline:
                    raise DeadlineError(f"it ran longer than {self._settings.deadline_seconds:g} s")
                if not selector.select(POLL_SECONDS):
                    continue
                data = os.read(child.stdout.fileno(), 65536)
                if not data:
                    raise RunnerDiedError(self._epitaph(child))
                *lines, unread = (unread + data).split(b"\n")
                for line in lines:
                    if (result := self._understood(line, progress)) is not None:
                        return result

    def _understood(self, line: bytes, progress: StageCallback) -> SeriesResult | None:
        message = json.loads(line)
        if "stage" in message:
            self._device = DeviceFacts(**message["device"])
            progress(message["stage"], message["share"])
            return None
        if "error" in message:
            raise _ReportedError(_error_named(message["error"], message["message"]))
        return SeriesResult.model_validate(message["result"])

    def _epitaph(self, child: subprocess.Popen[bytes]) -> str:
        try:
            code = child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return "the child process stopped talking"
        return f"the child process was ended by signal {-code}" if code < 0 else f"the child process ended with {code}"

    def _recycle_if_due(self) -> None:
        if self._child is None:
            return
        resident = _resident_bytes(self._child.pid)
        if resident is None:
            self.stop()
        elif self._jobs_done >= self._settings.recycle_after_jobs or resident > self._settings.recycle_above_bytes:
            log.info("child recycled", jobs=self._jobs_done, resident_bytes=resident)
            self.stop()

    def stop(self) -> None:
        """End the child, by force if need be."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    log.debug("a pipe of the child was broken")
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            log.critical("child cannot be ended", child_pid=child.pid)


def _resident_bytes(pid: int) -> int | None:
    """Memory of a process, None when it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None


class _ReportedError(VesselqError):
    """The child is well and reports that the job failed."""

    def __init__(self, cause: VesselqError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _error_named(name: str, message: str) -> VesselqError:
    kind = getattr(errors, name, errors.SegmentationError)
    return kind(message) if issubclass(kind, VesselqError) else errors.SegmentationError(message)
