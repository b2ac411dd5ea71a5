"""What operators do to jobs, from the pages by forms and over the JSON API; each with a reason, all of it audited."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from console.output import jsonable
from console.runs import run_again
from console.web.access import Operator, ScopeFirst
from console.web.forms import CheckedForm, text_of
from console.web.request_values import JobId, StudyUID, TheRecord, TheSettings, checked_uid, refuse
from db import job_actions
from dicom_core.chain import LONGEST_WORD
from dicom_core.job import HIGHEST_PRIORITY, Job
from dicom_core.prompt import Prompt, Question

router = APIRouter(tags=["jobs"], route_class=ScopeFirst)
pages_router = APIRouter(include_in_schema=False)
LONGEST_REASON = 500
_LONGEST_PROMPT = 2000
_Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_REASON)]


class Because(BaseModel):
    """Why an operator does something."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: _Reason = Field(description="Why; it is kept in the audit log.")


class NewPriority(Because):
    """Another priority."""

    priority: int = Field(ge=0, le=HIGHEST_PRIORITY, description="0 is routine, 100 is STAT.")


class Resending(Because):
    """Sending once more."""

    destination: str = Field("", max_length=64, description="Only to this destination; empty: to all of them.")


@router.post("/api/v1/jobs/{job_id}/retry")
def retry(_: Operator, record: TheRecord, job_id: JobId, asked: Because) -> dict[str, Any]:
    """Try a failed, cancelled or skipped job again. 409 when its state does not allow it."""
    return _answer(job_actions.retry(record, job_id, asked.reason))


@router.post("/api/v1/jobs/{job_id}/cancel")
def cancel(_: Operator, record: TheRecord, job_id: JobId, asked: Because) -> dict[str, Any]:
    """Stop a job that is not over. 409 when it is."""
    return _answer(job_actions.cancel(record, job_id, asked.reason))


@router.post("/api/v1/jobs/{job_id}/priority")
def change_priority(_: Operator, record: TheRecord, job_id: JobId, asked: NewPriority) -> dict[str, Any]:
    """Let a waiting job overtake others, or be overtaken. 409 when it does not wait any more."""
    return _answer(job_actions.change_priority(record, job_id, asked.priority, asked.reason))


@router.post("/api/v1/jobs/{job_id}/resend")
def resend(_: Operator, record: TheRecord, job_id: JobId, asked: Resending) -> dict[str, Any]:
    """Send the kept objects of a finished job once more, the same bytes under the same UIDs."""
    return _answer(job_actions.resend(record, job_id, asked.reason, asked.destination))


def _answer(job: Job) -> dict[str, Any]:
    return {"job": jsonable(job)}


@pages_router.post("/jobs/{job_id}/retry")
def retry_by_form(_: Operator, record: TheRecord, job_id: JobId, form: CheckedForm) -> RedirectResponse:
    """The button *Retry*."""
    return _back_to(job_actions.retry(record, job_id, _reason(form)))


@pages_router.post("/jobs/{job_id}/cancel")
def cancel_by_form(_: Operator, record: TheRecord, job_id: JobId, form: CheckedForm) -> RedirectResponse:
    """The button *Cancel*."""
    return _back_to(job_actions.cancel(record, job_id, _reason(form)))


@pages_router.post("/jobs/{job_id}/priority")
def change_priority_by_form(_: Operator, record: TheRecord, job_id: JobId, form: CheckedForm) -> RedirectResponse:
    """The button *Change priority*."""
    wanted = text_of(form, "priority", 4)
    if not (wanted.isascii() and wanted.isdecimal()):
        raise refuse(f"give a priority from 0 (routine) to {HIGHEST_PRIORITY} (STAT)")
    return _back_to(job_actions.change_priority(record, job_id, int(wanted), _reason(form)))


@pages_router.post("/jobs/{job_id}/resend")
def resend_by_form(_: Operator, record: TheRecord, job_id: JobId, form: CheckedForm) -> RedirectResponse:
    """The button *Send again*."""
    return _back_to(job_actions.resend(record, job_id, _reason(form), text_of(form, "destination", 64)))


@pages_router.post("/studies/{study_instance_uid}/runs")
def run_again_by_form(
    caller: Operator, record: TheRecord, settings: TheSettings, study_instance_uid: StudyUID, form: CheckedForm
) -> RedirectResponse:
    """The button *Run again*: one series, with words or another segmenter."""
    job = run_again(
        settings,
        record,
        study_instance_uid,
        _uid(form),
        _prompt(form),
        segmenter=text_of(form, "segmenter", LONGEST_WORD).strip(),
        by="web",
        address=caller.address,
        reason=_reason(form),
    )
    return _back_to(job)


def _reason(form: CheckedForm) -> str:
    reason = text_of(form, "reason", LONGEST_REASON).strip()
    if not reason:
        raise refuse("say why: the reason is kept in the audit log")
    return reason


def _prompt(form: CheckedForm) -> Prompt:
    words = text_of(form, "prompt", _LONGEST_PROMPT).strip()
    try:
        return Prompt(questions=(Question(text=words),) if words else (), by_hand=True)
    except ValidationError:
        raise refuse("ask in at most 1000 characters, all of which can be printed") from None


def _uid(form: CheckedForm) -> str:
    try:
        return checked_uid(text_of(form, "series_instance_uid", 64))
    except ValueError as error:
        raise refuse(str(error)) from None


def _back_to(job: Job) -> RedirectResponse:
    return RedirectResponse(f"/studies/{job.study_instance_uid}#job-{job.job_id}", HTTPStatus.SEE_OTHER)
