"""Everything that is looked at before a request reaches its handler, and before its content is read.

Browsers let any page send to any address. Three rules keep pages of others out: the host name must be one of ours
(``application``), what browsers tell of the page that sends must be this site, and the JSON API takes no content that a
page may send elsewhere without asking. Forms carry a secret besides (``forms``).
"""

from collections.abc import Callable
from http.cookies import SimpleCookie
from urllib.parse import quote_from_bytes, urlsplit

from fastapi import HTTPException, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console.web import forms
from console.web.access import PUBLIC, STATIC, WITH_OLD_PASSWORD, Caller, address_of, everybody, note_refusal
from console.web.rate_limits import RateLimit, network_of
from db import api_tokens, sign_in_sessions
from db.session import Record
from dicom_core.errors import NotAllowedError, NotSignedInError
from dicom_core.settings import Settings

MOST_BYTES = 1_000_000
"""Of a request: the largest prompt that is taken has about half of it."""
MOST_BYTES_OF = {"/rules": 64_000_000, "/api/v1/rules": 64_000_000}
"""Addresses, with all below, that take more: DICOM files."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_SENT_WITHOUT_ASKING = frozenset({"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"})
"""Kinds of content that a page may send to another site without a preflight (Fetch standard, section 2.2.2)."""
Answer = Callable[[Request, Exception], Response]


class Doorkeeper:
    """Finds out who asks (``request.state.caller``) and refuses what needs no handler to be refused.

    Args:
        app: The application behind it.
        settings: Of the site.
        record: Where sessions and tokens are.
        answer: Makes the answer that tells of an error.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings, record: Record, answer: Answer) -> None:
        self._app = app
        self._settings = settings
        self._record = record
        self._answer = answer
        self._requests = RateLimit(settings.web.requests_per_minute)
        self._noted = RateLimit(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        # RFC 3986 section 2 knows no other octets; below they would be read as UTF-8, which they need not be
        if not scope["query_string"].isascii():
            scope["query_string"] = quote_from_bytes(scope["query_string"], safe="=&%+").encode()
        request = Request(scope)
        request.state.caller = None
        try:
            if not request.url.path.startswith(STATIC):
                request.state.caller = await run_in_threadpool(self._admitted, request)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody gets past
            await self._answer(request, error)(scope, receive, send)
            return
        await self._app(scope, receive, _with_visitor(request, self._settings, send))

    def _admitted(self, request: Request) -> Caller | None:
        """Who asks; None for nobody at a public address.

        Raises:
            AccessError: Not admitted.
            HTTPException: What is sent is not taken.
            UnavailableError: The database does not answer.
        """
        path, address = request.url.path, address_of(request)
        try:
            caller = self._caller(request, address)
        except NotSignedInError:
            self._requests.check(network_of(address), "too many requests from this address; wait a moment")
            if path not in PUBLIC or "authorization" in request.headers:
                raise
            caller = None
        key = f"{caller.kind} {caller.name}" if caller and caller.name else network_of(address)
        self._requests.check(key, "too many requests; wait a moment")
        if caller is None and path not in PUBLIC:
            raise NotSignedInError("sign in first")
        if caller is not None and caller.must_change_password and path not in WITH_OLD_PASSWORD:
            request.state.must_change_password = True  # people are sent to that page
            raise NotAllowedError("change your password first, on the page /account")
        if request.method not in _SAFE:
            _check_sender(request)
            _check_content(request, path)
        return caller

    def _caller(self, request: Request, address: str) -> Caller | None:
        if self._settings.web.sign_in == "off":
            return everybody(address)
        if given := request.headers.get("authorization"):
            return self._program(given, address)
        cookie = request.cookies.get(forms.session_cookie(self._settings.web))
        return self._person(cookie, request, address) if cookie else None

    def _program(self, authorization: str, address: str) -> Caller:
        scheme, _, secret = authorization.partition(" ")
        try:
            token = api_tokens.find(self._record, secret.strip() if scheme.lower() == "bearer" else "")
        except NotSignedInError as error:
            if self._noted.take(network_of(address)):  # one a minute tells as much, and nobody can fill the audit log
                note_refusal(self._record, Caller("", frozenset(), "token", address), {"reason": str(error)})
            raise
        return Caller(f"token:{token.name}", frozenset(token.scopes), "token", address)

    def _person(self, cookie: str, request: Request, address: str) -> Caller:
        # what a page fetches by itself keeps nobody signed in; browsers that do not tell are believed
        active = request.headers.get("sec-fetch-mode", "navigate") == "navigate" or request.method not in _SAFE
        found = sign_in_sessions.find(self._record, cookie, idle_minutes=self._settings.web.idle_minutes, active=active)
        account = found.account
        scopes = frozenset() if account.must_change_password else account.scopes
        return Caller(account.user_name, scopes, "person", address, found, account.must_change_password)


def _check_sender(request: Request) -> None:
    """Refuse what the page of another site sends.

    Raises:
        NotAllowedError: A browser says that it is.
    """
    origin = request.headers.get("origin")
    own = request.headers.get("host", "").lower()
    if (origin is not None and _site_of(origin) != own) or request.headers.get("sec-fetch-site", "none") not in (
        "same-origin",
        "none",
    ):
        raise NotAllowedError("pages of other sites may change nothing here")


def _check_content(request: Request, path: str) -> None:
    """Refuse what is far too long, and what the JSON API does not take.

    Raises:
        HTTPException: 411, 413 or 415 with a sentence.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if path.startswith("/api/") and kind in _SENT_WITHOUT_ASKING:
        raise HTTPException(415, "send JSON with the header Content-Type: application/json")
    length = request.headers.get("content-length", "")
    # with both headers it is the chunks that count (RFC 9112 section 6.3), and nobody knows how many they are
    if "transfer-encoding" in request.headers or not (length.isascii() and length.isdecimal()):
        raise HTTPException(411, "send the length of the content in the header Content-Length")
    most = next(
        (size for start, size in MOST_BYTES_OF.items() if path == start or path.startswith(start + "/")), MOST_BYTES
    )
    if len(length) > len(str(most)) or int(length) > most:
        raise HTTPException(413, f"nothing that is taken here has more than {most} bytes")


def _site_of(origin: str) -> str:
    """Host and port of an Origin header, "" where it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _with_visitor(request: Request, settings: Settings, send: Send) -> Send:
    """Send the cookie along from which a visitor's forms are derived, where a page made one."""

    async def with_visitor(message: Message) -> None:
        secret = getattr(request.state, "new_visitor", "")
        if secret and message["type"] == "http.response.start":
            cookie: SimpleCookie = SimpleCookie()
            name = forms.visitor_cookie(settings.web)
            cookie[name] = secret
            cookie[name]["path"], cookie[name]["samesite"], cookie[name]["httponly"] = "/", "lax", True
            if forms.is_https(settings.web):
                cookie[name]["secure"] = True
            header = (b"set-cookie", cookie.output(header="").strip().encode("latin-1"))
            message["headers"] = [*message.get("headers", ()), header]
        await send(message)

    return with_visitor
