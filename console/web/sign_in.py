"""Signing in with a password, signing out, and the page of one's own account."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from console.web import forms
from console.web.access import Caller, SomebodySignedIn, address_of
from console.web.forms import CheckedForm, text_of
from console.web.rate_limits import RateLimit, network_of
from console.web.rendering import page
from console.web.request_values import TheRecord, TheSettings, own_page
from db import accounts, sign_in_sessions
from db.accounts import LONGEST_PASSWORD, SHORTEST_PASSWORD, Account
from db.session import Record
from dicom_core.errors import ConfigurationError, NotSignedInError, TooManyRequestsError, VesselqError
from dicom_core.setting_tables import WebSettings
from dicom_core.settings import Settings

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
NextPage = Annotated[str, Query(alias="next", max_length=2000)]


@router.get("/sign-in", response_model=None)
def sign_in_page(request: Request, settings: TheSettings, next_page: NextPage = "/") -> Response:
    """The form, or the page that was wanted for who is signed in already."""
    if request.state.caller is not None:
        return RedirectResponse(own_page(next_page), 303)
    return _form(request, settings, next_page)


@router.post("/sign-in", response_model=None)
def sign_in(request: Request, record: TheRecord, settings: TheSettings, form: CheckedForm) -> Response:
    """Sign in with name and password; a wrong one is answered with the form and one sentence."""
    next_page, address = own_page(text_of(form, "next")), address_of(request)
    name, password = text_of(form, "name", 128).strip(), text_of(form, "password", LONGEST_PASSWORD + 1)
    try:
        count_try(request)
        account = accounts.check_password(record, name, password, address=address)
    except TooManyRequestsError as error:
        return _form(request, settings, next_page, str(error), name=name, status=429)
    except NotSignedInError as error:
        return _form(request, settings, next_page, str(error), name=name, status=401)
    return signed_in(request, record, account, by="password", next_page=next_page)


def signed_in(request: Request, record: Record, account: Account, *, by: str, next_page: str) -> RedirectResponse:
    """Begin a session in place of the one that this browser may have, and go to a page with its cookie."""
    web: WebSettings = request.app.state.settings.web
    caller: Caller | None = request.state.caller
    address = address_of(request)
    token = sign_in_sessions.begin(record, account, address=address, hours=web.session_hours, by=by)
    if caller is not None and caller.signed_in is not None:
        sign_in_sessions.end(record, caller.signed_in, address=address)
    answer = RedirectResponse("/account" if account.must_change_password else own_page(next_page), 303)
    answer.set_cookie(
        forms.session_cookie(web),
        token,
        max_age=int(web.session_hours * 3600),
        httponly=True,
        samesite="lax",  # a link in a mail or a viewer may open a study; nothing is changed by GET
        secure=forms.is_https(web),
    )
    answer.delete_cookie(forms.visitor_cookie(web), secure=forms.is_https(web), httponly=True, samesite="lax")
    return answer


def count_try(request: Request) -> None:
    """One more try to sign in, whether with a password or with the identity provider.

    Raises:
        TooManyRequestsError: There were too many from this address.
    """
    limit: RateLimit = request.app.state.sign_ins
    limit.check(network_of(address_of(request)), "too many tries to sign in from this address; wait a minute")


def _form(
    request: Request, settings: Settings, next_page: str, problem: str = "", *, name: str = "", status: int = 200
) -> HTMLResponse:
    provider = bool(settings.web.oidc.issuer)
    values = {"next_page": own_page(next_page), "problem": problem, "provider": provider, "name": name}
    return page(request, "sign_in.html", values, status=status)


def refused_page(request: Request, settings: Settings, error: VesselqError) -> HTMLResponse:
    """The form again, with what the identity provider or we had to object."""
    return _form(request, settings, "/", str(error), status=503 if error.retryable else 401)


@router.post("/sign-out")
def sign_out(caller: SomebodySignedIn, record: TheRecord, settings: TheSettings, _: CheckedForm) -> RedirectResponse:
    """End this browser's session."""
    if caller.signed_in is not None:
        sign_in_sessions.end(record, caller.signed_in, address=caller.address)
    answer = RedirectResponse("/sign-in", 303)
    secure = forms.is_https(settings.web)
    answer.delete_cookie(forms.session_cookie(settings.web), secure=secure, httponly=True, samesite="lax")
    return answer


@router.get("/account")
def account_page(request: Request, caller: SomebodySignedIn) -> HTMLResponse:
    """Who one is here, and the form for another password."""
    return _account(request, caller.signed_in.account if caller.signed_in else None)


@router.post("/account", response_model=None)
def change_password(request: Request, caller: SomebodySignedIn, record: TheRecord, form: CheckedForm) -> Response:
    """Set another password. All other browsers of this person are signed out."""
    if caller.signed_in is None:
        raise ConfigurationError("only a person who signed in here has a password")
    old, new, again = (text_of(form, name, LONGEST_PASSWORD + 1) for name in ("old", "new", "again"))
    account = caller.signed_in.account
    try:
        count_try(request)
        if new != again:
            raise ConfigurationError("the new password was not repeated as it is")
        accounts.change_own_password(record, account.user_name, old, new, address=caller.address)
    except VesselqError as error:
        return _account(request, account, str(error), status=422)
    account = accounts.account(record, account.user_name)
    return signed_in(request, record, account, by="changed password", next_page="/")


def _account(request: Request, account: Account | None, problem: str = "", *, status: int = 200) -> HTMLResponse:
    values = {"account": account, "problem": problem, "shortest": SHORTEST_PASSWORD, "longest": LONGEST_PASSWORD}
    return page(request, "account.html", values, status=status)
