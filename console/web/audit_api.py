"""The audit log for programs, below ``/api/v1/audit``. Every reading is written into the log before it happens."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from console.audit_reading import chain_state, note_reading, pseudonym, read_page, verify_chain
from console.output import jsonable
from console.web.access import Auditor, Caller, ScopeFirst
from console.web.audit_values import AuditExport, AuditListing, ModelName, Moment, Text
from console.web.request_values import JobId, Limit, StudyUID, TheRecord, TheSettings, refuse
from db import audit, audit_answers
from db.audit_export.facts import site_of
from db.audit_export.forms import FORMS
from db.audit_export.to_file import asked
from db.audit_queries import AuditQuery, each_audit_row
from db.session import Record
from dicom_core.settings import Settings

DAYS_LOOKED_BACK = 7
"""For studies without a result, where nothing else is said."""
router = APIRouter(prefix="/api/v1/audit", tags=["audit"], route_class=ScopeFirst)


class PatientQuestion(BaseModel):
    """Which patient. The identifier is turned into the pseudonym at once and kept nowhere."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    patient_id: Text = Field(min_length=1, max_length=64, description="PatientID (0010,0020).", repr=False)
    issuer_of_patient_id: Text = Field(
        "", max_length=64, description="IssuerOfPatientID (0010,0021), where the studies have one."
    )
    before: int = Field(0, ge=0, le=2**53, description="Only rows before this one: the next page.")
    limit: int = Field(1000, ge=1, le=1000, description="At most so many rows.")


@router.get("")
def read_audit(caller: Auditor, record: TheRecord, asked_for: Annotated[AuditListing, Query()]) -> dict[str, Any]:
    """Audit events that fit, the latest, in the order in which they were written.

    `before` of the answer, where it is not 0, is that of the next page.
    """
    query = asked_for.query(before=asked_for.before, limit=asked_for.limit)
    page = read_page(record, query, by="web", address=caller.address)
    return {"events": jsonable(page.rows), "before": page.before}


@router.get("/who-saw/{study_instance_uid}")
def show_who_saw(caller: Auditor, record: TheRecord, study_instance_uid: StudyUID) -> dict[str, Any]:
    """Everybody who opened a study or did something to it, and where its results were sent."""
    _note(record, caller, "who-saw", study_instance_uid=study_instance_uid)
    return {
        "study_instance_uid": study_instance_uid,
        "seen_by": jsonable(audit_answers.who_saw(record, study_instance_uid)),
    }


@router.get("/jobs/{job_id}")
def show_job_story(caller: Auditor, record: TheRecord, job_id: JobId) -> dict[str, Any]:
    """What happened to a job: itself, its deliveries, all its audit events."""
    _note(record, caller, "job", job_id=job_id)
    story: dict[str, Any] = jsonable(audit_answers.job_story(record, job_id))
    return story


@router.get("/recall")
def show_recall(
    caller: Auditor,
    record: TheRecord,
    model: Annotated[ModelName, Query()],
    model_version: Annotated[Text, Query(max_length=64, description="Its version; else every one.")] = "",
    before: Annotated[str, Query(pattern="^([0-9a-f]{32})?$", description="Only jobs before this one.")] = "",
    limit: Limit = 1000,
) -> dict[str, Any]:
    """Every study that a model touched, alone or in a chain, with or without a result, the latest first.

    `jobs` tells how many there are in all, `before`, where it is not empty, is that of the next page.
    """
    _note(record, caller, "recall", model=model, model_version=model_version)
    found = audit_answers.recall(record, model, model_version, before=before, limit=limit)
    return {"jobs": found.jobs, "touched": jsonable(found.rows), "before": found.before}


@router.get("/models")
def list_models(_: Auditor, record: TheRecord) -> dict[str, Any]:
    """The models, with their versions, that may be recalled."""
    used = audit_answers.models_used(record)
    return {"models": [{"model": model, "model_version": version} for model, version in used]}


@router.get("/failures")
def list_failures(
    caller: Auditor,
    record: TheRecord,
    hours: Annotated[float, Query(gt=0, le=87_600, description="Of so many hours.")] = 24,
    limit: Limit = 1000,
) -> dict[str, Any]:
    """What did not succeed: refused peers, failed jobs, deliveries and sign-ins."""
    since = record.now() - timedelta(hours=hours)
    query = AuditQuery(failed_only=True, since=since, limit=limit)
    page = read_page(record, query, by="web", address=caller.address)
    return {"since": jsonable(since), "events": jsonable(page.rows), "before": page.before}


@router.get("/without-result")
def list_without_result(
    caller: Auditor,
    record: TheRecord,
    since: Annotated[Moment | None, Query(description="First received from this time on; else a week ago.")] = None,
    until: Annotated[Moment | None, Query(description="First received before this time.")] = None,
    limit: Limit = 1000,
) -> dict[str, Any]:
    """Studies that no result was made for, with the reasons, the latest first."""
    since = since or record.now() - timedelta(days=DAYS_LOOKED_BACK)
    _note(record, caller, "without-result", since=since, until=until)
    found = audit_answers.without_result(record, since=since, until=until, limit=limit)
    return {"since": jsonable(since), "until": jsonable(until), "studies": jsonable(found)}


@router.post("/patient")
def show_patient(caller: Auditor, record: TheRecord, question: PatientQuestion) -> dict[str, Any]:
    """The studies of one patient and what happened to them; the log gets the pseudonym, not the identifier."""
    of_patient = pseudonym(record, question.patient_id, question.issuer_of_patient_id)
    if not of_patient:
        raise refuse("a PatientID of nothing but spaces names nobody")
    query = AuditQuery(patient_hash=of_patient, before=question.before, limit=question.limit)
    page = read_page(record, query, by="web", address=caller.address)
    studies = audit_answers.studies_of_patient(record, of_patient)
    return {
        "patient_hash": of_patient,
        "studies": jsonable(studies),
        "events": jsonable(page.rows),
        "before": page.before,
    }


@router.get("/export", response_class=StreamingResponse)
def export_audit(
    caller: Auditor, record: TheRecord, settings: TheSettings, asked_for: Annotated[AuditExport, Query()]
) -> StreamingResponse:
    """All audit events that fit, as a file, in the order in which they were written."""
    form, query = FORMS[asked_for.form], asked_for.query()
    detail = {"form": form.word, "by": "web", "asked": asked(query)}
    audit.record_event(record, audit.Event.AUDIT_EXPORTED, address=caller.address, detail=detail)
    headers = {"Content-Disposition": f'attachment; filename="audit{form.suffix}"'}
    return StreamingResponse(_exported(record, settings, query, form.word), media_type=form.media_type, headers=headers)


def _exported(record: Record, settings: Settings, query: AuditQuery, form: str) -> Iterator[str]:
    yield from FORMS[form].lines(record, site_of(settings), each_audit_row(record, query))


@router.post("/verify")
def verify_audit(caller: Auditor, record: TheRecord, settings: TheSettings) -> dict[str, Any]:
    """Walk the whole chain and compare it with the signed checkpoints. 409 while somebody else has it walked."""
    found = verify_chain(record, settings, by="web", address=caller.address)
    return {"holds": found.holds, **jsonable(found)}


@router.get("/state")
def show_state(_: Auditor, record: TheRecord, settings: TheSettings) -> dict[str, Any]:
    """How long the log is, its last checkpoint, and how far each audit repository has been told."""
    state: dict[str, Any] = jsonable(chain_state(record, settings))
    return state


def _note(record: Record, caller: Caller, question: str, **facts: Any) -> None:
    note_reading(record, {"question": question, **facts}, by="web", address=caller.address)
