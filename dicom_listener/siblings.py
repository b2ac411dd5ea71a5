"""Several listener processes on one port: the first starts the others, starts them again, and ends with them.

All bind the port with SO_REUSEPORT, so that the kernel deals connections out. Each is a whole listener with its own
row in the record; limits hold for each. What they share is the record and the spool, which are made for that.
"""

import multiprocessing
import threading
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from dicom_core.logs import configure_logs, get_logger
from dicom_core.settings import Settings

_END_SECONDS = 15.0
"""How long a sibling may take to end, its open associations included."""
log = get_logger("listener.siblings")


class Siblings:
    """The further processes of a listener.

    Args:
        settings: Those of the first, with the port that it has bound.
        run: What a sibling does; a function of a module.
        count: How many there shall be.
    """

    def __init__(self, settings: Settings, run: Callable[[Settings, threading.Event], None], *, count: int) -> None:
        self._settings = settings
        self._run = run
        self._count = count
        self._context = multiprocessing.get_context("spawn")
        self._running: list[BaseProcess] = []

    def keep_up(self) -> None:
        """Start those that are missing; call it again now and then."""
        for ended in [one for one in self._running if not one.is_alive()]:
            log.warning("sibling-ended", exit_code=ended.exitcode)
            self._running.remove(ended)
        for _ in range(self._count - len(self._running)):
            sibling = self._context.Process(target=_live, args=(self._settings, self._run), name="listener")
            sibling.start()
            self._running.append(sibling)

    def stop(self) -> None:
        """Have all of them end, their open associations first."""
        for sibling in self._running:
            sibling.terminate()
        for sibling in self._running:
            sibling.join(_END_SECONDS)
            if sibling.is_alive():
                sibling.kill()
                sibling.join()
        self._running.clear()


def _live(settings: Settings, run: Callable[[Settings, threading.Event], None]) -> None:
    configure_logs("listener", settings.log_level)
    stop = threading.Event()
    threading.Thread(target=_end_with_the_first, args=(stop,), name="first-is-alive", daemon=True).start()
    run(settings, stop)


def _end_with_the_first(stop: threading.Event) -> None:
    first = multiprocessing.parent_process()
    if first is not None:
        wait([first.sentinel])
        stop.set()
