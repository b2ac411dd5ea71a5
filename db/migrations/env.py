"""Run by Alembic: migrations in one transaction, one process at a time."""

from alembic import context
from sqlalchemy import Engine, text

from db.models import Base

_MIGRATION_LOCK = 0x76_65_73_74


def run_migrations() -> None:
    """Upgrade over the engine that ``db.migrate`` hands in."""
    engine: Engine = context.config.attributes["engine"]
    with engine.connect() as connection:
        sqlite = engine.dialect.name == "sqlite"
        if sqlite:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        context.configure(
            connection=connection, target_metadata=Base.metadata, render_as_batch=sqlite, transactional_ddl=not sqlite
        )
        context.run_migrations()
        connection.commit()


run_migrations()
