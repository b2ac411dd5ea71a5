"""Signing in with a password, signing out, one's own password, forms of other sites, managing accounts and tokens."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from console_site import ConsoleSite
from fastapi.testclient import TestClient
from httpx import Response
from web_client import ADDRESS, csrf_of, open_to_all, signed_in, stranger, with_token

from db import accounts, api_tokens
from db.audit_queries import AuditQuery, AuditRow, audit_rows
from dicom_core.errors import NotSignedInError

PASSWORD = "correct horse battery"
NEXT_PASSWORD = "staple in the sunshine"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConsoleSite]:
    # the cheapest argon2id there is: what it costs is tested in test_record_accounts
    monkeypatch.setattr(accounts, "_hasher", lambda: PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    site = ConsoleSite(tmp_path / "data")
    yield site
    site.close()


def sign_in(client: TestClient, name: str, password: str, *, next_page: str = "/") -> Response:
    fields = {"csrf": csrf_of(client, "/sign-in"), "name": name, "password": password, "next": next_page}
    return client.post("/sign-in", data=fields, headers={"Origin": ADDRESS})


def events(site: ConsoleSite, word: str) -> list[AuditRow]:
    return audit_rows(site.record, AuditQuery(event=word))


def test_signing_in_and_out(site: ConsoleSite) -> None:
    """The way of a person: to the page that was wanted and out again, each in the audit log with name and address."""
    accounts.add(site.record, "ada", ["viewer"], PASSWORD)
    client = stranger(site)
    answer = sign_in(client, "ada", PASSWORD, next_page="/studies/1.2.3")
    assert (answer.status_code, answer.headers["location"]) == (303, "/studies/1.2.3")
    assert client.get("/api/v1/me").json()["name"] == "ada"
    assert accounts.account(site.record, "ada").last_sign_in_at is not None
    gone = client.post("/sign-out", data={"csrf": csrf_of(client)}, headers={"Origin": ADDRESS})
    assert gone.headers["location"] == "/sign-in"
    assert client.get("/api/v1/me").status_code == 401
    for word in ("signed-in", "signed-out"):
        (row,) = events(site, word)
        assert (row.user, row.address, row.outcome) == ("ada", "127.0.0.1", 0)


def test_signing_in_again_ends_the_session_before(site: ConsoleSite) -> None:
    """Whoever sits down at a browser in which somebody else is signed in leaves no session of that person behind."""
    accounts.add(site.record, "ada", ["viewer"], PASSWORD)
    accounts.add(site.record, "bob", ["viewer"], PASSWORD)
    client, elsewhere = stranger(site), stranger(site)
    sign_in(elsewhere, "ada", PASSWORD)
    sign_in(client, "ada", PASSWORD)
    before = client.cookies["vesselq_session"]
    fields = {"csrf": csrf_of(client), "name": "bob", "password": PASSWORD}
    assert client.post("/sign-in", data=fields, headers={"Origin": ADDRESS}).status_code == 303
    assert client.get("/api/v1/me").json()["name"] == "bob"
    assert stranger(site).get("/api/v1/me", headers={"Cookie": f"vesselq_session={before}"}).status_code == 401
    assert elsewhere.get("/api/v1/me").json()["name"] == "ada", "other browsers stay signed in"
    assert [row.user for row in events(site, "signed-out")] == ["ada"]


def test_cookie_is_kept_from_scripts_and_other_sites(site: ConsoleSite) -> None:
    """HttpOnly and SameSite always; over HTTPS Secure and bound to this host by its name."""
    accounts.add(site.record, "ada", ["viewer"], PASSWORD)
    plain = sign_in(stranger(site), "ada", PASSWORD).headers.get_list("set-cookie")[0]
    assert plain.startswith("vesselq_session=")
    assert all(word in plain for word in ("HttpOnly", "SameSite=lax", "Path=/", "Max-Age=28800"))
    assert "Secure" not in plain
    client = stranger(site, behind_https=True)
    client.base_url = ADDRESS.replace("http:", "https:")
    https = sign_in(client, "ada", PASSWORD).headers.get_list("set-cookie")[0]
    assert https.startswith("__Host-vesselq_session=")
    assert "Secure" in https
    assert "Domain" not in https
    assert "max-age" in client.get("/sign-in").headers["Strict-Transport-Security"]


@pytest.mark.parametrize(("name", "password"), [("ada", "hunter2"), ("nobody", PASSWORD), ("", ""), ("a\0b", "x")])
def test_wrong_sign_ins_get_one_answer(site: ConsoleSite, name: str, password: str) -> None:
    """Nobody learns which names exist; the log knows names that exist and no other text that was typed."""
    accounts.add(site.record, "ada", ["viewer"], PASSWORD)
    client = stranger(site)
    answer = sign_in(client, name, password)
    assert (answer.status_code, "the name or the password is wrong" in answer.text) == (401, True)
    assert name != "ada" or 'name="name" value="ada"' in answer.text, "nobody has to type it twice"
    assert 'name="password" value=""' in answer.text
    assert client.get("/api/v1/me").status_code == 401
    (row,) = events(site, "signed-in")
    assert (row.outcome, row.address) == (4, "127.0.0.1")
    assert row.detail["account"] == ("ada" if name == "ada" else "")
    assert password not in str(row.detail) or not password


def test_sign_ins_from_one_address_are_limited(site: ConsoleSite) -> None:
    """After ten tries in a minute not even the right password is looked at."""
    accounts.add(site.record, "ada", ["viewer"], PASSWORD)
    client = stranger(site, sign_ins_per_minute=3)
    statuses = [sign_in(client, "eve", "wrong").status_code for _ in range(3)]
    assert statuses == [401] * 3
    answer = sign_in(client, "ada", PASSWORD)
    assert (answer.status_code, "wait a minute" in answer.text) == (429, True)
    assert len(events(site, "signed-in")) == 3


def test_forms_of_other_sites_are_refused(site: ConsoleSite) -> None:
    """Neither without the secret field, nor with that of another browser, nor from another page."""
    accounts.add(site.record, "ada", ["viewer"], PASSWORD)
    client = stranger(site)
    fields = {"name": "ada", "password": PASSWORD, "csrf": csrf_of(client, "/sign-in")}
    for wrong in ("", "0" * 64, csrf_of(stranger(site), "/sign-in")):
        assert client.post("/sign-in", data={**fields, "csrf": wrong}).status_code == 403
    for headers in (
        {"Origin": "https://evil.example.org"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert client.post("/sign-in", data=fields, headers=headers).status_code == 403
    assert client.get("/api/v1/me").status_code == 401
    assert client.post("/sign-in", data=fields, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303


def test_form_from_before_the_sign_in_is_refused(site: ConsoleSite) -> None:
    """The secret changes with the session."""
    accounts.add(site.record, "ada", ["viewer"], PASSWORD)
    client = stranger(site)
    before = csrf_of(client, "/sign-in")
    sign_in(client, "ada", PASSWORD)
    assert csrf_of(client) != before
    assert client.post("/sign-out", data={"csrf": before}).status_code == 403


def test_first_password_must_be_changed(site: ConsoleSite) -> None:
    """With it nothing is reached but the form for another one; afterwards all other browsers are signed out."""
    accounts.add(site.record, "ada", ["viewer"], PASSWORD, must_change_password=True)
    client, other = stranger(site), stranger(site)
    sign_in(other, "ada", PASSWORD)
    assert sign_in(client, "ada", PASSWORD).headers["location"] == "/account"
    assert client.get("/").headers["location"] == "/account"
    assert client.get("/api/v1/studies").status_code == 403
    assert "choose your own now" in client.get("/account").text
    fields = {"csrf": csrf_of(client), "old": PASSWORD, "new": NEXT_PASSWORD, "again": NEXT_PASSWORD}
    assert client.post("/account", data=fields).headers["location"] == "/"
    assert client.get("/api/v1/studies").status_code == 200
    assert other.get("/account").headers["location"].startswith("/sign-in")
    with pytest.raises(NotSignedInError):
        accounts.check_password(site.record, "ada", PASSWORD, address="")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"old": "wrong"}, "the name or the password is wrong"),
        ({"again": "something else"}, "not repeated"),
        ({"new": "short", "again": "short"}, "12 to 256"),
        ({"new": "x" * 300, "again": "x" * 300}, "12 to 256"),
        ({"new": "i am ada lovelace", "again": "i am ada lovelace"}, "easy to guess"),
        ({"new": PASSWORD, "again": PASSWORD}, "present one"),
    ],
)
def test_passwords_that_are_not_taken(site: ConsoleSite, fields: dict[str, str], said: str) -> None:
    """The form says why, never shows a password, and the present one stays."""
    accounts.add(site.record, "ada", ["viewer"], PASSWORD)
    client = stranger(site)
    sign_in(client, "ada", PASSWORD)
    sent = {"csrf": csrf_of(client), "old": PASSWORD, "new": NEXT_PASSWORD, "again": NEXT_PASSWORD, **fields}
    answer = client.post("/account", data=sent)
    assert (answer.status_code, said in answer.text) == (422, True)
    assert NEXT_PASSWORD not in answer.text
    accounts.check_password(site.record, "ada", PASSWORD, address="")


def test_switched_off(site: ConsoleSite) -> None:
    """Everybody may do everything, the pages say so, and forms of other sites are refused all the same."""
    client = open_to_all(site)
    assert client.get("/sign-in").headers["location"] == "/"
    assert "whoever reaches these pages may do everything" in client.get("/account").text
    assert client.post("/accounts", data={"name": "ada", "csrf": "0" * 64}).status_code == 403
    assert client.post("/accounts", data={"name": "ada", "csrf": csrf_of(client, "/accounts")}).status_code == 200
    assert client.post("/account", data={"csrf": csrf_of(client, "/accounts")}).status_code == 422


def admin(site: ConsoleSite) -> TestClient:
    return signed_in(site, ["admin"], name="grace")


def test_accounts_are_managed_on_their_page(site: ConsoleSite) -> None:
    """Added with a password shown once, changed, kept out and let in again; all in the audit log with who did it."""
    client = admin(site)
    fields = {
        "csrf": csrf_of(client, "/accounts"),
        "name": "ada",
        "display_name": "Ada",
        "roles": ["viewer", "auditor"],
    }
    page = client.post("/accounts", data=fields).text
    password = page.partition("data-copy=")[2].split('"')[1]
    assert password not in client.get("/accounts").text
    made = accounts.check_password(site.record, "ada", password, address="")
    assert (made.roles, made.must_change_password, made.display_name) == (("viewer", "auditor"), True, "Ada")
    for change, more in (("roles", {"roles": ["operator"]}), ("disable", {}), ("enable", {})):
        assert client.post(f"/accounts/ada/{change}", data={**fields, "roles": [], **more}).status_code == 303
    shown = client.post("/accounts/ada/password", data=fields).text
    assert password not in shown
    assert accounts.account(site.record, "ada").roles == ("operator",)
    changes = [row.detail.get("change") for row in events(site, "account-changed")]
    assert changes == ["added", "disabled", "enabled", "another password"]
    (row,) = events(site, "roles-changed")
    assert (row.user, row.detail) == (
        "grace", {"account": "ada", "before": ["viewer", "auditor"], "after": ["operator"]},
    )  # fmt: skip
    assert client.post("/accounts/ada/delete", data=fields).status_code == 422


@pytest.mark.parametrize(
    ("path", "fields", "status", "said"),
    [
        ("/accounts", {"name": "grace"}, 409, "an account grace already"),
        ("/accounts", {"name": "../x"}, 422, "no name for an account"),
        ("/accounts", {"name": "<b>x</b>"}, 422, "&lt;b&gt;"),
        ("/accounts", {"name": "ada", "roles": ["root"]}, 422, "no such role"),
        ("/accounts/grace/roles", {"roles": ["admin", "auditor"]}, 409, "somebody else"),
        ("/accounts/grace/disable", {}, 409, "somebody else"),
        ("/accounts/grace/password", {}, 409, "somebody else"),
        ("/accounts/nobody/disable", {}, 404, "no account nobody"),
        ("/tokens", {"name": "x", "days": "3"}, 422, "at least one scope"),
        ("/tokens", {"name": "x", "days": "9999", "scopes": ["read"]}, 422, "at most 366"),
        ("/tokens", {"name": "x", "days": "-1", "scopes": ["read"]}, 422, "whole number"),
        (f"/tokens/{'0' * 32}/revoke", {}, 404, "no token"),
        ("/tokens/x/revoke", {}, 422, "not taken"),
    ],
)
def test_what_managing_refuses(
    site: ConsoleSite, path: str, fields: dict[str, str | list[str]], status: int, said: str
) -> None:
    """Own rights, taken names, unknown words: a page with a sentence, and nothing is changed."""
    client = admin(site)
    answer = client.post(path, data={"csrf": csrf_of(client, "/accounts"), **fields})
    assert (answer.status_code, said in answer.text) == (status, True), answer.text
    assert [one.user_name for one in accounts.accounts(site.record)] == ["grace"]
    assert api_tokens.tokens(site.record) == []


def test_tokens_are_made_and_revoked_on_the_page(site: ConsoleSite) -> None:
    """Shown once, then good until it is revoked."""
    client = admin(site)
    fields = {"csrf": csrf_of(client, "/accounts"), "name": "nightly", "scopes": ["read"], "days": "30"}
    secret = client.post("/tokens", data=fields).text.partition("data-copy=")[2].split('"')[1]
    program = stranger(site)
    program.headers["Authorization"] = f"Bearer {secret}"
    assert program.get("/api/v1/studies").status_code == 200
    page = client.get("/accounts").text
    assert secret not in page
    (token,) = api_tokens.tokens(site.record)
    assert (token.created_by, round((token.expires_at - token.created_at).total_seconds())) == ("grace", 30 * 86400)
    assert client.post(f"/tokens/{token.token_id}/revoke", data=fields).status_code == 303
    assert program.get("/api/v1/studies").status_code == 401
    assert client.post(f"/tokens/{token.token_id}/revoke", data=fields).status_code == 409
    assert [row.user for row in (*events(site, "token-created"), *events(site, "token-revoked"))] == ["grace", "grace"]


def test_accounts_and_tokens_over_the_api(site: ConsoleSite) -> None:
    """The same with JSON: for what creates accounts automatically."""
    program = with_token(site, ["read", "admin"])
    signed_in(site, ["admin"], name="grace")
    made = program.post("/api/v1/accounts", json={"user_name": "ada", "roles": ["viewer"]})
    assert (made.status_code, made.json()["account"]["roles"]) == (201, ["viewer"])
    first = made.json()["password"]
    accounts.check_password(site.record, "ada", first, address="")
    assert program.post("/api/v1/accounts/ada/password", json={}).json()["password"] != first
    assert program.post("/api/v1/accounts/ada/roles", json={"roles": []}).json()["account"]["roles"] == []
    assert program.post("/api/v1/accounts/ada/disable", json={}).json()["account"]["disabled_at"]
    assert program.post("/api/v1/accounts/ada/enable", json={}).json()["account"]["disabled_at"] is None
    listed = program.get("/api/v1/accounts").json()["accounts"]
    assert [one["user_name"] for one in listed] == ["ada", "grace"]
    assert "hash" not in str(listed)
    token = program.post("/api/v1/tokens", json={"name": "x", "scopes": ["read"]}).json()
    assert token["secret"].startswith("vesselq_")
    assert "hash" not in str(program.get("/api/v1/tokens").json())
    ended = program.post(f"/api/v1/tokens/{token['token']['token_id']}/revoke", json={})
    assert ended.json()["token"]["revoked_at"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokens", {"name": "x", "scopes": ["audit"]}),
        ("/accounts", {"user_name": "mallory", "roles": ["operator"]}),
        ("/accounts/ada/roles", {"roles": ["viewer", "auditor"]}),
        ("/accounts/olga/password", {}),
        ("/accounts/olga/disable", {}),
        ("/accounts/olga/roles", {"roles": []}),
    ],
)
def test_a_token_reaches_no_further_than_itself(site: ConsoleSite, path: str, body: dict[str, object]) -> None:
    """A program that manages accounts cannot make itself, or take over, somebody who may do more."""
    accounts.add(site.record, "ada", ["viewer"], PASSWORD)
    accounts.add(site.record, "olga", ["operator"], PASSWORD)
    before = accounts.accounts(site.record)
    answer = with_token(site, ["read", "admin"]).post(f"/api/v1{path}", json=body)
    assert (answer.status_code, "more than the token" in answer.text) == (403, True)
    assert accounts.accounts(site.record) == before


def test_pages_name_who_is_signed_in(site: ConsoleSite) -> None:
    """The frame has the name, a way out, and links to nothing that the person may not see."""
    page = signed_in(site, ["auditor"], name="ada").get("/account").text
    assert "Signed in as ada" in page
    assert 'action="/sign-out"' in page
    assert 'href="/accounts"' not in page
    assert 'href="/accounts"' in admin(site).get("/account").text
    assert 'href="/accounts"' not in stranger(site).get("/sign-in").text


def test_the_page_in_chinese(site: ConsoleSite) -> None:
    """Signing in is translated like everything else."""
    assert "登录" in stranger(site).get("/sign-in", headers={"Accept-Language": "zh-CN"}).text
