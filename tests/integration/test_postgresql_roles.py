"""What the account of the processes can do on a real PostgreSQL: its work, and nothing to the audit log but adding.

The tests of the record run under this account as well (``test_record_on_postgresql.py``): its rights are enough.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import APPLICATION
from postgresql_server import OWNER, PostgresqlServer
from sqlalchemy import exc, text
from typer.testing import CliRunner

from console.cli import app
from db import audit, migrate, roles
from db.audit import Event
from db.models import Base
from db.session import Record
from dicom_core.errors import ConfigurationError


@pytest.fixture(scope="module")
def owner(postgresql_server: PostgresqlServer) -> Iterator[Record]:
    record = Record(postgresql_server.create_database("roles", template="vesselq_template"), process="owner")
    audit.record_event(record, Event.AUDIT_READ)
    yield record
    record.close()


@pytest.fixture(scope="module")
def application(owner: Record) -> Iterator[Record]:
    url = owner.engine.url.set(username=APPLICATION)
    record = Record(url.render_as_string(hide_password=False), process="listener/1")
    yield record
    record.close()


def _refused(record: Record, statement: str) -> str:
    with pytest.raises(exc.DBAPIError) as refused, record.engine.begin() as connection:
        connection.execute(text(statement))
    return str(getattr(refused.value.orig, "sqlstate", ""))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET \"user\" = 'mallory'",
        "UPDATE audit_events SET sequence = 7 WHERE sequence = 1",
        "DELETE FROM audit_events",
        "DELETE FROM audit_events WHERE sequence = 1",
        "TRUNCATE audit_events",
        "TRUNCATE audit_events CASCADE",
        "DROP TABLE audit_events",
        "DROP TABLE audit_events CASCADE",
        "ALTER TABLE audit_events DISABLE TRIGGER ALL",
        "ALTER TABLE audit_events DISABLE TRIGGER audit_events_no_change",
        "ALTER TABLE audit_events RENAME TO old_events",
        "ALTER TABLE audit_events DROP COLUMN row_hash",
        "ALTER TABLE audit_events OWNER TO vesselq_application",
        "DROP TRIGGER audit_events_no_change ON audit_events",
        "DROP TRIGGER audit_events_no_truncate ON audit_events",
        "DROP FUNCTION refuse_audit_change()",
        "CREATE OR REPLACE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE RULE quiet AS ON INSERT TO audit_events DO INSTEAD NOTHING",
        "CREATE TRIGGER other BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION refuse_audit_change()",
        "CREATE TABLE shadow (id integer)",
        "SET ROLE postgres",
        "SET session_replication_role = replica",
        "CREATE ROLE other SUPERUSER",
        "ALTER ROLE vesselq_application SUPERUSER",
        "UPDATE installation SET site_key = '0'",
        "DELETE FROM installation",
        "UPDATE alembic_version SET version_num = '0001'",
        "DELETE FROM studies",
        "DELETE FROM jobs",
        "DELETE FROM users",
    ],
)
def test_history_cannot_be_changed(application: Record, owner: Record, statement: str) -> None:
    """The server refuses each of them with "insufficient privilege"; the log is untouched."""
    assert _refused(application, statement) == "42501"
    assert audit.verify(owner).holds


def test_it_cannot_give_itself_more(application: Record) -> None:
    """PostgreSQL answers such a GRANT with a warning only; nothing is granted."""
    with application.engine.begin() as connection:
        connection.execute(text(f"GRANT ALL ON audit_events TO {APPLICATION}"))
        statement = text("SELECT has_table_privilege('audit_events', 'UPDATE, DELETE, TRUNCATE, TRIGGER')")
        assert connection.scalar(statement) is False


def test_even_the_owner_needs_to_take_the_triggers_away(owner: Record) -> None:
    """A slip of the hand under the owner's account changes nothing."""
    for statement in ("UPDATE audit_events SET outcome = 8", "DELETE FROM audit_events", "TRUNCATE audit_events"):
        assert _refused(owner, statement) == "P0001"


def test_the_work_goes_on(application: Record) -> None:
    """A process adds to the log, reads it, verifies it, and finds schema and site key."""
    audit.record_event(application, Event.PEER_CHECKED, detail={"peer": "orthanc"})
    assert audit.verify(application).holds
    migrate.require_current(application)
    assert len(migrate.site_key(application)) == 64


def test_every_table_has_its_rights(owner: Record) -> None:
    """No table is forgotten, and only what is short-lived can be removed."""
    statement = text(
        "SELECT table_name, string_agg(privilege_type, ' ' ORDER BY privilege_type) FROM "
        "information_schema.role_table_grants WHERE grantee = :role GROUP BY table_name"
    )
    with owner.engine.connect() as connection:
        found: dict[str, str] = {
            row[0]: row[1]
            for row in connection.execute(statement, {"role": APPLICATION})
            if not row[0].startswith("pg_")
        }
    assert set(found) == {*Base.metadata.tables, "alembic_version"}
    assert found["audit_events"] == "INSERT SELECT"
    assert found["installation"] == found["alembic_version"] == "SELECT"
    assert {name for name, rights in found.items() if "DELETE" in rights} == {"job_progress", "sign_in_sessions"}
    assert not any(re.search("TRUNCATE|TRIGGER|REFERENCES", rights) for rights in found.values())


def test_granting_again_takes_away_what_was_too_much(owner: Record) -> None:
    """After an upgrade of the schema it is run again; what somebody granted by hand is gone then."""
    with owner.engine.begin() as connection:
        connection.execute(text(f"GRANT ALL ON audit_events TO {APPLICATION}"))
        connection.execute(text("GRANT DELETE ON audit_events TO PUBLIC"))
    roles.grant(owner, APPLICATION)
    with owner.engine.connect() as connection:
        for right in ("UPDATE", "DELETE", "TRUNCATE", "TRIGGER"):
            statement = text("SELECT has_table_privilege(:role, 'audit_events', :right)")
            assert connection.scalar(statement, {"role": APPLICATION, "right": right}) is False


def test_a_role_is_made_with_its_password(owner: Record) -> None:
    """Only the SCRAM verifier is stored, and only it reaches the server; without a password the old one stays."""
    roles.grant(owner, "other_application", "it's a secret")
    statement = text("SELECT rolpassword, rolsuper, rolcreaterole, rolcanlogin FROM pg_authid WHERE rolname = :role")
    with owner.engine.connect() as connection:
        first = connection.execute(statement, {"role": "other_application"}).one()
    assert first.rolpassword.startswith("SCRAM-SHA-256$")
    assert (first.rolsuper, first.rolcreaterole, first.rolcanlogin) == (False, False, True)
    roles.grant(owner, "other_application")
    with owner.engine.connect() as connection:
        assert connection.execute(statement, {"role": "other_application"}).one() == first


@pytest.mark.parametrize(
    ("role", "problem"),
    [
        ("postgres", "is a superuser"),
        ("owner_role", "owns tables of the record"),
        ("member_of_owner", "owns tables of the record"),
        ("bad; DROP TABLE x", "is no name of a role"),
        ("Upper", "is no name of a role"),
        ("", "is no name of a role"),
    ],
)
def test_roles_that_nothing_can_bind_are_refused(owner: Record, role: str, problem: str) -> None:
    """Superusers, owners, and who may become one; names that are none."""
    with owner.engine.begin() as connection:
        if not connection.scalar(text("SELECT true FROM pg_roles WHERE rolname = 'owner_role'")):
            connection.execute(text("CREATE ROLE owner_role"))
            connection.execute(text("CREATE ROLE member_of_owner IN ROLE owner_role"))
        connection.execute(text("ALTER TABLE peer_checks OWNER TO owner_role"))
    with pytest.raises(ConfigurationError, match=problem):
        roles.grant(owner, role)
    with owner.engine.begin() as connection:
        connection.execute(text("ALTER TABLE peer_checks OWNER TO postgres"))


def test_who_may_not_grant_is_told_so(application: Record) -> None:
    """The processes' own account cannot widen its rights, and hears which account can."""
    with pytest.raises(ConfigurationError, match="use the one that owns the tables"):
        roles.grant(application, "third_application")
    with pytest.raises(ConfigurationError, match="use the one that owns the tables"):
        roles.grant(application, APPLICATION)


def test_the_command_grants(owner: Record, tmp_path: Path) -> None:
    """`vesselq db grant` under the owner's account makes an account that works, with the password of the file."""
    url = owner.engine.url.render_as_string(hide_password=False)
    (tmp_path / "vesselq.toml").write_text(f'database_url = "{url}"\n')
    (tmp_path / "password").write_text("drawn\n")
    arguments = ["db", "grant", "granted_application", "--config", str(tmp_path / "vesselq.toml"), "--json"]
    result = CliRunner().invoke(app, [*arguments, "--password-file", str(tmp_path / "password")])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"role": "granted_application", "schema": migrate.expected_revision()}
    record = Record(url.replace(f"//{OWNER}@", "//granted_application:drawn@"), process="web/1")
    audit.record_event(record, Event.AUDIT_READ)
    assert _refused(record, "DELETE FROM audit_events") == "42501"
    record.close()


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_a_password_file_that_holds_none_is_a_mistake(owner: Record, tmp_path: Path, content: bytes | None) -> None:
    """One sentence that names the file."""
    if content is not None:
        (tmp_path / "password").write_bytes(content)
    (tmp_path / "vesselq.toml").write_text(f'database_url = "{owner.engine.url}"\n')
    arguments = ["--config", str(tmp_path / "vesselq.toml"), "--password-file", str(tmp_path / "password")]
    result = CliRunner().invoke(app, ["db", "grant", "granted_application", *arguments])
    assert result.exit_code == 2
    assert str(tmp_path / "password") in result.stderr
    assert "Traceback" not in result.output
