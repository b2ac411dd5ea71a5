"""Bringing a database to the schema of this release, with Alembic."""

import secrets
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import select

from db.models import Installation
from db.session import Record, translated
from dicom_core.errors import ConfigurationError


def _configuration(record: Record) -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    configuration.attributes["engine"] = record.engine
    return configuration


def upgrade(record: Record) -> None:
    """Bring the schema up to date and draw the site key once. Safe to run again and by two processes at once.

    Raises:
        UnavailableError: The database does not answer or another process holds it for too long.
    """
    with translated():
        command.upgrade(_configuration(record), "head")
    with record.writing() as transaction:
        if transaction.session.scalars(select(Installation)).first() is None:
            transaction.session.add(Installation(id=1, site_key=secrets.token_hex(32), created_at=transaction.now))


def current_revision(record: Record) -> str:
    """The schema's revision, "" for an empty database."""
    with translated(), record.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() or ""


def expected_revision(record: Record) -> str:
    """The revision that this release needs."""
    return ScriptDirectory.from_config(_configuration(record)).get_current_head() or ""


def require_current(record: Record) -> None:
    """Check the schema at the start of a process.

    Raises:
        ConfigurationError: It is older or newer than this release.
    """
    found, wanted = current_revision(record), expected_revision(record)
    if found != wanted:
        raise ConfigurationError(
            f"the database has schema {found or 'none'}, this release needs {wanted}: run `vesselq db upgrade`"
        )


def site_key(record: Record) -> str:
    """The random word of this installation that all derived UIDs depend on."""
    with record.reading() as session:
        key = session.scalars(select(Installation.site_key)).first()
    if key is None:
        raise ConfigurationError("the database is empty: run `vesselq db upgrade`")
    return key
