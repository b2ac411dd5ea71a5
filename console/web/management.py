"""Managing accounts and tokens, with the rules that keep roles apart. The pages and the JSON API both go through it.

Nobody changes what he is himself, and a token reaches no account, and makes no token, that may do more than it. What
people do to each other is in the audit log, which who manages accounts cannot read unless he is an auditor too.
"""

from collections.abc import Iterable

from console.web.access import Caller
from db import accounts, api_tokens
from db.accounts import Account
from db.api_tokens import Token
from db.session import Record
from dicom_core.errors import ConflictError, NotAllowedError
from dicom_core.roles import Scope, roles_from, scopes_from, scopes_of


def add_account(
    record: Record, caller: Caller, user_name: str, roles: Iterable[str], *, display_name: str = ""
) -> tuple[Account, str]:
    """Make a local account.

    Returns:
        The account, and the password for the first sign-in, which is shown once.

    Raises:
        NotAllowedError: A token would give more than it has.
        ConfigurationError: Name or roles do not fit the rules.
        ConflictError: The name is taken.
    """
    wanted = roles_from(roles)
    _within_reach(caller, scopes_of(wanted))
    password = accounts.drawn_password(user_name)
    made = accounts.add(record, user_name, wanted, password, display_name=display_name, must_change_password=True)
    return made, password


def set_roles(record: Record, caller: Caller, user_name: str, roles: Iterable[str]) -> Account:
    """Change what somebody else is.

    Raises:
        NotAllowedError: A token would change somebody who may do more than it.
        NotFoundError: Nobody has that name.
        ConfigurationError: A word is no role.
        ConflictError: It is the caller's own account, or nobody could manage accounts any more.
    """
    wanted = roles_from(roles)
    _somebody_else(record, caller, user_name)
    _within_reach(caller, scopes_of(wanted))
    return accounts.set_roles(record, user_name, wanted)


def reset_password(record: Record, caller: Caller, user_name: str) -> str:
    """A new password for somebody's next sign-in, which is shown once.

    Raises:
        NotAllowedError: A token would change somebody who may do more than it.
        NotFoundError: Nobody has that name.
        ConflictError: It is the caller's own account, or one of the identity provider.
    """
    _somebody_else(record, caller, user_name)
    password = accounts.drawn_password(user_name)
    accounts.set_password(record, user_name, password)
    return password


def disable(record: Record, caller: Caller, user_name: str) -> None:
    """Sign somebody out and keep him out.

    Raises:
        NotAllowedError: A token would change somebody who may do more than it.
        NotFoundError: Nobody has that name.
        ConflictError: It is the caller's own account, or nobody could manage accounts any more.
    """
    _somebody_else(record, caller, user_name)
    accounts.disable(record, user_name)


def enable(record: Record, caller: Caller, user_name: str) -> None:
    """Let somebody sign in again.

    Raises:
        NotAllowedError: A token would change somebody who may do more than it.
        NotFoundError: Nobody has that name.
        ConflictError: It is the caller's own account.
    """
    _somebody_else(record, caller, user_name)
    accounts.enable(record, user_name)


def create_token(record: Record, caller: Caller, name: str, scopes: Iterable[str], *, days: float) -> tuple[Token, str]:
    """Make a token.

    Returns:
        What is known of it, and the token itself, which is shown once.

    Raises:
        NotAllowedError: A token would make one that may do more than it.
        ConfigurationError: Name, scopes or days do not fit the rules.
        ConflictError: A token that is still good has the name.
    """
    wanted = scopes_from(scopes)
    _within_reach(caller, frozenset(wanted))
    return api_tokens.create(record, name, wanted, days=days)


def _somebody_else(record: Record, caller: Caller, user_name: str) -> None:
    found = accounts.account(record, user_name)
    if caller.kind == "person" and caller.name == user_name:
        raise ConflictError("somebody else who manages accounts has to do that for you")
    _within_reach(caller, found.scopes)


def _within_reach(caller: Caller, scopes: frozenset[Scope]) -> None:
    if caller.kind == "token" and not scopes <= caller.scopes:
        raise NotAllowedError("this token may not reach what may do more than the token itself")
