"""`vesselq users` and `vesselq tokens`."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from console_site import ConsoleSite
from typer.testing import CliRunner, Result

from console.cli import app
from console.options import person
from db import accounts, api_tokens
from db.audit_queries import AuditQuery, audit_rows
from dicom_core.errors import NotSignedInError

Run = Callable[..., Result]
PASSWORD = "correct horse battery"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConsoleSite]:
    monkeypatch.setattr(accounts, "_hasher", lambda: PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    site = ConsoleSite(tmp_path / "data")
    yield site
    site.close()


@pytest.fixture
def run(site: ConsoleSite, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on the site's data folder, with some text on standard input."""
    monkeypatch.chdir(site.folder)
    return lambda *arguments, said="": CliRunner().invoke(
        app, [*arguments, "--data-folder", str(site.folder)], input=said
    )


def answer(result: Result) -> Any:
    """The one JSON document of a command that went well."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def check(site: ConsoleSite, name: str, password: str) -> bool:
    try:
        accounts.check_password(site.record, name, password, address="")
    except NotSignedInError:
        return False
    return True


def test_add_with_a_drawn_password(site: ConsoleSite, run: Run) -> None:
    """The password is shown once, good for one sign-in; the log names who is at the keyboard."""
    added = answer(
        run("users", "add", "ada", "--role", "viewer", "--role", "auditor", "--full-name", "Ada L.", "--json")
    )
    assert (added["account"]["roles"], added["account"]["display_name"]) == (["viewer", "auditor"], "Ada L.")
    assert added["account"]["must_change_password"]
    assert check(site, "ada", added["password"])
    (row,) = audit_rows(site.record, AuditQuery(event="account-changed"))
    assert (row.user, row.process.partition("/")[0]) == (person(), "console")
    text = run("users", "add", "olga").stdout
    assert "olga: no roles" in text
    assert "shown this once" in text


def test_add_with_a_password_of_ones_own(site: ConsoleSite, run: Run) -> None:
    """A line of standard input; it is not repeated, and need not be changed."""
    result = run("users", "add", "ada", "--role", "admin", "--ask", said=f"{PASSWORD}\n")
    assert result.exit_code == 0, result.stderr
    assert PASSWORD not in result.output
    assert check(site, "ada", PASSWORD)
    assert not accounts.account(site.record, "ada").must_change_password


def test_no_password_is_an_argument(run: Run) -> None:
    """Others on the machine could read it there."""
    assert run("users", "add", "ada", "--password", PASSWORD).exit_code == 2


def test_roles_password_disable_enable(site: ConsoleSite, run: Run) -> None:
    """What a person is and may, from the terminal."""
    accounts.add(site.record, "grace", ["admin"], PASSWORD)
    accounts.add(site.record, "ada", ["viewer"], PASSWORD)
    assert answer(run("users", "roles", "ada", "--role", "operator", "--json"))["account"]["roles"] == ["operator"]
    assert run("users", "roles", "ada").stdout == "ada: no roles\n"
    assert check(site, "ada", answer(run("users", "password", "ada", "--json"))["password"])
    assert not check(site, "ada", PASSWORD)
    assert run("users", "disable", "ada").stdout == "ada: may not sign in\n"
    assert "disabled" in run("users", "list").stdout
    assert answer(run("users", "enable", "ada", "--json"))["account"]["disabled_at"] is None
    listed = answer(run("users", "list", "--json"))["accounts"]
    assert [one["user_name"] for one in listed] == ["ada", "grace"]
    assert "argon2" not in str(listed)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("users", "add", "a b"), 2, "no name for an account"),
        (("users", "add", "grace"), 5, "already"),
        (("users", "add", "ada", "--role", "root"), 2, "there are viewer, operator, admin, auditor"),
        (("users", "add", "ada", "--ask"), 2, "12 to 256"),
        (("users", "roles", "nobody"), 4, "no account nobody"),
        (("users", "password", "nobody"), 4, "no account nobody"),
        (("users", "disable", "grace"), 5, "the last one"),
        (("users", "enable", "nobody"), 4, "no account nobody"),
        (("tokens", "create", "x", "--scope", "write"), 2, "there are read, operate, admin, audit"),
        (("tokens", "create", "x", "--scope", "read", "--days", "1000"), 2, "at most 366"),
        (("tokens", "create", "x", "--scope", "read", "--days", "0"), 2, "more than 0"),
        (("tokens", "revoke", "x"), 4, "no token"),
        (("tokens", "revoke", "\udcff"), 2, "vesselq: an argument is not text in UTF-8"),
    ],
)
def test_mistakes_get_a_sentence(site: ConsoleSite, run: Run, arguments: tuple[str, ...], code: int, said: str) -> None:
    """One line on standard error, the exit code of the kind, and nothing is changed."""
    accounts.add(site.record, "grace", ["admin"], PASSWORD)
    result = run(*arguments)
    assert (result.exit_code, said in result.stderr) == (code, True), result.output
    assert result.stdout == ""
    assert [(one.user_name, one.disabled_at) for one in accounts.accounts(site.record)] == [("grace", None)]
    assert api_tokens.tokens(site.record) == []


@pytest.mark.parametrize("name", ["x", "li"])
def test_drawn_passwords_fit_short_names(run: Run, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Letters of a name of one or two stand in many a password that was drawn: that is no reason to refuse it."""
    monkeypatch.setattr("secrets.token_urlsafe", lambda _: "Xx1-liLI_0abcdefghij")
    assert run("users", "add", name).exit_code == 0


def test_tokens(site: ConsoleSite, run: Run) -> None:
    """Made, listed, revoked; standard output of `create` is the token alone, for scripts."""
    result = run("tokens", "create", "nightly export", "--scope", "read", "--scope", "audit", "--days", "7")
    secret = result.stdout.strip()
    token = api_tokens.find(site.record, secret)
    assert (token.name, token.scopes, token.created_by) == ("nightly export", ("read", "audit"), person())
    assert token.token_id in result.stderr
    listed = run("tokens", "list")
    assert "nightly export" in listed.stdout
    assert secret not in listed.stdout
    assert answer(run("tokens", "list", "--json"))["tokens"][0]["token_id"] == token.token_id
    assert "refused from now on" in run("tokens", "revoke", token.token_id).stdout
    with pytest.raises(NotSignedInError):
        api_tokens.find(site.record, secret)
    made = answer(run("tokens", "create", "x", "--scope", "read", "--json"))
    assert made["secret"].startswith("vesselq_")
    assert answer(run("tokens", "revoke", made["token"]["token_id"], "--json"))["token"]["revoked_at"]
