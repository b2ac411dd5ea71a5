"""Signing in by OpenID Connect, against a provider that signs what it is told to."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from console_site import ConsoleSite
from fastapi.testclient import TestClient
from identity_provider import IdentityProvider
from joserfc.jwk import ECKey
from pydantic import ValidationError
from web_client import stranger

from console.web.provider_sign_in import _unpacked
from db import accounts
from db.audit_queries import AuditQuery, AuditRow, audit_rows
from dicom_core.errors import NotSignedInError
from dicom_core.setting_tables import OidcSettings


@pytest.fixture(scope="module")
def running() -> Iterator[IdentityProvider]:
    with IdentityProvider() as provider:
        yield provider


@pytest.fixture
def provider(running: IdentityProvider) -> Iterator[IdentityProvider]:
    claims, description = dict(running.claims), dict(running.description)
    yield running
    running.claims, running.description, running.overrides = claims, description, {}
    running.signing_key = running.key


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ConsoleSite]:
    site = ConsoleSite(tmp_path / "data")
    yield site
    site.close()


@pytest.fixture
def client(site: ConsoleSite, provider: IdentityProvider) -> TestClient:
    return stranger(site, oidc=OidcSettings(**provider.settings()), sign_ins_per_minute=100)


def there_and_back(client: TestClient, provider: IdentityProvider, next_page: str = "/") -> Any:
    there = client.get("/sign-in/provider", params={"next": next_page})
    assert there.status_code == 303, there.text
    return client.get(provider.authorize(there.headers["location"]))


def tries(site: ConsoleSite) -> list[AuditRow]:
    return audit_rows(site.record, AuditQuery(event="signed-in"))


def test_there_and_back(site: ConsoleSite, client: TestClient, provider: IdentityProvider) -> None:
    """A person of the provider comes back signed in, with the roles of the groups, at the page that was wanted."""
    assert "/sign-in/provider?next=/studies/1.2.3" in client.get("/sign-in?next=/studies/1.2.3").text
    back = there_and_back(client, provider, "/studies/1.2.3")
    assert (back.status_code, back.headers["location"]) == (303, "/studies/1.2.3")
    assert client.get("/api/v1/me").json() == {"name": "ada", "kind": "person", "scopes": ["operate", "read"]}
    assert accounts.account(site.record, "ada").display_name == "Ada L."
    (row,) = tries(site)
    assert (row.user, row.detail, row.outcome) == ("ada", {"by": "oidc"}, 0)
    assert "kept by the hospital" in client.get("/account").text
    assert not [cookie for cookie in client.cookies.jar if cookie.name == "vesselq_provider"]


def test_roles_follow_the_groups(site: ConsoleSite, client: TestClient, provider: IdentityProvider) -> None:
    """Another group at the next sign-in is another role; groups that nothing is said of give none."""
    there_and_back(client, provider)
    provider.claims["groups"] = ["audit-team", "choir"]
    client.cookies.clear()
    there_and_back(client, provider)
    assert client.get("/api/v1/me").json()["scopes"] == ["audit"]
    provider.claims["groups"] = "vessel-ops"
    client.cookies.clear()
    there_and_back(client, provider)
    assert accounts.account(site.record, "ada").roles == ("operator",)


def _other_key(provider: IdentityProvider) -> None:
    provider.signing_key = ECKey.generate_key("P-256", {"kid": "one"})


def _claims(**claims: Any) -> Callable[[IdentityProvider], None]:
    return lambda provider: provider.claims.update(claims)


def _wrong(**overrides: Any) -> Callable[[IdentityProvider], None]:
    return lambda provider: provider.overrides.update(overrides)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_wrong(iss="https://elsewhere.example.org"), "does not stand up"),
        (_wrong(aud="another-site"), "does not stand up"),
        (_wrong(exp=1), "does not stand up"),
        (_wrong(exp=None), "does not stand up"),
        (_wrong(nonce="replayed"), "does not stand up"),
        (_wrong(nonce=None), "does not stand up"),
        (_wrong(alg="none"), "does not stand up"),
        (_wrong(azp="another-site"), "another site"),
        (_other_key, "does not stand up"),
        (_claims(groups=[]), "none of your groups"),
        (_claims(groups=["choir", 7, None]), "none of your groups"),
        (_claims(groups={"vessel-ops": True}), "none of your groups"),
        (_claims(preferred_username=""), "who you are"),
        (_claims(preferred_username=["ada"]), "who you are"),
        (_claims(preferred_username="<script>"), "no account can have"),
    ],
)
def test_what_does_not_stand_up_lets_nobody_in(
    site: ConsoleSite,
    client: TestClient,
    provider: IdentityProvider,
    spoil: Callable[[IdentityProvider], None],
    said: str,
) -> None:
    """Each check of the ID token on its own: 401, a sentence, one event, no account and no session."""
    spoil(provider)
    back = there_and_back(client, provider)
    assert (back.status_code, said in back.text) == (401, True), back.text
    assert client.get("/api/v1/me").status_code == 401
    (row,) = tries(site)
    assert (row.user, row.outcome, row.address, row.detail["by"]) == ("", 4, "127.0.0.1", "oidc")
    assert accounts.accounts(site.record) == []


@pytest.mark.parametrize(
    "description",
    [
        {"issuer": "https://elsewhere.example.org"},
        {"token_endpoint": "http://192.0.2.1/token"},
        {"token_endpoint": None},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "/keys"},
    ],
)
def test_a_provider_that_describes_itself_wrongly(
    site: ConsoleSite, client: TestClient, provider: IdentityProvider, description: dict[str, Any]
) -> None:
    """Addresses without HTTPS elsewhere, another name: 503 with a sentence; nothing is asked there."""
    there = client.get("/sign-in/provider")
    provider.description.update(description)
    back = client.get(provider.authorize(there.headers["location"]))
    assert (back.status_code, "identity provider" in back.text) == (503, True)
    assert client.get("/api/v1/me").status_code == 401
    assert accounts.accounts(site.record) == []


def test_redirects_of_the_provider_are_not_followed(client: TestClient, provider: IdentityProvider) -> None:
    """Keys come from where the provider says they are."""
    there = client.get("/sign-in/provider")
    provider.description["jwks_uri"] = f"{provider.issuer}/elsewhere"
    provider.requests.clear()
    assert client.get(provider.authorize(there.headers["location"])).status_code == 503
    assert "/keys" not in provider.requests


@pytest.mark.parametrize("answer", ["error=access_denied", "code=", "", "code=unknown"])
def test_refused_at_the_provider(
    site: ConsoleSite, client: TestClient, provider: IdentityProvider, answer: str
) -> None:
    """Somebody who was not let in there, or who makes up a code, gets the sign-in page again."""
    url = client.get("/sign-in/provider").headers["location"]
    state = provider.authorize(url).partition("state=")[2].partition("&")[0]
    assert client.get(f"/sign-in/back?state={state}&{answer}").status_code == 401
    assert len(tries(site)) == 1


def test_a_way_back_that_was_begun_elsewhere(site: ConsoleSite, client: TestClient, provider: IdentityProvider) -> None:
    """Somebody else's link signs nobody in as that other person; a code works once."""
    url = client.get("/sign-in/provider").headers["location"]
    back = provider.authorize(url)
    other = stranger(site, oidc=OidcSettings(**provider.settings()))
    assert "begun elsewhere" in other.get(back).text
    assert "another identity provider" in client.get(back.replace("iss=http", "iss=https")).text
    url = client.get("/sign-in/provider").headers["location"]
    back = provider.authorize(url)
    kept = client.cookies.get("vesselq_provider")
    assert client.get(back).status_code == 303
    client.cookies.clear()
    client.cookies.set("vesselq_provider", kept or "")
    assert client.get(back).status_code == 401


HALF_A_CHARACTER = base64.urlsafe_b64encode(b'["\\ud800", "a", "b", "/"]').decode()
NESTED = base64.urlsafe_b64encode(b"[" * 40_000).decode()


@pytest.mark.parametrize("cookie", ["", "x", "e30", "W10", "WyJhIl0", "é", "bnVsbA", "MQ", HALF_A_CHARACTER, NESTED])
def test_cookies_that_are_none(cookie: str) -> None:
    """Whatever stands there: a sentence."""
    with pytest.raises(NotSignedInError, match="begun elsewhere"):
        _unpacked(cookie)


def test_no_provider_no_addresses(site: ConsoleSite) -> None:
    """Without the setting the addresses are not there, and the page has no button."""
    client = stranger(site)
    assert "/sign-in/provider" not in client.get("/sign-in").text
    assert client.get("/sign-in/provider").status_code == 404
    assert client.get("/sign-in/back").status_code == 404


def test_provider_that_is_away(site: ConsoleSite) -> None:
    """A sentence, and people with an account of the site can still sign in."""
    client = stranger(site, oidc=OidcSettings(issuer="http://127.0.0.1:9", client_id="x"))
    answer = client.get("/sign-in/provider")
    assert (answer.status_code, "does not answer as it should" in answer.text) == (503, True)
    assert 'name="password"' in answer.text


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"issuer": "http://login.example.org", "client_id": "x"}, "https URL"),
        ({"issuer": "login.example.org", "client_id": "x"}, "https URL"),
        ({"issuer": "https://login.example.org"}, "client_id is missing"),
        ({"issuer": "https://login.example.org", "client_id": "x", "roles": {"a": "root"}}, "viewer"),
    ],
)
def test_settings_that_are_wrong(values: dict[str, Any], said: str) -> None:
    """Told when the settings are read, not when the first person stands before the door."""
    with pytest.raises(ValidationError, match=said):
        OidcSettings(**values)
