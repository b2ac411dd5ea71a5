"""Forms that only our own pages can send: a secret field besides what browsers tell of the page that sends.

The field is derived from the cookie of the session, or of a visitor who is not signed in, so nothing is stored for it.
"""

import hashlib
import hmac
import secrets
from typing import Annotated

from fastapi import Depends, Request
from markupsafe import Markup
from starlette.datastructures import FormData

from dicom_core.errors import NotAllowedError
from dicom_core.setting_tables import WebSettings

FIELD = "csrf"
_MOST_FIELDS = 200


def session_cookie(web: WebSettings) -> str:
    """Name of the cookie that says who is signed in."""
    return _cookie("session", web)


def visitor_cookie(web: WebSettings) -> str:
    """Name of the cookie of who is not signed in yet."""
    return _cookie("visitor", web)


def provider_cookie(web: WebSettings) -> str:
    """Name of the cookie of who is on the way to the identity provider and back."""
    return _cookie("provider", web)


def is_https(web: WebSettings) -> bool:
    """Whether browsers reach us over HTTPS."""
    return web.https


def _cookie(kind: str, web: WebSettings) -> str:
    # with this prefix browsers take the cookie from this very host over HTTPS only (RFC 6265bis section 4.1.3.2)
    return f"__Host-vesselq_{kind}" if is_https(web) else f"vesselq_{kind}"


def csrf_token(request: Request) -> str:
    """What the hidden field of this browser's forms holds."""
    web: WebSettings = request.app.state.settings.web
    secret = request.cookies.get(session_cookie(web)) or request.cookies.get(visitor_cookie(web))
    if not secret:
        secret = getattr(request.state, "new_visitor", "")
    if not secret:
        # the doorkeeper sends it along with the page
        secret = request.state.new_visitor = secrets.token_urlsafe(24)
    return hmac.new(secret.encode(), b"vesselq form", hashlib.sha256).hexdigest()


def csrf_field(request: Request) -> Markup:
    """The hidden field, for every form that is sent by POST."""
    return Markup('<input type="hidden" name="{}" value="{}">').format(FIELD, csrf_token(request))


async def checked_form(request: Request) -> FormData:
    """The fields of a form, if one of our own pages sent it.

    Raises:
        NotAllowedError: It was not, or the page was open since before somebody signed in.
    """
    form = await request.form(max_files=1, max_fields=_MOST_FIELDS)
    given = form.get(FIELD)
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(), csrf_token(request).encode()):
        raise NotAllowedError("this form is from before you signed in, or from elsewhere: load its page again")
    return form


CheckedForm = Annotated[FormData, Depends(checked_form)]


def text_of(form: FormData, name: str, longest: int = 1000) -> str:
    """One field as text, cut; "" when it is missing or a file."""
    value = form.get(name)
    return value[:longest] if isinstance(value, str) else ""
