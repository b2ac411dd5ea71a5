"""The child process: loads a segmenter once and works on one series after another.

A fresh interpreter, never a fork: torch and CUDA do not survive one. It speaks JSON lines: the places of request files
on standard input, progress and answers on what was standard output (which is turned into standard error for everybody
else, so that a library that prints cannot break the conversation). It ends when its parent ends.
"""

import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from dicom_core.errors import RunnerBusyError, SegmentationError, SpoolError, VesselqError
from dicom_core.logs import configure_logs, get_logger
from worker.device_facts import DeviceFacts
from worker.loaded_models import LoadedModels, memory_ran_out
from worker.series_messages import SeriesRequest, SeriesResult
from worker.series_work import work_on_series

_CPU_SECONDS_MARGIN = 60
"""On top of deadline x threads: the parent's deadline comes first, this stops a child whose parent is stopped."""
_CPU_MODELS_SHARE = 4
"""On the CPU models take no more than this part of the memory limit, unless the settings say how much."""
log = get_logger("child")


def main(arguments: list[str]) -> None:
    """Work until the parent is gone. The arguments: MEMORY_LIMIT_BYTES MODEL_BYTES CPU_SECONDS THREADS."""
    memory_limit, model_bytes, cpu_seconds, threads = (int(argument) for argument in arguments)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    configure_logs("child")
    if threads:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    requests: list[str] = []
    arrived = threading.Condition()
    threading.Thread(target=_listen, args=(requests, arrived), daemon=True).start()
    models = LoadedModels(model_bytes or (0 if _has_nvidia_gpu() else memory_limit // _CPU_MODELS_SHARE))
    _limit_memory(memory_limit)
    while True:
        with arrived:
            arrived.wait_for(lambda: requests)
            line = requests.pop(0)
        _limit_cpu(cpu_seconds)
        _say(out, _answer(line, models, out))


def _listen(requests: list[str], arrived: threading.Condition) -> None:
    for line in sys.stdin:
        with arrived:
            requests.append(line)
            arrived.notify()
    os._exit(0)  # the parent is gone: whatever is being computed, nobody waits for it


def _has_nvidia_gpu() -> bool:
    """Whether there is a driver at all; only then is it worth the seconds to ask torch."""
    return Path("/dev/nvidiactl").exists()


def _limit_memory(limit_bytes: int) -> None:
    # CUDA reserves far more address space than it uses, so that the limit only fits a worker on CPU
    if not _has_nvidia_gpu():
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))


def _limit_cpu(seconds: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + seconds + _CPU_SECONDS_MARGIN
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _device(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    if not _has_nvidia_gpu():
        return "cpu"
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"


def _answer(line: str, models: LoadedModels, out: TextIO) -> dict[str, Any]:
    try:
        request = SeriesRequest.model_validate_json(Path(json.loads(line)).read_bytes())
        result = _work(request, models, out)
    except VesselqError as error:
        return _error(error)
    except OSError as error:
        return _error(SpoolError(f"the disk does not do what is asked: {error.strerror}"))
    except MemoryError:
        return _error(RunnerBusyError("memory is exhausted; the series may be too large for this worker"))
    except Exception as error:  # noqa: BLE001  the edge of the process: the parent must learn of every failure
        if memory_ran_out(error):
            return _error(RunnerBusyError("the device's memory is exhausted"))
        return _error(SegmentationError(f"unexpected {type(error).__name__} {_place(error)}"))
    return {"result": result.model_dump(mode="json")}


def _work(request: SeriesRequest, models: LoadedModels, out: TextIO) -> SeriesResult:
    device = _device(request.device)

    def progress(stage: str, share: float) -> None:
        _say(out, {"stage": stage, "share": round(share, 3), "device": asdict(DeviceFacts.of(device))})

    progress("load", 0.0)
    begin = time.perf_counter()
    segmenter = models.get(request.segmenter, request.segmenter_settings, device)
    seconds = {"load": round(time.perf_counter() - begin, 4)}
    progress("load", 1.0)
    given_up = models.given_up
    result = models.with_room(lambda: work_on_series(request, segmenter, progress))
    summary = {**result.summary, "device": DeviceFacts.of(device).name}
    summary["seconds"] = {**seconds, **result.summary["seconds"]}
    if models.given_up != given_up:
        summary["memory"] = "memory ran out: other models were given up and the work was done again"
    return result.model_copy(update={"summary": summary})


def _place(error: Exception) -> str:
    """Where our code was; the error's own text stays out, since it may quote the data set."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    frames = ours or traceback.extract_tb(error.__traceback__)
    return f"at {Path(frames[-1].filename).stem}:{frames[-1].lineno}" if frames else ""


def _error(error: VesselqError) -> dict[str, Any]:
    log.warning("series failed", kind=type(error).__name__, reason=str(error))
    return {"error": type(error).__name__, "message": str(error)}


def _say(out: TextIO, message: dict[str, Any]) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()
