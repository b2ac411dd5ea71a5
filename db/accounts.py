"""People who may sign in: accounts, passwords, roles, lockout. Every change is in the audit log, passwords nowhere.

Passwords are kept as argon2id hashes (RFC 9106). A wrong password and a name that nobody has take the same time and
get the same answer.
"""

import re
import secrets
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from db import audit
from db.audit import Event, Outcome
from db.models import SignInSession, User, storable
from db.session import Record, Transaction
from dicom_core.errors import ConfigurationError, ConflictError, NotFoundError, NotSignedInError
from dicom_core.roles import Role, Scope, roles_from, scopes_of

LOCAL, OIDC = "local", "oidc"
SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 256
MOST_FAILURES = 5
"""So many wrong passwords in a row lock an account."""
LOCKED_FOR = timedelta(minutes=15)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_HASHING = threading.BoundedSemaphore(2)
"""Each hash takes 64 MiB: sign-ins wait for each other, so that many at once cannot exhaust the memory."""
_LEAST_NAME_THAT_TELLS = 3
"""Shorter ones stand in any password by chance."""
_REFUSED = "the name or the password is wrong, or the account is locked for a while after too many wrong passwords"


@dataclass(frozen=True, slots=True)
class Account:
    """A person who may sign in.

    Attributes:
        user_name: As in the audit log.
        source: ``local`` (a password here) or ``oidc`` (an identity provider).
        display_name: For pages.
        roles: What the person is.
        must_change_password: Nothing else is allowed before that.
        created_at: UTC.
        disabled_at: UTC; None while the person may sign in.
        locked_until: UTC; after too many wrong passwords.
        last_sign_in_at: UTC.
    """

    user_name: str
    source: str
    display_name: str
    roles: tuple[Role, ...]
    must_change_password: bool
    created_at: datetime
    disabled_at: datetime | None
    locked_until: datetime | None
    last_sign_in_at: datetime | None

    @property
    def scopes(self) -> frozenset[Scope]:
        """What the roles allow."""
        return scopes_of(self.roles)


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher()


@cache
def _nobodys_hash() -> str:
    return _hashed(secrets.token_urlsafe())


def _hashed(password: str) -> str:
    with _HASHING:
        return _hasher().hash(password)


def _fits(password_hash: str, password: str) -> bool:
    try:
        with _HASHING:
            return _hasher().verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


def accounts(record: Record) -> list[Account]:
    """Everybody, by name; also who may not sign in any more."""
    with record.reading() as session:
        return [account_of(user) for user in session.scalars(select(User).order_by(User.user_name))]


def account(record: Record, user_name: str) -> Account:
    """One person.

    Raises:
        NotFoundError: Nobody has that name.
    """
    with record.reading() as session:
        return account_of(_user(session, user_name))


def has_accounts(record: Record) -> bool:
    """Whether anybody was ever allowed to sign in."""
    with record.reading() as session:
        return session.scalars(select(User.user_name).limit(1)).first() is not None


def add(
    record: Record,
    user_name: str,
    roles: Iterable[str],
    password: str,
    *,
    display_name: str = "",
    must_change_password: bool = False,
) -> Account:
    """Give a person a local account.

    Args:
        record: On behalf of who does it.
        user_name: Letters, digits and ``. _ @ + -``.
        roles: What the person is; may be empty.
        password: 12 to 256 characters.
        display_name: For pages, "" for the name.
        must_change_password: Whether the password is only good for setting another one.

    Raises:
        ConfigurationError: Name, roles or password do not fit the rules.
        ConflictError: The name is taken.
    """
    wanted = roles_from(roles)
    if not _NAME.fullmatch(user_name):
        raise ConfigurationError(f"{user_name!r} is no name for an account: use letters, digits and . _ @ + -")
    password_hash = _hashed(checked_password(password, user_name))
    with record.writing() as transaction:
        if transaction.session.get(User, user_name) is not None:
            raise ConflictError(f"there is an account {user_name} already")
        user = User(
            user_name=user_name, source=LOCAL, display_name=storable(display_name, 128), roles=list(wanted),
            password_hash=password_hash, must_change_password=must_change_password, created_at=transaction.now,
            disabled_at=None, failed_sign_ins=0, locked_until=None, last_sign_in_at=None,
        )  # fmt: skip
        transaction.session.add(user)
        audit.append(
            transaction, Event.ACCOUNT_CHANGED, detail={"account": user_name, "change": "added", "roles": list(wanted)}
        )
        return account_of(user)


def drawn_password(user_name: str) -> str:
    """A password that nobody knows yet, good for setting another one: 120 random bits, without the name in them."""
    password = secrets.token_urlsafe(15)
    while not _may_be_used(password, user_name):
        password = secrets.token_urlsafe(15)
    return password


def checked_password(password: str, user_name: str) -> str:
    """A password that may be used: long enough, and not the name.

    Raises:
        ConfigurationError: It may not; the text says why, without it.
    """
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise ConfigurationError(f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")
    if not _may_be_used(password, user_name):
        raise ConfigurationError("the password is too easy to guess: leave out the name, use more different characters")
    return password


def _may_be_used(password: str, user_name: str) -> bool:
    has_name = len(user_name) >= _LEAST_NAME_THAT_TELLS and user_name.lower() in password.lower()
    return not has_name and len(set(password)) >= 5


def set_roles(record: Record, user_name: str, roles: Iterable[str]) -> Account:
    """Change what a person is; signed-in browsers follow at once.

    Raises:
        NotFoundError: Nobody has that name.
        ConfigurationError: A word is no role.
        ConflictError: Nobody could manage accounts any more, or the roles come from the identity provider.
    """
    wanted = roles_from(roles)
    with record.writing() as transaction:
        user = _user(transaction.session, user_name)
        if user.source == OIDC:
            raise ConflictError(f"the roles of {user_name} come from the identity provider with each sign-in")
        if Role.ADMIN not in wanted:
            _keep_one_admin(transaction, user)
        before, user.roles = list(user.roles), list(wanted)
        detail = {"account": user_name, "before": before, "after": list(wanted)}
        audit.append(transaction, Event.ROLES_CHANGED, detail=detail)
        return account_of(user)


def set_password(record: Record, user_name: str, password: str, *, must_change_password: bool = True) -> None:
    """Give a person another password, unlock the account and sign the person out everywhere.

    Raises:
        NotFoundError: Nobody has that name.
        ConfigurationError: The password does not fit the rules.
        ConflictError: The person signs in elsewhere.
    """
    password_hash = _hashed(checked_password(password, user_name))
    with record.writing() as transaction:
        user = _user(transaction.session, user_name)
        if user.source != LOCAL:
            raise ConflictError(f"{user_name} signs in by the identity provider, which keeps the password")
        user.password_hash, user.must_change_password = password_hash, must_change_password
        user.failed_sign_ins, user.locked_until = 0, None
        _end_sessions(transaction, user_name)
        audit.append(transaction, Event.ACCOUNT_CHANGED, detail={"account": user_name, "change": "another password"})


def change_own_password(record: Record, user_name: str, old: str, new: str, *, address: str) -> None:
    """Change the password of who knows the present one.

    Raises:
        NotSignedInError: The present password is wrong.
        ConfigurationError: The new one does not fit the rules, or is the present one.
    """
    check_password(record, user_name, old, address=address)
    if old == new:
        raise ConfigurationError("the new password is the present one")
    set_password(record.on_behalf_of(user_name), user_name, new, must_change_password=False)


def disable(record: Record, user_name: str) -> None:
    """Keep a person from signing in and sign the person out everywhere.

    Raises:
        NotFoundError: Nobody has that name.
        ConflictError: Nobody could manage accounts any more.
    """
    with record.writing() as transaction:
        user = _user(transaction.session, user_name)
        _keep_one_admin(transaction, user)
        user.disabled_at = user.disabled_at or transaction.now
        _end_sessions(transaction, user_name)
        audit.append(transaction, Event.ACCOUNT_CHANGED, detail={"account": user_name, "change": "disabled"})


def enable(record: Record, user_name: str) -> None:
    """Let a person sign in again.

    Raises:
        NotFoundError: Nobody has that name.
    """
    with record.writing() as transaction:
        user = _user(transaction.session, user_name)
        user.disabled_at, user.locked_until, user.failed_sign_ins = None, None, 0
        audit.append(transaction, Event.ACCOUNT_CHANGED, detail={"account": user_name, "change": "enabled"})


def check_password(record: Record, user_name: str, password: str, *, address: str) -> Account:
    """Who signs in, by name and password.

    A wrong one counts, is written into the audit log and in the end locks the account for a while.

    Raises:
        NotSignedInError: In the same words whatever was wrong.
    """
    with record.reading() as session:
        user = session.get(User, user_name) if _NAME.fullmatch(user_name) else None
        known = user is not None and user.source == LOCAL
        password_hash = user.password_hash if user is not None and known else _nobodys_hash()
    # out of the transaction: it takes a tenth of a second on purpose
    right = _fits(password_hash, password[: LONGEST_PASSWORD + 1])
    with record.writing() as transaction:
        user = transaction.session.get(User, user_name) if known else None
        problem = _sign_in_problem(user, password_hash, right, transaction.now)
        if problem or user is None:
            _count_failure(transaction, user, problem, address)
        else:
            user.failed_sign_ins, user.locked_until = 0, None
            return account_of(user)
    raise NotSignedInError(_REFUSED)


def _sign_in_problem(user: User | None, password_hash: str, right: bool, now: datetime) -> str:
    """Why somebody may not sign in, for the audit log; "" for nothing."""
    if user is None:
        return "no such account"
    if user.locked_until is not None and user.locked_until > now:
        return "locked"
    if not right or user.password_hash != password_hash:
        return "wrong password"
    return "disabled" if user.disabled_at is not None else ""


def _count_failure(transaction: Transaction, user: User | None, problem: str, address: str) -> None:
    # a name that nobody has is not written: people type their password there
    detail = {"account": user.user_name if user is not None else "", "reason": problem}
    audit.append(transaction, Event.SIGNED_IN, outcome=Outcome.MINOR_FAILURE, address=address, detail=detail)
    if user is None or problem != "wrong password":
        return
    user.failed_sign_ins += 1
    if user.failed_sign_ins >= MOST_FAILURES:
        user.failed_sign_ins, user.locked_until = 0, transaction.now + LOCKED_FOR
        detail = {"account": user.user_name, "change": "locked after too many wrong passwords"}
        audit.append(
            transaction, Event.ACCOUNT_CHANGED, outcome=Outcome.SERIOUS_FAILURE, address=address, detail=detail
        )


def from_provider(record: Record, user_name: str, roles: Sequence[Role], *, display_name: str = "") -> Account:
    """The account of a person whom the identity provider vouches for: made at the first sign-in, its roles kept up.

    Args:
        record: Where accounts are.
        user_name: What the provider calls the person.
        roles: From the person's groups, anew each time.
        display_name: For pages.

    Raises:
        NotSignedInError: The name is no name, belongs to a local account, or was disabled here.
    """
    if not _NAME.fullmatch(user_name):
        raise NotSignedInError("the identity provider gave a name that no account can have; ask for another claim")
    with record.on_behalf_of(user_name).writing() as transaction:
        user = transaction.session.get(User, user_name)
        if user is None:
            user = User(
                user_name=user_name, source=OIDC, display_name=storable(display_name, 128), roles=[], password_hash="",
                must_change_password=False, created_at=transaction.now, disabled_at=None, failed_sign_ins=0,
                locked_until=None, last_sign_in_at=None,
            )  # fmt: skip
            transaction.session.add(user)
            detail = {"account": user_name, "change": "added by the identity provider"}
            audit.append(transaction, Event.ACCOUNT_CHANGED, detail=detail)
        if user.source != OIDC:
            raise NotSignedInError(f"{user_name} has a local account: sign in with its password")
        if user.disabled_at is not None:
            raise NotSignedInError("this account is disabled; ask who manages accounts")
        if user.roles != list(roles):
            change = {"account": user_name, "before": list(user.roles), "after": list(roles)}
            audit.append(transaction, Event.ROLES_CHANGED, detail=change)
            user.roles = list(roles)
        user.display_name = storable(display_name, 128) or user.display_name
        return account_of(user)


def _keep_one_admin(transaction: Transaction, leaving: User) -> None:
    if Role.ADMIN not in leaving.roles or leaving.disabled_at is not None:
        return
    others = transaction.session.scalars(
        select(User).where(User.user_name != leaving.user_name, User.disabled_at.is_(None))
    )
    if not any(Role.ADMIN in user.roles for user in others):
        raise ConflictError(f"{leaving.user_name} is the last one who manages accounts: make somebody else admin first")


def _end_sessions(transaction: Transaction, user_name: str) -> None:
    transaction.session.execute(delete(SignInSession).where(SignInSession.user_name == user_name))


def _user(session: Session, user_name: str) -> User:
    user = session.get(User, user_name)
    if user is None:
        raise NotFoundError(f"there is no account {user_name}")
    return user


def account_of(user: User) -> Account:
    """What is known of the person in a row, without the hash of the password."""
    return Account(
        user_name=user.user_name,
        source=user.source,
        display_name=user.display_name,
        roles=tuple(role for role in Role if role in user.roles),
        must_change_password=user.must_change_password,
        created_at=user.created_at,
        disabled_at=user.disabled_at,
        locked_until=user.locked_until,
        last_sign_in_at=user.last_sign_in_at,
    )
