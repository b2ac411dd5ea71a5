"""Studies: which are quiet, making them complete, opening the next generation of jobs."""

import uuid
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import and_, exists, func, or_, select, update
from sqlalchemy.orm import Session

from db import audit, jobs
from db.audit import Event
from db.models import AssociationRow, AssociationStudy, DeliveryRow, Instance, JobRow, Series, Study
from db.register import PURGED, RECEIVED
from db.session import Record, Transaction
from dicom_core.errors import ConflictError, NotFoundError
from dicom_core.job import DeliveryState, Job, JobRequest, JobState
from dicom_core.study import QuietStudy, StoredInstance, StoredSeries, StudyState

AGEING_SECONDS_PER_POINT = 144.0
"""One point of priority counts as this much waiting: STAT (100) overtakes what has waited up to four hours, no more."""


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
        StoredInstance(row.sop_instance_uid, row.sop_class_uid, row.transfer_syntax_uid, row.sha256, row.path)
        for row in rows
    )


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
    so that sending a study again is a new try. Jobs of earlier generations that have not sent anything are SUPERSEDED.

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
            if _still_counts(transaction, quiet.study_instance_uid, request):
                continue
            _supersede(transaction, quiet.study_instance_uid, request.series_instance_uid, quiet.generation + 1)
            created.append(_add(transaction, quiet, request, senders[request.series_instance_uid]))
        return created


def _still_counts(transaction: Transaction, study_instance_uid: str, request: JobRequest) -> bool:
    latest = transaction.session.scalars(
        select(JobRow)
        .where(
            JobRow.study_instance_uid == study_instance_uid, JobRow.series_instance_uid == request.series_instance_uid
        )
        .order_by(JobRow.generation.desc(), JobRow.created_at.desc())
        .limit(1)
    ).one_or_none()
    return (
        latest is not None
        and latest.input_hash == request.input_hash
        and latest.configuration_hash == request.configuration_hash
        and latest.state not in (JobState.FAILED, JobState.SUPERSEDED, JobState.CANCELLED, JobState.PURGED)
    )


def _supersede(transaction: Transaction, study_instance_uid: str, series_instance_uid: str, generation: int) -> None:
    """End older jobs whose result nobody has: a job in SENDING too, as long as nothing of it is sent or on its way."""
    begun = exists().where(
        DeliveryRow.job_id == JobRow.job_id, DeliveryRow.state.in_([DeliveryState.SENDING, DeliveryState.SENT])
    )
    states = [JobState.QUEUED, JobState.RUNNING, JobState.SEG_READY, JobState.SEND_FAILED]
    for row in transaction.session.scalars(
        select(JobRow).where(
            JobRow.study_instance_uid == study_instance_uid,
            JobRow.series_instance_uid == series_instance_uid,
            JobRow.generation < generation,
            or_(JobRow.state.in_(states), and_(JobRow.state == JobState.SENDING, ~begun)),
        )
    ).all():
        jobs.end(transaction, row, JobState.SUPERSEDED, f"generation {generation} of the study replaced it")


def _add(transaction: Transaction, quiet: QuietStudy, request: JobRequest, series: StoredSeries) -> Job:
    row = JobRow(
        job_id=uuid.uuid4().hex,
        study_instance_uid=quiet.study_instance_uid,
        series_instance_uid=request.series_instance_uid,
        generation=quiet.generation + 1,
        modality=request.modality,
        rule=request.rule,
        segmenter=request.segmenter,
        prompt=request.prompt,
        destinations=list(request.destinations),
        wanted={name: list(kinds) for name, kinds in request.wanted.items()},
        priority=request.priority,
        queue_key=transaction.now.timestamp() - request.priority * AGEING_SECONDS_PER_POINT,
        input_hash=request.input_hash,
        configuration_hash=request.configuration_hash,
        calling_ae_title=series.calling_ae_title,
        peer_address=series.peer_address,
        state=request.state,
        reason=request.reason,
        attempts=0,
        fence=0,
        created_at=transaction.now,
        updated_at=transaction.now,
        finished_at=transaction.now if request.state is JobState.SKIPPED else None,
    )
    transaction.session.add(row)
    transaction.session.flush()
    skipped = request.state is JobState.SKIPPED
    audit.append(
        transaction,
        Event.JOB_SKIPPED if skipped else Event.JOB_QUEUED,
        study_instance_uid=quiet.study_instance_uid,
        job_id=row.job_id,
        detail={
            "series_instance_uid": request.series_instance_uid,
            "generation": row.generation,
            "rule": request.rule,
            **(
                {"reason": request.reason}
                if skipped
                else {"segmenter": request.segmenter, "priority": request.priority}
            ),
        },
    )
    return jobs.as_job(row)
