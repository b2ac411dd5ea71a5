"""The hash beside the writing: always that of the bytes, whoever takes it, and nobody reads when it is over."""

import errno
import hashlib
import os
import random
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

from dicom_core.growing_hash import WORTH_A_THREAD_BYTES, GrowingHash, HashThreads

BEGIN = 150
LONG = random.Random(5).randbytes(3 * WORTH_A_THREAD_BYTES + 17)


class LazyPool:
    """Takes work like a pool whose threads are busy, and does it when the test says so."""

    def __init__(self) -> None:
        self.work: list[tuple[Future[None], object]] = []

    def submit(self, function) -> Future[None]:
        future: Future[None] = Future()
        self.work.append((future, function))
        return future

    def run(self) -> None:
        for future, function in self.work:
            if future.set_running_or_notify_cancel():
                function()
                future.set_result(None)
        self.work.clear()


@pytest.fixture
def file(tmp_path: Path):
    """A descriptor of a file that has a beginning which does not count."""
    descriptor = os.open(tmp_path / "growing", os.O_RDWR | os.O_CREAT)
    os.write(descriptor, bytes(BEGIN))
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def lazy() -> HashThreads:
    """Two cores, and threads that have not begun."""
    threads = HashThreads(cores=2)
    threads.pool = LazyPool()
    return threads


def _write(growing: GrowingHash, file: int, *pieces: bytes) -> None:
    os.writev(file, pieces)
    growing.written(pieces)


def _sha256(*pieces: bytes) -> str:
    return hashlib.sha256(b"".join(pieces)).hexdigest()


@pytest.mark.parametrize("cores", [1, 2])
def test_it_is_the_hash_of_all_that_was_written(file, cores):
    """However the bytes come, with a core to spare and without."""
    draw, threads = random.Random(cores), HashThreads(cores)
    growing, sent = GrowingHash(threads, file, BEGIN), []
    for _ in range(30):
        pieces = [draw.randbytes(draw.choice((0, 1, 999, WORTH_A_THREAD_BYTES, 100_000))) for _ in range(3)]
        _write(growing, file, *pieces)
        sent += pieces
    assert growing.hexdigest() == _sha256(*sent)
    assert growing.hexdigest() == _sha256(*sent)
    growing.stop()


def test_nothing_written_has_the_hash_of_nothing(file, lazy):
    """An object may be empty."""
    assert GrowingHash(lazy, file, BEGIN).hexdigest() == _sha256()


def test_few_bytes_are_hashed_at_once(file, lazy):
    """To wake a thread takes longer."""
    growing = GrowingHash(lazy, file, BEGIN)
    for _ in range(5):
        _write(growing, file, LONG[: WORTH_A_THREAD_BYTES - 1])
    assert lazy.pool.work == []
    assert growing.hexdigest() == _sha256(LONG[: WORTH_A_THREAD_BYTES - 1] * 5)


def test_with_as_many_objects_as_cores_each_hashes_for_itself(file, lazy):
    """And a thread helps again once an object has ended, told twice or not."""
    one, other = GrowingHash(lazy, file, BEGIN), GrowingHash(lazy, file, BEGIN)
    _write(one, file, LONG)
    assert lazy.pool.work == []
    other.stop()
    other.stop()
    _write(one, file, LONG)
    assert len(lazy.pool.work) == 1
    lazy.pool.run()
    assert one.hexdigest() == _sha256(LONG, LONG)


def test_work_that_has_not_begun_is_taken_back(file, lazy):
    """Whoever needs the hash does not wait for the work of others."""
    growing = GrowingHash(lazy, file, BEGIN)
    _write(growing, file, LONG)
    assert growing.hexdigest() == _sha256(LONG)
    assert lazy.pool.work[0][0].cancelled()


def test_few_bytes_behind_many_wait_for_those(file, lazy):
    """The order of the bytes is kept when the other thread is behind, when it has ended and at the end."""
    growing = GrowingHash(lazy, file, BEGIN)
    _write(growing, file, LONG)
    _write(growing, file, b"behind")
    lazy.pool.run()
    _write(growing, file, b"at once")
    assert lazy.pool.work == []
    _write(growing, file, LONG)
    _write(growing, file, b"last")
    assert growing.hexdigest() == _sha256(LONG, b"behind", b"at once", LONG, b"last")


def test_bytes_that_come_while_the_other_thread_ends_are_hashed_once(file, lazy):
    """The other thread has read all there was and is not done yet: what comes now is left to whoever looks next."""
    growing = GrowingHash(lazy, file, BEGIN)
    _write(growing, file, LONG)
    future, function = lazy.pool.work[0]
    future.set_running_or_notify_cancel()
    function()
    _write(growing, file, b"between")
    future.set_result(None)
    assert len(lazy.pool.work) == 1
    assert growing.hexdigest() == _sha256(LONG, b"between")


def test_a_file_that_lost_bytes_is_an_error_of_the_disk(file, lazy):
    """It must not be acknowledged, and nothing waits for bytes that never come."""
    growing = GrowingHash(lazy, file, BEGIN)
    _write(growing, file, LONG)
    os.ftruncate(file, BEGIN + 10)
    with pytest.raises(OSError, match="shorter") as caught:
        growing.hexdigest()
    assert caught.value.errno == errno.EIO


def test_an_error_of_the_other_thread_reaches_the_writer(file):
    """Not lost with the thread."""
    growing = GrowingHash(HashThreads(cores=2), file, BEGIN)
    os.writev(file, [b"short"])
    growing.written([LONG])  # more than is there
    with pytest.raises(OSError, match="shorter"):
        growing.hexdigest()
    growing.stop()


def test_after_stop_nobody_reads(file, monkeypatch):
    """Stopping waits for the read that is on its way: the descriptor may be another file's a moment later."""
    reading, go_on, reads = threading.Event(), threading.Event(), []

    def slow(_descriptor: int, size: int, _offset: int) -> bytes:
        reading.set()
        go_on.wait(5)
        reads.append(size)
        return bytes(size)

    growing = GrowingHash(HashThreads(cores=2), file, BEGIN)
    monkeypatch.setattr(os, "pread", slow)
    _write(growing, file, LONG)
    assert reading.wait(5)
    stopping = threading.Thread(target=growing.stop)
    stopping.start()
    stopping.join(0.05)
    assert stopping.is_alive()
    go_on.set()
    stopping.join(5)
    assert not stopping.is_alive()
    assert len(reads) == 1
