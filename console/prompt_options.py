"""How points, boxes and settings are written on the command line."""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from dicom_core.prompt import Box, Point


def box_of(value: str) -> "Box":
    """``LEFT,TOP,RIGHT,BOTTOM`` on every frame, or with ``@FRAME`` on one."""
    from pydantic import ValidationError

    from dicom_core.prompt import Box

    try:
        place, frame = _on_frame(value)
        left, top, right, bottom = (float(part) for part in place.split(","))
        return Box(left=left, top=top, right=right, bottom=bottom, frame_number=frame)
    except (ValueError, ValidationError):
        raise typer.BadParameter(
            f"{value!r} is no box: LEFT,TOP,RIGHT,BOTTOM in pixels, for example 40,60,200,180, or on the third frame "
            "40,60,200,180@3"
        ) from None


def point_of(value: str) -> "Point":
    """``X,Y`` or ``X,Y,outside`` on every frame, or with ``@FRAME`` on one."""
    from pydantic import ValidationError

    from dicom_core.prompt import Point

    try:
        place, frame = _on_frame(value)
        inside = place.removesuffix(",out").removesuffix(",outside")
        x, y = (float(part) for part in inside.split(","))
        return Point(x=x, y=y, inside=inside == place, frame_number=frame)
    except (ValueError, ValidationError):
        raise typer.BadParameter(
            f"{value!r} is no point: X,Y in pixels, for example 120,80 or 5,5,out, or on the third frame 120,80@3"
        ) from None


def _on_frame(value: str) -> tuple[str, int]:
    """A place and the number of its frame, from 1; 0 is every frame.

    Raises:
        ValueError: What is behind the @ is no number of a frame.
    """
    place, sign, number = value.partition("@")
    frame = int(number) if sign else 0
    if sign and frame < 1:
        raise ValueError(value)
    return place, frame


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
