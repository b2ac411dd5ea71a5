"""The child process: what it costs when it dies, hangs, grows or is not wanted any more."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dicom_sources
import psutil
import pytest
import worker_bench

from dicom_core.errors import (
    DamagedSourceError,
    DeadlineError,
    LeaseLostError,
    NotFoundError,
    RunnerBusyError,
    RunnerDiedError,
    SegmentationError,
    VesselqError,
)
from dicom_core.result import ResultKind
from dicom_core.setting_tables import GIB, WorkerSettings
from worker.runner import Runner
from worker.segmenters.interface import Status
from worker.series_messages import SeriesRequest, SeriesResult, object_file

SEGMENTATION_FILE = object_file(ResultKind.SEG)


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    """One for all tests: after a test that ended its child it starts another by itself."""
    with worker_bench.kept_runner() as kept:
        yield kept


@pytest.fixture
def source(tmp_path: Path) -> list[Path]:
    return dicom_sources.save(dicom_sources.ct_series(frames=3, rows=16, columns=24), tmp_path / "source")


def request_for(paths: list[Path], out: Path, **model: object) -> SeriesRequest:
    out.mkdir(exist_ok=True)
    return SeriesRequest(
        paths=tuple(paths),
        segmenter="faulty",
        segmenter_settings={"faulty": model},
        device="cpu",
        decoded_limit_bytes=GIB,
        uid_scope=("site", "study"),
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
        series_number=9001,
        software_version="0",
        output_folder=out,
    )


def run(runner: Runner, request: SeriesRequest) -> SeriesResult:
    return runner.run(request, progress=lambda _stage, _share: None, interruption=lambda: None)


def test_result_lies_in_output_folder(runner: Runner, source: list[Path], tmp_path: Path) -> None:
    """A series becomes a SEG file whose hash is reported, with every stage timed and reported as progress."""
    stages: list[str] = []
    result = runner.run(
        request_for(source, tmp_path / "out"),
        progress=lambda stage, _share: stages.append(stage),
        interruption=lambda: None,
    )
    assert result.status is Status.OK
    assert (tmp_path / "out" / SEGMENTATION_FILE).is_file()
    assert result.summary["frames"] == 3
    expected = ["load", "read", "decode", "segment", "draw", "encode", "validate", "preview"]
    assert list(result.summary["seconds"]) == expected
    assert list(dict.fromkeys(stages)) == expected
    assert result.summary["device"] == runner.device == "cpu"


def test_resources_of_the_worker_are_known(runner: Runner, source: list[Path], tmp_path: Path) -> None:
    """Device and resident memory of parent and child; without a child there is nothing to say of it."""
    run(runner, request_for(source, tmp_path / "a"))
    found = runner.resources()
    assert (found["device"], found["device_memory_used_bytes"]) == ("cpu", None)
    assert min(found["child_resident_bytes"], found["resident_bytes"]) > 10_000_000
    runner.stop()
    assert runner.resources()["child_resident_bytes"] is None
    assert Runner(WorkerSettings()).resources()["device"] == ""


def test_rebuild_is_byte_identical(runner: Runner, source: list[Path], tmp_path: Path) -> None:
    """The same request gives the same bytes under the same UIDs, in another child too."""
    first = run(runner, request_for(source, tmp_path / "a"))
    runner.stop()
    second = run(runner, request_for(source, tmp_path / "b"))
    assert first.objects == second.objects != ()
    assert (tmp_path / "a" / SEGMENTATION_FILE).read_bytes() == (tmp_path / "b" / SEGMENTATION_FILE).read_bytes()


def test_child_is_kept_for_the_next_series(runner: Runner, source: list[Path], tmp_path: Path) -> None:
    """The model is loaded once: two series, one child."""
    run(runner, request_for(source, tmp_path / "a"))
    pid = runner.child_pid
    run(runner, request_for(source, tmp_path / "b"))
    assert runner.child_pid == pid


def test_dead_child_is_noticed_and_replaced(runner: Runner, source: list[Path], tmp_path: Path) -> None:
    """A child that dies is told from a failure of the series, at once, and the next series finds another child."""
    with pytest.raises(RunnerDiedError, match="ended with 9"):
        run(runner, request_for(source, tmp_path / "a", mode="die"))
    assert run(runner, request_for(source, tmp_path / "b")).status is Status.OK


def test_killed_child_is_named_by_its_signal(runner: Runner, source: list[Path], tmp_path: Path) -> None:
    """SIGKILL from outside, as the kernel's out-of-memory killer sends it, is reported as such."""
    run(runner, request_for(source, tmp_path / "a"))
    seen: list[VesselqError | None] = []

    def kill_once() -> VesselqError | None:
        if not seen:
            seen.append(None)
            psutil.Process(runner.child_pid).kill()
        return None

    with pytest.raises(RunnerDiedError, match="signal 9"):
        runner.run(
            request_for(source, tmp_path / "b", seconds=30), progress=lambda _s, _p: None, interruption=kill_once
        )


def test_hanging_child_meets_the_deadline(
    runner: Runner, source: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segmenter that never returns is ended at the deadline, child and all."""
    run(runner, request_for(source, tmp_path / "warm"))
    monkeypatch.setattr(runner, "_settings", WorkerSettings(deadline_seconds=1, threads=1))
    pid = runner.child_pid
    begin = time.monotonic()
    with pytest.raises(DeadlineError, match="1 s"):
        run(runner, request_for(source, tmp_path / "a", mode="hang"))
    assert time.monotonic() - begin < 10
    assert not psutil.pid_exists(pid or 0)
    assert runner.child_pid is None


def test_interruption_ends_the_child(runner: Runner, source: list[Path], tmp_path: Path) -> None:
    """A lost lease stops the work: the error comes through and nothing computes on."""
    with pytest.raises(LeaseLostError):
        runner.run(
            request_for(source, tmp_path / "a", mode="hang"),
            progress=lambda _s, _p: None,
            interruption=lambda: LeaseLostError("gone"),
        )
    assert runner.child_pid is None


def test_memory_limit_costs_one_attempt(
    runner: Runner, source: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A series that wants more memory than the child may have ends in a retryable error and a fresh child."""
    runner.stop()
    monkeypatch.setattr(runner, "_settings", WorkerSettings(deadline_seconds=60, threads=1, memory_limit_bytes=8 * GIB))
    with pytest.raises(RunnerBusyError, match="memory"):
        run(runner, request_for(source, tmp_path / "a", mode="allocate"))
    assert runner.child_pid is None
    assert run(runner, request_for(source, tmp_path / "b")).status is Status.OK


def test_reported_errors_keep_their_class(runner: Runner, source: list[Path], tmp_path: Path) -> None:
    """What the child raises arrives as the same class of the tree, and the child lives on."""
    source[1].write_bytes(source[1].read_bytes()[:600])
    with pytest.raises(DamagedSourceError):
        run(runner, request_for(source, tmp_path / "a"))
    assert runner.child_pid is not None


def test_unexpected_errors_tell_no_values(runner: Runner, source: list[Path], tmp_path: Path) -> None:
    """An error that nobody foresaw is named by class and place; its text may hold patient data and stays out."""
    with pytest.raises(SegmentationError, match=r"unexpected KeyError at faulty_segmenter:\d+") as caught:
        run(runner, request_for(source, tmp_path / "a", mode="raise"))
    assert "Secret" not in str(caught.value)


def test_unknown_segmenter_is_named(runner: Runner, source: list[Path], tmp_path: Path) -> None:
    """A rule that names no known segmenter ends in words that list the known ones."""
    request = request_for(source, tmp_path / "a").model_copy(update={"segmenter": "no-such"})
    with pytest.raises(NotFoundError, match="ridge"):
        run(runner, request)


def test_child_that_does_not_listen_meets_the_deadline(
    runner: Runner, source: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request far longer than a pipe holds does not block the worker when the child does not read it."""
    run(runner, request_for(source, tmp_path / "a"))
    monkeypatch.setattr(runner, "_settings", WorkerSettings(deadline_seconds=1, threads=1))
    psutil.Process(runner.child_pid).suspend()
    with pytest.raises(DeadlineError):
        run(runner, request_for(source * 2000, tmp_path / "b"))
    assert runner.child_pid is None


def test_child_is_told_no_secrets(
    runner: Runner, source: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that decodes pixels does not have our variables: they hold passwords of database and destinations."""
    monkeypatch.setenv("VESSELQ_DATABASE_URL", "postgresql://vesselq:secret@nowhere/vesselq")
    runner.stop()  # the next child is started with it
    run(runner, request_for(source, tmp_path / "a"))
    names = psutil.Process(runner.child_pid).environ()
    assert "PATH" in names
    assert [name for name in names if name.startswith("VESSELQ_")] == []


def test_child_is_recycled_after_its_jobs(
    runner: Runner, source: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the configured number of jobs another child takes over."""
    runner.stop()
    monkeypatch.setattr(runner, "_settings", WorkerSettings(recycle_after_jobs=2, threads=1))
    run(runner, request_for(source, tmp_path / "first"))
    assert runner.child_pid is not None
    run(runner, request_for(source, tmp_path / "a"))
    assert runner.child_pid is None


def test_child_ends_with_its_parent(runner: Runner, source: list[Path], tmp_path: Path) -> None:
    """When the pipe to the parent breaks, as it does when the parent is killed, the child ends by itself."""
    run(runner, request_for(source, tmp_path / "a"))
    child = runner._child
    assert child is not None
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(10) == 0
