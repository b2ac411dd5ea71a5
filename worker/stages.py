"""What the child is doing and how long it took, by stage."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from worker.series_messages import StageCallback


class Stages:
    """Tells progress and adds up seconds by stage, of all parts of a series together."""

    def __init__(self, progress: StageCallback) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress

    @contextmanager
    def stage(self, name: str, step: int = 0, steps: int = 1) -> Iterator[Callable[[float], None]]:
        """Time a block; the block may tell its own finished share.

        Args:
            name: For the operator.
            step: How often the stage was passed already.
            steps: How often it will be passed in all.
        """
        self._progress(name, step / steps)
        begin = time.perf_counter()
        yield lambda share: self._progress(name, (step + share) / steps)
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - begin, 4)
