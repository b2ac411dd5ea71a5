"""The one address of the JSON API that changes something: having a series segmented again with a prompt.

Browsers let any page post to any address. Three rules keep pages of others out: the host name must be one of ours
(``application``), the content must say that it is JSON, which a page may only send elsewhere after asking (and nothing
here answers yes), and what browsers tell of the page that sends must be this site. All of it is looked at before the
content is read, whose length must be told.
"""

from collections.abc import Callable, Coroutine
from ipaddress import ip_address, ip_network
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from console.output import jsonable
from console.runs import run_again
from console.web.request_values import StudyUID, TheRecord, TheSettings, checked_uid
from dicom_core.chain import LONGEST_WORD
from dicom_core.prompt import Box, Point, Prompt, Question
from dicom_core.settings import Settings

MOST_BYTES = 1_000_000
"""Of a request: the largest prompt that is taken has about half of it."""


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

    @field_validator("prompt", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return {"questions": [{"text": value}] if value.strip() else []} if isinstance(value, str) else value

    def asked(self) -> Prompt:
        """As a prompt of a person."""
        shown = self.prompt
        return Prompt(questions=shown.questions, points=shown.points, boxes=shown.boxes, by_hand=True)


class _AllowedOnly(APIRoute):
    """Asks :func:`_allowed` before the content of a request is read; a dependency would be asked after."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler that is called for a request."""
        handle = super().get_route_handler()

        async def allowed_only(request: Request) -> Response:
            _allowed(request, request.app.state.settings)
            return await handle(request)

        return allowed_only


router = APIRouter(route_class=_AllowedOnly)


def _allowed(request: Request, settings: Settings) -> None:
    """Refuse who may not ask, what a page of somebody else's could have sent, and what is far too long.

    Raises:
        HTTPException: 403, 411, 413 or 415 with a sentence.
    """
    if not _calls_from(request, settings.web.runs_from):
        raise HTTPException(403, "your address may not start runs; the setting web.runs_from names those that may")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "send JSON with the header Content-Type: application/json")
    origin = request.headers.get("origin")
    own = request.headers.get("host", "").lower()
    if (origin is not None and _site_of(origin) != own) or request.headers.get("sec-fetch-site", "none") not in (
        "same-origin",
        "none",
    ):
        raise HTTPException(403, "pages of other sites may not start runs")
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        raise HTTPException(411, "send the length of the content in the header Content-Length")
    if len(length) > len(str(MOST_BYTES)) or int(length) > MOST_BYTES:
        raise HTTPException(413, f"no prompt has more than {MOST_BYTES} bytes")


def _site_of(origin: str) -> str:
    """Host and port of an Origin header, "" where it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _calls_from(request: Request, networks: tuple[str, ...]) -> bool:
    try:
        caller = ip_address(request.client.host.partition("%")[0] if request.client else "")
    except ValueError:
        return False
    caller = getattr(caller, "ipv4_mapped", None) or caller
    for entry in networks:
        try:
            if caller in ip_network(entry, strict=False):
                return True
        except ValueError:
            continue  # a host name: none is looked up here
    return False


@router.post("/api/v1/studies/{study_instance_uid}/runs", tags=["studies"], status_code=202)
def ask_again(
    request: Request, record: TheRecord, settings: TheSettings, study_instance_uid: StudyUID, asked: RunRequest
) -> dict[str, Any]:
    """Have one series of a complete study segmented again: a new generation, audited and marked as semi-automatic.

    The same question about the same images is not asked twice: the answer is then the job that there is. 409 while the
    study is being received or when its files are no longer kept.
    """
    address = request.client.host if request.client else ""
    job = run_again(
        settings,
        record,
        study_instance_uid,
        asked.series_instance_uid,
        asked.asked(),
        segmenter=asked.segmenter.strip(),
        by="web",
        address=address,
    )
    return {"job": jsonable(job)}
