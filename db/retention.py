"""What may be removed: source files of studies that are finished, results that were delivered long ago."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import exists, select, update

from db import audit
from db.audit import Event
from db.instance_states import PURGED, RECEIVED
from db.jobs import change_state
from db.models import Instance, JobRow, ResultRow, Study
from db.session import Record, Transaction
from dicom_core.job import FINISHED, JobState
from dicom_core.study import StudyState

_FILES_AT_ONCE = 100
"""Other writers wait while files are removed, so it is done in small parts."""


@dataclass(frozen=True, slots=True)
class PurgedStudy:
    """A study whose source files are no longer needed; the rows say so already, the files can go."""

    study_instance_uid: str
    paths: tuple[str, ...]


def purge_sources(record: Record, after_days: float, limit: int = 10) -> list[PurgedStudy]:
    """Mark the instances of long finished studies PURGED, and their DONE jobs with them.

    The rows change first: a crash before the files are removed leaves files without a row, which the listener removes
    at its next start.
    """
    unfinished = exists().where(
        JobRow.study_instance_uid == Study.study_instance_uid, JobRow.state.not_in(list(FINISHED))
    )
    kept = exists().where(Instance.study_instance_uid == Study.study_instance_uid, Instance.state == RECEIVED)
    with record.writing() as transaction:
        limit_time = transaction.now - timedelta(days=after_days)
        uids = transaction.session.scalars(
            select(Study.study_instance_uid)
            .where(Study.state == StudyState.COMPLETE, Study.completed_at < limit_time, ~unfinished, kept)
            .limit(limit)
        ).all()
        purged = []
        for uid in uids:
            paths = transaction.session.scalars(
                update(Instance)
                .where(Instance.study_instance_uid == uid, Instance.state == RECEIVED)
                .values(state=PURGED)
                .returning(Instance.path)
            ).all()
            done = select(JobRow).where(JobRow.study_instance_uid == uid, JobRow.state == JobState.DONE)
            for row in transaction.session.scalars(done).all():
                change_state(transaction, row, JobState.PURGED)
            audit.append(transaction, Event.SOURCES_PURGED, study_instance_uid=uid, detail={"instances": len(paths)})
            purged.append(PurgedStudy(uid, tuple(paths)))
        return purged


def remove_purged(record: Record, purged: PurgedStudy, remove: Callable[[str], None]) -> int:
    """Have the files of a purged study removed, but not those that were received again meanwhile.

    While it looks and removes nobody else writes, so that no instance is recorded between the two.

    Args:
        record: The record.
        purged: From ``purge_sources``.
        remove: Removes one file by its path in the spool.

    Returns:
        How many were removed.
    """
    removed = 0
    for first in range(0, len(purged.paths), _FILES_AT_ONCE):
        some = purged.paths[first : first + _FILES_AT_ONCE]
        with record.writing() as transaction:
            needed = set(
                transaction.session.scalars(
                    select(Instance.path).where(Instance.path.in_(some), Instance.state != PURGED)
                )
            )
            for path in some:
                if path not in needed:
                    remove(path)
                    removed += 1
    return removed


def results_to_remove(record: Record, after_days: float, limit: int = 100) -> list[str]:
    """Forget the kept files of jobs that ended long ago, and audit it; returns their paths in the results folder.

    A result that never reached all its destinations goes as well: its job becomes PURGED, so that sending the study
    again is a new try.
    """
    never_sent = (JobState.SEND_FAILED, JobState.CANCELLED)
    ended = (JobState.DONE, JobState.PURGED, JobState.SUPERSEDED, *never_sent)
    kept = exists().where(ResultRow.job_id == JobRow.job_id, ResultRow.path != "")
    with record.writing() as transaction:
        limit_time = transaction.now - timedelta(days=after_days)
        rows = transaction.session.scalars(
            select(JobRow).where(JobRow.state.in_(ended), JobRow.finished_at < limit_time, kept).limit(limit)
        ).all()
        paths = []
        for row in rows:
            paths += _forget_results(transaction, row)
            if row.state in never_sent:
                change_state(transaction, row, JobState.PURGED, f"its result was not sent for {after_days:g} days")
        return paths


def _forget_results(transaction: Transaction, row: JobRow) -> list[str]:
    paths = []
    for result in row.results:
        if result.path:
            paths.append(result.path)
            result.path = ""
            audit.append(
                transaction,
                Event.RESULT_REMOVED,
                study_instance_uid=row.study_instance_uid,
                job_id=row.job_id,
                detail={
                    "kind": result.kind,
                    "sop_instance_uid": result.sop_instance_uid,
                    "sha256": result.sha256,
                },
            )
    return paths
