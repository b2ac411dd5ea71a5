"""The JSON API under ``/api/v1`` and ``/healthz``."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse

from console.output import jsonable, software_version
from console.web.access import Caller, Reader, SomebodySignedIn
from console.web.previews import preview_of
from console.web.request_values import JobId, Limit, MaybeStudyUID, StudyUID, TheRecord, TheSettings, refuse
from db import jobs, migrate, processes, reports, viewings
from db.session import Record
from dicom_core.job import Job, JobState
from dicom_core.study import StudyState
from worker.pictures.preview_files import MEDIA_TYPES

router = APIRouter()
_STATES = frozenset({*(state.value for state in StudyState), *(state.value for state in JobState)})


@router.get("/healthz", tags=["health"])
def healthz(record: TheRecord) -> dict[str, str]:
    """200 when this process reaches the database, 503 when it does not."""
    record.now()
    return {"status": "ok"}


@router.get("/api/v1/health", tags=["health"])
def health(_: Reader, record: TheRecord) -> dict[str, Any]:
    """The release, the schema, the processes and how many jobs are in which state."""
    now = record.now()
    return {
        "status": "ok",
        "version": software_version(),
        "schema": migrate.current_revision(record),
        "jobs": jobs.counts_by_state(record),
        "processes": [
            {
                **jsonable(one),
                "alive": one.stopped_at is None
                and (now - one.last_seen_at).total_seconds() < processes.SILENT_AFTER_SECONDS,
            }
            for one in reports.processes(record)
        ],
    }


@router.get("/api/v1/openapi.json", include_in_schema=False)
def show_interface(request: Request, _: SomebodySignedIn) -> dict[str, Any]:
    """This list for machines."""
    document: dict[str, Any] = request.app.openapi()
    return document


@router.get("/api/v1/studies", tags=["studies"])
def list_studies(
    _: Reader,
    record: TheRecord,
    state: Annotated[str, Query(description="Only studies, or with current jobs, in this state.")] = "",
    limit: Limit = 100,
) -> dict[str, Any]:
    """Studies, the latest first."""
    if state and state not in _STATES:
        raise refuse(f"no such state; there are {', '.join(sorted(_STATES))}")
    return {"studies": jsonable(reports.studies(record, state=state, limit=limit))}


@router.get("/api/v1/studies/{study_instance_uid}", tags=["studies"])
def show_study(caller: Reader, record: TheRecord, study_instance_uid: StudyUID) -> dict[str, Any]:
    """One study with all its jobs and deliveries. That it was looked at is written into the audit log."""
    study = reports.study(record, study_instance_uid)
    viewings.note_viewing(record, study_instance_uid, address=caller.address, by="api")
    return {
        "study": jsonable(study),
        "jobs": jsonable(reports.jobs(record, study_instance_uid=study_instance_uid)),
        "deliveries": jsonable(reports.deliveries(record, study_instance_uid)),
    }


@router.get("/api/v1/jobs", tags=["jobs"])
def list_jobs(
    caller: Reader,
    record: TheRecord,
    study_instance_uid: MaybeStudyUID = "",
    state: Annotated[list[JobState] | None, Query(description="Only in these states.")] = None,
    limit: Limit = 100,
) -> dict[str, Any]:
    """Jobs, the latest first. To ask for those of one study is to look at it, which is written into the audit log."""
    found = reports.jobs(record, study_instance_uid=study_instance_uid, states=state or [], limit=limit)
    if study_instance_uid and found:
        viewings.note_viewing(record, study_instance_uid, address=caller.address, by="api")
    return {"jobs": jsonable(found)}


@router.get("/api/v1/jobs/{job_id}", tags=["jobs"])
def show_job(caller: Reader, record: TheRecord, job_id: JobId) -> dict[str, Any]:
    """One job. That its study was looked at is written into the audit log."""
    return {"job": jsonable(_viewed_job(caller, record, job_id))}


@router.get("/api/v1/jobs/{job_id}/preview", tags=["jobs"], response_class=FileResponse)
def show_preview(caller: Reader, record: TheRecord, settings: TheSettings, job_id: JobId) -> FileResponse:
    """The picture of a job's result, PNG: a frame with the found vessels over it. To see it is to view the study."""
    job = _viewed_job(caller, record, job_id)
    return FileResponse(preview_of(job, settings.results_folder), media_type="image/png")


@router.get("/api/v1/jobs/{job_id}/previews/{name}", tags=["jobs"], response_class=FileResponse)
def show_one_preview(
    caller: Reader, record: TheRecord, settings: TheSettings, job_id: JobId, name: str
) -> FileResponse:
    """One of the pictures of a job's result; a series has those that fit it. Names as below `results/` on disk."""
    path = preview_of(_viewed_job(caller, record, job_id), settings.results_folder, name)
    return FileResponse(path, media_type=MEDIA_TYPES[name])


def _viewed_job(caller: Caller, record: Record, job_id: str) -> Job:
    """A job of which somebody sees more than that it is there: whoever sees that sees the study."""
    job = jobs.get(record, job_id)
    viewings.note_viewing(record, job.study_instance_uid, address=caller.address, by="api")
    return job
