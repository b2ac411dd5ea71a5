"""What handlers get from a request: the record on behalf of who asks, the settings, checked identifiers."""

from typing import Annotated

from fastapi import Depends, HTTPException, Path, Query, Request
from pydantic import AfterValidator

from console.web.access import Caller
from db.session import Record
from dicom_core.identifiers import is_uid
from dicom_core.settings import Settings


def _record(request: Request) -> Record:
    record: Record = request.app.state.record
    caller: Caller | None = getattr(request.state, "caller", None)
    return record.on_behalf_of(caller.name, caller.address) if caller else record


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def checked_uid(value: str) -> str:
    """Refuse text that is no UID."""
    if value and not is_uid(value):
        raise ValueError("not a UID: digits and dots, at most 64 characters (PS3.5 section 9.1)")
    return value


def own_page(path: str) -> str:
    """``path`` when it is one of this site, else the first page: nobody is sent elsewhere (open redirect)."""
    # a browser reads "//host" and "/\\host" as another site
    own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if own else "/"


TheRecord = Annotated[Record, Depends(_record)]
TheSettings = Annotated[Settings, Depends(_settings)]
StudyUID = Annotated[str, Path(max_length=64), AfterValidator(checked_uid)]
MaybeStudyUID = Annotated[str, Query(max_length=64, description="Only of this study."), AfterValidator(checked_uid)]
JobId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many.")]


def refuse(detail: str) -> HTTPException:
    """The answer 422 with a sentence."""
    return HTTPException(422, detail)
