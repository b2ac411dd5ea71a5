"""The pages for people: studies, one study, processes. Plain HTML made here; the templates escape every value."""

from http import HTTPStatus

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from console.web.access import caller_of
from console.web.api import audited_rows
from console.web.previews import previews_of
from console.web.rendering import page
from console.web.request_values import StudyUID, TheRecord, TheSettings
from db import jobs, processes, reports

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/")
def studies_page(request: Request, record: TheRecord) -> HTMLResponse:
    """The latest studies."""
    return page(
        request,
        "studies.html",
        {"studies": reports.studies(record), "counts": sorted(jobs.counts_by_state(record).items())},
    )


@router.get("/studies/{study_instance_uid}")
def study_page(
    request: Request, record: TheRecord, settings: TheSettings, study_instance_uid: StudyUID
) -> HTMLResponse:
    """One study: jobs, deliveries, previews and its audit trail. Showing the trail is written into the audit log."""
    study = reports.study(record, study_instance_uid)
    found = reports.jobs(record, study_instance_uid=study_instance_uid)
    query = reports.AuditQuery(study_instance_uid=study_instance_uid)
    return page(
        request,
        "study.html",
        {
            "study": study,
            "jobs": found,
            "previews": previews_of(found, settings.results_folder),
            "deliveries": reports.deliveries(record, study_instance_uid),
            "events": audited_rows(record, query, caller_of(request)),
        },
    )


@router.get("/processes")
def processes_page(request: Request, record: TheRecord) -> HTMLResponse:
    """The processes of this site and whether they are alive."""
    now = record.now()
    rows = [
        (one, one.stopped_at is None and (now - one.last_seen_at).total_seconds() < processes.SILENT_AFTER_SECONDS)
        for one in reports.processes(record)
    ]
    return page(request, "processes.html", {"rows": rows})


def error_page(request: Request, status: HTTPStatus, sentence: str) -> HTMLResponse:
    """A page that says what is wrong."""
    return page(request, "error.html", {"title": status.phrase, "sentence": sentence}, status=status)
