"""The page *Queue and workers*: what is stuck, runs and waits, who works, and what was done in the last hours."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from console.site_state import SiteState, site_state
from console.web.access import Reader
from console.web.plots import Column, Plot, stacked_bars
from console.web.rendering import page
from console.web.request_values import TheRecord, TheSettings

router = APIRouter(include_in_schema=False)
HOURS = {"6": 6, "24": 24, "72": 72, "168": 168}
"""What may be chosen."""


@router.get("/queue", response_class=HTMLResponse)
def queue_page(
    request: Request,
    _: Reader,
    record: TheRecord,
    settings: TheSettings,
    hours: Annotated[str, Query(max_length=3)] = "24",
) -> HTMLResponse:
    """The work under way."""
    chosen = HOURS.get(hours, 24)
    state = site_state(settings, record, hours=chosen)
    slowest = max((stage.slow_seconds for stage in state.stages), default=0.0)
    return page(
        request,
        "queue.html",
        {
            "state": state,
            "waiting_in_all": sum(one.jobs for one in state.waiting),
            "plots_of": _plots(state),
            "hours": str(chosen),
            "choices": HOURS,
            "slowest": slowest or 1.0,
            "seconds_since": lambda moment: _seconds(state.at, moment),
        },
    )


@router.get("/processes")
def former_processes_page(_: Reader) -> RedirectResponse:
    """Where bookmarks of the former page of processes lead."""
    return RedirectResponse("/queue#workers", HTTPStatus.PERMANENT_REDIRECT)


def _seconds(now: datetime, moment: datetime | None) -> float | None:
    return max(0.0, (now - moment).total_seconds()) if moment else None


def _plots(state: SiteState) -> dict[str, Plot]:
    spans = state.spans
    return {
        "instances": stacked_bars([Column(one.begin, (one.instances,)) for one in spans], ("accent",)),
        "jobs": stacked_bars(
            [Column(one.begin, (one.done, one.left_out, one.failed)) for one in spans], ("good", "quiet", "bad")
        ),
        "sent": stacked_bars([Column(one.begin, (one.sent,)) for one in spans], ("busy",)),
    }
