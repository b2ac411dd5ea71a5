"""Debian's Chromium at the pages of the console, signed in, with an ear for everything that a page does wrong."""

import importlib.util
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from db.models import SignInSession, User
from db.session import Record
from db.sign_in_sessions import hash_of

CHROMIUM = Path("/usr/bin/chromium")
_ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")


def why_not() -> str:
    """What is missing for a browser, "" for nothing."""
    if not CHROMIUM.exists():
        return "Chromium is not installed (apt-get install chromium)"
    return "" if importlib.util.find_spec("playwright") else "playwright is not installed (pip install --group test)"


class Browser:
    """A started browser.

    Attributes:
        complaints: What pages wrote to the console as errors or warnings, uncaught errors, requests that failed and
            refusals of the content security policy; cleared by who has read them.
    """

    def __init__(self, browser: Any, address: str) -> None:
        self._browser = browser
        self._address = address
        self.complaints: list[str] = []

    def page(self, session: str = "", *, width: int = 1440, height: int = 900, **options: Any) -> Any:
        """A page of a browser of its own, at 127.0.0.1.

        Args:
            session: From ``session_for``; "" for a stranger.
            width: Of the window in pixels.
            height: Of the window in pixels.
            **options: Of the browser's context, for example ``color_scheme`` and ``locale``.
        """
        context = self._browser.new_context(
            base_url=self._address, viewport={"width": width, "height": height}, **{"locale": "en-GB", **options}
        )
        if session:
            context.add_cookies([{"name": "vesselq_session", "value": session, "url": self._address}])
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("requestfailed", self._failed)
        return page

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _failed(self, request: Any) -> None:
        # leaving a page ends its event stream and whatever it was fetching
        if "ERR_ABORTED" not in (request.failure or ""):
            self.complaints.append(f"failed: {request.url} {request.failure}")


@contextmanager
def console_browser(address: str) -> Iterator[Browser]:
    """Start Chromium without a screen.

    Args:
        address: Of the web process, for example ``http://127.0.0.1:8042``.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_ARGUMENTS))
        try:
            yield Browser(browser, address)
        finally:
            browser.close()


def session_for(record: Record, name: str, roles: Sequence[str]) -> str:
    """Make an account with these roles that is signed in.

    Returns:
        What its cookie holds.
    """
    token = secrets.token_urlsafe(32)
    with record.writing() as transaction:
        now = transaction.now
        transaction.session.add(
            User(user_name=name, source="local", roles=list(roles), created_at=now, failed_sign_ins=0)
        )
        transaction.session.flush()  # the session refers to it
        transaction.session.add(
            SignInSession(
                token_hash=hash_of(token), user_name=name, address="127.0.0.1", created_at=now, last_seen_at=now,
                expires_at=now + timedelta(hours=8),
            )
        )  # fmt: skip
    return token
