"""The pages for people: studies, one study, processes. Plain HTML made here; the templates escape every value."""

from http import HTTPStatus

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from console.web import actions, live, studies_page, study_page, words
from console.web.rendering import page
from console.web.request_values import TheRecord
from db import processes, reports

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
router.include_router(studies_page.router)
router.include_router(study_page.router)
router.include_router(actions.pages_router)
router.include_router(live.router)


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
    return page(
        request, "error.html", {"title": words.TITLES.get(status, status.phrase), "sentence": sentence}, status=status
    )
