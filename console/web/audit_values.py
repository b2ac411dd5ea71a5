"""What may be asked of the audit log in an address: checked values, and the question they make."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from console.web.request_values import checked_uid
from db.audit import Event
from db.audit_queries import AuditQuery
from db.models import storable

EVENTS = tuple(sorted(event.word for event in Event))
OUTCOMES = (0, 4, 8, 12)
_MOST = 2**53
"""The largest number that every reader of JSON takes."""


def _known_event(word: str) -> str:
    if word and word not in EVENTS:
        raise ValueError(f"no such event; there are {', '.join(EVENTS)}")
    return word


def _known_outcome(number: int) -> int:
    if number not in OUTCOMES:
        raise ValueError("no such outcome; there are 0, 4, 8 and 12")
    return number


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time within the years 1 to 9999, in UTC") from None


Text = Annotated[str, AfterValidator(storable)]
Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
ModelName = Annotated[Text, Field(min_length=1, max_length=64, description="Name of a model.")]


class AuditFilters(BaseModel):
    """What to look for; a value that is left out matches everything."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    study_instance_uid: Annotated[str, AfterValidator(checked_uid)] = Field(
        "", max_length=64, description="Only of this study."
    )
    job_id: str = Field("", pattern="^([0-9a-f]{32})?$", description="Only of this job.")
    patient_hash: str = Field(
        "", pattern="^([0-9a-f]{64})?$", description="Only of the studies of the patient with this pseudonym."
    )
    user: Text = Field("", max_length=128, description="Only of this person; of a program: token:NAME.")
    ae_title: Text = Field("", max_length=16, description="Only of this AE title.")
    address: Text = Field("", max_length=64, description="Only of this network address.")
    event: Annotated[str, AfterValidator(_known_event)] = Field("", max_length=32, description="Only this event.")
    outcome: Annotated[int, AfterValidator(_known_outcome)] | None = Field(
        None, description="Only this EventOutcomeIndicator: 0, 4, 8 or 12."
    )
    failed: bool = Field(False, description="Only what did not succeed.")
    since: Moment | None = Field(None, description="From this time on, with a zone.")
    until: Moment | None = Field(None, description="Before this time, with a zone.")

    def query(self, *, before: int = 0, limit: int = 1000) -> AuditQuery:
        """The question."""
        facts = {name: getattr(self, name) for name in AuditFilters.model_fields if name != "failed"}
        return AuditQuery(**facts, failed_only=self.failed, before=before, limit=limit)


class AuditListing(AuditFilters):
    """One page of what was looked for."""

    before: int = Field(0, ge=0, le=_MOST, description="Only rows before this one: the next page.")
    limit: int = Field(1000, ge=1, le=1000, description="At most so many.")


class AuditExport(AuditFilters):
    """All of what was looked for."""

    form: Literal["xml", "fhir", "csv", "jsonl"] = Field(
        "jsonl", description="DICOM PS3.15 A.5, FHIR R4 AuditEvent, a table, or rows with the proof of the chain."
    )
