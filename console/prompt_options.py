"""How points, boxes and settings are written on the command line."""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from dicom_core.prompt import Box, Point


def box_of(value: str) -> "Box":
    """``LEFT,TOP,RIGHT,BOTTOM``."""
    from pydantic import ValidationError

    from dicom_core.prompt import Box

    try:
        left, top, right, bottom = (float(part) for part in value.split(","))
        return Box(left=left, top=top, right=right, bottom=bottom)
    except (ValueError, ValidationError):
        raise typer.BadParameter(
            f"{value!r} is no box: LEFT,TOP,RIGHT,BOTTOM in pixels, for example 40,60,200,180"
        ) from None


def point_of(value: str) -> "Point":
    """``X,Y`` or ``X,Y,outside``."""
    from pydantic import ValidationError

    from dicom_core.prompt import Point

    place, outside = value.removesuffix(",outside"), value.endswith(",outside")
    try:
        x, y = (float(part) for part in place.split(","))
        return Point(x=x, y=y, inside=not outside)
    except (ValueError, ValidationError):
        raise typer.BadParameter(f"{value!r} is no point: X,Y in pixels, for example 120,80 or 5,5,outside") from None


def table_of(values: Iterable[str]) -> dict[str, Any]:
    """``KEY=VALUE`` as in the settings file, ``PART.KEY=VALUE`` for a table in it; what is no value there is text."""
    table: dict[str, Any] = {}
    for value in values:
        path, sign, text = value.partition("=")
        keys = [key.strip() for key in path.split(".")]
        if not sign or not all(keys):
            raise typer.BadParameter(f"{value!r} is not KEY=VALUE, for example threshold=0.4")
        place = table
        for key in keys[:-1]:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise typer.BadParameter(f"{value!r}: {key} has a value already")
        place[keys[-1]] = _value(text.strip())
    return table


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def table_in(file: Path | None) -> dict[str, Any]:
    """The tables of a TOML file, nothing for None.

    Raises:
        ConfigurationError: It cannot be read.
    """
    from dicom_core.errors import ConfigurationError

    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from None
