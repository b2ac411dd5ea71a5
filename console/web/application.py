"""The FastAPI application: middlewares, errors, and the three groups of addresses."""

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.trustedhost import TrustedHostMiddleware

from console.output import software_version
from console.web import api, appearance, metrics, pages, runs
from db.session import Record
from dicom_core.errors import (
    AuditError,
    ConfigurationError,
    ConflictError,
    InvalidPromptError,
    NotFoundError,
    UnavailableError,
    VesselqError,
)
from dicom_core.settings import Settings

STATIC_FOLDER = Path(__file__).parent / "static"
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_STATUS_OF: tuple[tuple[type[VesselqError], HTTPStatus], ...] = (
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (ConflictError, HTTPStatus.CONFLICT),
    (ConfigurationError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (InvalidPromptError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (UnavailableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (AuditError, HTTPStatus.SERVICE_UNAVAILABLE),
)


def make_application(settings: Settings, record: Record) -> FastAPI:
    """The application over one record.

    Args:
        settings: For the allowed hosts and the results folder.
        record: Read; what is written are the runs that are asked for, and who read the audit log.
    """
    application = FastAPI(
        title="vesselq",
        version=software_version(),
        description="What was received, segmented and returned. There is no sign-in yet: all is read-only but that "
        "addresses named by the setting web.runs_from may have a series segmented again.",
        # the interactive pages load scripts from elsewhere, which the content security policy forbids
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    application.state.settings = settings
    application.state.record = record
    application.include_router(api.router)
    application.include_router(runs.router)
    application.include_router(metrics.router(record))
    application.include_router(pages.router)
    application.include_router(appearance.router)
    application.mount("/static", StaticFiles(directory=STATIC_FOLDER), name="static")
    application.add_exception_handler(VesselqError, _answer_error)
    application.add_exception_handler(RequestValidationError, _answer_wrong_values)
    application.add_middleware(TrustedHostMiddleware, allowed_hosts=list(settings.web.allowed_hosts))
    application.middleware("http")(_secure)  # outermost: refusals carry the headers as well
    return application


async def _secure(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers.update(SECURITY_HEADERS)
    return response


async def _answer_error(request: Request, error: Exception) -> Response:
    status = next((status for kind, status in _STATUS_OF if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
    if request.url.path.startswith("/api/"):
        return JSONResponse({"detail": str(error)}, status)
    return pages.error_page(request, status, str(error))


async def _answer_wrong_values(_request: Request, error: Exception) -> Response:
    """Say what is wrong and where, without what was sent: it may be text or numbers that JSON cannot hold."""
    found = error.errors() if isinstance(error, RequestValidationError) else []
    detail = [{key: one[key] for key in ("type", "loc", "msg")} for one in found]
    content = json.dumps({"detail": detail}, default=str)  # in ASCII: a name that was sent may be half a character
    return Response(content, HTTPStatus.UNPROCESSABLE_ENTITY, media_type="application/json")
