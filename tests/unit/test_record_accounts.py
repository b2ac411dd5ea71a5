"""Accounts, passwords, lockout, sessions and tokens in the record, on both databases."""

from datetime import timedelta

import pytest
from argon2 import PasswordHasher
from databases import Clock
from sqlalchemy import select

from db import accounts, api_tokens, audit, sign_in_sessions
from db.audit_queries import AuditQuery, audit_rows
from db.models import ApiToken, SignInSession, User
from db.session import Record
from dicom_core.errors import ConfigurationError, ConflictError, NotFoundError, NotSignedInError
from dicom_core.roles import Role, Scope, roles_from, scopes_from

PASSWORD = "correct horse battery"
WRONG = "incorrect horse"
ADDRESS = "192.0.2.1"


@pytest.fixture
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "_hasher", lambda: PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


pytestmark = pytest.mark.usefixtures("_cheap_hashes")


def try_password(record: Record, name: str, password: str) -> str:
    """Empty when it is right, else what is answered."""
    try:
        accounts.check_password(record, name, password, address=ADDRESS)
    except NotSignedInError as error:
        return str(error)
    return ""


def details(record: Record, event: str) -> list[dict[str, object]]:
    return [row.detail for row in audit_rows(record, AuditQuery(event=event))]


def test_account_and_its_life(record: Record) -> None:
    """Added, given other roles, disabled, enabled: each once in the audit log, with who did it; the chain holds."""
    record = record.on_behalf_of("grace")
    made = accounts.add(record, "ada@example.org", ["auditor", "viewer"], PASSWORD, display_name="Ada")
    assert made.roles == (Role.VIEWER, Role.AUDITOR)
    assert made.scopes == {Scope.READ, Scope.AUDIT}
    assert (made.source, made.must_change_password, made.disabled_at) == ("local", False, None)
    assert accounts.account(record, "ada@example.org") == made
    assert accounts.set_roles(record, "ada@example.org", ["viewer"]).roles == (Role.VIEWER,)
    accounts.disable(record, "ada@example.org")
    assert "locked for a while" in try_password(record, "ada@example.org", PASSWORD)
    accounts.enable(record, "ada@example.org")
    assert try_password(record, "ada@example.org", PASSWORD) == ""
    rows = audit_rows(record, AuditQuery())
    assert [(row.event, row.user) for row in rows if row.event != "signed-in"] == [
        ("account-changed", "grace"), ("roles-changed", "grace"), ("account-changed", "grace"),
        ("account-changed", "grace"),
    ]  # fmt: skip
    assert audit.verify(record).first_bad_sequence is None


def test_lockout(record: Record, clock: Clock) -> None:
    """Five wrong passwords in a row lock the account; the right one gets the same answer until the time is over."""
    accounts.add(record, "ada", ["viewer"], PASSWORD)
    answers = {try_password(record, "ada", WRONG) for _ in range(4)}
    assert try_password(record, "ada", PASSWORD) == "", "four are forgiven"
    answers |= {try_password(record, "ada", WRONG) for _ in range(5)}
    answers.add(try_password(record, "ada", PASSWORD))
    answers.add(try_password(record, "nobody", PASSWORD))
    assert len(answers) == 1
    reasons = [detail["reason"] for detail in details(record, "signed-in")]
    assert reasons == ["wrong password"] * 9 + ["locked", "no such account"]
    assert details(record, "account-changed")[-1]["change"] == "locked after too many wrong passwords"
    clock.advance(accounts.LOCKED_FOR.total_seconds() + 1)
    assert try_password(record, "ada", PASSWORD) == ""


def test_tries_while_locked_do_not_lock_for_longer(record: Record, clock: Clock) -> None:
    """Somebody who goes on trying cannot keep the person out for ever."""
    accounts.add(record, "ada", ["viewer"], PASSWORD)
    for _ in range(5):
        try_password(record, "ada", WRONG)
    until = accounts.account(record, "ada").locked_until
    clock.advance(60)
    for _ in range(9):
        try_password(record, "ada", WRONG)
    assert accounts.account(record, "ada").locked_until == until


def test_unlocked_by_whoever_manages_accounts(record: Record) -> None:
    """Enabling, or another password, ends the lock."""
    accounts.add(record, "ada", ["viewer"], PASSWORD)
    for unlock in (
        lambda: accounts.enable(record, "ada"),
        lambda: accounts.set_password(record, "ada", PASSWORD, must_change_password=False),
    ):
        for _ in range(5):
            try_password(record, "ada", WRONG)
        assert try_password(record, "ada", PASSWORD)
        unlock()
        assert try_password(record, "ada", PASSWORD) == ""


@pytest.mark.parametrize("name", ["", "a b", "../x", "ä", "-x", "x" * 129, "a\n", "<b>"])
def test_names_that_no_account_can_have(record: Record, name: str) -> None:
    """Names stand in the audit log, in addresses and on pages; they are refused before the password is looked at."""
    with pytest.raises(ConfigurationError, match="no name for an account"):
        accounts.add(record, name, [], "x")
    assert try_password(record, name, PASSWORD)


@pytest.mark.parametrize("password", ["", "elevenchars", "x" * 257, "aaaaaaaaaaaaaaaa", "my name is Ada ok"])
def test_passwords_that_are_refused(record: Record, password: str) -> None:
    """Too short, too long for an honest person, too easy; the answer does not repeat it."""
    with pytest.raises(ConfigurationError) as refused:
        accounts.add(record, "ada", [], password)
    assert not password or password not in str(refused.value)
    assert not accounts.has_accounts(record)


def test_words_that_are_no_roles_or_scopes() -> None:
    """Refused with those that there are."""
    assert roles_from(["auditor", " viewer", "auditor", ""]) == (Role.VIEWER, Role.AUDITOR)
    assert scopes_from(["audit", "read"]) == (Scope.READ, Scope.AUDIT)
    with pytest.raises(ConfigurationError, match=r"'root'.*viewer, operator, admin, auditor"):
        roles_from(["viewer", "root"])
    with pytest.raises(ConfigurationError, match=r"'write'.*read, operate, admin, audit"):
        scopes_from(["write"])


def test_somebody_always_manages_accounts(record: Record) -> None:
    """The last admin can neither be disabled nor made something else, until there is another one."""
    accounts.add(record, "ada", ["admin"], PASSWORD)
    for change in (lambda: accounts.disable(record, "ada"), lambda: accounts.set_roles(record, "ada", ["viewer"])):
        with pytest.raises(ConflictError, match="the last one who manages accounts"):
            change()
    accounts.add(record, "grace", ["admin"], PASSWORD)
    accounts.disable(record, "ada")
    accounts.disable(record, "ada")
    with pytest.raises(ConflictError):
        accounts.set_roles(record, "grace", [])
    accounts.set_roles(record, "grace", ["admin", "auditor"])


def test_names_are_taken_once_and_must_exist(record: Record) -> None:
    """409 and 404 of the pages."""
    accounts.add(record, "ada", [], PASSWORD)
    with pytest.raises(ConflictError, match="ada already"):
        accounts.add(record, "ada", [], PASSWORD)
    for change in (accounts.disable, accounts.enable, accounts.account):
        with pytest.raises(NotFoundError, match="no account eve"):
            change(record, "eve")


def test_people_of_the_identity_provider(record: Record) -> None:
    """Made at the first sign-in, roles as the groups say each time; their password and roles are not ours to change."""
    made = accounts.from_provider(record, "ada", [Role.VIEWER], display_name="Ada L.")
    assert (made.source, made.roles, made.display_name) == ("oidc", (Role.VIEWER,), "Ada L.")
    assert accounts.from_provider(record, "ada", [Role.OPERATOR]).roles == (Role.OPERATOR,)
    assert accounts.from_provider(record, "ada", [Role.OPERATOR]).display_name == "Ada L."
    changes = details(record, "roles-changed")
    assert [(one["before"], one["after"]) for one in changes] == [([], ["viewer"]), (["viewer"], ["operator"])]
    assert try_password(record, "ada", "")
    with pytest.raises(ConflictError, match="identity provider"):
        accounts.set_password(record, "ada", PASSWORD)
    with pytest.raises(ConflictError, match="identity provider"):
        accounts.set_roles(record, "ada", ["admin"])
    accounts.disable(record, "ada")
    with pytest.raises(NotSignedInError, match="disabled"):
        accounts.from_provider(record, "ada", [Role.VIEWER])
    accounts.add(record, "grace", ["admin"], PASSWORD)
    with pytest.raises(NotSignedInError, match="local account"):
        accounts.from_provider(record, "grace", [Role.VIEWER])
    with pytest.raises(NotSignedInError, match="another claim"):
        accounts.from_provider(record, "Ada Lovelace", [Role.VIEWER])


def test_sessions(record: Record, clock: Clock) -> None:
    """A random token whose hash alone is kept; over after its hours, and removed by the next sign-in."""
    account = accounts.add(record, "ada", ["viewer"], PASSWORD)
    token = sign_in_sessions.begin(record, account, address=ADDRESS, hours=2, by="password")
    found = sign_in_sessions.find(record, token, idle_minutes=200, active=True)
    assert found.account.user_name == "ada"
    with record.reading() as session:
        row = session.scalars(select(SignInSession)).one()
        user = session.get_one(User, "ada")
    assert token not in {row.token_hash, row.user_name}
    assert (row.expires_at - row.created_at, row.address) == (timedelta(hours=2), ADDRESS)
    assert user.last_sign_in_at == row.created_at
    clock.advance(7201)
    with pytest.raises(NotSignedInError, match="signed out after a while"):
        sign_in_sessions.find(record, token, idle_minutes=200, active=True)
    sign_in_sessions.begin(record, account, address=ADDRESS, hours=2, by="password")
    with record.reading() as session:
        assert [one.token_hash == row.token_hash for one in session.scalars(select(SignInSession))] == [False]


def test_a_drawn_password_is_one_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has the name in it by chance is drawn again."""
    draws = iter(["xxxxxxxxEveyyyyy1234", "aaaaaaaaaaaaaaaaaaaa", "q7_Zr-t2Lx0pWmE9Kd4s"])
    monkeypatch.setattr(accounts.secrets, "token_urlsafe", lambda _size: next(draws))
    assert accounts.drawn_password("eve") == "q7_Zr-t2Lx0pWmE9Kd4s"
    assert list(draws) == []


def test_another_password_ends_all_sessions(record: Record) -> None:
    """Who took a password away is out at once."""
    account = accounts.add(record, "ada", ["viewer"], PASSWORD)
    tokens = [sign_in_sessions.begin(record, account, address=ADDRESS, hours=2, by="password") for _ in range(3)]
    accounts.set_password(record, "ada", "staple in the sunshine")
    for token in tokens:
        with pytest.raises(NotSignedInError):
            sign_in_sessions.find(record, token, idle_minutes=1, active=True)
    assert accounts.account(record, "ada").must_change_password


def test_tokens(record: Record, clock: Clock) -> None:
    """256 random bits of which the hash is kept; over after days or when revoked; a use is noted to the minute."""
    record = record.on_behalf_of("grace")
    made, secret = api_tokens.create(record, "nightly", ["audit", "read"], days=2)
    assert (made.scopes, made.created_by, made.last_used_at) == ((Scope.READ, Scope.AUDIT), "grace", None)
    assert secret.startswith("vesselq_")
    assert len(secret) >= 8 + 43
    with record.reading() as session:
        assert secret not in str(vars(session.scalars(select(ApiToken)).one()))
    assert api_tokens.find(record, secret).token_id == made.token_id
    used = api_tokens.tokens(record)[0].last_used_at
    assert used is not None
    api_tokens.find(record, secret)
    assert api_tokens.tokens(record)[0].last_used_at == used
    clock.advance(61)
    api_tokens.find(record, secret)
    again = api_tokens.tokens(record)[0].last_used_at
    assert again is not None
    assert again > used
    clock.advance(2 * 86400)
    for wrong in (secret, secret[:-1], "", "vesselq_"):
        with pytest.raises(NotSignedInError, match="not valid"):
            api_tokens.find(record, wrong)
    api_tokens.revoke(record, made.token_id)
    with pytest.raises(ConflictError, match="revoked before"):
        api_tokens.revoke(record, made.token_id)
    with pytest.raises(NotFoundError, match="no token"):
        api_tokens.revoke(record, "0" * 32)
    assert [one["name"] for one in (*details(record, "token-created"), *details(record, "token-revoked"))] == [
        "nightly", "nightly",
    ]  # fmt: skip


def test_one_name_is_one_token_at_a_time(record: Record, clock: Clock) -> None:
    """The audit log has the name: what one did must not be taken for the doing of another."""
    first, _ = api_tokens.create(record, "nightly", ["read"], days=1)
    for name in ("nightly", " nightly "):
        with pytest.raises(ConflictError, match="there is a token nightly already"):
            api_tokens.create(record, name, ["audit"])
    api_tokens.revoke(record, first.token_id)
    api_tokens.create(record, "nightly", ["read"], days=1)
    clock.advance(86400)
    api_tokens.create(record, "nightly", ["read"])
    assert len(api_tokens.tokens(record)) == 3


@pytest.mark.parametrize(
    ("name", "scopes", "days"),
    [("", ["read"], 1), ("  ", ["read"], 1), ("x", [], 1), ("x", ["read"], 0), ("x", ["read"], 367), ("x", ["rea"], 1)],
)
def test_tokens_that_are_not_made(record: Record, name: str, scopes: list[str], days: float) -> None:
    """Without name, scope or a sensible end there is none."""
    with pytest.raises(ConfigurationError):
        api_tokens.create(record, name, scopes, days=days)
    assert api_tokens.tokens(record) == []


def test_unknown_names_take_as_long_as_wrong_passwords(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """For both a hash is computed: the time tells nobody which names exist."""
    accounts.add(record, "ada", ["viewer"], PASSWORD)
    accounts.from_provider(record, "olga", [Role.VIEWER])
    asked: list[str] = []
    fits = accounts._fits
    monkeypatch.setattr(accounts, "_fits", lambda hashed, password: (asked.append(hashed), fits(hashed, password))[1])
    for name in ("ada", "nobody", "olga", "no name"):
        try_password(record, name, WRONG)
    assert len(asked) == 4
    assert all(hashed.startswith("$argon2id$") for hashed in asked)


def test_what_a_hash_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2id with 64 MiB and three passes (RFC 9106 section 4): guessing is slow for whoever steals the table."""
    monkeypatch.undo()
    kept = accounts._hashed(PASSWORD)
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert accounts._fits(kept, PASSWORD)
    assert not accounts._fits(kept, WRONG)
    assert not accounts._fits("no hash", WRONG)
