"""Roles of people and scopes of programs: who may do what over the web.

The roles are kept apart on purpose. Who manages accounts can neither read the audit log, in which that managing is
written, nor change the work on studies, unless somebody gave that role too; and the other way round.
"""

from collections.abc import Iterable
from enum import StrEnum

from dicom_core.errors import ConfigurationError


class Scope(StrEnum):
    """What a request may do."""

    READ = "read"
    """See studies, jobs, pictures, queues and rules."""
    OPERATE = "operate"
    """Retry, cancel, run again, send again, change priorities."""
    ADMIN = "admin"
    """Manage accounts and tokens."""
    AUDIT = "audit"
    """Read, export and verify the audit log."""


class Role(StrEnum):
    """What a person is; one person may be several."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"
    AUDITOR = "auditor"


SCOPES_OF: dict[Role, frozenset[Scope]] = {
    Role.VIEWER: frozenset({Scope.READ}),
    Role.OPERATOR: frozenset({Scope.READ, Scope.OPERATE}),
    Role.ADMIN: frozenset({Scope.READ, Scope.ADMIN}),
    Role.AUDITOR: frozenset({Scope.AUDIT}),
}
EVERY_SCOPE = frozenset(Scope)


def scopes_of(roles: Iterable[str]) -> frozenset[Scope]:
    """What somebody with these roles may do; words that are no role give nothing."""
    known = {Role(role) for role in roles if role in set(Role)}
    return frozenset().union(*(SCOPES_OF[role] for role in known))


def roles_from(words: Iterable[str]) -> tuple[Role, ...]:
    """Words as roles, each once, in a fixed order.

    Raises:
        ConfigurationError: A word is no role.
    """
    wanted = {word.strip() for word in words if word.strip()}
    if unknown := sorted(wanted - set(Role)):
        raise ConfigurationError(f"no such role: {', '.join(map(repr, unknown))}; there are {', '.join(Role)}")
    return tuple(role for role in Role if role in wanted)


def scopes_from(words: Iterable[str]) -> tuple[Scope, ...]:
    """Words as scopes, each once, in a fixed order.

    Raises:
        ConfigurationError: A word is no scope.
    """
    wanted = {word.strip() for word in words if word.strip()}
    if unknown := sorted(wanted - set(Scope)):
        raise ConfigurationError(f"no such scope: {', '.join(map(repr, unknown))}; there are {', '.join(Scope)}")
    return tuple(scope for scope in Scope if scope in wanted)
