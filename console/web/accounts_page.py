"""The page on which accounts and tokens are managed (role admin)."""

from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.datastructures import FormData

from console.web import management
from console.web.access import Administrator
from console.web.accounts_api import UserName
from console.web.answers import status_of
from console.web.forms import CheckedForm, text_of
from console.web.rendering import page
from console.web.request_values import TheRecord
from db import accounts, api_tokens
from db.session import Record
from dicom_core.errors import ConfigurationError, ConflictError, VesselqError
from dicom_core.roles import Role, Scope

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
_Change = Literal["password", "roles", "disable", "enable"]


@router.get("/accounts")
def accounts_page(request: Request, _: Administrator, record: TheRecord) -> HTMLResponse:
    """Everybody, and every token."""
    return _page(request, record)


@router.post("/accounts", response_model=None)
def add_account(request: Request, caller: Administrator, record: TheRecord, form: CheckedForm) -> HTMLResponse:
    """Add somebody and show the password for the first sign-in, once."""
    name = text_of(form, "name", 129).strip()
    try:
        _, password = management.add_account(
            record, caller, name, _words(form, "roles"), display_name=text_of(form, "display_name", 128)
        )
    except (ConfigurationError, ConflictError) as error:
        return _page(request, record, problem=error)
    return _page(request, record, secret=password, owner=name)


@router.post("/accounts/{user_name}/{change}", response_model=None)
def change_account(
    request: Request, caller: Administrator, record: TheRecord, form: CheckedForm, user_name: UserName, change: _Change
) -> HTMLResponse | RedirectResponse:
    """Change somebody's roles or password, or let him in or not."""
    try:
        if change == "password":
            secret = management.reset_password(record, caller, user_name)
            return _page(request, record, secret=secret, owner=user_name)
        if change == "roles":
            management.set_roles(record, caller, user_name, _words(form, "roles"))
        elif change == "disable":
            management.disable(record, caller, user_name)
        else:
            management.enable(record, caller, user_name)
    except (ConfigurationError, ConflictError) as error:
        return _page(request, record, problem=error)
    return RedirectResponse("/accounts", HTTPStatus.SEE_OTHER)


@router.post("/tokens", response_model=None)
def create_token(request: Request, caller: Administrator, record: TheRecord, form: CheckedForm) -> HTMLResponse:
    """Make a token and show it, once."""
    name = text_of(form, "name", 65)
    try:
        days = _whole_number(text_of(form, "days", 10))
        made, secret = management.create_token(record, caller, name, _words(form, "scopes"), days=days)
    except (ConfigurationError, ConflictError) as error:
        return _page(request, record, problem=error)
    return _page(request, record, secret=secret, owner=made.name)


@router.post("/tokens/{token_id}/revoke")
def revoke_token(
    _: Administrator, record: TheRecord, _form: CheckedForm, token_id: Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
) -> RedirectResponse:
    """End a token now."""
    api_tokens.revoke(record, token_id)
    return RedirectResponse("/accounts", HTTPStatus.SEE_OTHER)


def _whole_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ConfigurationError("days is a whole number")
    return int(text)


def _words(form: FormData, name: str) -> list[str]:
    return [value for value in form.getlist(name) if isinstance(value, str)]


def _page(
    request: Request, record: Record, *, problem: VesselqError | None = None, secret: str = "", owner: str = ""
) -> HTMLResponse:
    now = record.now()
    values: dict[str, Any] = {
        "accounts": accounts.accounts(record),
        "tokens": api_tokens.tokens(record),
        "now": now,
        "roles": list(Role),
        "scopes": list(Scope),
        "days": int(api_tokens.DEFAULT_DAYS),
        "most_days": int(api_tokens.LONGEST_DAYS),
        "problem": str(problem) if problem else "",
        "secret": secret,
        "owner": owner,
    }
    return page(request, "accounts.html", values, status=status_of(problem) if problem else HTTPStatus.OK)
