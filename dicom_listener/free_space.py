"""How much space is left for received objects, asked at most once a second."""

import threading
import time
from collections.abc import Callable

_FRESH_SECONDS = 1.0


class FreeSpace:
    """A cached look at the free bytes of the spool's file system."""

    def __init__(self, ask: Callable[[], int]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._free_bytes = 0

    @property
    def free_bytes(self) -> int:
        """Free bytes, not older than a second; 0 when the file system does not answer."""
        with self._lock:
            if time.monotonic() - self._asked_at >= _FRESH_SECONDS:
                try:
                    self._free_bytes = self._ask()
                except OSError:
                    self._free_bytes = 0
                self._asked_at = time.monotonic()
            return self._free_bytes
