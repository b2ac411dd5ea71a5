"""Browsers that are signed in. The cookie holds a random token, the record its hash."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select

from db import audit
from db.accounts import Account, account_of
from db.audit import Event
from db.models import SignInSession, User
from db.session import Record
from dicom_core.errors import NotSignedInError

_NOTED_AFTER = timedelta(minutes=1)
"""A session's last request is written down so seldom: not every request may wait for the writer."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session that is valid now.

    Attributes:
        account: Whose it is.
        token_hash: Names it in the record.
        expires_at: UTC.
    """

    account: Account
    token_hash: str
    expires_at: datetime


def hash_of(token: str) -> str:
    """SHA-256, in hexadecimal: the tokens are 256 random bits, so nothing slower is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def begin(record: Record, account: Account, *, address: str, hours: float, by: str) -> str:
    """Sign a person in.

    Args:
        record: Where sessions are.
        account: From ``accounts.check_password`` or ``accounts.from_provider``.
        address: Of the browser.
        hours: How long it may last.
        by: ``password`` or ``oidc``, for the audit log.

    Returns:
        The token for the cookie.
    """
    token = secrets.token_urlsafe(32)
    with record.on_behalf_of(account.user_name).writing() as transaction:
        now = transaction.now
        transaction.session.execute(delete(SignInSession).where(SignInSession.expires_at < now))
        transaction.session.add(
            SignInSession(
                token_hash=hash_of(token),
                user_name=account.user_name,
                address=address[:64],
                created_at=now,
                last_seen_at=now,
                expires_at=now + timedelta(hours=hours),
            )
        )
        transaction.session.get_one(User, account.user_name).last_sign_in_at = now
        audit.append(transaction, Event.SIGNED_IN, address=address, detail={"by": by})
    return token


def find(record: Record, token: str, *, idle_minutes: float, active: bool) -> SignedIn:
    """The session of a cookie.

    Args:
        record: Where sessions are.
        token: From the cookie.
        idle_minutes: Over after so long without activity.
        active: Whether this request is a person's doing, and not a page that refreshes itself.

    Raises:
        NotSignedInError: There is none, it is over, or the person may not sign in any more.
    """
    token_hash = hash_of(token)
    now = record.now()
    with record.reading() as session:
        found = session.execute(
            select(SignInSession, User).join(User, User.user_name == SignInSession.user_name)
            .where(SignInSession.token_hash == token_hash)
        ).one_or_none()  # fmt: skip
    if found is None:
        raise NotSignedInError("sign in first")
    row, user = found
    if now >= row.expires_at or now - row.last_seen_at > timedelta(minutes=idle_minutes) or user.disabled_at:
        raise NotSignedInError("you were signed out after a while; sign in again")
    if active and now - row.last_seen_at > _NOTED_AFTER:
        with record.writing() as transaction:
            again = transaction.session.get(SignInSession, token_hash)
            if again is not None:
                again.last_seen_at = transaction.now
    return SignedIn(account_of(user), token_hash, row.expires_at)


def end(record: Record, signed_in: SignedIn, *, address: str) -> None:
    """Sign out; nothing happens where the session is over already."""
    with record.on_behalf_of(signed_in.account.user_name).writing() as transaction:
        row = transaction.session.get(SignInSession, signed_in.token_hash)
        if row is not None:
            transaction.session.delete(row)
            audit.append(transaction, Event.SIGNED_OUT, address=address)
