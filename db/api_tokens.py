"""Tokens of programs: 256 random bits, kept as a hash, with scopes and an end."""

import secrets
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select

from db import audit
from db.audit import Event
from db.models import ApiToken, storable
from db.session import Record
from db.sign_in_sessions import hash_of
from dicom_core.errors import ConfigurationError, ConflictError, NotFoundError, NotSignedInError
from dicom_core.roles import Scope, scopes_from

PREFIX = "vesselq_"
"""What a token begins with, so that one that got lost somewhere is recognised."""
DEFAULT_DAYS = 90.0
LONGEST_DAYS = 366.0
_NOTED_AFTER = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token; itself it is shown once, when it is made.

    Attributes:
        token_id: 32 hexadecimal digits.
        name: What it is for.
        scopes: What it may do.
        created_by: The person.
        created_at: UTC.
        expires_at: UTC.
        revoked_at: UTC; None while it is good.
        last_used_at: UTC, to the minute; None before it was used.
    """

    token_id: str
    name: str
    scopes: tuple[Scope, ...]
    created_by: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None


def create(record: Record, name: str, scopes: Iterable[str], *, days: float = DEFAULT_DAYS) -> tuple[Token, str]:
    """Make a token.

    Args:
        record: On behalf of who makes it.
        name: What it is for.
        scopes: What it may do, at least one.
        days: How long it is good, at most 366.

    Returns:
        What is known of it, and the token itself, which cannot be shown again.

    Raises:
        ConfigurationError: Name, scopes or days do not fit the rules.
        ConflictError: A token that is still good has the name, by which the audit log tells them apart.
    """
    wanted = scopes_from(scopes)
    name = storable(name.strip(), 64)
    if not name or not wanted:
        raise ConfigurationError("a token needs a name and at least one scope")
    if not 0 < days <= LONGEST_DAYS:
        raise ConfigurationError(f"a token is good for more than 0 and at most {LONGEST_DAYS:.0f} days")
    secret = PREFIX + secrets.token_urlsafe(32)
    with record.writing() as transaction:
        good = (ApiToken.name == name, ApiToken.revoked_at.is_(None), ApiToken.expires_at > transaction.now)
        if transaction.session.scalars(select(ApiToken.token_id).where(*good).limit(1)).first() is not None:
            raise ConflictError(f"there is a token {name} already: revoke it, or take another name")
        row = ApiToken(
            token_id=uuid.uuid4().hex, token_hash=hash_of(secret), name=name, scopes=list(wanted),
            created_by=transaction.user, created_at=transaction.now, expires_at=transaction.now + timedelta(days=days),
            revoked_at=None, last_used_at=None,
        )  # fmt: skip
        transaction.session.add(row)
        detail = {"token": row.token_id, "name": name, "scopes": list(wanted), "days": days}
        audit.append(transaction, Event.TOKEN_CREATED, detail=detail)
        return _token(row), secret


def tokens(record: Record) -> list[Token]:
    """All of them, the latest first; also those that are not good any more."""
    with record.reading() as session:
        return [_token(row) for row in session.scalars(select(ApiToken).order_by(ApiToken.created_at.desc()))]


def revoke(record: Record, token_id: str) -> Token:
    """End a token now.

    Raises:
        NotFoundError: There is no such token.
        ConflictError: It was revoked before.
    """
    with record.writing() as transaction:
        row = transaction.session.get(ApiToken, token_id)
        if row is None:
            raise NotFoundError(f"there is no token {token_id}")
        if row.revoked_at is not None:
            raise ConflictError(f"token {token_id} was revoked before")
        row.revoked_at = transaction.now
        audit.append(transaction, Event.TOKEN_REVOKED, detail={"token": token_id, "name": row.name})
        return _token(row)


def find(record: Record, secret: str) -> Token:
    """The token that a program sent.

    Raises:
        NotSignedInError: It is unknown, too old or revoked.
    """
    now = record.now()
    with record.reading() as session:
        row = session.scalars(select(ApiToken).where(ApiToken.token_hash == hash_of(secret))).one_or_none()
    if row is None or row.revoked_at is not None or now >= row.expires_at:
        raise NotSignedInError("the token is not valid: it is unknown, expired or revoked")
    if row.last_used_at is None or now - row.last_used_at > _NOTED_AFTER:
        with record.writing() as transaction:
            transaction.session.get_one(ApiToken, row.token_id).last_used_at = transaction.now
    return _token(row)


def _token(row: ApiToken) -> Token:
    return Token(
        token_id=row.token_id,
        name=row.name,
        scopes=tuple(scope for scope in Scope if scope in row.scopes),
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
