"""Group commit: lone senders do not wait, loads share one commit, failures release everybody."""

import errno
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from dicom_core.errors import SpoolError, SpoolFullError, UnavailableError
from dicom_core.spool import SpooledFile
from dicom_core.study import Association, ReceivedInstance, Registration
from dicom_listener.committer import Committer


def _instance(number: int) -> ReceivedInstance:
    return ReceivedInstance(
        association=Association("0" * 32, "1" * 32, "TESTER", "VESSELQ", "127.0.0.1"),
        study_instance_uid="1.2",
        series_instance_uid="1.2.3",
        sop_instance_uid=f"1.2.3.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        modality="CT",
        fingerprint=f"{number:064x}",
        size_bytes=100 + number,
        path=f"instances/{number:02x}/{number}.dcm",
    )


class _Storage:
    """A spool and a record that write down what happens in which order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, tuple[str, ...]]] = []
        self.commit_seconds = 0.0
        self.synchronise_error: Exception | None = None
        self.record_error: Exception | None = None
        self.poison = ""
        self.failures: list[SpoolError] = []

    def synchronise(self, files: Iterable[SpooledFile]) -> None:
        paths = tuple(file.path for file in files)
        if self.synchronise_error is not None:
            raise self.synchronise_error
        self.events.append(("synchronise", paths))

    def record(self, instances: Sequence[ReceivedInstance]) -> list[Registration]:
        time.sleep(self.commit_seconds)
        if self.record_error is not None:
            raise self.record_error
        if any(instance.sop_instance_uid == self.poison for instance in instances):
            raise ValueError("a value that the database does not take")
        self.events.append(("record", tuple(instance.path for instance in instances)))
        return [
            Registration.DUPLICATE if instance.sop_instance_uid.endswith("7") else Registration.STORED
            for instance in instances
        ]

    def committer(self, *, window_seconds: float = 0.002, batch: int = 64) -> Committer:
        return Committer(self, self.record, window_seconds=window_seconds, batch=batch, on_failure=self.failures.append)

    @property
    def groups(self) -> list[int]:
        return [len(paths) for event, paths in self.events if event == "record"]


def _many(committer: Committer, numbers: Iterable[int]) -> dict[int, Registration | Exception]:
    """Commit from one thread each, all started together."""
    numbers = list(numbers)
    barrier = threading.Barrier(len(numbers))

    def one(number: int) -> Registration | Exception:
        barrier.wait()
        try:
            return committer.commit(lambda: _instance(number))
        except Exception as error:  # noqa: BLE001  the outcome is looked at by the test
            return error

    with ThreadPoolExecutor(len(numbers)) as pool:
        return dict(zip(numbers, pool.map(one, numbers), strict=True))


def test_lone_commit_does_not_wait_for_the_window() -> None:
    """With nobody else on the way the window of ten seconds is not waited for."""
    storage = _Storage()
    committer = storage.committer(window_seconds=10)
    begun = time.monotonic()
    for number in range(20):
        committer.commit(lambda number=number: _instance(number))  # type: ignore[misc]
    assert time.monotonic() - begun < 2
    assert storage.groups == [1] * 20


def test_folders_are_synchronised_before_the_record_is_written() -> None:
    """The order of one group: keep, synchronise its folders, then one transaction with the same instances."""
    storage = _Storage()
    order: list[str] = []

    def keep() -> ReceivedInstance:
        order.append("keep")
        assert not storage.events
        return _instance(1)

    assert storage.committer().commit(keep) is Registration.STORED
    assert order == ["keep"]
    assert [event for event, _ in storage.events] == ["synchronise", "record"]
    assert storage.events[0][1] == storage.events[1][1] == ("instances/01/1.dcm",)


def test_load_is_gathered_into_few_groups() -> None:
    """Forty senders at once need far fewer than forty transactions, and each gets its own registration."""
    storage = _Storage()
    storage.commit_seconds = 0.02
    outcomes = _many(storage.committer(), range(40))
    assert len(storage.groups) <= 10
    assert sum(storage.groups) == 40
    for number, outcome in outcomes.items():
        assert outcome is (Registration.DUPLICATE if number % 10 == 7 else Registration.STORED), number


def test_groups_never_pass_the_batch() -> None:
    """No group is larger than ``batch`` and nobody is left behind."""
    storage = _Storage()
    storage.commit_seconds = 0.01
    outcomes = _many(storage.committer(batch=3), range(16))
    assert max(storage.groups) == 3
    assert len(outcomes) == 16
    assert not [outcome for outcome in outcomes.values() if isinstance(outcome, Exception)]


def test_leader_gathers_while_others_are_arriving() -> None:
    """An object whose bytes are being synchronised elsewhere is waited for within the window, and joins the group."""
    storage = _Storage()
    committer = storage.committer(window_seconds=5)
    arriving = threading.Event()

    def slow() -> ReceivedInstance:
        arriving.set()
        time.sleep(0.1)
        return _instance(1)

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(committer.commit, slow)
        arriving.wait(5)
        begun = time.monotonic()
        committer.commit(lambda: _instance(2))
        assert time.monotonic() - begun < 2
        assert other.result(5) is Registration.STORED
    assert storage.groups == [2]


def test_window_ends_the_wait_for_a_slow_disk() -> None:
    """A neighbour that takes longer than the window is not waited for."""
    storage = _Storage()
    committer = storage.committer(window_seconds=0.02)
    arriving, go_on = threading.Event(), threading.Event()

    def stuck() -> ReceivedInstance:
        arriving.set()
        go_on.wait(5)
        return _instance(1)

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(committer.commit, stuck)
        arriving.wait(5)
        committer.commit(lambda: _instance(2))
        assert storage.groups == [1]
        go_on.set()
        other.result(5)
    assert storage.groups == [1, 1]


@pytest.mark.parametrize("error", [UnavailableError("the database is locked"), SpoolFullError("the disk is full")])
def test_an_error_releases_all_and_is_not_final(error: Exception) -> None:
    """When the group fails every waiter gets the error, nothing is acknowledged, and the next group works again."""
    storage = _Storage()
    storage.commit_seconds = 0.01
    if isinstance(error, SpoolError):
        storage.synchronise_error = error
    else:
        storage.record_error = error
    committer = storage.committer()
    outcomes = _many(committer, range(8))
    assert all(outcome is error for outcome in outcomes.values())
    assert storage.groups == []
    storage.synchronise_error = storage.record_error = None
    assert committer.commit(lambda: _instance(1)) is Registration.STORED
    assert committer.failure is None
    assert storage.failures == []


def test_one_bad_instance_does_not_take_its_group_along() -> None:
    """An instance that the database does not take fails alone; its neighbours in the group are stored."""
    storage = _Storage()
    storage.commit_seconds = 0.02
    storage.poison = "1.2.3.5"
    outcomes = _many(storage.committer(window_seconds=0.05), range(10))
    assert isinstance(outcomes.pop(5), ValueError)
    assert all(isinstance(outcome, Registration) for outcome in outcomes.values())


def _input_output_error() -> SpoolError:
    error = SpoolError("a file in the spool cannot be made durable: Input/output error")
    error.__cause__ = OSError(errno.EIO, "Input/output error")
    return error


@pytest.mark.parametrize("where", ["file", "folder"])
def test_input_output_error_is_final(where: str) -> None:
    """After EIO of an fsync nothing is taken any more, fsync is not tried again, and the alarm is raised once."""
    storage = _Storage()
    committer = storage.committer()
    error = _input_output_error()
    calls: list[int] = []

    def keep() -> ReceivedInstance:
        calls.append(1)
        if where == "file":
            raise error
        return _instance(1)

    storage.synchronise_error = error if where == "folder" else None
    for _ in range(3):
        with pytest.raises(SpoolError):
            committer.commit(keep)
    storage.synchronise_error = None
    with pytest.raises(SpoolError):
        committer.commit(keep)
    assert len(calls) == 1
    assert storage.failures == [error]
    assert committer.failure is error
    assert storage.groups == []


def test_failing_keep_lets_the_leader_go_on() -> None:
    """A neighbour whose file cannot be kept is no longer waited for."""
    storage = _Storage()
    committer = storage.committer(window_seconds=5)
    arriving, go_on = threading.Event(), threading.Event()

    def fails() -> ReceivedInstance:
        arriving.set()
        go_on.wait(5)
        raise SpoolFullError("the disk is full")

    with ThreadPoolExecutor(2) as pool:
        failing = pool.submit(committer.commit, fails)
        arriving.wait(5)
        waiting = pool.submit(committer.commit, lambda: _instance(2))
        time.sleep(0.05)
        assert not waiting.done()
        go_on.set()
        begun = time.monotonic()
        assert waiting.result(5) is Registration.STORED
        assert time.monotonic() - begun < 2
        with pytest.raises(SpoolFullError):
            failing.result(5)


def test_sustained_load_loses_nobody() -> None:
    """Sixteen threads with fifty instances each: every commit returns, every instance is recorded exactly once."""
    storage = _Storage()
    committer = storage.committer()

    def sender(thread: int) -> int:
        done: list[Callable[[], ReceivedInstance]] = [
            (lambda number=thread * 50 + index: _instance(number))  # type: ignore[misc]
            for index in range(50)
        ]
        return sum(isinstance(committer.commit(keep), Registration) for keep in done)

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(sender, range(16))) == 800
    recorded = [path for event, paths in storage.events if event == "record" for path in paths]
    assert len(recorded) == len(set(recorded)) == 800


def test_whoever_waits_longest_leads_next() -> None:
    """Groups are taken in the order in which objects were handed over, each led by the first of its own."""
    storage = _Storage()
    leading, go_on, leaders = threading.Event(), threading.Event(), []
    record = storage.record

    def slow(instances: Sequence[ReceivedInstance]) -> list[Registration]:
        leading.set()
        go_on.wait(5)
        leaders.append((threading.current_thread().name, instances[0].sop_instance_uid))
        return record(instances)

    committer = Committer(storage, slow, window_seconds=0, batch=1, on_failure=storage.failures.append)
    threads = []
    for number in range(5):
        kept = threading.Event()

        def keep(number: int = number, kept: threading.Event = kept) -> ReceivedInstance:
            kept.set()
            return _instance(number)

        threads.append(threading.Thread(target=committer.commit, args=(keep,), name=f"1.2.3.{number}"))
        threads[-1].start()
        kept.wait(5)
        leading.wait(5)
        time.sleep(0.005)  # from ``keep`` to the hand-over
    go_on.set()
    for thread in threads:
        thread.join(5)
    assert leaders == [(f"1.2.3.{number}", f"1.2.3.{number}") for number in range(5)]
