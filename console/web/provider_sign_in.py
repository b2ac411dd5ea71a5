"""Signing in with the account that a person has at the hospital's identity provider."""

import base64
import json
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from console.web import forms, oidc
from console.web.access import address_of
from console.web.forms import is_https
from console.web.oidc import Attempt, Person
from console.web.request_values import TheRecord, TheSettings, own_page
from console.web.sign_in import count_try, refused_page, signed_in
from db import accounts, audit
from db.audit import Event, Outcome
from dicom_core.errors import NotFoundError, NotSignedInError, VesselqError
from dicom_core.settings import Settings

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
_BACK = "/sign-in/back"
_LONGEST_SECONDS = 600


@router.get("/sign-in/provider", response_model=None)
def go_to_provider(
    request: Request, settings: TheSettings, next_page: Annotated[str, Query(alias="next", max_length=2000)] = "/"
) -> Response:
    """Send the browser to the identity provider."""
    _require_provider(settings)
    count_try(request)
    try:
        url, attempt = oidc.begin(settings.web.oidc, _redirect_uri(request, settings))
    except VesselqError as error:
        return refused_page(request, settings, error)
    answer = RedirectResponse(url, 303)
    answer.set_cookie(
        forms.provider_cookie(settings.web),
        _packed(attempt, own_page(next_page)),
        max_age=_LONGEST_SECONDS,
        httponly=True,
        samesite="lax",  # the way back is begun by the provider's page
        secure=is_https(settings.web),
    )
    return answer


@router.get(_BACK, response_model=None)
def come_back(request: Request, record: TheRecord, settings: TheSettings) -> Response:
    """Sign in whom the provider vouches for; each refusal is in the audit log."""
    _require_provider(settings)
    address = address_of(request)
    count_try(request)
    try:
        attempt, next_page = _unpacked(request.cookies.get(forms.provider_cookie(settings.web), ""))
        redirect_uri = _redirect_uri(request, settings)
        person: Person = oidc.finish(settings.web.oidc, redirect_uri, attempt, dict(request.query_params))
        account = accounts.from_provider(record, person.user_name, person.roles, display_name=person.display_name)
    except VesselqError as error:
        detail = {"by": "oidc", "reason": str(error)}
        audit.record_event(record, Event.SIGNED_IN, outcome=Outcome.MINOR_FAILURE, address=address, detail=detail)
        answer: Response = refused_page(request, settings, error)
    else:
        answer = signed_in(request, record, account, by="oidc", next_page=next_page)
    cookie = forms.provider_cookie(settings.web)
    answer.delete_cookie(cookie, secure=is_https(settings.web), httponly=True, samesite="lax")
    return answer


def _require_provider(settings: Settings) -> None:
    if not settings.web.oidc.issuer or settings.web.sign_in == "off":
        raise NotFoundError("this site has no identity provider (setting web.oidc)")


def _redirect_uri(request: Request, settings: Settings) -> str:
    """Our own address, as browsers know it; the host is one of ``web.allowed_hosts``."""
    scheme = "https" if is_https(settings.web) else "http"
    return f"{scheme}://{request.headers['host']}{_BACK}"


def _packed(attempt: Attempt, next_page: str) -> str:
    content = json.dumps([attempt.state, attempt.nonce, attempt.verifier, next_page])
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def _unpacked(cookie: str) -> tuple[Attempt, str]:
    try:
        content = json.loads(base64.urlsafe_b64decode(cookie + "=" * (-len(cookie) % 4)))
        state, nonce, verifier, next_page = (str(value) for value in content)
        f"{state}{verifier}".encode()  # half a character is compared with nothing
    except (ValueError, TypeError, RecursionError) as error:
        raise NotSignedInError("this sign-in was begun elsewhere or too long ago; begin again") from error
    return Attempt(state, nonce, verifier), next_page
