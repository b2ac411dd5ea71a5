"""What the list of studies says of all studies: asked once for all browsers that look, not once for each.

Every change makes every open list fetch itself again at the same time, and these answers come from whole indices and
tables: with 300,000 studies they take longer than all the rest of the page.
"""

import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

from db import jobs, live_changes, study_lists
from db.session import Record

Answer = TypeVar("Answer")
MODALITIES_SECONDS = 60.0
"""So long a modality that was never received before may be missing among the filters."""


class Remembered(Generic[Answer]):
    """An answer that is as good as long as something else did not change.

    Args:
        ask: Gives the answer.
    """

    def __init__(self, ask: Callable[[], Answer]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._known: tuple[Hashable, Answer] | None = None

    def at(self, state: Hashable) -> Answer:
        """The answer where this is how things stand; who comes while it is being found waits for it."""
        with self._lock:
            if self._known is None or self._known[0] != state:
                self._known = (state, self._ask())
            return self._known[1]


class ListFacts:
    """The answers of one process.

    Args:
        record: Read.
        clock: Seconds that never go back.
    """

    def __init__(self, record: Record, clock: Callable[[], float] = time.monotonic) -> None:
        self._record = record
        self._clock = clock
        self._counts = Remembered(lambda: jobs.counts_by_state(record))
        self._modalities = Remembered(lambda: study_lists.modalities(record))

    def counts(self) -> Mapping[str, int]:
        """How many jobs are in each state: counted anew when the audit log, which tells every change, has grown."""
        return self._counts.at(live_changes.head(self._record))

    def modalities(self) -> Sequence[str]:
        """Every modality that was received, as of a minute ago at the earliest."""
        return self._modalities.at(int(self._clock() / MODALITIES_SECONDS))
