"""The jobs of a generation of a study: which of those before it still count, adding the new ones."""

import uuid

from sqlalchemy import and_, exists, or_, select

from db import audit, jobs
from db.audit import Event
from db.models import DeliveryRow, JobRow
from db.session import Transaction
from dicom_core.errors import InvalidPromptError
from dicom_core.job import DeliveryState, Job, JobRequest, JobState
from dicom_core.prompt import Prompt
from dicom_core.study import StoredSeries

_COUNT_NO_MORE = (JobState.FAILED, JobState.SUPERSEDED, JobState.CANCELLED, JobState.PURGED)


def job_that_counts(transaction: Transaction, study_instance_uid: str, request: JobRequest) -> Job | None:
    """The job whose answer is that of the request: the newest one that came, or may come, to a result.

    It is about the same content, and asks the same. What a person asked stands above what the rules ask, as long as the
    content is the same; where it came to nothing, the job before it counts.
    """
    asks = _by_hand(request.prompt)
    for row in transaction.session.scalars(
        select(JobRow)
        .where(
            JobRow.study_instance_uid == study_instance_uid, JobRow.series_instance_uid == request.series_instance_uid
        )
        .order_by(JobRow.generation.desc(), JobRow.created_at.desc())
    ):
        by_hand, ended = _by_hand(row.prompt), row.state in _COUNT_NO_MORE
        if by_hand and ended and not asks:
            continue
        same = row.configuration_hash == request.configuration_hash or (by_hand and not asks)
        return jobs.as_job(row) if same and row.input_hash == request.input_hash and not ended else None
    return None


def _by_hand(stored: str) -> bool:
    try:
        return Prompt.from_stored(stored).by_hand
    except InvalidPromptError:  # of another release
        return False


def open_job(transaction: Transaction, request: JobRequest, series: StoredSeries, *, generation: int) -> Job:
    """Add the job of a new generation; those before it whose result nobody has are SUPERSEDED."""
    _supersede(transaction, series.study_instance_uid, request.series_instance_uid, generation)
    return _add(transaction, request, series, generation)


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


def _add(transaction: Transaction, request: JobRequest, series: StoredSeries, generation: int) -> Job:
    row = JobRow(
        job_id=uuid.uuid4().hex,
        study_instance_uid=series.study_instance_uid,
        series_instance_uid=request.series_instance_uid,
        generation=generation,
        modality=request.modality,
        rule=request.rule,
        segmenter=request.segmenter,
        prompt=request.prompt,
        destinations=list(request.destinations),
        wanted={name: list(kinds) for name, kinds in request.wanted.items()},
        priority=request.priority,
        queue_key=jobs.queue_key(transaction.now, request.priority),
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
        study_instance_uid=series.study_instance_uid,
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
