"""What may be removed: source files of studies that are finished, results that were delivered long ago."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import exists, select, update

from db import audit
from db.audit import Event
from db.models import Instance, JobRow, Study
from db.register import PURGED, RECEIVED
from db.session import Record
from dicom_core.job import FINISHED, JobState
from dicom_core.study import StudyState


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
            transaction.session.execute(
                update(JobRow)
                .where(JobRow.study_instance_uid == uid, JobRow.state == JobState.DONE)
                .values(state=JobState.PURGED, updated_at=transaction.now)
            )
            audit.append(transaction, Event.SOURCES_PURGED, study_instance_uid=uid, detail={"instances": len(paths)})
            purged.append(PurgedStudy(uid, tuple(paths)))
        return purged


def results_to_remove(record: Record, after_days: float, limit: int = 100) -> list[str]:
    """Forget the kept files of results that ended long ago; returns their paths in the results folder."""
    with record.writing() as transaction:
        limit_time = transaction.now - timedelta(days=after_days)
        rows = transaction.session.scalars(
            select(JobRow)
            .where(
                JobRow.state.in_([JobState.DONE, JobState.PURGED, JobState.SUPERSEDED]),
                JobRow.finished_at < limit_time,
                JobRow.result_path != "",
            )
            .limit(limit)
        ).all()
        paths = [row.result_path for row in rows]
        for row in rows:
            row.result_path = ""
        return paths
