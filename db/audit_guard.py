"""Triggers that refuse every change of the audit log, and the moment in which archiving may take rows out of it.

They keep our own code, a slip of an operator's hand and whoever has the application's account from changing history.
Who owns the database can remove them: that is what the chain and the signed checkpoints are for (``db.audit``).
"""

from sqlalchemy import Connection, text

_REFUSAL = "the audit log is only ever added to"
_SQLITE = tuple(
    f"CREATE TRIGGER audit_events_no_{verb.lower()} BEFORE {verb} ON audit_events "
    f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
    for verb in ("UPDATE", "DELETE")
)
_POSTGRESQL = (
    (
        "CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$"
    ),
    (
        "CREATE TRIGGER audit_events_no_change BEFORE UPDATE OR DELETE ON audit_events "
        "FOR EACH ROW EXECUTE FUNCTION refuse_audit_change()"
    ),
    (
        "CREATE TRIGGER audit_events_no_truncate BEFORE TRUNCATE ON audit_events "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()"
    ),
)


def guard(connection: Connection) -> None:
    """Create the triggers."""
    for statement in _POSTGRESQL if connection.dialect.name == "postgresql" else _SQLITE:
        connection.execute(text(statement))


def unguard(connection: Connection) -> None:
    """Remove the triggers, in the transaction that archives rows and creates them again."""
    on_table = " ON audit_events" if connection.dialect.name == "postgresql" else ""
    for statement in _POSTGRESQL if connection.dialect.name == "postgresql" else _SQLITE:
        kind, name = statement.split()[1:3]
        if kind == "TRIGGER":
            connection.execute(text(f"DROP TRIGGER IF EXISTS {name}{on_table}"))
    if connection.dialect.name == "postgresql":
        connection.execute(text("DROP FUNCTION IF EXISTS refuse_audit_change()"))
