"""What commands print: one JSON document, or tables for people."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import typer

_WIDTH_OF_FILES = 200
"""Columns of a table that goes into a file or a pipe, where nobody knows how wide the reader's screen is."""
_GOOD = frozenset({"DONE", "COMPLETE", "COMMITTED", "SENT", "STORED", "ok"})
_BAD = frozenset({"FAILED", "SEND_FAILED", "fails", "failed", "refused"})
_WAITING = frozenset({"RECEIVING", "QUEUED", "RUNNING", "SEG_READY", "SENDING", "WAITING", "warning"})


def software_version() -> str:
    """The version of this installation."""
    try:
        return version("vesselq")
    except PackageNotFoundError:
        return "0+unknown"


def jsonable(value: Any) -> Any:
    """The form of ``value`` that JSON has: dataclasses as objects, times in ISO 8601 UTC, paths as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, datetime):
        return iso_time(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(jsonable(item) for item in value)
    if isinstance(value, tuple | list):
        return [jsonable(item) for item in value]
    return value


def iso_time(moment: datetime) -> str:
    """``2026-05-04T03:02:01.000Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def print_json(value: Any) -> None:
    """One JSON document on standard output and nothing else."""
    typer.echo(json.dumps(jsonable(value), ensure_ascii=False))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "none") -> None:
    """A table for people. Values are never taken for markup.

    Args:
        title: Above the table.
        columns: Their headings.
        rows: Values; None becomes an empty cell, words of state get their colour.
        empty: What to say instead of a table without rows.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH_OF_FILES
    console.print(table if table.row_count else f"{title}: {empty}", highlight=False, markup=False)


def cell(value: object) -> Any:
    """One cell of a rich table."""
    from rich.text import Text

    if value is None:
        return Text("")
    if isinstance(value, datetime):
        return Text(value.astimezone().strftime("%Y-%m-%d %H:%M:%S"))
    if isinstance(value, float):
        return Text(f"{value:.2f}", justify="right")
    if isinstance(value, int):
        return Text(str(value), justify="right")
    if isinstance(value, tuple | list):
        return Text(" ").join([cell(item) for item in value])
    text = str(value)
    return Text(text, style=_style(text))


def in_words(detail: Mapping[str, object]) -> str:
    """The details of an event on one line."""
    return ", ".join(f"{name} {value}" for name, value in detail.items())


def _style(word: str) -> str:
    if word in _GOOD:
        return "green"
    if word in _BAD:
        return "bold red"
    return "yellow" if word in _WAITING else ""
