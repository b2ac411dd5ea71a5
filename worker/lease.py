"""Keeping a claim alive while the work goes on."""

import threading
from collections.abc import Callable
from types import TracebackType

from dicom_core.errors import LeaseLostError, UnavailableError, VesselqError
from dicom_core.logs import get_logger

BEATS_PER_LEASE = 4
log = get_logger("lease")


class Lease:
    """Beats in a thread of its own while the ``with`` block runs.

    Args:
        heartbeat: Prolongs the claim in the record; raises LeaseLostError when it is gone.
        seconds: Length of the lease.
    """

    def __init__(self, heartbeat: Callable[[], None], seconds: float) -> None:
        self._heartbeat = heartbeat
        self._pause = seconds / BEATS_PER_LEASE
        self._over = threading.Event()
        self._lost: VesselqError | None = None
        self._thread = threading.Thread(target=self._beat, daemon=True, name="lease")

    @property
    def lost(self) -> VesselqError | None:
        """The error that says that somebody else has the work now, None while it is ours."""
        return self._lost

    def _beat(self) -> None:
        silent_beats = 0
        while not self._over.wait(self._pause):
            try:
                self._heartbeat()
                silent_beats = 0
            except LeaseLostError as error:
                self._lost = error
                return
            except UnavailableError as error:
                # the record is away: others will take the work once the lease is over, so stop just before
                silent_beats += 1
                log.warning("heartbeat failed", reason=str(error))
                if silent_beats >= BEATS_PER_LEASE:
                    self._lost = LeaseLostError("the record did not answer for the length of the lease")
                    return
            except Exception as error:  # noqa: BLE001  the edge of the thread: without beats the work must stop
                self._lost = LeaseLostError(f"the lease cannot be prolonged ({type(error).__name__})")
                return

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
