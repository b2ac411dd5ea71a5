"""Having a series segmented again with a prompt, over the JSON API."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from console.output import jsonable
from console.runs import run_again
from console.web.access import Operator, ScopeFirst
from console.web.actions import LONGEST_REASON
from console.web.request_values import StudyUID, TheRecord, TheSettings, checked_uid
from dicom_core.chain import LONGEST_WORD
from dicom_core.prompt import Box, Point, Prompt, Question


class ShownPrompt(BaseModel):
    """What is asked. Masks and examples are files, which are not taken over the web."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    questions: tuple[Question, ...] = Field((), max_length=16, description="One segment each.")
    points: tuple[Point, ...] = Field((), max_length=1000)
    boxes: tuple[Box, ...] = Field((), max_length=1000)


class RunRequest(BaseModel):
    """One series, and what is asked of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    series_instance_uid: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(checked_uid)]
    prompt: ShownPrompt = Field(ShownPrompt(), description="A text, or questions, points and boxes.")
    segmenter: str = Field(
        "", max_length=LONGEST_WORD, description="Instead of that of the rule: a name, or several joined by +."
    )
    reason: str = Field("", max_length=LONGEST_REASON, description="Why; it is kept in the audit log.")

    @field_validator("prompt", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return {"questions": [{"text": value}] if value.strip() else []} if isinstance(value, str) else value

    def asked(self) -> Prompt:
        """As a prompt of a person."""
        shown = self.prompt
        return Prompt(questions=shown.questions, points=shown.points, boxes=shown.boxes, by_hand=True)


router = APIRouter(route_class=ScopeFirst)


@router.post("/api/v1/studies/{study_instance_uid}/runs", tags=["studies"], status_code=202)
def ask_again(
    caller: Operator, record: TheRecord, settings: TheSettings, study_instance_uid: StudyUID, asked: RunRequest
) -> dict[str, Any]:
    """Have one series of a complete study segmented again: a new generation, audited and marked as semi-automatic.

    The same question about the same images is not asked twice: the answer is then the job that there is. 409 while the
    study is being received or when its files are no longer kept.
    """
    job = run_again(
        settings,
        record,
        study_instance_uid,
        asked.series_instance_uid,
        asked.asked(),
        segmenter=asked.segmenter.strip(),
        by="web",
        address=caller.address,
        reason=asked.reason.strip(),
    )
    return {"job": jsonable(job)}
