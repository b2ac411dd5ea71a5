"""Everything about one study for the page that shows it: where it came from, what of it there is, its jobs."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db import reports, study_lists
from db.models import AssociationRow, AssociationStudy, ConflictingInstance, DeliveryRow, Instance, JobProgress, Series
from db.reports import DeliverySummary
from db.session import Record
from db.study_lists import StudyLine
from dicom_core.job import Job

MOST_JOBS = 500


@dataclass(frozen=True, slots=True)
class AssociationLine:
    """An association and what it brought of the study.

    Attributes:
        outcome: Word of ``AssociationOutcome``.
        stored: Instances that were new.
        duplicates: Instances that were there already, with the same content.
        conflicts: Instances whose UID other content had already.
    """

    association_id: str
    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    opened_at: datetime
    closed_at: datetime | None
    outcome: str
    stored: int
    duplicates: int
    conflicts: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SeriesLine:
    """One series.

    Attributes:
        absent: Instances whose files are gone: purged, or missing.
        sop_class_uids: Of its instances, sorted.
        transfer_syntax_uids: As they were received, sorted.
        generation: The last one that brought something new of it.
    """

    series_instance_uid: str
    modality: str
    instances: int
    absent: int
    size_bytes: int
    sop_class_uids: tuple[str, ...]
    transfer_syntax_uids: tuple[str, ...]
    generation: int


@dataclass(frozen=True, slots=True)
class JobProgressLine:
    """How far a running job is."""

    stage: str
    share: float
    device: str


@dataclass(frozen=True, slots=True)
class InstanceLine:
    """One instance of a series."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    state: str
    size_bytes: int
    generation: int
    received_at: datetime


@dataclass(frozen=True, slots=True)
class StudyPage:
    """One study.

    Attributes:
        jobs: The latest first, replaced ones too.
        progress: Of running jobs, by job id.
        deliveries: In the order in which they are sent.
        destinations: Those that a job has deliveries for, by job id.
        conflicts: Instances that are kept aside.
    """

    line: StudyLine
    associations: tuple[AssociationLine, ...]
    series: tuple[SeriesLine, ...]
    jobs: tuple[Job, ...]
    progress: Mapping[str, JobProgressLine]
    deliveries: tuple[DeliverySummary, ...]
    destinations: Mapping[str, tuple[str, ...]]
    conflicts: int

    @property
    def current_job_ids(self) -> frozenset[str]:
        """Of the jobs that count."""
        return frozenset(job.job_id for job in self.line.jobs)


def study_page(record: Record, study_instance_uid: str) -> StudyPage:
    """Everything about one study.

    Raises:
        NotFoundError: It was never received.
    """
    line = study_lists.one(record, study_instance_uid)
    jobs = reports.jobs(record, study_instance_uid=study_instance_uid, limit=MOST_JOBS)
    fences = {job.job_id: job.fence for job in jobs}
    with record.reading() as session:
        conflicts = session.scalar(
            select(func.count()).where(ConflictingInstance.study_instance_uid == study_instance_uid)
        )
        told = session.scalars(select(JobProgress).where(JobProgress.job_id.in_(fences))).all()
        destinations: defaultdict[str, list[str]] = defaultdict(list)
        for job_id, destination in session.execute(
            select(DeliveryRow.job_id, DeliveryRow.destination)
            .where(DeliveryRow.job_id.in_(fences))
            .distinct()
            .order_by(DeliveryRow.destination)
        ):
            destinations[job_id].append(destination)
        associations = _associations(session, study_instance_uid)
        series = _series(session, study_instance_uid)
    return StudyPage(
        line=line,
        associations=associations,
        series=series,
        jobs=tuple(jobs),
        progress={
            one.job_id: JobProgressLine(one.stage, one.share, one.device)
            for one in told
            if one.fence == fences[one.job_id]
        },
        deliveries=tuple(reports.deliveries(record, study_instance_uid)),
        destinations={job_id: tuple(names) for job_id, names in destinations.items()},
        conflicts=conflicts or 0,
    )


def instances(
    record: Record, study_instance_uid: str, series_instance_uid: str, *, after: str = "", limit: int = 200
) -> list[InstanceLine]:
    """The instances of one series, by SOPInstanceUID.

    Args:
        record: The record.
        study_instance_uid: Of the study.
        series_instance_uid: Of the series.
        after: SOPInstanceUID of the last one of the page before.
        limit: At most so many.
    """
    statement = (
        select(Instance)
        .where(
            Instance.study_instance_uid == study_instance_uid,
            Instance.series_instance_uid == series_instance_uid,
            Instance.sop_instance_uid > after,
        )
        .order_by(Instance.sop_instance_uid)
        .limit(limit)
    )
    with record.reading() as session:
        return [
            InstanceLine(
                row.sop_instance_uid, row.sop_class_uid, row.transfer_syntax_uid, row.state, row.size_bytes,
                row.generation, row.received_at,
            )
            for row in session.scalars(statement)
        ]  # fmt: skip


def _associations(session: Session, study_instance_uid: str) -> tuple[AssociationLine, ...]:
    rows = session.execute(
        select(AssociationStudy, AssociationRow)
        .join(AssociationRow, AssociationRow.association_id == AssociationStudy.association_id)
        .where(AssociationStudy.study_instance_uid == study_instance_uid)
        .order_by(AssociationRow.opened_at, AssociationRow.association_id)
    )
    return tuple(
        AssociationLine(
            row.association_id, row.calling_ae_title, row.called_ae_title, row.peer_address, row.opened_at,
            row.closed_at, row.outcome, part.stored, part.duplicates, part.conflicts, part.size_bytes,
        )
        for part, row in rows
    )  # fmt: skip


def _series(session: Session, study_instance_uid: str) -> tuple[SeriesLine, ...]:
    modalities = session.execute(
        select(Series.series_instance_uid, Series.modality)
        .where(Series.study_instance_uid == study_instance_uid)
        .order_by(Series.series_instance_uid)
    ).all()
    grouped = session.execute(
        select(
            Instance.series_instance_uid, Instance.sop_class_uid, Instance.transfer_syntax_uid, Instance.state,
            func.count(), func.sum(Instance.size_bytes), func.max(Instance.generation),
        )
        .where(Instance.study_instance_uid == study_instance_uid)
        .group_by(
            Instance.series_instance_uid, Instance.sop_class_uid, Instance.transfer_syntax_uid, Instance.state
        )
    ).all()  # fmt: skip
    found = []
    for uid, modality in modalities:
        groups = [group for group in grouped if group[0] == uid]
        found.append(
            SeriesLine(
                series_instance_uid=uid,
                modality=modality,
                instances=sum(group[4] for group in groups),
                absent=sum(group[4] for group in groups if group[3] != "RECEIVED"),
                size_bytes=sum(int(group[5]) for group in groups),
                sop_class_uids=tuple(sorted({group[1] for group in groups})),
                transfer_syntax_uids=tuple(sorted({group[2] for group in groups})),
                generation=max((group[6] for group in groups), default=0),
            )
        )
    return tuple(found)
