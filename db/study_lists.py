"""The list of studies: what the record says of each in one line, and searching among them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from db.models import AssociationRow, AssociationStudy, Instance, JobProgress, JobRow, ResultRow, Series, Study
from db.session import Record
from dicom_core.errors import NotFoundError
from dicom_core.job import FINISHED, JobState
from dicom_core.study import StudyState

STATES_OF: Mapping[str, frozenset[JobState]] = {
    "open": frozenset(JobState) - FINISHED,
    "failed": frozenset({JobState.FAILED, JobState.SEND_FAILED}),
    "without-result": frozenset({JobState.SKIPPED, JobState.NO_VESSEL_FOUND, JobState.CANCELLED}),
    "done": frozenset({JobState.DONE, JobState.PURGED}),
}
"""What people look for, by word: states of current jobs. A study that is being received is open as well."""


@dataclass(frozen=True, slots=True)
class JobLine:
    """A current job in the list of studies.

    Attributes:
        share: Of the stage, 0 to 1, while it runs.
        stage: What a worker is doing with it, "" when none is.
    """

    job_id: str
    state: JobState
    reason: str
    modality: str
    rule: str
    segmenter: str
    model: str
    model_version: str
    priority: int
    created_at: datetime
    finished_at: datetime | None
    stage: str
    share: float


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What is known of a study before its jobs.

    Attributes:
        modalities: Of its series, sorted.
        calling_ae_title: Of one of the associations that brought it.
    """

    study_instance_uid: str
    state: StudyState
    generation: int
    modalities: tuple[str, ...]
    series: int
    instances: int
    first_received_at: datetime
    last_received_at: datetime
    completed_at: datetime | None
    calling_ae_title: str


@dataclass(frozen=True, slots=True)
class StudyLine(StudyFacts):
    """One study in the list.

    Attributes:
        jobs: Those that count: the newest of each series.
    """

    patient_hash: str
    jobs: tuple[JobLine, ...]


@dataclass(frozen=True, slots=True)
class StudySearch:
    """What to look for; empty fields match everything.

    Attributes:
        uid: Beginning of a StudyInstanceUID, or the whole SOPInstanceUID of a source or a result.
        ae_title: Of an association that brought some of it.
        state: A state of studies or jobs, or a word of ``STATES_OF``.
        modality: Of one of its series.
        since: First received from this time on.
        before: First received and StudyInstanceUID of the last one of the page before.
        limit: At most so many.
    """

    uid: str = ""
    ae_title: str = ""
    state: str = ""
    modality: str = ""
    since: datetime | None = None
    before: tuple[datetime, str] | None = None
    limit: int = 50


def search(record: Record, wanted: StudySearch) -> list[StudyLine]:
    """Studies that fit, those first received last come first."""
    statement = select(Study).order_by(Study.first_received_at.desc(), Study.study_instance_uid.desc())
    conditions = [condition for condition in _conditions(wanted) if condition is not None]
    with record.reading() as session:
        return lines(session, session.scalars(statement.where(*conditions).limit(wanted.limit)).all())


def one(record: Record, study_instance_uid: str) -> StudyLine:
    """One study.

    Raises:
        NotFoundError: It was never received.
    """
    with record.reading() as session:
        row = session.get(Study, study_instance_uid)
        if row is None:
            raise NotFoundError(f"no study {study_instance_uid} was received")
        return lines(session, [row])[0]


def modalities(record: Record) -> list[str]:
    """Every modality that was received."""
    with record.reading() as session:
        return sorted(found for found in session.scalars(select(Series.modality).distinct()) if found)


def _conditions(wanted: StudySearch) -> Iterable[ColumnElement[bool] | None]:
    uid = Study.study_instance_uid
    yield _with_uid(wanted.uid) if wanted.uid else None
    yield with_state(wanted.state) if wanted.state else None
    if wanted.ae_title:
        sender = AssociationRow.association_id == AssociationStudy.association_id
        brought = AssociationStudy.study_instance_uid == uid
        yield exists().where(brought, sender, AssociationRow.calling_ae_title == wanted.ae_title)
    if wanted.modality:
        yield exists().where(Series.study_instance_uid == uid, Series.modality == wanted.modality)
    if wanted.since:
        yield Study.first_received_at >= wanted.since
    if wanted.before:
        moment, last = wanted.before
        same = and_(Study.first_received_at == moment, uid < last)
        yield or_(Study.first_received_at < moment, same)


def _with_uid(text: str) -> ColumnElement[bool]:
    of_source = select(Instance.study_instance_uid).where(Instance.sop_instance_uid == text)
    of_result = (
        select(JobRow.study_instance_uid)
        .join(ResultRow, ResultRow.job_id == JobRow.job_id)
        .where(ResultRow.sop_instance_uid == text)
    )
    uid = Study.study_instance_uid
    return or_(uid.startswith(text, autoescape=True), uid.in_(of_source), uid.in_(of_result))


def with_state(word: str) -> ColumnElement[bool]:
    """Studies in a state, or with a current job in it; ``word`` may be one of ``STATES_OF``."""
    states = STATES_OF.get(word, frozenset({word}))
    newer = aliased(JobRow)
    replaced = exists().where(
        newer.study_instance_uid == JobRow.study_instance_uid,
        newer.series_instance_uid == JobRow.series_instance_uid,
        newer.generation > JobRow.generation,
    )
    with_job = Study.study_instance_uid.in_(
        select(JobRow.study_instance_uid).where(JobRow.state.in_(states), ~replaced)
    )
    receiving = StudyState.RECEIVING if word == "open" else word
    return or_(Study.state == receiving, with_job)


def lines(session: Session, rows: Sequence[Study]) -> list[StudyLine]:
    """What there is to say of each of these studies, in their order."""
    uids = [row.study_instance_uid for row in rows]
    counts = _pairs(
        session,
        select(Instance.study_instance_uid, func.count())
        .where(Instance.study_instance_uid.in_(uids))
        .group_by(Instance.study_instance_uid),
    )
    senders = _pairs(
        session,
        select(AssociationStudy.study_instance_uid, func.max(AssociationRow.calling_ae_title))
        .join(AssociationRow, AssociationRow.association_id == AssociationStudy.association_id)
        .where(AssociationStudy.study_instance_uid.in_(uids))
        .group_by(AssociationStudy.study_instance_uid),
    )
    of_series: defaultdict[str, list[str]] = defaultdict(list)
    for uid, modality in session.execute(
        select(Series.study_instance_uid, Series.modality).where(Series.study_instance_uid.in_(uids))
    ):
        of_series[uid].append(modality)
    jobs = _jobs(session, uids)
    return [
        StudyLine(
            study_instance_uid=row.study_instance_uid,
            state=StudyState(row.state),
            generation=row.generation,
            modalities=tuple(sorted(set(of_series[row.study_instance_uid]))),
            series=len(of_series[row.study_instance_uid]),
            instances=counts.get(row.study_instance_uid, 0),
            first_received_at=row.first_received_at,
            last_received_at=row.last_received_at,
            completed_at=row.completed_at,
            patient_hash=row.patient_hash,
            calling_ae_title=senders.get(row.study_instance_uid, ""),
            jobs=tuple(jobs[row.study_instance_uid]),
        )
        for row in rows
    ]


def newest_jobs(rows: Sequence[JobRow]) -> list[JobRow]:
    """The newest job of each series among these."""
    newest: dict[tuple[str, str], JobRow] = {}
    for row in sorted(rows, key=lambda row: (row.generation, row.created_at)):
        newest[row.study_instance_uid, row.series_instance_uid] = row
    return sorted(newest.values(), key=lambda row: row.series_instance_uid)


def _pairs(session: Session, statement: Any) -> dict[str, Any]:
    return dict(session.execute(statement).all())


def _jobs(session: Session, uids: Sequence[str]) -> defaultdict[str, list[JobLine]]:
    rows = newest_jobs(session.scalars(select(JobRow).where(JobRow.study_instance_uid.in_(uids))).all())
    running = [row.job_id for row in rows if row.state == JobState.RUNNING]
    progress = {
        (one.job_id, one.fence): one
        for one in session.scalars(select(JobProgress).where(JobProgress.job_id.in_(running)))
    }
    found: defaultdict[str, list[JobLine]] = defaultdict(list)
    for row in rows:
        told = progress.get((row.job_id, row.fence))
        stage, share = (told.stage, told.share) if told else ("", 0.0)
        found[row.study_instance_uid].append(
            JobLine(
                row.job_id, JobState(row.state), row.reason, row.modality, row.rule, row.segmenter, row.model,
                row.model_version, row.priority, row.created_at, row.finished_at, stage, share,
            )
        )  # fmt: skip
    return found
