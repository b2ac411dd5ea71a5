"""Short words for what happens to a record in the tests: a study arrives, becomes quiet, is segmented, is sent."""

import hashlib
import itertools
from collections.abc import Mapping, Sequence

from sqlalchemy import select

from db import audit, jobs, processes, register, studies
from db.models import AuditEvent, JobRow
from db.session import Record
from dicom_core.job import Job, JobRequest, JobState, KeptResult
from dicom_core.result import ResultKind, ResultObject
from dicom_core.study import (
    Association,
    AssociationOutcome,
    QuietStudy,
    ReceivedInstance,
    Registration,
    input_hash,
)

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
STUDY = "1.2.826.1"
_numbers = itertools.count()


def listener(record: Record) -> str:
    """A listener process that has just announced itself."""
    return processes.start(record, "listener", version="1", configuration={})


def association(process_id: str, calling: str = "SENDER", address: str = "10.0.0.7") -> Association:
    """An accepted association."""
    return Association(f"{next(_numbers):032x}", process_id, calling, "VESSELQ", address)


def instance(
    by: Association, number: int, *, study: str = STUDY, series: int = 1, content: str = "", modality: str = "CT"
) -> ReceivedInstance:
    """Instance ``number`` of a series; other ``content`` is other bytes under the same UID."""
    uid = f"{study}.{series}.{number}"
    content_hash = hashlib.sha256(f"{uid}/{content}".encode()).hexdigest()
    return ReceivedInstance(
        association=by,
        study_instance_uid=study,
        series_instance_uid=f"{study}.{series}",
        sop_instance_uid=uid,
        sop_class_uid=CT_IMAGE,
        transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN,
        modality=modality,
        fingerprint=content_hash,
        size_bytes=1000 + number,
        path=f"instances/{content_hash[:2]}/{uid[-20:]}-{content_hash[:32]}.dcm",
    )


def receive(
    record: Record, *numbers: int, study: str = STUDY, series: int = 1, content: str = "", calling: str = "SENDER"
) -> list[Registration]:
    """One association of a living listener brings instances and is released."""
    by = association(listener(record), calling)
    made = register.record_instances(
        record, [instance(by, number, study=study, series=series, content=content) for number in numbers]
    )
    register.close_association(record, by, AssociationOutcome.RELEASED)
    return made


def quiet(record: Record, study: str = STUDY) -> QuietStudy:
    """The study, which must be quiet."""
    (found,) = [one for one in studies.quiet_studies(record, 0, limit=1000) if one.study_instance_uid == study]
    return found


def requests(
    quiet_study: QuietStudy,
    *,
    destinations: Sequence[str] = ("pacs",),
    priority: int = 0,
    configuration: str = "c",
    skip: str = "",
    wanted: Mapping[str, tuple[ResultKind, ...]] | None = None,
) -> list[JobRequest]:
    """What a dispatcher wants for every series: one job, or to leave it out for the reason ``skip``."""
    return [
        JobRequest(
            series_instance_uid=series.series_instance_uid,
            modality=series.modality,
            state=JobState.SKIPPED if skip else JobState.QUEUED,
            reason=skip,
            rule="all",
            segmenter="" if skip else "ridge",
            prompt="",
            destinations=tuple(destinations),
            priority=priority,
            input_hash=input_hash(series.instances),
            configuration_hash=hashlib.sha256(configuration.encode()).hexdigest(),
            wanted=wanted or {},
        )
        for series in quiet_study.series
    ]


def complete(
    record: Record,
    study: str = STUDY,
    *,
    destinations: Sequence[str] = ("pacs",),
    priority: int = 0,
    configuration: str = "c",
    skip: str = "",
    wanted: Mapping[str, tuple[ResultKind, ...]] | None = None,
) -> list[Job]:
    """Make a quiet study complete."""
    found = quiet(record, study)
    made = requests(
        found, destinations=destinations, priority=priority, configuration=configuration, skip=skip, wanted=wanted
    )
    return studies.complete(record, found, made)


def queued(
    record: Record,
    study: str = STUDY,
    *,
    destinations: Sequence[str] = ("pacs",),
    priority: int = 0,
    wanted: Mapping[str, tuple[ResultKind, ...]] | None = None,
) -> Job:
    """A study of one series with two instances arrived and its job waits."""
    receive(record, 1, 2, study=study)
    (job,) = complete(record, study, destinations=destinations, priority=priority, wanted=wanted)
    return job


def running(
    record: Record,
    study: str = STUDY,
    *,
    destinations: Sequence[str] = ("pacs",),
    wanted: Mapping[str, tuple[ResultKind, ...]] | None = None,
) -> Job:
    """The same, claimed by ``worker-1`` for a minute."""
    job = queued(record, study, destinations=destinations, wanted=wanted)
    claimed = jobs.claim(record, "worker-1", 60)
    assert claimed is not None
    assert claimed.job_id == job.job_id
    return claimed


def result_object(job: Job, kind: ResultKind = ResultKind.SEG, part: int = 1, item: int = 1) -> ResultObject:
    """One object that a worker built for ``job``; the same every time."""
    name = f"{kind}-{part}-{item}"
    number = int(hashlib.sha256(f"{job.job_id}/{name}".encode()).hexdigest()[:30], 16)
    return ResultObject(
        kind=kind,
        part=part,
        item=item,
        path=f"{job.job_id[:2]}/{job.job_id}/{name}.dcm",
        sha256=hashlib.sha256(f"{job.job_id}/{name}".encode()).hexdigest(),
        sop_class_uid=SEGMENTATION,
        sop_instance_uid=f"2.25.{number}",
        series_instance_uid=f"2.25.{number + 1}",
        size_bytes=1000,
    )


def kept(job: Job) -> KeptResult:
    """A result set that a worker built for ``job``: one object of each kind that its destinations get."""
    return KeptResult(
        objects=tuple(result_object(job, kind) for kind in job.kinds),
        summary={"model": "ridge", "frames_with_vessel": 2, "seconds": {"segment": 0.5}},
    )


def ready(
    record: Record,
    study: str = STUDY,
    *,
    destinations: Sequence[str] = ("pacs",),
    wanted: Mapping[str, tuple[ResultKind, ...]] | None = None,
) -> Job:
    """A job whose result is kept and waits for its deliveries."""
    job = running(record, study, destinations=destinations, wanted=wanted)
    jobs.keep_result(record, job, kept(job))
    return jobs.get(record, job.job_id)


def state(record: Record, job: Job) -> JobState:
    """The state that the job has now."""
    return jobs.get(record, job.job_id).state


def events(record: Record, **wanted: str) -> list[AuditEvent]:
    """Audit rows in their order, those whose columns have the ``wanted`` values."""
    with record.reading() as session:
        rows = session.scalars(select(AuditEvent).order_by(AuditEvent.sequence)).all()
    return [row for row in rows if all(getattr(row, name) == value for name, value in wanted.items())]


def words(record: Record, job: Job) -> list[str]:
    """What the audit log says about a job, as words."""
    return [row.event for row in events(record, job_id=job.job_id)]


def set_state(record: Record, job: Job, **columns: object) -> None:
    """Write columns of a job past all guards, to begin a test in the middle."""
    with record.writing() as transaction:
        row = transaction.session.get_one(JobRow, job.job_id)
        for name, value in columns.items():
            setattr(row, name, value)


def assert_sound(record: Record) -> None:
    """The audit chain verifies."""
    found = audit.verify(record)
    assert found.first_bad_sequence is None, found
