"""The page *Rules*: the rules in words, which one is for a file and why, a dry run of changed ones."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse
from starlette.datastructures import FormData, UploadFile

from console.given_headers import header_of_bytes
from console.settings_example import rules_as_toml
from console.web.access import Operator, Reader
from console.web.forms import CheckedForm, checked_form, text_of
from console.web.rendering import page
from console.web.request_values import TheSettings, refuse
from console.web.study_page import uid_name
from console.web.work_api import MOST_STUDIES_TRIED
from dicom_core.errors import ConfigurationError, ConflictError, SourceError, UnavailableError
from dicom_core.rule_explanation import described, explain, lines
from dicom_core.settings import Settings

router = APIRouter(include_in_schema=False)
MOST_HEADER_BYTES = 8_000_000
"""Of a file: no header that rules look at is longer."""
_LONGEST_RULES = 500_000
_STANDARD_UID = re.compile(r"\b1\.2\.840\.10008(?:\.\d+)+\b")
_DAYS = ("1", "7", "30", "90")


def _show(request: Request, settings: Settings, **more: Any) -> HTMLResponse:
    values = {
        "rules": [described(rule) for rule in settings.rules],
        "explanation": None,
        "problem": "",
        "trial": None,
        "trial_problem": "",
        "written": None,
        "days": "7",
        "choices": _DAYS,
        "lines": lambda why: list(lines(why)),
        "with_names": with_names,
        "may_operate": request.state.caller.may("operate"),
    }
    values |= more
    values["written"] = rules_as_toml(settings.rules) if values["written"] is None else values["written"]
    return page(request, "rules.html", values)


def with_names(words: str) -> str:
    """The words of a rule with the names that PS3.6 gives UIDs behind them."""

    def named(uid: re.Match[str]) -> str:
        name = uid_name(uid[0])
        return uid[0] if name == uid[0] else f"{uid[0]} ({name})"

    return _STANDARD_UID.sub(named, words)


@router.get("/rules", response_class=HTMLResponse)
def rules_page(request: Request, _: Reader, settings: TheSettings) -> HTMLResponse:
    """The rules."""
    return _show(request, settings)


async def _header_bytes(form: Annotated[FormData, Depends(checked_form)]) -> bytes:
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile) or not file.size:
            raise refuse("choose a DICOM file")
        return await file.read(MOST_HEADER_BYTES)
    finally:
        await form.close()  # at once: a large file lies in a temporary one until then


@router.post("/rules/explain", response_class=HTMLResponse)
def explain_by_form(
    request: Request, _: Operator, settings: TheSettings, content: Annotated[bytes, Depends(_header_bytes)]
) -> HTMLResponse:
    """Which rule is for a file. The file is read in memory and nothing of it is kept."""
    try:
        explanation = explain(settings.rules, header_of_bytes(content))
    except SourceError as error:
        return _show(request, settings, problem=str(error))
    return _show(request, settings, explanation=explanation)


@router.post("/rules/try", response_class=HTMLResponse)
def try_by_form(request: Request, _: Operator, settings: TheSettings, form: CheckedForm) -> HTMLResponse:
    """What changed rules would have decided about the studies of the past days."""
    from console.rule_trial_process import try_in_process

    written, days = text_of(form, "rules", _LONGEST_RULES), text_of(form, "days", 4)
    if days not in _DAYS:
        raise refuse(f"choose one of {', '.join(_DAYS)} days")
    more: dict[str, Any] = {"written": written, "days": days}
    try:
        more["trial"] = try_in_process(settings, written, days=int(days), most_studies=MOST_STUDIES_TRIED)
    except (ConfigurationError, ConflictError, UnavailableError) as error:
        more["trial_problem"] = str(error)
    return _show(request, settings, **more)
