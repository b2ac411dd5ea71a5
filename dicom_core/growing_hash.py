"""SHA-256 over a file that is still being written, beside the writing where a core is free for it.

hashlib and the system calls let other threads run. While the next bytes of a lone sender are on their way and while the
disk takes the last ones, another thread hashes those that are in the file already. It reads them back, from memory
mostly, so that nobody has to keep the buffers they came in. With as many senders as cores there is nothing to win by
that, and each hashes for itself.
"""

import errno
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

WORTH_A_THREAD_BYTES = 64 * 1024
"""Fewer are hashed before another thread has begun."""
_PIECE_BYTES = 64 * 1024
_CORES = len(os.sched_getaffinity(0))


class HashThreads:
    """The threads that hash beside; they start with the first long object.

    Args:
        cores: How many objects at once leave none of them free.
    """

    def __init__(self, cores: int = _CORES) -> None:
        self.pool = ThreadPoolExecutor(max_workers=cores, thread_name_prefix="hash")
        self._cores = cores
        self._objects: set[GrowingHash] = set()

    @property
    def free(self) -> bool:
        """Whether a core is left by those that receive."""
        return len(self._objects) < self._cores

    def begun(self, growing: "GrowingHash") -> None:
        """One more object is being received."""
        self._objects.add(growing)

    def ended(self, growing: "GrowingHash") -> None:
        """It is not any more; harmless when it is told again."""
        self._objects.discard(growing)


class GrowingHash:
    """The hash over what is written into a file from some byte on. Used by the one thread that writes.

    Args:
        threads: Who hashes beside.
        descriptor: Of the file, open for reading as well.
        begin: Position of the first byte that counts.
    """

    def __init__(self, threads: HashThreads, descriptor: int, begin: int) -> None:
        self._threads = threads
        self._descriptor = descriptor
        self._digest = hashlib.sha256()
        self._hashed = self._written = begin
        self._beside: Future[None] | None = None
        threads.begun(self)

    def written(self, pieces: Sequence[bytes | memoryview]) -> None:
        """These bytes are in the file now, behind all others."""
        size = sum(map(len, pieces))
        resting = self._beside is None or self._beside.done()
        up_to_date = resting and self._hashed == self._written
        if up_to_date and (size < WORTH_A_THREAD_BYTES or not self._threads.free):
            for piece in pieces:
                self._digest.update(piece)
            self._hashed += size
        self._written += size  # last: from here on another thread may read them
        if resting and self._hashed < self._written:
            self._beside = self._threads.pool.submit(self._catch_up)

    def hexdigest(self) -> str:
        """The hash over all that was written.

        Raises:
            OSError: The bytes cannot be read back.
        """
        if self._beside is not None and not self._beside.cancel():
            self._beside.result()
        self._catch_up()
        return self._digest.hexdigest()

    def stop(self) -> None:
        """Return once nobody reads from the descriptor any more."""
        self._threads.ended(self)
        self._written = 0
        if self._beside is not None and not self._beside.cancel():
            wait([self._beside])

    def _catch_up(self) -> None:
        while (left := self._written - self._hashed) > 0:
            piece = os.pread(self._descriptor, min(left, _PIECE_BYTES), self._hashed)
            if not piece:
                raise OSError(errno.EIO, "the file is shorter than what was written into it")
            self._digest.update(piece)
            self._hashed += len(piece)
