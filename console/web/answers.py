"""How errors are answered: a sentence, as JSON for programs and as a page for people."""

import json
from http import HTTPStatus
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException

from console.web import words
from console.web.rendering import page
from dicom_core.errors import (
    AuditError,
    ConfigurationError,
    ConflictError,
    InvalidPromptError,
    NotAllowedError,
    NotFoundError,
    NotSignedInError,
    TooManyRequestsError,
    UnavailableError,
    VesselqError,
)
from dicom_core.logs import get_logger

STATUS_OF: tuple[tuple[type[VesselqError], HTTPStatus], ...] = (
    (NotSignedInError, HTTPStatus.UNAUTHORIZED),
    (NotAllowedError, HTTPStatus.FORBIDDEN),
    (TooManyRequestsError, HTTPStatus.TOO_MANY_REQUESTS),
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (ConflictError, HTTPStatus.CONFLICT),
    (ConfigurationError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (InvalidPromptError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (UnavailableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (AuditError, HTTPStatus.SERVICE_UNAVAILABLE),
)
_REDIRECTED = frozenset({"GET", "HEAD"})
_FOR_PROGRAMS = frozenset({"/healthz", "/health/live", "/health/ready", "/events"})
log = get_logger("web")


def answer_error(request: Request, error: Exception) -> Response:
    """The answer that tells of an error, without what was sent and without a trace."""
    if isinstance(error, RequestValidationError):
        return _wrong_values(request, error)
    status, sentence = _told(error)
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if isinstance(error, TooManyRequestsError):
        headers["Retry-After"] = str(error.seconds)
    if isinstance(error, NotSignedInError):
        if _is_page(request):
            return _to_sign_in(request)
        headers["WWW-Authenticate"] = 'Bearer realm="vesselq"'
    if _wants_json(request):
        return JSONResponse({"detail": sentence}, status, headers)
    if isinstance(error, NotAllowedError) and getattr(request.state, "must_change_password", False):
        return RedirectResponse("/account", HTTPStatus.SEE_OTHER)
    if sentence == status.phrase == HTTPStatus.NOT_FOUND.phrase:
        sentence = "there is no page at this address"
    shown = _error_page(request, status, sentence)
    shown.headers.update(headers)
    return shown


def status_of(error: VesselqError) -> HTTPStatus:
    """The status of HTTP that goes with an error."""
    return next((status for kind, status in STATUS_OF if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)


def _told(error: Exception) -> tuple[HTTPStatus, str]:
    if isinstance(error, HTTPException):
        return HTTPStatus(error.status_code), str(error.detail)
    if isinstance(error, VesselqError):
        return status_of(error), str(error)
    log.error("a request failed", error=type(error).__name__, exc_info=error)
    return HTTPStatus.INTERNAL_SERVER_ERROR, "something went wrong here; the log of the web process says what"


def _wants_json(request: Request) -> bool:
    return request.url.path.startswith("/api/") or request.url.path in _FOR_PROGRAMS


def _is_page(request: Request) -> bool:
    """Whether a person would see the answer: programs, and what a page fetches by itself, want a status."""
    return (
        not _wants_json(request)
        and request.url.path != "/metrics"
        and "authorization" not in request.headers
        and request.headers.get("sec-fetch-mode", "navigate") == "navigate"
    )


def _to_sign_in(request: Request) -> Response:
    """Ask for a sign-in, and come back to the page afterwards."""
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    wanted = f"?next={quote(here)}" if request.method in _REDIRECTED and here != "/" else ""
    return RedirectResponse(f"/sign-in{wanted}", HTTPStatus.SEE_OTHER)


def _error_page(request: Request, status: HTTPStatus, sentence: str) -> HTMLResponse:
    return page(
        request, "error.html", {"title": words.TITLES.get(status, status.phrase), "sentence": sentence}, status=status
    )


def _wrong_values(request: Request, error: RequestValidationError) -> Response:
    """Say what is wrong and where, without what was sent: it may be text or numbers that JSON cannot hold."""
    if not _wants_json(request):
        return _error_page(request, HTTPStatus.UNPROCESSABLE_ENTITY, "this address has values that are not taken")
    detail = [{key: one[key] for key in ("type", "loc", "msg")} for one in error.errors()]
    content = json.dumps({"detail": detail}, default=str)  # in ASCII: a name that was sent may be half a character
    return Response(content, HTTPStatus.UNPROCESSABLE_ENTITY, media_type="application/json")
