"""The first page: studies, the latest first, with filters and search. It follows the record by live events."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from console.web import words
from console.web.access import Reader
from console.web.list_facts import ListFacts
from console.web.rendering import page
from console.web.request_values import TheRecord, TheSettings, refuse
from db import estimates, queue_reports, study_lists
from db.models import storable
from db.session import Record
from db.study_lists import StudyLine, StudySearch
from dicom_core.identifiers import is_uid

router = APIRouter(include_in_schema=False)
PAGE_STUDIES = 50
_MOST_DAYS = 3650
_UID_LETTERS = frozenset("0123456789.")


@router.get("/", response_class=HTMLResponse)
def studies_page(
    request: Request,
    _: Reader,
    record: TheRecord,
    settings: TheSettings,
    q: Annotated[str, Query(max_length=64)] = "",
    state: Annotated[str, Query(max_length=16)] = "",
    modality: Annotated[str, Query(max_length=16)] = "",
    days: Annotated[str, Query(max_length=4, pattern="^[0-9]*$")] = "",
    before: Annotated[str, Query(max_length=100)] = "",
) -> HTMLResponse:
    """Studies that fit what is asked."""
    facts: ListFacts = request.app.state.list_facts
    wanted = _search(record, storable(q.strip()), state, storable(modality), days, before)
    found = study_lists.search(record, wanted)
    asked = {"q": q, "state": state, "modality": modality, "days": days}
    return page(
        request,
        "studies.html",
        {
            "studies": found[:PAGE_STUDIES],
            "older": _older(found, asked) if len(found) > PAGE_STUDIES else "",
            "asked": asked,
            "is_filtered": any(asked.values()) or bool(before),
            "modalities": facts.modalities(),
            "counts": _counts(record, facts.counts()),
            "seconds_left": estimates.seconds_to_result(record),
            "listener": settings.listener,
        },
    )


def _search(record: Record, text: str, state: str, modality: str, days: str, before: str) -> StudySearch:
    if state and state not in words.STATES and state not in study_lists.STATES_OF:
        raise refuse("no such state")
    is_uid_part = bool(text) and set(text) <= _UID_LETTERS
    return StudySearch(
        uid=text if is_uid_part else "",
        ae_title="" if is_uid_part else text,
        state=state,
        modality=modality,
        since=record.now() - timedelta(days=min(int(days), _MOST_DAYS)) if days else None,
        before=_position(before) if before else None,
        limit=PAGE_STUDIES + 1,
    )


def _position(text: str) -> tuple[datetime, str]:
    """What the link to the next page says: a time and a UID."""
    moment, _, uid = text.partition("_")
    try:
        found = datetime.fromisoformat(moment)
        found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # too much: a time of the year 1 that is of the year 0 in UTC
        raise refuse("no such page") from None
    if not is_uid(uid):
        raise refuse("no such page")
    return found, uid


def _older(found: list[StudyLine], asked: dict[str, str]) -> str:
    last = found[PAGE_STUDIES - 1]
    position = f"{last.first_received_at.isoformat()}_{last.study_instance_uid}"
    return "/?" + urlencode({**{name: value for name, value in asked.items() if value}, "before": position})


def _counts(record: Record, by_state: Mapping[str, int]) -> list[dict[str, Any]]:
    """How much is in which state, for the line of numbers above the list."""
    failed = sum(by_state.get(state, 0) for state in study_lists.STATES_OF["failed"])
    return [
        {"name": "Receiving", "state": "RECEIVING", "count": queue_reports.studies_receiving(record), "tone": "busy"},
        {"name": "Queued", "state": "QUEUED", "count": by_state.get("QUEUED", 0), "tone": "wait"},
        {"name": "Running", "state": "RUNNING", "count": by_state.get("RUNNING", 0), "tone": "busy"},
        {"name": "Sending", "state": "SENDING", "count": by_state.get("SENDING", 0), "tone": "busy"},
        {"name": "Failed", "state": "failed", "count": failed, "tone": "bad"},
        {"name": "Done", "state": "done", "count": by_state.get("DONE", 0), "tone": "good"},
    ]
