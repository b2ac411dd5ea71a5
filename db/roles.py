"""The account under which the processes work on PostgreSQL: it can add to the audit log and never change it.

The tables belong to another role, that of ``vesselq db upgrade``. What is not granted here is refused by the server
itself, to triggers and schema as well: DROP, TRUNCATE and ALTER TABLE are for the owner of a table alone.
"""

import re

from sqlalchemy import Connection, text

from db.models import AuditEvent, Base, Installation, JobProgress, SignInSession
from db.session import Record, translated
from dicom_core.errors import ConfigurationError

_ROLE = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_USUAL = "SELECT, INSERT, UPDATE"
_RIGHTS = {
    AuditEvent.__tablename__: "SELECT, INSERT",
    Installation.__tablename__: "SELECT",
    JobProgress.__tablename__: f"{_USUAL}, DELETE",
    SignInSession.__tablename__: f"{_USUAL}, DELETE",
    "alembic_version": "SELECT",
}
"""Of tables that need other rights than the usual ones."""


def grant(record: Record, role: str, password: str | None = None) -> None:
    """Have a role with exactly the rights that the processes need. Run it again after every upgrade of the schema.

    Args:
        record: As the owner of the tables, whose role may create roles if this one is not there yet.
        role: Its name.
        password: Set it; None leaves the one that it has.

    Raises:
        ConfigurationError: The database is no PostgreSQL, the name is none, the account may not do it, or no grant can
            bind the role since it owns the tables or is a superuser.
        UnavailableError: The database does not answer.
    """
    if record.engine.dialect.name != "postgresql":
        raise ConfigurationError("SQLite has no accounts: roles are for PostgreSQL (database_url)")
    if not _ROLE.fullmatch(role):
        raise ConfigurationError(f"{role!r} is no name of a role: small letters, digits and _, at most 63")
    with translated(), record.engine.begin() as connection:
        _have_role(connection, role, password)
        _require_bound(connection, role)
        for statement in _statements(connection, role):
            connection.exec_driver_sql(statement)


def require_owner(record: Record) -> None:
    """Check before a long work that needs it whether this account owns the audit log.

    Raises:
        ConfigurationError: It does not.
        UnavailableError: The database does not answer.
    """
    if record.engine.dialect.name != "postgresql":
        return
    statement = text(
        "SELECT pg_has_role(tableowner, 'MEMBER') FROM pg_tables "
        "WHERE schemaname = current_schema() AND tablename = 'audit_events'"
    )
    with translated(), record.engine.connect() as connection:
        if not connection.scalar(statement):
            raise ConfigurationError(
                "this account may only add to the audit log: use the database_url of the account that owns the tables"
            )


def _have_role(connection: Connection, role: str, password: str | None) -> None:
    known = connection.scalar(text("SELECT true FROM pg_roles WHERE rolname = :role"), {"role": role})
    if not known:
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE")
    if password is not None:
        connection.exec_driver_sql(f"ALTER ROLE {role} PASSWORD '{_scram(connection, role, password)}'")


def _scram(connection: Connection, role: str, password: str) -> str:
    """The verifier of RFC 5802 instead of the password, so that this is in no log of the server."""
    driver = connection.connection.driver_connection
    assert driver is not None  # noqa: S101  the connection is open
    verifier: bytes = driver.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
    return verifier.decode("ascii")


def _require_bound(connection: Connection, role: str) -> None:
    row = connection.execute(
        text(
            "SELECT rolsuper, EXISTS (SELECT FROM pg_tables WHERE schemaname = current_schema() "
            "AND pg_has_role(rolname, tableowner, 'MEMBER')) AS owner FROM pg_roles WHERE rolname = :role"
        ),
        {"role": role},
    ).one()
    if row.rolsuper or row.owner:
        what = "is a superuser" if row.rolsuper else "owns tables of the record"
        raise ConfigurationError(f"the role {role} {what}, no grant can bind it: name another one for the processes")


def _statements(connection: Connection, role: str) -> list[str]:
    schema = connection.scalar(text("SELECT quote_ident(current_schema())"))
    tables = sorted({*Base.metadata.tables, "alembic_version"})
    return [
        f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC, {role}",
        f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM PUBLIC, {role}",
        f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA {schema} FROM PUBLIC, {role}",
        f"GRANT USAGE ON SCHEMA {schema} TO {role}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
        *(f'GRANT {_RIGHTS.get(table, _USUAL)} ON "{table}" TO {role}' for table in tables),
    ]
