"""Bringing spool and record into agreement when a listener starts.

Every listener holds a shared lock on ``listener.lock`` in the spool while it runs; the system lets it go when the
process ends in any way. Whoever gets the lock alone at its start knows that no other listener lives: unfinished files
and files without a row then belong to the dead and may go. With another listener alive they are left to it.
"""

import fcntl
import os
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from db import register
from db.processes import SILENT_AFTER_SECONDS
from db.session import Record
from dicom_core.errors import SpoolDamagedError, SpoolError
from dicom_core.logs import get_logger
from dicom_core.spool import Spool

SAMPLE_FILES, SAMPLE_BYTES = 64, 256 * 1024 * 1024
"""How much is read again at a start to find silent damage."""
_FEW_FILES = 10
_MANY_FILES = 100
RecordedFile = tuple[str, str, str]
"""SOP Instance UID, path, fingerprint."""
log = get_logger("listener.recovery")


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a recovery did.

    Attributes:
        parts_removed: Unfinished files of the dead.
        orphans_removed: Whole files that no row knows, so never acknowledged.
        orphans_kept: The same, left alone because there are more than a crash leaves: the record may be an old one.
        missing: Recorded instances whose file is gone.
        damaged: Recorded instances of the sample whose file has other content.
        associations_lost: Associations of dead listeners that were closed.
    """

    parts_removed: int = 0
    orphans_removed: int = 0
    orphans_kept: int = 0
    missing: int = 0
    damaged: int = 0
    associations_lost: int = 0


class SpoolLock:
    """The lock of one listener on its spool, held from construction to ``close`` or the end of the process.

    Attributes:
        alone: Whether no other listener held it at that moment; recovery is safe then, until ``share``.
    """

    def __init__(self, spool: Spool) -> None:
        path = spool.folder / "listener.lock"
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SpoolError(f"the spool folder {spool.folder} cannot be locked: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.alone = True
        except BlockingIOError:
            self.alone = False

    def share(self) -> None:
        """Hold it together with other listeners; waits while one of them recovers."""
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        self.alone = False

    def close(self) -> None:
        """Let it go."""
        os.close(self._descriptor)


def recover(record: Record, spool: Spool, *, alone: bool) -> Recovered:
    """Bring spool and record into agreement.

    Args:
        record: The record.
        spool: Prepared.
        alone: No other listener writes into the spool now.

    Raises:
        SpoolDamagedError: The spool folder is not the one that belongs to the record.
        UnavailableError: The database does not answer.
    """
    recorded = register.recorded_files(record)
    missing = _mark_missing(record, spool, recorded)
    damaged = _verify_sample(record, spool, [row for row in recorded if row[0] not in missing])
    parts = _remove_parts(spool) if alone else 0
    removed, kept = _remove_orphans(record, spool, len(recorded)) if alone else (0, 0)
    recovered = Recovered(
        parts_removed=parts,
        orphans_removed=removed,
        orphans_kept=kept,
        missing=len(missing),
        damaged=damaged,
        associations_lost=register.close_lost_associations(record, SILENT_AFTER_SECONDS),
    )
    log.info("spool-recovered", alone=alone, **asdict(recovered))
    return recovered


def _mark_missing(record: Record, spool: Spool, recorded: Sequence[RecordedFile]) -> set[str]:
    gone = [sop_instance_uid for sop_instance_uid, path, _ in recorded if not spool.path(path).is_file()]
    if len(gone) == len(recorded) >= _FEW_FILES:
        raise SpoolDamagedError(
            f"none of the {len(recorded)} recorded files is in {spool.folder}; mount the volume that holds the spool, "
            f"or set data_folder to where it is"
        )
    for sop_instance_uid in gone:
        log.critical("instance-missing", sop_instance_uid=sop_instance_uid)
        register.mark_missing(record, sop_instance_uid, "its file is not in the spool")
    return set(gone)


def _verify_sample(record: Record, spool: Spool, recorded: Sequence[RecordedFile]) -> int:
    """Read some files again, chosen by chance: at every start others."""
    damaged, left = 0, SAMPLE_BYTES
    for sop_instance_uid, path, fingerprint in random.sample(recorded, min(SAMPLE_FILES, len(recorded))):
        left -= spool.path(path).stat().st_size
        if left < 0:
            break
        try:
            spool.verify(path, fingerprint)
        except SpoolDamagedError as error:
            damaged += 1
            log.critical("instance-damaged", sop_instance_uid=sop_instance_uid)
            register.mark_missing(record, sop_instance_uid, str(error))
    return damaged


def _remove_parts(spool: Spool) -> int:
    parts = list(spool.unfinished_paths())
    for part in parts:
        part.unlink(missing_ok=True)
    return len(parts)


def _remove_orphans(record: Record, spool: Spool, recorded: int) -> tuple[int, int]:
    """Set files aside that no row knows: never acknowledged, unless this is not the record that knew them.

    Returns:
        How many were set aside and how many were left, being more than a crash can leave.
    """
    orphans = register.unrecorded_paths(record, spool.kept_paths())
    if len(orphans) > _MANY_FILES:
        log.critical("spool-not-known", orphans=len(orphans), recorded=recorded)
        return 0, len(orphans)
    for path in orphans:
        spool.set_aside(path)
    return len(orphans), 0
