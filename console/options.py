"""The options that commands share, and how they become settings and a connection to the record."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from db.session import Record
    from dicom_core.result import ResultKind
    from dicom_core.settings import Settings

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings file; else $VESSELQ_CONFIG, ./vesselq.toml, /etc/vesselq/vesselq.toml.",
    ),
]
DataFolder = Annotated[
    Path | None,
    typer.Option("--data-folder", metavar="DIR", help="Where the data lives, whatever the settings say."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100_000, metavar="N", help="At most so many lines.")]


def settings_of(config: Path | None, data_folder: Path | None) -> "Settings":
    """Read the settings; ``--data-folder`` wins over every other source. Logs go to standard error from here on.

    Raises:
        ConfigurationError: One line for each thing that is wrong.
    """
    from dicom_core.logs import configure_logs
    from dicom_core.settings_file import load_settings

    configure_logs("cli", "WARNING")  # unless told so, structlog would print between the JSON on standard output
    settings = load_settings(config)
    if data_folder is not None:
        settings = settings.model_copy(update={"data_folder": data_folder.expanduser().absolute()})
    return settings


@contextmanager
def open_record(settings: "Settings") -> "Iterator[Record]":
    """The record, on behalf of the person at the keyboard.

    Raises:
        NotFoundError: There is no database yet.
        ConfigurationError: Its schema is not that of this release.
        UnavailableError: It does not answer.
    """
    from db.migrate import require_current
    from db.session import Record
    from dicom_core.errors import NotFoundError

    file = settings.data_folder / "vesselq.sqlite3"
    if not settings.database_url and not file.exists():
        # connecting would make an empty file at a place that was perhaps mistyped
        raise NotFoundError(
            f"there is no database at {file}; start `vesselq up` first, or name another folder with --data-folder"
        )
    record = Record(settings.effective_database_url, process="console", user=person())
    try:
        require_current(record)
        yield record
    finally:
        record.close()


def person() -> str:
    """The name of the operating system's user, for the audit log."""
    import os
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # containers run under numbers that no passwd file knows
        return f"uid {os.getuid()}"


def checked_uid(value: str) -> str:
    """Refuse text that is no UID as a mistake of usage."""
    from dicom_core.identifiers import is_uid

    if value and not is_uid(value):
        raise typer.BadParameter(f"{value!r} is not a UID: digits and dots, at most 64 characters")
    return value


def peer_address(value: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``[IPV6]:PORT`` in its parts."""
    host, separator, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise typer.BadParameter(f"{value!r} is not HOST:PORT, for example 127.0.0.1:11112")
    return host, int(port)


def checked_ae_title(value: str) -> str:
    """Refuse text that is no AE title as a mistake of usage."""
    from dicom_core.identifiers import is_ae_title

    if not is_ae_title(value):
        raise typer.BadParameter(f"{value!r} is not an AE title: 1 to 16 printable ASCII characters, no backslash")
    return value.strip()


def result_kinds(value: str) -> "tuple[ResultKind, ...]":
    """``seg,overlay,report`` as kinds of result."""
    from dicom_core.result import ResultKind

    words = [word.strip() for word in value.split(",") if word.strip()]
    unknown = [word for word in words if word not in list(ResultKind)]
    if unknown or not words:
        named = ", ".join(map(repr, unknown)) or "an empty list"
        raise typer.BadParameter(f"{named} is no kind of result; there are {', '.join(ResultKind)}")
    return tuple(ResultKind(word) for word in dict.fromkeys(words))
