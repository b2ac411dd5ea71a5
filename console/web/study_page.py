"""One study, one page: where it came from, what was decided, its jobs with pictures, its results, its audit trail."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from console.web.access import Reader
from console.web.previews import previews_of
from console.web.rendering import page
from console.web.request_values import StudyUID, TheRecord, TheSettings
from db import estimates, study_pages, viewings
from db.audit_queries import AuditQuery, audit_rows
from db.reports import DeliverySummary
from db.throughput import stage_seconds
from dicom_core.chain import names_in
from dicom_core.job import CANCELLABLE, RESENDABLE, RETRYABLE_BY_OPERATOR, Job, JobState
from dicom_core.settings import Settings
from worker.segmenters import registry

router = APIRouter(include_in_schema=False)
PAGE_INSTANCES = 200
MOST_EVENTS = 1000
_VIEWER_FIELD = "{study_instance_uid}"


@router.get("/studies/{study_instance_uid}", response_class=HTMLResponse)
def study_page(
    request: Request, caller: Reader, record: TheRecord, settings: TheSettings, study_instance_uid: StudyUID
) -> HTMLResponse:
    """One study. Looking at it is written into the audit log, and so is reading its trail."""
    found = study_pages.study_page(record, study_instance_uid)
    with_trail = caller.may("audit") or caller.may("operate")
    viewings.note_viewing(record, study_instance_uid, address=caller.address, by="web", with_trail=with_trail)
    query = AuditQuery(study_instance_uid=study_instance_uid, limit=MOST_EVENTS)
    current = [job for job in found.jobs if job.job_id in found.current_job_ids]
    return page(
        request,
        "study.html",
        {
            "study": found.line,
            "page": found,
            "current_jobs": sorted(current, key=lambda job: (-job.generation, job.series_instance_uid)),
            "earlier_jobs": [job for job in found.jobs if job.job_id not in found.current_job_ids],
            "previews": previews_of(found.jobs, settings.results_folder),
            "objects": {job.job_id: _objects(job, found.deliveries) for job in found.jobs},
            "timings": {job.job_id: stage_seconds(job.result) for job in found.jobs},
            "allowed": {job.job_id: _allowed(job) for job in current} if caller.may("operate") else {},
            "seconds_left": estimates.seconds_to_result(record) if _waits(current) else {},
            "events": audit_rows(record, query) if with_trail else None,
            "viewer_url": _viewer_url(settings, study_instance_uid),
            "segmenters": _segmenters(settings) if caller.may("operate") else (),
            "uid_name": uid_name,
        },
    )


@router.get("/studies/{study_instance_uid}/series/{series_instance_uid}", response_class=HTMLResponse)
def series_page(
    request: Request,
    caller: Reader,
    record: TheRecord,
    study_instance_uid: StudyUID,
    series_instance_uid: StudyUID,
    after: Annotated[str, Query(max_length=64, pattern="^[0-9.]*$")] = "",
) -> HTMLResponse:
    """The instances of one series."""
    found = study_pages.study_page(record, study_instance_uid)
    viewings.note_viewing(record, study_instance_uid, address=caller.address, by="web")
    instances = study_pages.instances(
        record, study_instance_uid, series_instance_uid, after=after, limit=PAGE_INSTANCES + 1
    )
    return page(
        request,
        "series.html",
        {
            "study_instance_uid": study_instance_uid,
            "series_instance_uid": series_instance_uid,
            "series": next((one for one in found.series if one.series_instance_uid == series_instance_uid), None),
            "instances": instances[:PAGE_INSTANCES],
            "after": instances[PAGE_INSTANCES - 1].sop_instance_uid if len(instances) > PAGE_INSTANCES else "",
            "uid_name": uid_name,
        },
    )


def uid_name(uid: str) -> str:
    """The name that PS3.6 gives a UID, or the UID."""
    from pydicom.uid import UID  # half a second for a process that may never show a study

    return UID(uid).name if uid else ""


@cache
def _ready_systems() -> tuple[str, ...]:
    return registry.configured({})  # asks every plug-in, which takes long


def _segmenters(settings: Settings) -> list[str]:
    """What a person may choose: systems that need no folder of weights, and the models of the settings."""
    return sorted({*_ready_systems(), *(name for name in settings.models if len(names_in(name)) == 1)})


def _waits(jobs: Sequence[Job]) -> bool:
    return any(job.state in (JobState.QUEUED, JobState.RUNNING) for job in jobs)


def _allowed(job: Job) -> frozenset[str]:
    """What an operator may do with a job now."""
    return frozenset(
        action
        for action, states in (
            ("retry", RETRYABLE_BY_OPERATOR if job.segmenter else ()),
            ("cancel", CANCELLABLE),
            ("priority", (JobState.QUEUED,)),
            ("resend", RESENDABLE),
            ("again", frozenset(JobState) - {JobState.PURGED}),
        )
        if job.state in states
    )


def _objects(job: Job, deliveries: Sequence[DeliverySummary]) -> list[Mapping[str, Any]]:
    """Each object of a job with what the destinations answered."""
    answers: defaultdict[str, list[DeliverySummary]] = defaultdict(list)
    for delivery in deliveries:
        if delivery.job_id == job.job_id:
            answers[delivery.sop_instance_uid].append(delivery)
    return [{"object": made, "answers": answers[made.sop_instance_uid]} for made in job.results]


def _viewer_url(settings: Settings, study_instance_uid: str) -> str:
    """Where the hospital's viewer shows the study, "" without a viewer."""
    template = settings.web.viewer_url
    if not template.startswith(("https://", "http://")):
        return ""
    return template.replace(_VIEWER_FIELD, quote(study_instance_uid, safe=""))
