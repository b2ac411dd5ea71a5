"""Browsers and programs that are signed in, over the application in this process.

::

    with signed_in(site, roles=("operator",)) as client:
        client.get("/api/v1/studies")
    client = with_token(site, scopes=("read",))
    client.post("/jobs/...", data={"csrf": csrf_of(client), ...})

Accounts, sessions and tokens are written into the tables as they are, without the events that signing in leaves in the
audit log, so that a test finds there what it did itself.
"""

import re
import secrets
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from fastapi.testclient import TestClient

from console.web.application import make_application
from console.web.forms import session_cookie
from db.models import ApiToken, SignInSession, User
from db.session import Record
from db.sign_in_sessions import hash_of
from dicom_core.settings import Settings

ADDRESS = "http://localhost:8042"
EVERY_ROLE = ("viewer", "operator", "admin", "auditor")


class Site(Protocol):
    """What a client is made for: a record, and ``settings`` or a data ``folder``."""

    record: Record


def settings_of(site: Site, **web: Any) -> Settings:
    """The settings of the site, with some of the web table changed."""
    settings: Settings | None = getattr(site, "settings", None)
    if settings is None:
        folder: Path = site.folder  # type: ignore[attr-defined]  # a ConsoleSite
        settings = Settings(data_folder=folder)
    return settings.model_copy(update={"web": settings.web.model_copy(update=web)})


def stranger(site: Site, *, host: str = "127.0.0.1", **web: Any) -> TestClient:
    """Nobody is signed in."""
    application = make_application(settings_of(site, **web), site.record)
    return TestClient(application, base_url=ADDRESS, client=(host, 50000), follow_redirects=False)


def open_to_all(site: Site, **web: Any) -> TestClient:
    """Sign-in is switched off."""
    return stranger(site, sign_in="off", **web)


def signed_in(
    site: Site, roles: Iterable[str] = ("operator",), *, name: str = "", host: str = "127.0.0.1", **web: Any
) -> TestClient:
    """A browser in which somebody with these roles is signed in.

    Args:
        site: Where.
        roles: Of the person.
        name: Of the account; "" for one that says the roles.
        host: Address of the browser.
        **web: Settings of the web table that differ.
    """
    client = stranger(site, host=host, **web)
    name, token = name or "-".join(roles) or "nothing", secrets.token_urlsafe(32)
    with site.record.writing() as transaction:
        now = transaction.now
        if transaction.session.get(User, name) is None:
            transaction.session.add(
                User(user_name=name, source="local", roles=list(roles), created_at=now, failed_sign_ins=0)
            )
            transaction.session.flush()  # the session refers to it
        transaction.session.add(
            SignInSession(
                token_hash=hash_of(token),
                user_name=name,
                address=host,
                created_at=now,
                last_seen_at=now,
                expires_at=now + timedelta(hours=8),
            )
        )
    client.cookies.set(session_cookie(settings_of(site, **web).web), token)
    client.headers["Origin"] = ADDRESS
    return client


def with_token(site: Site, scopes: Iterable[str] = ("read",), *, host: str = "127.0.0.1", **web: Any) -> TestClient:
    """A program with a token of these scopes."""
    client = stranger(site, host=host, **web)
    secret = f"vesselq_{secrets.token_urlsafe(32)}"
    with site.record.writing() as transaction:
        now = transaction.now
        transaction.session.add(
            ApiToken(
                token_id=secrets.token_hex(16),
                token_hash=hash_of(secret),
                name="-".join(scopes),
                scopes=list(scopes),
                created_by="test",
                created_at=now,
                expires_at=now + timedelta(days=1),
                last_used_at=now,
            )
        )
    client.headers["Authorization"] = f"Bearer {secret}"
    return client


def csrf_of(client: TestClient, page: str = "/account") -> str:
    """The secret of this browser's forms, read from a page that has one."""
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', client.get(page).text)
    assert found, f"{page} has no form"
    return found[1]
