"""The audit log for auditors: search, questions in words, verification, export, the state of the chain."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import ValidationError

from console.audit_reading import chain_state, note_reading, pseudonym, read_page, verify_chain
from console.web.access import Auditor, Caller
from console.web.audit_api import DAYS_LOOKED_BACK
from console.web.audit_values import EVENTS, OUTCOMES, AuditFilters
from console.web.forms import CheckedForm, text_of
from console.web.rendering import page
from console.web.request_values import TheRecord, TheSettings, refuse
from db import audit_answers
from db.audit import Verification
from db.audit_export.forms import FORMS
from db.audit_queries import AuditPage
from db.models import storable
from db.session import Record
from dicom_core.identifiers import is_uid
from dicom_core.settings import Settings

_ROWS = 100
_LONGEST_IDENTIFIER = 64
_TIMES = ("since", "until")
router = APIRouter(prefix="/audit", include_in_schema=False, default_response_class=HTMLResponse)


@router.get("")
def audit_page(caller: Auditor, request: Request, record: TheRecord, settings: TheSettings) -> HTMLResponse:
    """The latest rows that fit what the form asks. Showing them is written into the log."""
    given, before = _given(request)
    try:
        filters = AuditFilters.model_validate(given)
    except ValidationError as error:
        return _shown(request, record, settings, given, problems=_problems(error), status=422)
    query = filters.query(before=before, limit=_ROWS)
    rows = read_page(record, query, by="web", address=caller.address)
    of_patient = audit_answers.studies_of_patient(record, filters.patient_hash)
    return _shown(request, record, settings, given, rows=rows, of_patient=of_patient)


@router.post("/verify")
def verify(caller: Auditor, _: CheckedForm, request: Request, record: TheRecord, settings: TheSettings) -> HTMLResponse:
    """Walk the whole chain and say what was found."""
    found = verify_chain(record, settings, by="web", address=caller.address)
    return _shown(request, record, settings, {}, verified=found)


@router.post("/patient")
def find_patient(_: Auditor, form: CheckedForm, record: TheRecord) -> RedirectResponse:
    """Turn an identifier into the pseudonym; only that goes into the address and into the log."""
    identifier, issuer = (text_of(form, name, _LONGEST_IDENTIFIER) for name in ("patient_id", "issuer_of_patient_id"))
    found = pseudonym(record, storable(identifier), storable(issuer))
    if not found:
        raise refuse("a PatientID of nothing but spaces names nobody")
    return RedirectResponse(f"/audit?patient_hash={found}", 303)


@router.get("/who-saw")
def who_saw(caller: Auditor, request: Request, record: TheRecord, study: str = "") -> HTMLResponse:
    """Everybody who opened a study or did something to it."""
    study = study.strip()
    if not is_uid(study):
        raise refuse("give the StudyInstanceUID of the study: digits and dots, at most 64 characters")
    _note(record, caller, "who-saw", study_instance_uid=study)
    return page(request, "audit_who_saw.html", {"study": study, "seen": audit_answers.who_saw(record, study)})


@router.get("/recall")
def recall(
    caller: Auditor, request: Request, record: TheRecord, model: str = "", version: str = "", before: str = ""
) -> HTMLResponse:
    """Every study that a model touched; without a model, which ones there are."""
    model, version = storable(model.strip(), 64), storable(version.strip(), 64)
    found = None
    if model:
        _note(record, caller, "recall", model=model, model_version=version)
        found = audit_answers.recall(record, model, version, before=before, limit=_ROWS)
    values = {"model": model, "version": version, "found": found, "models": audit_answers.models_used(record)}
    return page(request, "audit_recall.html", {**values, "urlencode": urlencode})


@router.get("/without-result")
def without_result(caller: Auditor, request: Request, record: TheRecord) -> HTMLResponse:
    """Studies that no result was made for, with the reasons."""
    given, _ = _given(request)
    try:
        filters = AuditFilters.model_validate({name: given[name] for name in _TIMES if name in given})
    except ValidationError as error:
        raise refuse("; ".join(_problems(error))) from None
    since = filters.since or record.now() - timedelta(days=DAYS_LOOKED_BACK)
    _note(record, caller, "without-result", since=since, until=filters.until)
    found = audit_answers.without_result(record, since=since, until=filters.until, limit=10 * _ROWS)
    values = {"found": found, "since": since, "until": filters.until, "cut": len(found) == 10 * _ROWS}
    return page(request, "audit_without_result.html", values)


def _given(request: Request) -> tuple[dict[str, str], int]:
    """The fields of the form that say something; times without a zone are UTC, as the page shows them."""
    found = {name: value.strip() for name, value in request.query_params.items() if value.strip()}
    if found.get("outcome") == "failed":
        del found["outcome"]
        found["failed"] = "true"
    for name in _TIMES:
        text = found.get(name, "")
        if text and not (text.endswith("Z") or "+" in text or text.count("-") > 2):  # a zone of -05:00
            found[name] = f"{text}T00:00Z" if len(text) == len("2026-11-21") else f"{text}Z"
    before = found.pop("before", "")
    return found, int(before) if before.isascii() and before.isdecimal() and len(before) < len(str(2**53)) else 0


def _problems(error: ValidationError) -> list[str]:
    """One sentence for each field, without what was given."""
    return [
        f"{one['loc'][0] if one['loc'] else ''}: {one['msg'].removeprefix('Value error, ')}" for one in error.errors()
    ]


def _shown(
    request: Request,
    record: Record,
    settings: Settings,
    given: dict[str, str],
    *,
    rows: AuditPage | None = None,
    of_patient: Sequence[audit_answers.PatientStudy] = (),
    verified: Verification | None = None,
    problems: Sequence[str] = (),
    status: int = 200,
) -> HTMLResponse:
    found = rows or AuditPage([], 0)
    values: dict[str, Any] = {
        "given": given,
        "rows": list(reversed(found.rows)),
        "searched": rows is not None,
        "older": f"/audit?{urlencode({**given, 'before': found.before})}" if found.before else "",
        "exports": {word: f"/api/v1/audit/export?{urlencode({**given, 'form': word})}" for word in FORMS},
        "events": EVENTS,
        "outcomes": OUTCOMES,
        "of_patient": of_patient,
        "state": chain_state(record, settings),
        "verified": verified,
        "problems": problems,
        "day_ago": (record.now() - timedelta(days=1)).strftime("%Y-%m-%dT%H:%MZ"),
    }
    return page(request, "audit.html", values, status=status)


def _note(record: Record, caller: Caller, question: str, **facts: Any) -> None:
    note_reading(record, {"question": question, **facts}, by="web", address=caller.address)
