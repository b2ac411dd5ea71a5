"""Group commit: many associations share one folder synchronisation and one transaction of the record.

Every thread makes its own file durable (in parallel) and hands over what it received. The first of those who wait
leads: it gathers, synchronises the folders, records the group, tells the others and wakes the next leader. Nobody is
woken for anything else. A lone sender never waits: the leader gathers only while other objects are on their way.

Files with a final name are never removed here, whatever fails: the same name may hold an instance that was acknowledged
before. What a failure leaves behind is replaced by the sender's next try or found by the recovery.
"""

import errno
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dicom_core.errors import SpoolError, UnavailableError, VesselqError
from dicom_core.spool import SpooledFile
from dicom_core.study import ReceivedInstance, Registration

RecordInstances = Callable[[Sequence[ReceivedInstance]], Sequence[Registration]]


class FolderSynchroniser(Protocol):
    """What is needed of the spool."""

    def synchronise(self, files: Iterable[SpooledFile]) -> None:
        """Make the names of ``files`` durable; raises SpoolError."""


@dataclass(slots=True, eq=False)
class _Waiter:
    instance: ReceivedInstance
    outcome: Registration | Exception | None = None
    woken: threading.Event = field(default_factory=threading.Event)
    """It has its outcome, or it leads now."""


class Committer:
    """Makes received instances durable and recorded, in groups.

    Attributes:
        failure: Why nothing is taken any more: the disk reported an input/output error. None while all is well. What an
            fsync that failed once has lost cannot be known, so it is never tried again.
    """

    def __init__(
        self,
        spool: FolderSynchroniser,
        record_instances: RecordInstances,
        *,
        window_seconds: float,
        batch: int,
        on_failure: Callable[[SpoolError], None],
    ) -> None:
        self._spool = spool
        self._record_instances = record_instances
        self._window_seconds = window_seconds
        self._batch = batch
        self._on_failure = on_failure
        self._arrived = threading.Condition()
        """What the leader waits for while it gathers; its lock guards the next three."""
        self._arriving = 0
        self._leading = False
        self._waiting: list[_Waiter] = []
        self.failure: SpoolError | None = None

    def commit(self, keep: Callable[[], ReceivedInstance]) -> Registration:
        """Make one instance durable and recorded; blocks until it is.

        Args:
            keep: Synchronises the bytes, gives the file its final name and says what was received. Called in this
                thread.

        Returns:
            What became of it. Only now may it be acknowledged.

        Raises:
            SpoolError: The disk does not take it.
            UnavailableError: The database does not take it.
        """
        waiter = self._hand_over(keep)
        waiter.woken.wait()
        if waiter.outcome is None:
            self._commit_group(self._gather())
        outcome = waiter.outcome
        if not isinstance(outcome, Registration):
            raise outcome or UnavailableError("the group commit was cut off")
        return outcome

    def _hand_over(self, keep: Callable[[], ReceivedInstance]) -> _Waiter:
        with self._arrived:
            if self.failure is not None:
                raise self.failure
            self._arriving += 1
        waiter = None
        try:
            waiter = _Waiter(keep())
        except SpoolError as error:
            self._note_failure(error)
            raise
        finally:
            with self._arrived:
                self._arriving -= 1
                if waiter is not None:
                    self._waiting.append(waiter)
                    if not self._leading:
                        self._leading = True
                        waiter.woken.set()
                self._arrived.notify()
        return waiter

    def _gather(self) -> list[_Waiter]:
        """The next group; the leader is its first."""
        with self._arrived:
            deadline = time.monotonic() + self._window_seconds
            while self._arriving and len(self._waiting) < self._batch:
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not self._arrived.wait(remaining):
                    break
            group, self._waiting = self._waiting[: self._batch], self._waiting[self._batch :]
            return group

    def _commit_group(self, group: list[_Waiter]) -> None:
        outcomes: Sequence[Registration | Exception] = [UnavailableError("the group commit was cut off")] * len(group)
        try:
            outcomes = self._outcomes(group)
        finally:
            for waiter, outcome in zip(group, outcomes, strict=True):
                waiter.outcome = outcome
            with self._arrived:
                self._leading = bool(self._waiting)
                next_leader = self._waiting[:1]
            for waiter in (*next_leader, *group):
                waiter.woken.set()

    def _outcomes(self, group: list[_Waiter]) -> Sequence[Registration | Exception]:
        instances = [waiter.instance for waiter in group]
        if self.failure is not None:
            return [self.failure] * len(group)
        try:
            self._spool.synchronise(
                SpooledFile(instance.path, instance.fingerprint, instance.size_bytes) for instance in instances
            )
            return self._record_instances(instances)
        except SpoolError as error:
            self._note_failure(error)
            return [error] * len(group)
        except VesselqError as error:
            return [error] * len(group)
        except Exception as error:  # noqa: BLE001  the edge of the group: one bad instance must not take the others along
            if len(group) == 1:
                return [error]
            return [self._outcomes([waiter])[0] for waiter in group]

    def _note_failure(self, error: SpoolError) -> None:
        cause = error.__cause__
        if self.failure is None and isinstance(cause, OSError) and cause.errno == errno.EIO:
            self.failure = error
            self._on_failure(error)
