"""``vesselq config``, ``vesselq db`` and ``vesselq version``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console import options

if TYPE_CHECKING:
    from dicom_core.settings_file import Problem


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    config_group = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
    config_group.command("init")(init)
    config_group.command("check")(check)
    app.add_typer(config_group, name="config", help="Write an example of the settings file; check one.")
    database_group = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
    database_group.command("upgrade")(upgrade)
    database_group.command("grant")(grant)
    app.add_typer(
        database_group, name="db", help="Bring the database to the schema of this release; bind the processes' account."
    )
    app.command()(version)


def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="Where to write it; - for standard output.")] = Path(
        "vesselq.toml"
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a settings file that explains itself; every line in it is commented out."""
    from console.settings_example import example
    from dicom_core.errors import ConfigurationError

    text = example()
    if str(file) == "-":
        typer.echo(text, nl=False)
        return
    try:
        with file.open("w" if force else "x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        raise ConfigurationError(f"{file} exists; --force replaces it, another name leaves it alone") from None
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}") from None
    typer.echo(f"wrote {file}; edit it, then run `vesselq config check --config {file}`")


def check(
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Read the settings and say everything that is wrong with them at once."""
    from console.output import print_json, print_table
    from dicom_core.errors import ConfigurationError
    from dicom_core.settings_file import find_settings_file

    problems = _problems(config)
    if problems and json:
        print_json({"valid": False, "problems": problems})
        raise typer.Exit(ConfigurationError.exit_code)
    if problems:
        raise ConfigurationError("\n".join(map(str, problems)))
    settings = options.settings_of(config, data_folder)
    facts = {
        "file": find_settings_file(config),
        "data_folder": settings.data_folder,
        "listener": f"{settings.listener.ae_title} at {settings.listener.host}:{settings.listener.port}",
        "peers": [peer.name for peer in settings.peers],
        "destinations": [destination.name for destination in settings.destinations],
        "rules": [rule.name for rule in settings.rules],
    }
    if json:
        print_json({"valid": True, **facts})
        return
    rows = [(name, value if value is not None else "defaults only") for name, value in facts.items()]
    print_table("The settings are valid", ("what", "value"), rows)
    if not settings.peers:
        typer.echo("warning: no peers are configured, so the listener accepts nobody", err=True)


def _problems(config: Path | None) -> "list[Problem]":
    from console.checks import segmenter_misfits
    from dicom_core.errors import ConfigurationError
    from dicom_core.settings_file import Problem, examine_settings, find_settings_file

    try:
        return examine_settings(config, further=segmenter_misfits)[1]
    except ConfigurationError as error:
        file = str(find_settings_file(config))
        return [Problem(file, str(error).removeprefix(f"{file}: "))]


def upgrade(
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Make the database, or bring it to the schema of this release. Safe to run again."""
    from console.data_folder import make_data_folder
    from console.output import print_json
    from db import migrate
    from db.session import Record

    settings = options.settings_of(config, data_folder)
    if not settings.database_url:
        make_data_folder(settings.data_folder)
    record = Record(settings.effective_database_url, process="console", user=options.person())
    try:
        before = migrate.current_revision(record)
        migrate.upgrade(record)
        after = migrate.current_revision(record)
    finally:
        record.close()
    if json:
        print_json({"before": before, "after": after})
    else:
        typer.echo(f"the database has schema {after}" + ("" if before == after else f" (before: {before or 'none'})"))


def grant(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="The PostgreSQL role under which the processes work.")],
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", metavar="FILE", help="Give it the password that is in this file."),
    ] = None,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Let a PostgreSQL role do the work of the processes, which only ever add to the audit log.

    Run it with the database_url of the owner of the tables, after every `vesselq db upgrade`. The role is made when it
    is not there.
    """
    from console.output import print_json
    from db import migrate, roles

    settings = options.settings_of(config, data_folder)
    password = _password(password_file) if password_file is not None else None
    with options.open_record(settings) as record:
        roles.grant(record, role, password)
        revision = migrate.current_revision(record)
    if json:
        print_json({"role": role, "schema": revision})
    else:
        typer.echo(
            f"{role} has the rights that the processes need on schema {revision}; it can only add to the audit log"
        )


def _password(file: Path) -> str:
    from dicom_core.errors import ConfigurationError

    try:
        password = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the password in {file} cannot be read") from error
    if not password:
        raise ConfigurationError(f"{file} is empty: write the password of the role into it")
    return password


def version(json: options.Json = False) -> None:
    """Say the versions of vesselq and of what it stands on."""
    import platform
    from importlib.metadata import version as version_of

    from console.output import print_json, software_version

    parts = ("pydicom", "pynetdicom", "highdicom", "celery", "SQLAlchemy", "torch")
    versions = {
        "vesselq": software_version(),
        "python": platform.python_version(),
        **{name.lower(): version_of(name) for name in parts},
    }
    if json:
        print_json(versions)
    else:
        for name, number in versions.items():
            typer.echo(f"{name} {number}")
