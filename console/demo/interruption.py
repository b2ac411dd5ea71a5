"""Ctrl-C and SIGTERM end the demonstration wherever it is, and what it started ends with it."""

import signal
from types import FrameType


class Interruption:
    """Unwinds with the exit code of an interrupted program (130 or 143) from the moment at which it is made.

    An exception that a signal raises can be lost: in a finaliser, or in the ``except`` of an import that tries for a
    library. So the wish is remembered, and whoever waits for long asks for it.
    """

    def __init__(self) -> None:
        self._exit_code = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def unwind_if_wanted(self) -> None:
        """Go on, unless a signal came.

        Raises:
            SystemExit: One did; everything on the way cleans up.
        """
        if self._exit_code:
            raise SystemExit(self._exit_code)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._exit_code = 128 + number
        self.unwind_if_wanted()
