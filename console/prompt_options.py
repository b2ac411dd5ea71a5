"""How points, boxes and settings are written on the command line."""

import tomllib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from dicom_core.prompt import Box, Point

BOX_HELP = "Around what is to be found, in pixels; the top left one is 0,0. May be repeated."
POINT_HELP = "A pixel that lies on what is to be found; with ,outside one that does not. May be repeated."


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
    """``KEY=VALUE`` lines as a table; a value is read as in the settings file, and taken as text where it is none."""
    table: dict[str, Any] = {}
    for value in values:
        key, sign, text = value.partition("=")
        if not sign or not key.strip():
            raise typer.BadParameter(f"{value!r} is not KEY=VALUE, for example threshold=0.4")
        table[key.strip()] = _value(text.strip())
    return table


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
