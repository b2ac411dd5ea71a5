"""Schema and site key: made once, whoever comes first."""

import multiprocessing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import DateTime, bindparam, inspect, select, text
from sqlalchemy.exc import IntegrityError

from db import migrate, register
from db.models import Base, ConflictingInstance
from db.session import Record
from dicom_core.errors import ConfigurationError

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
_TIME = bindparam("now", type_=DateTime(timezone=True))
_INSTALLATION = text("INSERT INTO installation (id, site_key, created_at) VALUES (1, :hash, :now)").bindparams(_TIME)
_STUDY = text(
    "INSERT INTO studies (study_instance_uid, state, generation, first_received_at, last_received_at, revision,"
    " close_requested) VALUES (:uid, 'RECEIVING', 0, :now, :now, 1, false)"
).bindparams(_TIME)
_INSTANCE = text(
    "INSERT INTO instances (sop_instance_uid, study_instance_uid, series_instance_uid, sop_class_uid,"
    " transfer_syntax_uid, state, sha256, size_bytes, path, association_id, generation, received_at)"
    " VALUES (:uid, :uid, '1.2', '1.3', '1.4', 'RECEIVED', :hash, 1000, :path, :by, 1, :now)"
).bindparams(_TIME)
_ASIDE = text(
    "INSERT INTO conflicting_instances (sop_instance_uid, study_instance_uid, sha256, path, association_id,"
    " received_at) VALUES (:uid, :uid, :hash, 'instances/aa/aside.dcm', :by, :now)"
).bindparams(_TIME)


def test_upgrade_makes_the_tables_and_the_site_key_once(empty_record):
    """A second upgrade changes nothing: the site key, on which all UIDs depend, stays."""
    migrate.upgrade(empty_record)
    key = migrate.site_key(empty_record)
    assert len(key) == 64
    int(key, 16)
    migrate.upgrade(empty_record)
    assert migrate.site_key(empty_record) == key
    assert set(inspect(empty_record.engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
    migrate.require_current(empty_record)


def test_the_migrated_schema_is_that_of_the_models(empty_record):
    """Alembic finds nothing to add to a migrated database."""
    migrate.upgrade(empty_record)
    with empty_record.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_every_name_fits_postgresql():
    """Names of tables, columns, indices and constraints have at most 63 characters."""
    names = []
    for table in Base.metadata.tables.values():
        names += [table.name, *(column.name for column in table.columns)]
        names += [str(thing.name) for thing in (*table.indexes, *table.constraints)]
    assert [name for name in names if len(name) > 63] == []


def test_an_empty_database_is_told_what_to_do(empty_record):
    """Neither schema nor key: the sentence names the command."""
    with pytest.raises(ConfigurationError, match="vesselq db upgrade"):
        migrate.require_current(empty_record)
    assert migrate.current_revision(empty_record) == ""


def test_a_database_of_another_release_is_refused(empty_record):
    """A process does not start on a schema it does not know."""
    migrate.upgrade(empty_record)
    with empty_record.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="has schema 9999, this release needs 0"):
        migrate.require_current(empty_record)


def _upgrade_in_a_process(
    url: str, start: "multiprocessing.synchronize.Barrier", keys: "multiprocessing.Queue"
) -> None:
    record = Record(url, process="test")
    start.wait(60)
    migrate.upgrade(record)
    keys.put(migrate.site_key(record))
    record.close()


def test_two_processes_upgrade_at_once(empty_record, database_url):
    """Both succeed, and both see one site key."""
    context = multiprocessing.get_context("fork")
    start, keys = context.Barrier(2), context.Queue()
    empty_record.engine.dispose()
    workers = [context.Process(target=_upgrade_in_a_process, args=(database_url, start, keys)) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = {keys.get(timeout=90) for _ in workers}
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert found == {migrate.site_key(empty_record)}


def test_two_installations_have_two_site_keys(empty_record, tmp_path):
    """The key is drawn, not derived."""
    migrate.upgrade(empty_record)
    other = Record(f"sqlite:///{tmp_path / 'other.sqlite3'}", process="test")
    migrate.upgrade(other)
    assert migrate.site_key(other) != migrate.site_key(empty_record)
    other.close()


def test_expected_revision_is_that_of_the_migrations(empty_record: Record) -> None:
    """The revision that a process asks for at its start is the last that Alembic knows; an upgrade reaches it."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    configuration = Config()
    configuration.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    assert migrate.expected_revision() == ScriptDirectory.from_config(configuration).get_current_head()
    migrate.upgrade(empty_record)
    assert migrate.current_revision(empty_record) == migrate.expected_revision()


def test_fingerprints_of_older_releases_stay(empty_record):
    """Of instances and of what was kept aside: the rows are there with the same value under the new name."""
    from alembic import command

    command.upgrade(migrate._configuration(empty_record), "0003")
    facts = {"uid": "1.2.3", "hash": "a" * 64, "path": "instances/aa/a.dcm", "by": "b" * 32, "now": NOW}
    with empty_record.engine.begin() as connection:
        connection.execute(_INSTALLATION, facts)
        connection.execute(_STUDY, facts)
        connection.execute(_INSTANCE, facts)
        connection.execute(_ASIDE, facts)
    migrate.upgrade(empty_record)
    assert register.recorded_files(empty_record) == [("1.2.3", "instances/aa/a.dcm", "a" * 64)]
    assert list(register.unrecorded_paths(empty_record, ["instances/aa/a.dcm", "instances/aa/aside.dcm"])) == []
    with empty_record.reading() as session:
        assert session.scalars(select(ConflictingInstance.fingerprint)).all() == ["a" * 64]
    assert register.older_fingerprints(empty_record)("1.2.3") == "a" * 64
    with pytest.raises(IntegrityError), empty_record.engine.begin() as connection:
        connection.execute(text(str(_ASIDE).replace("sha256", "fingerprint")).bindparams(_TIME), facts)
