"""Points in time that people type."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import typer

_OTHER_TIMES = ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S")
"""Taken as well, without the zeros that ISO 8601 asks for."""


def moment(text: str) -> datetime:
    """A point in time in ISO 8601, for example as the log prints it; local time without a zone."""
    parsers: list[Callable[[str], datetime]] = [datetime.fromisoformat]
    parsers += [partial(_parsed_by, form) for form in _OTHER_TIMES]
    for parse in parsers:
        try:
            return parse(text).astimezone(UTC)
        except (ValueError, OverflowError):
            continue
    raise typer.BadParameter(f"{text!r} is no time of ISO 8601, for example 2026-11-21 or 2026-11-21T01:55:41.619Z")


def _parsed_by(form: str, text: str) -> datetime:
    return datetime.strptime(text, form)  # noqa: DTZ007  the caller gives it the local zone
