"""The pages for people: studies, one study, processes. Plain HTML made here; the templates escape every value."""

from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from console.output import software_version
from console.web.api import audited_rows
from console.web.previews import previews_of
from console.web.request_values import StudyUID, TheRecord, TheSettings
from db import jobs, processes, reports

_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.globals["version"] = software_version()
_templates = Jinja2Templates(env=_environment)
router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


def _time(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if moment else ""


_environment.filters["time"] = _time


@router.get("/")
def studies_page(request: Request, record: TheRecord) -> HTMLResponse:
    """The latest studies."""
    return _templates.TemplateResponse(
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
    return _templates.TemplateResponse(
        request,
        "study.html",
        {
            "study": study,
            "jobs": found,
            "previews": previews_of(found, settings.results_folder),
            "deliveries": reports.deliveries(record, study_instance_uid),
            "events": audited_rows(record, query, request),
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
    return _templates.TemplateResponse(request, "processes.html", {"rows": rows})


def error_page(request: Request, status: HTTPStatus, sentence: str) -> HTMLResponse:
    """A page that says what is wrong."""
    return _templates.TemplateResponse(
        request, "error.html", {"title": status.phrase, "sentence": sentence}, status_code=status
    )
