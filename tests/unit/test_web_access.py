"""Who is let in: every address demands something, sessions and tokens, roles kept apart, limits."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from console_site import ConsoleSite
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from fastapi.testclient import TestClient
from starlette.routing import Mount
from web_client import ADDRESS, EVERY_ROLE, open_to_all, signed_in, stranger, with_token

from console.web import access
from console.web.access import PUBLIC, Caller, is_within, needs_of
from console.web.application import make_application
from console.web.forms import checked_form
from console.web.rate_limits import RateLimit, network_of
from db import accounts, api_tokens, sign_in_sessions
from db.audit_queries import AuditQuery, AuditRow, audit_rows
from db.models import SignInSession
from dicom_core.errors import TooManyRequestsError
from dicom_core.roles import Role, Scope, scopes_of
from dicom_core.settings import Settings

NEEDS_NOTHING = PUBLIC - {"/metrics"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ConsoleSite]:
    site = ConsoleSite(tmp_path / "data")
    yield site
    site.close()


@pytest.fixture
def routes(site: ConsoleSite) -> list[RouteContext]:
    found = []
    for route in iter_route_contexts(make_application(Settings(data_folder=site.folder), site.record).routes):
        if isinstance(route.original_route, Mount):
            assert route.path == "/static"
        else:
            assert isinstance(route.original_route, APIRoute), f"{route} is not looked at"
            found.append(route)
    return found


def refusals(site: ConsoleSite) -> list[AuditRow]:
    return audit_rows(site.record, AuditQuery(event="access-refused"))


def test_every_address_demands_something(routes: list[RouteContext]) -> None:
    """Denied unless allowed: each route names a scope, or asks for a sign-in, or is one of the few public ones."""
    assert len(routes) > 20
    for route in routes:
        demanded = needs_of(route)
        assert bool(demanded) != (route.path in NEEDS_NOTHING), route.path
        changes = route.methods - {"GET", "HEAD"}
        if changes and route.path not in NEEDS_NOTHING | access.WITH_OLD_PASSWORD:
            asked = {one.scope for one in demanded}
            assert asked & {Scope.OPERATE, Scope.ADMIN, Scope.AUDIT}, f"{route.path} changes something for readers"


def test_forms_of_pages_are_checked(routes: list[RouteContext]) -> None:
    """Every address that takes a form looks at its secret field."""
    for route in routes:
        if route.methods & {"POST"} and not route.path.startswith("/api/"):
            assert checked_form in calls_of(route.dependant.dependencies), route.path


def calls_of(dependencies: list[Dependant]) -> set[object]:
    """What a route depends on, at any depth."""
    return {one.call for one in dependencies} | {call for one in dependencies for call in calls_of(one.dependencies)}


def test_strangers_get_nothing_anywhere(site: ConsoleSite, routes: list[RouteContext]) -> None:
    """Without a sign-in the API answers 401 and a page asks to sign in, for unknown addresses as well."""
    client = stranger(site)
    for path in {route.path for route in routes} - PUBLIC | {"/nothing", "/api/v1/nothing"}:
        for method in ("GET", "POST", "DELETE"):
            answer = client.request(method, path)
            if path.startswith("/api/"):
                assert (answer.status_code, answer.json()) == (401, {"detail": "sign in first"}), path
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            elif path != "/events":
                assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/sign-in"), path


def test_what_a_page_fetches_gets_a_status_and_no_redirect(site: ConsoleSite) -> None:
    """A script that is no longer signed in can tell, instead of reading the sign-in page as if it were data."""
    answer = stranger(site).get("/", headers={"Sec-Fetch-Mode": "cors"})
    assert answer.status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/sign-in", "/static/vesselq.css"])
def test_public_addresses(site: ConsoleSite, path: str) -> None:
    """What a load balancer and somebody who wants to sign in need."""
    assert stranger(site).get(path).status_code == 200


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("viewer", {"/api/v1/studies"}),
        ("operator", {"/api/v1/studies"}),
        ("admin", {"/api/v1/studies", "/api/v1/accounts"}),
        ("auditor", {"/api/v1/audit"}),
        ("", set()),
    ],
)
def test_roles_are_kept_apart(site: ConsoleSite, role: str, allowed: set[str]) -> None:
    """Who manages accounts cannot read the audit log, the auditor no studies; each refusal is audited."""
    client = signed_in(site, [role] if role else [], name="ada")
    for path in ("/api/v1/studies", "/api/v1/accounts", "/api/v1/audit"):
        assert client.get(path).status_code == (200 if path in allowed else 403), path
    rows = refusals(site)
    assert len(rows) == 3 - len(allowed)
    assert {row.detail["path"] for row in rows}.isdisjoint(allowed)
    assert all(row.detail["path"].startswith("/api/v1/") for row in rows)
    assert {(row.user, row.address, row.outcome) for row in rows} <= {("ada", "127.0.0.1", 4)}


def test_scopes_of_roles() -> None:
    """One scope is given by one role only, but for reading; words that are no role give nothing."""
    assert scopes_of(["operator", "auditor"]) == {Scope.READ, Scope.OPERATE, Scope.AUDIT}
    assert scopes_of(["root", ""]) == frozenset()
    for scope in (Scope.OPERATE, Scope.ADMIN, Scope.AUDIT):
        assert len([role for role in Role if scope in scopes_of([role])]) == 1
    assert scopes_of(EVERY_ROLE) == frozenset(Scope)


def test_caller_of_a_request(site: ConsoleSite) -> None:
    """Person, token and nobody, as the API tells it."""
    assert signed_in(site, ["viewer"], name="ada").get("/api/v1/me").json() == {
        "name": "ada", "kind": "person", "scopes": ["read"],
    }  # fmt: skip
    program = with_token(site, ["audit", "read"]).get("/api/v1/me").json()
    assert program == {"name": "token:audit-read", "kind": "token", "scopes": ["audit", "read"]}
    nobody = open_to_all(site).get("/api/v1/me").json()
    assert (nobody["kind"], len(nobody["scopes"])) == ("nobody", 4)


def test_disabled_people_and_changed_roles_are_seen_at_once(site: ConsoleSite) -> None:
    """A session does not outlive what it was given for."""
    signed_in(site, ["admin"], name="eve")
    client = signed_in(site, ["viewer"], name="ada")
    assert client.get("/api/v1/studies").status_code == 200
    accounts.set_roles(site.record, "ada", ["auditor"])
    assert client.get("/api/v1/studies").status_code == 403
    accounts.disable(site.record, "ada")
    assert client.get("/api/v1/studies").status_code == 401
    accounts.enable(site.record, "ada")
    assert client.get("/api/v1/studies").status_code == 401, "the session came back"


def shift_session(site: ConsoleSite, **ago: timedelta) -> None:
    """Make the only session older than it is."""
    with site.record.writing() as transaction:
        row = transaction.session.query(SignInSession).one()
        for name, span in ago.items():
            setattr(row, name, getattr(row, name) - span)


def test_sessions_end(site: ConsoleSite) -> None:
    """After the idle time without activity, and after the longest time with it."""
    client = signed_in(site, ["viewer"])
    shift_session(site, last_seen_at=timedelta(minutes=29))
    assert client.get("/api/v1/me").status_code == 200
    shift_session(site, last_seen_at=timedelta(minutes=29))
    assert client.get("/api/v1/me").status_code == 200, "the request before was activity"
    shift_session(site, last_seen_at=timedelta(minutes=31))
    assert client.get("/api/v1/me").status_code == 401
    client = signed_in(site, ["auditor"])
    shift_session_of(site, "auditor", timedelta(hours=9))
    assert client.get("/api/v1/me").status_code == 401


def shift_session_of(site: ConsoleSite, name: str, span: timedelta) -> None:
    with site.record.writing() as transaction:
        row = transaction.session.query(SignInSession).filter_by(user_name=name).one()
        row.expires_at -= span


def test_a_page_that_refreshes_itself_is_no_activity(site: ConsoleSite) -> None:
    """A forgotten browser signs itself out, though its live page goes on asking."""
    client = signed_in(site, ["viewer"])
    for _ in range(2):
        shift_session(site, last_seen_at=timedelta(minutes=20))
        last = client.get("/api/v1/me", headers={"Sec-Fetch-Mode": "cors"}).status_code
    assert last == 401


@pytest.mark.parametrize(
    "header",
    ["Bearer vesselq_wrong", "Bearer ", "Bearer", "Basic YTpi", "vesselq_x", "Bearer vesselq_wrong, vesselq_x"],
)
def test_wrong_tokens_are_refused_and_audited_once(site: ConsoleSite, header: str) -> None:
    """401 each time; one event a minute from one address, so that nobody can fill the log with them."""
    client = stranger(site)
    for path in ("/api/v1/studies", "/api/v1/studies", "/metrics", "/healthz"):
        answer = client.get(path, headers={"Authorization": header})
        assert (answer.status_code, "not valid" in answer.text) == (401, True), path
    (row,) = refusals(site)
    assert (row.address, row.user) == ("127.0.0.1", "")
    assert "vesselq_" not in str(row.detail)


def test_tokens_end_and_can_be_revoked(site: ConsoleSite) -> None:
    """A token is good until its end or its revocation, and when it was used last is kept to the minute."""
    made, secret = api_tokens.create(site.record, "nightly", ["read"], days=1)
    client = stranger(site)
    client.headers["Authorization"] = f"Bearer {secret}"
    assert client.get("/api/v1/studies").status_code == 200
    assert api_tokens.tokens(site.record)[0].last_used_at is not None
    assert client.get("/api/v1/audit").status_code == 403
    api_tokens.revoke(site.record, made.token_id)
    assert client.get("/api/v1/studies").status_code == 401
    rows = audit_rows(site.record, AuditQuery(event="access-refused"))
    assert [row.user for row in rows] == ["token:nightly", ""]
    with site.record.reading() as session:
        from db.models import ApiToken

        kept = session.query(ApiToken).one()
    assert secret not in {kept.token_hash, kept.token_id, kept.name}


def test_tokens_do_not_open_forms(site: ConsoleSite) -> None:
    """A program has no page from which a form could come."""
    client = with_token(site, ["admin"])
    assert client.post("/accounts", data={"name": "mallory"}).status_code == 403
    assert accounts.accounts(site.record) == []


def test_metrics_by_address_token_or_sign_in(site: ConsoleSite) -> None:
    """Prometheus on a known address needs no token; elsewhere it needs one that may read."""
    assert stranger(site).get("/metrics").status_code == 200
    assert stranger(site, host="192.0.2.7").get("/metrics").status_code == 401
    assert stranger(site, host="192.0.2.7", metrics_from=("192.0.2.0/24",)).get("/metrics").status_code == 200
    assert with_token(site, ["read"], host="192.0.2.7").get("/metrics").status_code == 200
    assert with_token(site, ["audit"], host="192.0.2.7").get("/metrics").status_code == 403


@pytest.mark.parametrize(
    ("address", "networks", "inside"),
    [
        ("192.0.2.7", ("192.0.2.0/24",), True),
        ("::ffff:192.0.2.7", ("192.0.2.7",), True),
        ("192.0.3.7", ("192.0.2.0/24", "::1"), False),
        ("testclient", ("testclient",), False),
        ("", ("0.0.0.0/0",), False),
        ("10.0.0.1", ("prometheus", "10.0.0.0/8"), True),
    ],
)
def test_networks(address: str, networks: tuple[str, ...], inside: bool) -> None:
    """Addresses and networks; names are not looked up."""
    assert is_within(address, networks) is inside


def test_requests_are_limited(site: ConsoleSite) -> None:
    """429 with the time to wait, for each person, token or address on its own."""
    client = signed_in(site, ["viewer"], name="ada", requests_per_minute=10)
    statuses = [client.get("/api/v1/me").status_code for _ in range(12)]
    assert statuses == [200] * 10 + [429] * 2
    answer = client.get("/api/v1/me")
    assert (answer.headers["Retry-After"], "wait" in answer.json()["detail"]) == ("6", True)
    client.cookies.clear()
    assert client.get("/api/v1/me").status_code == 401, "another caller, another bucket"


def test_bucket_fills_again() -> None:
    """So many at once, then one each sixtieth of a minute; the number of buckets is bounded."""
    seconds = [0.0]
    limit = RateLimit(2, clock=lambda: seconds[0])
    assert [limit.take("a") for _ in range(3)] == [True, True, False]
    assert limit.take("b")
    seconds[0] = 30.0
    assert [limit.take("a") for _ in range(2)] == [True, False]
    with pytest.raises(TooManyRequestsError, match="slow down") as refused:
        limit.check("a", "slow down")
    assert refused.value.seconds == 30
    for number in range(20_000):
        limit.take(str(number))
    assert len(limit._left) <= 10_000


def test_scope_is_looked_at_before_the_content(site: ConsoleSite, routes: list[RouteContext]) -> None:
    """Content that is no JSON is refused for what its sender may not do: it is not read before."""
    reader = with_token(site, scopes=("read",))
    broken = {"content": b"{" * 1000, "headers": {"Content-Type": "application/json"}}
    for path in ("/api/v1/rules/explain", "/api/v1/rules/try", f"/api/v1/jobs/{'0' * 32}/retry", "/api/v1/accounts"):
        assert reader.post(path, **broken).status_code == 403, path
    assert with_token(site, scopes=("operate",)).post("/api/v1/rules/try", **broken).status_code == 422
    for route in routes:
        if route.path.startswith("/api/") and "POST" in route.methods:
            assert isinstance(route.original_route, access.ScopeFirst), route.path


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:7::1", "2001:db8:0:7::/64"),
        ("2001:db8:0:7:ffff:ffff:ffff:ffff", "2001:db8:0:7::/64"),
        ("2001:db8:0:8::1", "2001:db8:0:8::/64"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_what_counts_as_one_address(address: str, network: str) -> None:
    """One host has a whole /64 of IPv6; an address of IPv4 stands for itself, however it is written."""
    assert network_of(address) == network


def test_requests_of_one_ipv6_network_count_together(site: ConsoleSite) -> None:
    """Who takes another address of the same /64 for each request is limited all the same; others are not."""
    client = stranger(site, requests_per_minute=2)
    statuses = []
    for host in ("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1"):
        other = TestClient(client.app, base_url=ADDRESS, client=(host, 50000), follow_redirects=False)
        statuses.append(other.get("/api/v1/me").status_code)
    assert statuses == [401, 401, 429, 401]


def test_sessions_of_forged_cookies(site: ConsoleSite) -> None:
    """Whatever stands in the cookie: nobody is signed in, and the public pages still work."""
    client = stranger(site)
    for value in ("x", "'; DROP TABLE users; --", "a" * 5000, "%00", "vesselq"):
        headers = {"Cookie": f"vesselq_session={value}"}
        assert client.get("/api/v1/me", headers=headers).status_code == 401
        assert client.get("/healthz", headers=headers).status_code == 200


def test_repr_of_a_caller_tells_no_session() -> None:
    """What a log might print has no hash of a session in it."""
    assert "signed_in" not in repr(Caller("ada", frozenset(), "person", "192.0.2.1"))


def test_an_application_without_database_lets_nobody_in(tmp_path: Path) -> None:
    """When sessions cannot be looked up, the answer is 503, never the page."""
    site = ConsoleSite(tmp_path / "away")
    client = signed_in(site, EVERY_ROLE)
    site.close()
    (site.folder / "vesselq.sqlite3").unlink()
    (site.folder / "vesselq.sqlite3").mkdir()
    for path in ("/", "/api/v1/studies"):
        answer = client.get(path)
        assert (answer.status_code, "database does not answer" in answer.text) == (503, True)
    site.close()


def test_only_strangers_are_sent_back_to_where_they_were(site: ConsoleSite) -> None:
    """The sign-in page knows where somebody wanted to go, and goes nowhere else."""
    answer = stranger(site).get("/studies/1.2.3?since=1 day")
    assert answer.headers["location"] == "/sign-in?next=/studies/1.2.3%3Fsince%3D1%2520day"
    client = signed_in(site, ["viewer"])
    assert client.get("/sign-in?next=/studies/1.2.3").headers["location"] == "/studies/1.2.3"
    for elsewhere in ("//evil.example.org", "https://evil.example.org", "/\\evil.example.org", "/\nx", "evil"):
        assert client.get("/sign-in", params={"next": elsewhere}).headers["location"] == "/"


def test_origin_of_the_test_client_is_ours(site: ConsoleSite) -> None:
    """The other tests of forms say what a browser says."""
    client: TestClient = signed_in(site)
    assert client.headers["Origin"] == ADDRESS == str(client.base_url)


def test_sign_out_of_a_session_that_is_over(site: ConsoleSite) -> None:
    """Nothing breaks when the row is gone already."""
    account = accounts.add(site.record, "ada", [], "correct horse battery")
    token = sign_in_sessions.begin(site.record, account, address="192.0.2.1", hours=1, by="password")
    found = sign_in_sessions.find(site.record, token, idle_minutes=1, active=True)
    sign_in_sessions.end(site.record, found, address="192.0.2.1")
    sign_in_sessions.end(site.record, found, address="192.0.2.1")
