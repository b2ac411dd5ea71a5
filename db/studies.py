"""Studies: which are quiet, making them complete, segmenting one of their series again."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from sqlalchemy import exists, func, or_, select, update
from sqlalchemy.orm import Session

from db import audit
from db.audit import Event
from db.generations import job_that_counts, open_job
from db.instance_states import PURGED, RECEIVED
from db.models import AssociationRow, AssociationStudy, Instance, Series, Study
from db.session import Record
from dicom_core.errors import ConflictError, NotFoundError
from dicom_core.job import Job, JobRequest
from dicom_core.prompt import Prompt
from dicom_core.study import QuietStudy, StoredInstance, StoredSeries, StudyState, input_hash


def quiet_studies(record: Record, stable_after_seconds: float, limit: int = 20) -> list[QuietStudy]:
    """Studies in RECEIVING that no open association feeds and that were quiet for long enough, or are to close now."""
    limit_time = record.now() - timedelta(seconds=stable_after_seconds)
    fed = (
        select(AssociationStudy.association_id)
        .join(AssociationRow, AssociationRow.association_id == AssociationStudy.association_id)
        .where(AssociationStudy.study_instance_uid == Study.study_instance_uid, AssociationRow.closed_at.is_(None))
    )
    with record.reading() as session:
        rows = session.scalars(
            select(Study)
            .where(
                Study.state == StudyState.RECEIVING,
                or_(Study.close_requested, (Study.last_received_at <= limit_time) & ~exists(fed)),
            )
            .order_by(Study.last_received_at)
            .limit(limit)
        ).all()
        return [
            QuietStudy(
                row.study_instance_uid, row.generation, row.last_received_at, _series_of(session, row), row.revision
            )
            for row in rows
        ]


def _series_of(session: Session, study: Study) -> tuple[StoredSeries, ...]:
    not_purged = exists().where(
        Instance.study_instance_uid == Series.study_instance_uid,
        Instance.series_instance_uid == Series.series_instance_uid,
        Instance.state != PURGED,
    )
    rows = session.execute(
        select(Series, AssociationRow)
        .join(AssociationRow, AssociationRow.association_id == Series.last_association_id)
        .where(Series.study_instance_uid == study.study_instance_uid, not_purged)
        .order_by(Series.series_instance_uid)
    ).all()
    return tuple(
        StoredSeries(
            study_instance_uid=study.study_instance_uid,
            series_instance_uid=series.series_instance_uid,
            modality=series.modality,
            instances=_instances(
                session, study.study_instance_uid, series.series_instance_uid, until=study.generation + 1
            ),
            calling_ae_title=association.calling_ae_title,
            called_ae_title=association.called_ae_title,
            peer_address=association.peer_address,
            absent=_absent(session, series),
        )
        for series, association in rows
    )


def _absent(session: Session, series: Series) -> int:
    return session.scalars(
        select(func.count())
        .select_from(Instance)
        .where(
            Instance.study_instance_uid == series.study_instance_uid,
            Instance.series_instance_uid == series.series_instance_uid,
            Instance.state != RECEIVED,
        )
    ).one()


def _instances(
    session: Session, study_instance_uid: str, series_instance_uid: str, *, until: int
) -> tuple[StoredInstance, ...]:
    """The instances of one series that came up to a generation, ordered by SOP Instance UID."""
    rows = session.scalars(
        select(Instance)
        .where(
            Instance.study_instance_uid == study_instance_uid,
            Instance.series_instance_uid == series_instance_uid,
            Instance.state == RECEIVED,
            Instance.generation <= until,
        )
        .order_by(Instance.sop_instance_uid)
    )
    return tuple(
        StoredInstance(row.sop_instance_uid, row.sop_class_uid, row.transfer_syntax_uid, row.fingerprint, row.path)
        for row in rows
    )


def recent_series(record: Record, since: datetime, limit: int) -> Iterator[tuple[StoredSeries, ...]]:
    """The series of one study after the other, of those that began to arrive since then, the newest first.

    Args:
        record: The record.
        since: When the first instance came, at the earliest.
        limit: At most so many studies.
    """
    with record.reading() as session:
        uids = session.scalars(
            select(Study.study_instance_uid)
            .where(Study.first_received_at >= since)
            .order_by(Study.first_received_at.desc())
            .limit(limit)
        ).all()
    for uid in uids:
        with record.reading() as session:
            yield _series_of(session, session.get_one(Study, uid))


def source_of(record: Record, job: Job) -> tuple[StoredInstance, ...]:
    """The instances that a job works on: those of its generation, not what arrived later.

    Raises:
        NotFoundError: They have been purged.
    """
    with record.reading() as session:
        instances = _instances(session, job.study_instance_uid, job.series_instance_uid, until=job.generation)
    if not instances:
        raise NotFoundError("the source files of this job are no longer kept; send the study again")
    return instances


def close_now(record: Record, study_instance_uid: str) -> None:
    """Ask for a study to be complete at the dispatcher's next pass, whatever still feeds it.

    Raises:
        NotFoundError: No such study.
        ConflictError: It is complete already.
    """
    with record.writing() as transaction:
        study = transaction.session.get(Study, study_instance_uid)
        if study is None:
            raise NotFoundError(f"no study {study_instance_uid} was received")
        if study.state != StudyState.RECEIVING:
            raise ConflictError(f"study {study_instance_uid} is complete already")
        study.close_requested = True


def complete(record: Record, quiet: QuietStudy, requests: Sequence[JobRequest]) -> list[Job]:
    """Make a study COMPLETE and open its next generation, in one transaction.

    A series whose content and configuration are those of a job that still counts keeps that job; a FAILED job does not,
    so that sending a study again is a new try. What a person asked of the same content counts whatever the rules say.
    Jobs of earlier generations that have not sent anything are SUPERSEDED.

    Returns:
        The new jobs; empty as well when an instance arrived meanwhile and the study is not complete after all.
    """
    with record.writing() as transaction:
        changed = transaction.session.execute(
            update(Study)
            .where(
                Study.study_instance_uid == quiet.study_instance_uid,
                Study.state == StudyState.RECEIVING,
                Study.generation == quiet.generation,
                Study.revision == quiet.revision,
            )
            .values(
                state=StudyState.COMPLETE,
                generation=quiet.generation + 1,
                completed_at=transaction.now,
                close_requested=False,
            )
            .returning(Study.study_instance_uid)
        ).one_or_none()
        if changed is None:
            return []
        audit.append(
            transaction,
            Event.STUDY_COMPLETE,
            study_instance_uid=quiet.study_instance_uid,
            detail={
                "generation": quiet.generation + 1,
                "series": len(quiet.series),
                "instances": sum(len(series.instances) for series in quiet.series),
            },
        )
        senders = {series.series_instance_uid: series for series in quiet.series}
        created = []
        for request in requests:
            if job_that_counts(transaction, quiet.study_instance_uid, request) is None:
                series = senders[request.series_instance_uid]
                created.append(open_job(transaction, request, series, generation=quiet.generation + 1))
        return created


def series_to_run_again(record: Record, study_instance_uid: str, series_instance_uid: str) -> StoredSeries:
    """One series of a complete study, as it would be segmented now.

    Raises:
        NotFoundError: No such study or series.
        ConflictError: The study is being received, or the files of the series are no longer kept.
    """
    with record.reading() as session:
        study = _complete_study(session, study_instance_uid)
        if session.get(Series, (study_instance_uid, series_instance_uid)) is None:
            raise NotFoundError(f"study {study_instance_uid} has no series {series_instance_uid}")
        found = [one for one in _series_of(session, study) if one.series_instance_uid == series_instance_uid]
    if not found or found[0].absent or not found[0].instances:
        raise ConflictError(f"files of series {series_instance_uid} are no longer kept; send it again first")
    return found[0]


def run_again(
    record: Record, series: StoredSeries, request: JobRequest, *, by: str, address: str = "", reason: str = ""
) -> Job:
    """Open the next generation of a complete study with one job, for the series that somebody asks about.

    The other series keep their jobs and results. What was not sent of this series yet is SUPERSEDED. The same question
    about the same content is not asked twice: the job that answers it, or will, is returned.

    Args:
        record: The record; its ``user`` is who asks where that is known.
        series: From ``series_to_run_again``.
        request: QUEUED, with what is asked.
        by: What the person used: ``console``, ``web``.
        address: From where.
        reason: Why, "" where nobody was asked.

    Raises:
        NotFoundError: No such study.
        ConflictError: The study is being received again, or the files of the series have changed or gone meanwhile.
    """
    uid = series.study_instance_uid
    with record.writing() as transaction:
        study = _complete_study(transaction.session, uid)
        instances = _instances(transaction.session, uid, series.series_instance_uid, until=study.generation)
        if input_hash(instances) != request.input_hash:
            raise ConflictError(f"the files of series {series.series_instance_uid} have changed meanwhile; ask again")
        if (job := job_that_counts(transaction, uid, request)) is not None:
            return job
        study.generation += 1
        prompt = Prompt.from_stored(request.prompt)
        audit.append(
            transaction,
            Event.RUN_REQUESTED,
            address=address,
            study_instance_uid=uid,
            detail={
                "by": by,
                "series_instance_uid": series.series_instance_uid,
                "generation": study.generation,
                "segmenter": request.segmenter,
                "prompt": prompt.in_words(),
                "semiautomatic": prompt.by_hand,
                **({"reason": reason} if reason else {}),
            },
        )
        return open_job(transaction, request, series, generation=study.generation)


def _complete_study(session: Session, study_instance_uid: str) -> Study:
    study = session.get(Study, study_instance_uid)
    if study is None:
        raise NotFoundError(f"no study {study_instance_uid} was received")
    if study.state != StudyState.COMPLETE:
        raise ConflictError(
            f"study {study_instance_uid} is being received; wait until it is complete, or close it "
            "(`vesselq studies close`)"
        )
    return study
