"""OpenID Connect: the authorization code flow with PKCE (OpenID Connect Core 1.0 section 3.1, RFC 7636).

The provider is asked anew for its addresses and keys with each sign-in, so nothing here grows old. Whatever goes wrong
ends in a sentence; nothing that the provider or the browser sent is repeated in it.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dicom_core.errors import NotSignedInError, UnavailableError
from dicom_core.roles import Role, roles_from
from dicom_core.setting_tables import OidcSettings, is_loopback

if TYPE_CHECKING:
    from authlib.integrations.requests_client import OAuth2Session
    from joserfc.jwk import KeySet

_SECONDS = 10
_CLOCKS_DIFFER_SECONDS = 60
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures with a public key; never "none", and none with the client secret as a key."""
_AWAY = "the identity provider does not answer as it should; try again, or sign in with an account of this site"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the browser keeps between going to the provider and coming back.

    Attributes:
        state: Ties the way back to the way there.
        nonce: Ties the ID token to it.
        verifier: Proves to the provider that both ways are ours (PKCE).
    """

    state: str
    nonce: str
    verifier: str


@dataclass(frozen=True, slots=True)
class Person:
    """Whom the provider vouches for.

    Attributes:
        user_name: What it calls the person.
        display_name: For pages.
        roles: From the person's groups.
    """

    user_name: str
    display_name: str
    roles: tuple[Role, ...]


def begin(settings: OidcSettings, redirect_uri: str) -> tuple[str, Attempt]:
    """Where to send the browser.

    Args:
        settings: Of the provider.
        redirect_uri: Where it sends the browser back to.

    Raises:
        UnavailableError: The provider does not say where.
    """
    attempt = Attempt(secrets.token_urlsafe(24), secrets.token_urlsafe(24), secrets.token_urlsafe(48))
    with _client(settings, redirect_uri) as client:
        provider = _provider(settings, client)
        url, _ = client.create_authorization_url(
            _address(provider, "authorization_endpoint"),
            state=attempt.state,
            code_verifier=attempt.verifier,
            nonce=attempt.nonce,
        )
    return str(url), attempt


def finish(settings: OidcSettings, redirect_uri: str, attempt: Attempt, answer: Mapping[str, str]) -> Person:
    """Who came back.

    Args:
        settings: Of the provider.
        redirect_uri: The same as before.
        attempt: What the browser kept.
        answer: The query with which the provider sent it back.

    Raises:
        NotSignedInError: The provider, or a check of what it says, refuses.
        UnavailableError: The provider does not answer.
    """
    if not secrets.compare_digest(answer.get("state", "").encode(), attempt.state.encode()):
        raise NotSignedInError("this sign-in was begun elsewhere or too long ago; begin again")
    if answer.get("iss", settings.issuer) != settings.issuer:  # RFC 9207 section 2.4
        raise NotSignedInError("another identity provider sent you back")
    if "error" in answer or not answer.get("code"):
        raise NotSignedInError("the identity provider did not let you in")
    with _client(settings, redirect_uri) as client:
        provider = _provider(settings, client)
        id_token = _id_token(client, provider, answer["code"], attempt)
        keys = _keys(client, provider)
    return _person(settings, _claims(settings, keys, id_token, attempt))


def _client(settings: OidcSettings, redirect_uri: str) -> "OAuth2Session":
    from authlib.integrations.requests_client import OAuth2Session

    secret = settings.client_secret.get_secret_value()
    client = OAuth2Session(
        settings.client_id,
        secret or None,
        token_endpoint_auth_method="client_secret_basic" if secret else "none",
        scope="openid profile",
        redirect_uri=redirect_uri,
        code_challenge_method="S256",
        default_timeout=_SECONDS,
    )
    client.trust_env = False
    client.max_redirects = 0
    client.verify = str(settings.ca_file) if settings.ca_file else True
    return client


def _provider(settings: OidcSettings, client: "OAuth2Session") -> dict[str, Any]:
    """The provider's own description (OpenID Connect Discovery 1.0 section 4)."""
    found = _json(client, settings.issuer.rstrip("/") + "/.well-known/openid-configuration")
    if found.get("issuer") != settings.issuer:
        raise UnavailableError("the identity provider has another name than the setting web.oidc.issuer")
    return found


def _json(client: "OAuth2Session", url: str) -> dict[str, Any]:
    import requests

    try:
        answer = client.request("GET", url, withhold_token=True, allow_redirects=False, timeout=_SECONDS)
        answer.raise_for_status()
        found = answer.json()
    except (requests.RequestException, ValueError) as error:
        raise UnavailableError(_AWAY) from error
    if not isinstance(found, dict):
        raise UnavailableError(_AWAY)
    return found


def _address(provider: Mapping[str, Any], name: str) -> str:
    """One of the provider's addresses; over HTTPS, or on this machine."""
    found = provider.get(name)
    url = urlsplit(found) if isinstance(found, str) else None
    if url is None or (url.scheme != "https" and not (url.scheme == "http" and is_loopback(url.hostname or ""))):
        raise UnavailableError(_AWAY)
    return str(found)


def _id_token(client: "OAuth2Session", provider: Mapping[str, Any], code: str, attempt: Attempt) -> str:
    import requests
    from authlib.common.errors import AuthlibBaseError

    try:
        token = client.fetch_token(
            _address(provider, "token_endpoint"), code=code, code_verifier=attempt.verifier, allow_redirects=False
        )
    except AuthlibBaseError as error:
        raise NotSignedInError("the identity provider took back that it let you in; begin again") from error
    except (requests.RequestException, ValueError) as error:
        raise UnavailableError(_AWAY) from error
    found = token.get("id_token") if isinstance(token, dict) else None
    if not isinstance(found, str):
        raise UnavailableError(_AWAY)
    return found


def _keys(client: "OAuth2Session", provider: Mapping[str, Any]) -> "KeySet":
    from joserfc.errors import JoseError
    from joserfc.jwk import KeySet

    try:
        return KeySet.import_key_set(_json(client, _address(provider, "jwks_uri")))  # type: ignore[arg-type]  # JSON
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise UnavailableError(_AWAY) from error


def _claims(settings: OidcSettings, keys: "KeySet", id_token: str, attempt: Attempt) -> dict[str, Any]:
    """What the ID token says, after the checks of OpenID Connect Core 1.0 section 3.1.3.7."""
    from joserfc import jwt
    from joserfc.errors import JoseError

    rules = jwt.JWTClaimsRegistry(
        leeway=_CLOCKS_DIFFER_SECONDS,
        iss={"essential": True, "value": settings.issuer},
        aud={"essential": True, "value": settings.client_id},
        exp={"essential": True},
        iat={"essential": True},
        sub={"essential": True},
        nonce={"essential": True, "value": attempt.nonce},
    )
    try:
        token = jwt.decode(id_token, keys, algorithms=list(_ALGORITHMS))
        rules.validate(token.claims)
    except (JoseError, ValueError, TypeError) as error:
        raise NotSignedInError("what the identity provider says of you does not stand up to being checked") from error
    claims: dict[str, Any] = token.claims
    if claims.get("azp", settings.client_id) != settings.client_id:
        raise NotSignedInError("what the identity provider says of you is meant for another site")
    return claims


def _person(settings: OidcSettings, claims: Mapping[str, Any]) -> Person:
    name = claims.get(settings.user_claim)
    if not isinstance(name, str) or not name:
        raise NotSignedInError("the identity provider does not say who you are in the claim of web.oidc.user_claim")
    groups = claims.get(settings.roles_claim, [])
    groups = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
    roles = roles_from(settings.roles[group] for group in groups if isinstance(group, str) and group in settings.roles)
    if not roles:
        raise NotSignedInError("none of your groups has a role here; ask who manages accounts")
    full_name = claims.get("name")
    return Person(name, full_name if isinstance(full_name, str) else "", roles)
