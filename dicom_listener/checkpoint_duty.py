"""The duty of the dispatcher to have the audit log signed: so often, after so many rows, and when it stops.

A checkpoint that cannot be made is an alarm in the log, and in the metrics and for the doctor by
``db.audit_signing.signing_state``; the log itself goes on. Each checkpoint goes into the process's own log as well:
where that is kept elsewhere it vouches for the audit log there, too.
"""

import time

from db.audit_checkpoints import CheckpointFile
from db.audit_signing import sign_checkpoint, signing_state
from db.session import Record
from dicom_core.errors import AuditError, ConfigurationError, VesselqError
from dicom_core.logs import get_logger
from dicom_core.settings import Settings

_LONGEST_PAUSE_SECONDS = 5.0
log = get_logger("dispatcher.checkpoints")


class CheckpointDuty:
    """Signs what waits. Two of them side by side do no harm.

    Attributes:
        pause_seconds: How long to wait between two looks.
    """

    def __init__(self, settings: Settings, record: Record) -> None:
        self._record = record
        self._file = CheckpointFile.of(settings)
        self._rows = settings.audit.checkpoint_rows
        self.pause_seconds = min(_LONGEST_PAUSE_SECONDS, settings.audit.checkpoint_seconds / 4)
        self._seconds = settings.audit.checkpoint_seconds - self.pause_seconds
        self._waiting_since: float | None = None
        self._alarmed = False

    def sign_when_due(self) -> None:
        """One look.

        Raises:
            AuditError: The log is broken, or the file cannot be written.
            ConfigurationError: The private key cannot be used.
            UnavailableError: The database does not answer.
        """
        try:
            if self._is_due():
                self._sign()
            self._alarmed = False
        except (AuditError, ConfigurationError) as error:
            if not self._alarmed:
                log.critical("no-checkpoint", problem=str(error))
            self._alarmed = True
            raise

    def sign_the_rest(self) -> None:
        """At the end of the process, whatever waits; there is nobody left to tell of a failure."""
        try:
            self._sign()
        except VesselqError as error:
            log.critical("no-checkpoint", problem=str(error))

    def _is_due(self) -> bool:
        state = signing_state(self._record, self._file)
        if state.last is not None and state.head_sequence < state.last.sequence:
            return True  # the end is gone: trying to sign says what happened
        if not state.waiting_rows:
            self._waiting_since = None
            return False
        # the clock of the database may be set back: then the own one counts
        self._waiting_since = self._waiting_since or time.monotonic()
        waited = max(state.waiting_seconds, time.monotonic() - self._waiting_since)
        return state.waiting_rows >= self._rows or waited >= self._seconds

    def _sign(self) -> None:
        made = sign_checkpoint(self._record, self._file)
        self._waiting_since = None
        if made is not None:
            log.info(
                "checkpoint",
                number=made.number,
                sequence=made.sequence,
                row_hash=made.row_hash,
                at=made.at,
                key=made.key,
                signature=made.signature,
            )
