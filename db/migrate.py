"""Bringing a database to the schema of this release, with Alembic."""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, select, text

from db.models import Installation
from db.session import Record, translated
from dicom_core.errors import ConfigurationError

if TYPE_CHECKING:
    from alembic.config import Config

_MIGRATIONS = Path(__file__).parent / "migrations"
_VERSION_TABLE = "alembic_version"


def _configuration(record: Record) -> "Config":
    from alembic.config import Config

    configuration = Config()
    configuration.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    configuration.attributes["engine"] = record.engine
    return configuration


def upgrade(record: Record) -> None:
    """Bring the schema up to date and draw the site key once. Safe to run again and by two processes at once.

    Raises:
        UnavailableError: The database does not answer or another process holds it for too long.
    """
    from alembic import command

    with translated():
        command.upgrade(_configuration(record), "head")
    with record.writing() as transaction:
        if transaction.session.scalars(select(Installation)).first() is None:
            transaction.session.add(Installation(id=1, site_key=secrets.token_hex(32), created_at=transaction.now))


# Every process looks at its start whether the schema fits; Alembic itself would take a third of the time of that start.


def current_revision(record: Record) -> str:
    """The schema's revision, "" for an empty database."""
    with translated(), record.engine.connect() as connection:
        if not inspect(connection).has_table(_VERSION_TABLE):
            return ""
        return str(connection.scalar(text(f"SELECT version_num FROM {_VERSION_TABLE}")) or "")  # noqa: S608  a constant


def expected_revision() -> str:
    """The revision that this release needs: that of the last migration, with whose number its file begins."""
    return max(file.name.partition("_")[0] for file in (_MIGRATIONS / "versions").glob("[0-9]*.py"))


def require_current(record: Record) -> None:
    """Check the schema at the start of a process.

    Raises:
        ConfigurationError: It is older or newer than this release.
    """
    found, wanted = current_revision(record), expected_revision()
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
