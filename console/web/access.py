"""Who asks, and what a handler demands of who asks.

A handler names what it needs, and gets who asks::

    @router.post("/jobs/{job_id}/retry")
    def retry(caller: Operator, record: TheRecord, job_id: JobId) -> ...

``console.web.doorkeeper`` finds out who asks before anything else happens, and lets nobody past who is not signed in
but to the addresses of :data:`PUBLIC`.
"""

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, Literal

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute, RouteContext
from starlette.concurrency import run_in_threadpool

from db import audit
from db.audit import Event, Outcome
from db.session import Record
from db.sign_in_sessions import SignedIn
from dicom_core.errors import NotAllowedError, NotSignedInError
from dicom_core.roles import EVERY_SCOPE, SCOPES_OF, Scope

PUBLIC = frozenset(
    {
        "/sign-in", "/sign-in/provider", "/sign-in/back", "/appearance", "/healthz", "/health/live", "/health/ready",
        "/metrics",
    }
)  # fmt: skip
"""Addresses that answer who is not signed in, besides ``/static/``. ``/metrics`` looks at the address or the token."""
STATIC = "/static/"
WITH_OLD_PASSWORD = frozenset({"/account", "/sign-out", "/appearance"})
"""What somebody may see whose password is only good for setting another one."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes:
        name: For the audit log: of the person, or ``token:NAME``; "" for nobody.
        scopes: What the request may do.
        kind: ``nobody`` where sign-in is switched off.
        address: Network address.
        signed_in: The session of a person.
        must_change_password: A person who may do nothing else yet; ``scopes`` are empty.
    """

    name: str
    scopes: frozenset[Scope]
    kind: Literal["person", "token", "nobody"]
    address: str
    signed_in: SignedIn | None = field(default=None, repr=False)
    must_change_password: bool = False

    def may(self, scope: Scope | str) -> bool:
        """Whether the request may do this."""
        return scope in self.scopes


def everybody(address: str) -> Caller:
    """Who asks where sign-in is switched off."""
    return Caller("", EVERY_SCOPE, "nobody", address)


def address_of(request: Request) -> str:
    """Network address of who asks, without the zone of IPv6; "" when there is none."""
    return request.client.host.partition("%")[0] if request.client else ""


def caller_of(request: Request) -> Caller:
    """Who asks.

    Raises:
        NotSignedInError: Nobody is signed in.
    """
    caller: Caller | None = getattr(request.state, "caller", None)
    if caller is None:
        raise NotSignedInError("sign in first")
    return caller


class Needs:
    """A dependency: who asks, if that is allowed.

    Attributes:
        scope: What is needed; None: being signed in.
    """

    def __init__(self, scope: Scope | None) -> None:
        self.scope = scope

    def __call__(self, request: Request) -> Caller:
        """Who asks.

        Raises:
            NotSignedInError: Nobody is signed in.
            NotAllowedError: Who is signed in may not do this. That is in the audit log.
        """
        caller = caller_of(request)
        if self.scope is None or caller.may(self.scope):
            return caller
        route = request.scope.get("route")
        note_refusal(
            request.app.state.record,
            caller,
            {"needs": self.scope.value, "method": request.method, "path": getattr(route, "path", "")},
        )
        if caller.kind == "token":
            raise NotAllowedError(f"your token may not do this: it needs the scope {self.scope.value}")
        role = next(role for role, scopes in SCOPES_OF.items() if self.scope in scopes)
        raise NotAllowedError(f"your account may not do this: it needs the role {role.value}")


def needs(scope: Scope | str) -> Callable[[Request], Caller]:
    """A dependency that demands one scope."""
    return Needs(Scope(scope))


class NeedsScopeOrAddress(Needs):
    """A dependency of ``/metrics``: machines that the settings name need no token."""

    def __init__(self) -> None:
        super().__init__(Scope.READ)

    def __call__(self, request: Request) -> Caller:
        """Who asks.

        Raises:
            NotSignedInError: Neither a known address nor a token.
            NotAllowedError: The token may not read.
        """
        networks: tuple[str, ...] = request.app.state.settings.web.metrics_from
        address = address_of(request)
        if getattr(request.state, "caller", None) is None and is_within(address, networks):
            return Caller("", frozenset({Scope.READ}), "nobody", address)
        return super().__call__(request)


def is_within(address: str, networks: Iterable[str]) -> bool:
    """Whether an address is one of these, or in one of these networks. Host names are not looked up."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    found = getattr(found, "ipv4_mapped", None) or found
    for entry in networks:
        try:
            if found in ip_network(entry, strict=False):
                return True
        except ValueError:
            continue
    return False


def note_refusal(record: Record, caller: Caller, detail: dict[str, str]) -> None:
    """Write into the audit log that somebody wanted what is not allowed.

    Raises:
        AuditError: It cannot be written.
    """
    audit.record_event(
        record.on_behalf_of(caller.name),
        Event.ACCESS_REFUSED,
        outcome=Outcome.MINOR_FAILURE,
        address=caller.address,
        detail=detail,
    )


SomebodySignedIn = Annotated[Caller, Depends(Needs(None))]
Reader = Annotated[Caller, Depends(needs(Scope.READ))]
Operator = Annotated[Caller, Depends(needs(Scope.OPERATE))]
Administrator = Annotated[Caller, Depends(needs(Scope.ADMIN))]
Auditor = Annotated[Caller, Depends(needs(Scope.AUDIT))]
MetricsReader = Annotated[Caller, Depends(NeedsScopeOrAddress())]


class ScopeFirst(APIRoute):
    """A route of the JSON API. FastAPI reads and parses the content before it asks dependencies; this asks them first.

    So nobody has megabytes of JSON parsed who may not do what they are for, and gets 403 whatever they say.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler behind what the route demands."""
        handle, demanded = super().get_route_handler(), needs_of(self)

        async def handle_allowed(request: Request) -> Response:
            for one in demanded:
                await run_in_threadpool(one, request)
            return await handle(request)

        return handle_allowed


def needs_of(route: RouteContext | APIRoute) -> tuple[Needs, ...]:
    """What a route demands, for the list of the API and for the test that every route demands something."""
    found: list[Needs] = []
    left = list(route.dependant.dependencies)
    while left:
        one = left.pop()
        left += one.dependencies
        if isinstance(one.call, Needs):
            found.append(one.call)
    return tuple(found)
