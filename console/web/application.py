"""The FastAPI application: what stands before every request, and the groups of addresses."""

from functools import partial
from pathlib import Path
from typing import Protocol

from fastapi import APIRouter, Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console.output import software_version
from console.web import (
    accounts_api,
    accounts_page,
    actions,
    api,
    appearance,
    audit_api,
    audit_page,
    health,
    live,
    metrics,
    pages,
    peers_page,
    provider_sign_in,
    queue_page,
    rules_page,
    runs,
    sign_in,
    work_api,
)
from console.web.access import needs
from console.web.answers import answer_error
from console.web.doorkeeper import Doorkeeper
from console.web.forms import is_https
from console.web.interface import describe
from console.web.list_facts import ListFacts
from console.web.rate_limits import RateLimit
from db.session import Record
from dicom_core.errors import VesselqError
from dicom_core.settings import Settings

STATIC_FOLDER = Path(__file__).parent / "static"
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # with "no-referrer" browsers call the origin of a form "null", which is what other sites are called as well
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
HTTPS_ONLY = {"Strict-Transport-Security": "max-age=31536000"}


class _Room(Protocol):
    """A module with addresses."""

    router: APIRouter


_ROOMS: tuple[_Room, ...] = (
    api,
    health,
    runs,
    actions,
    work_api,
    audit_api,
    accounts_api,
    appearance,
    sign_in,
    provider_sign_in,
    queue_page,
    peers_page,
    rules_page,
    audit_page,
    accounts_page,
)
"""In the order of the list of the API."""


def make_application(settings: Settings, record: Record) -> FastAPI:
    """The application over one record.

    Args:
        settings: For the allowed hosts and the results folder.
        record: Read; what is written are the runs that are asked for, and who read the audit log.
    """
    application = FastAPI(
        title="vesselq",
        version=software_version(),
        description="What was received, segmented and returned, and what operators and auditors do about it.",
        # the interactive pages load scripts from elsewhere, which the content security policy forbids
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # ours asks for a sign-in
    )
    application.state.settings = settings
    application.state.record = record
    application.state.live_feed = live.LiveFeed(record)
    application.state.list_facts = ListFacts(record)
    application.state.sign_ins = RateLimit(settings.web.sign_ins_per_minute)
    application.include_router(metrics.router(settings, record))
    for room in _ROOMS:
        application.include_router(room.router)
    application.include_router(pages.router, dependencies=[Depends(pages.to_own_first_page), Depends(needs("read"))])
    application.openapi = partial(describe, application)  # type: ignore[method-assign]  # FastAPI's way to extend it
    application.mount("/static", StaticFiles(directory=STATIC_FOLDER), name="static")
    for kind in (VesselqError, RequestValidationError, HTTPException):
        application.add_exception_handler(kind, answer_error)
    # the last one added is the first that a request meets
    application.add_middleware(Doorkeeper, settings=settings, record=record, answer=answer_error)
    application.add_middleware(TrustedHostMiddleware, allowed_hosts=list(settings.web.allowed_hosts))
    application.add_middleware(_SecurityHeaders, https=is_https(settings.web))
    return application


class _SecurityHeaders:
    """Puts the headers into every answer, refusals too."""

    def __init__(self, app: ASGIApp, *, https: bool) -> None:
        self._app = app
        self._headers = {**SECURITY_HEADERS, **(HTTPS_ONLY if https else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        await self._app(scope, receive, send_secured)
