"""What the pipeline tells the record while the child works: the stage and its share, at most once a second."""

import time
from collections.abc import Callable

from dicom_core.errors import UnavailableError
from dicom_core.logs import get_logger

PAUSE_SECONDS = 1.0
"""Between two reports: each is a transaction, and nobody reads faster."""
log = get_logger("progress")


class ProgressReports:
    """Takes every message of the child and passes on the first, and later the latest of each second.

    Args:
        report: Writes one report into the record.
        clock: Seconds that only go forward.
    """

    def __init__(self, report: Callable[[str, float], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._report = report
        self._clock = clock
        self._latest: tuple[str, float] | None = None
        self._next_at = clock()

    def tell(self, stage: str, share: float) -> None:
        """Take a message; it is written now if none was lately."""
        self._latest = (stage, share)
        self.write_if_due()

    def write_if_due(self) -> None:
        """Write the latest message that was not, if the last one is long enough ago. To be called now and then."""
        if self._latest is None or self._clock() < self._next_at:
            return
        (stage, share), self._latest = self._latest, None
        try:
            self._report(stage, share)
        except UnavailableError as error:
            # the work goes on: whether it still counts is for the lease to find out
            log.warning("progress not written", reason=str(error))
        self._next_at = self._clock() + PAUSE_SECONDS
