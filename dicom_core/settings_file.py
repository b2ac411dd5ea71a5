"""Reads ``vesselq.toml`` and says everything that is wrong with it at once, each with its line."""

import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from dicom_core.errors import ConfigurationError
from dicom_core.settings import ENVIRONMENT_PREFIX, Place, Settings

CONFIG_VARIABLE = "VESSELQ_CONFIG"
NOT_SETTINGS = frozenset({CONFIG_VARIABLE, "VESSELQ_SHARED"})
"""Variables with our prefix that are no settings: where the file is, and the test data of the test suite."""
_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"^\s*([A-Za-z0-9_\"'.-]+)\s*=")


def find_settings_file(explicit: Path | None) -> Path | None:
    """The file asked for, or ``VESSELQ_CONFIG``, ``./vesselq.toml``, ``/etc/vesselq/vesselq.toml``, or none."""
    if explicit is not None:
        return explicit
    if CONFIG_VARIABLE in os.environ:
        return Path(os.environ[CONFIG_VARIABLE])
    return next((path for path in (Path("vesselq.toml"), Path("/etc/vesselq/vesselq.toml")) if path.is_file()), None)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        where: File and line, ``environment`` with the variable, or ``settings`` when it is neither.
        text: What is wrong; never a secret.
    """

    where: str
    text: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.where}: {self.text}"


Check = Callable[[Mapping[str, Any]], Iterable[tuple[Place, str]]]
"""Finds what does not fit in values that are perhaps wrong otherwise: the place in the settings and a sentence."""


def load_settings(file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read all sources.

    Args:
        file: A TOML file, or None for the places of ``find_settings_file``.
        overrides: Values of command line options by top-level name; they win over the file, not over the environment.

    Raises:
        ConfigurationError: One line for each thing that is wrong, with the line of the file.
    """
    settings, problems = examine_settings(file, overrides)
    if problems or settings is None:
        raise ConfigurationError("\n".join(map(str, problems)))
    return settings


def examine_settings(
    file: Path | None = None, overrides: Mapping[str, Any] | None = None, further: Check = lambda _values: ()
) -> tuple[Settings | None, list[Problem]]:
    """Read all sources and say everything that is wrong.

    Args:
        file: As for ``load_settings``.
        overrides: As for ``load_settings``.
        further: Looks at the values as well, also when they are wrong otherwise.

    Returns:
        The settings, None when they cannot be made, and the problems.

    Raises:
        ConfigurationError: The file cannot be read or is no TOML.
    """
    path = find_settings_file(file)
    text = _read(path) if path else ""
    try:
        values = {**tomllib.loads(text), **(overrides or {})}
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from None
    lines = _lines_of_keys(text)
    problems = _unknown_variables()
    settings = None
    try:
        settings = Settings(**values)
        values = settings.model_dump()
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        problems += [_in_words(path, lines, dict(detail)) for detail in details]
        # what the environment replaces is looked at when the rest is right
        values = {name: value for name, value in values.items() if not _in_environment(name)}
    except (SettingsError, UnicodeDecodeError, OSError) as error:
        problems.append(Problem("environment", _unreadable_variable(error)))
        values = {name: value for name, value in values.items() if not _in_environment(name)}
    problems += [_in_words(path, lines, {"loc": place, "msg": said, "type": ""}) for place, said in further(values)]
    return settings, problems


def _unreadable_variable(error: SettingsError | UnicodeDecodeError | OSError) -> str:
    if isinstance(error, SettingsError):
        return f"{error}; a whole table in one variable is written as JSON"
    if isinstance(error, OSError):
        named = f"{error.filename}, named by a {ENVIRONMENT_PREFIX}*_FILE variable"
        return f"{named}, cannot be read: {error.strerror}"
    return f"a file named by a {ENVIRONMENT_PREFIX}*_FILE variable is no UTF-8 text"


def _in_environment(top: str) -> bool:
    variable = f"{ENVIRONMENT_PREFIX}{top}".upper()
    return any(
        name.upper() == variable or name.upper().startswith((f"{variable}__", f"{variable}_FILE"))
        for name in os.environ
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8 text at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be read ({error.strerror}); `vesselq config init` writes an example"
        ) from None


def _unknown_variables() -> list[Problem]:
    problems = []
    for variable in sorted(os.environ):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in NOT_SETTINGS:
            continue
        top = variable.removeprefix(ENVIRONMENT_PREFIX).removesuffix("_FILE").lower().split("__")[0]
        if top not in Settings.model_fields:
            problems.append(Problem("environment", f"{variable} is no setting of vesselq"))
    return problems


def _in_words(path: Path | None, lines: Mapping[Place, int], problem: Mapping[str, Any]) -> Problem:
    known: Place = tuple(step for step in problem["loc"] if step not in ("storage_scu", "stow_rs", "folder"))
    name = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in known).lstrip(".")
    message = (
        "no such setting" if problem["type"] == "extra_forbidden" else str(problem["msg"]).removeprefix("Value error, ")
    )
    return Problem(_source(path, lines, known), f"{name}: {message}" if name else message)


def _source(path: Path | None, lines: Mapping[Place, int], place: Place) -> str:
    """Where a setting comes from: the environment wins over the file."""
    if variable := _variable_of(place):
        return f"environment: {variable}"
    line = next((lines[place[:end]] for end in range(len(place), 0, -1) if place[:end] in lines), None)
    return f"{path}:{line}" if path and line else (str(path) if path else "settings")


def _variable_of(place: Place) -> str:
    """The environment variable that gives this setting, alone or with its whole table, "" when none does."""
    names = {name.upper(): name for name in os.environ}
    for end in range(len(place), 0, -1):
        variable = ENVIRONMENT_PREFIX + "__".join(str(step) for step in place[:end]).upper()
        if f"{variable}_FILE" in names:
            return names[f"{variable}_FILE"]
        if variable in names and _gives(os.environ[names[variable]], place[end:]):
            return names[variable]
    return ""


def _gives(value: str, rest: Place) -> bool:
    """Whether a variable with a table in it, as JSON, gives this key of it; a list replaces that of the file."""
    if not rest:
        return True
    try:
        table = json.loads(value)
    except ValueError:
        return True
    return not isinstance(table, dict) or rest[0] in table


def _lines_of_keys(text: str) -> dict[Place, int]:
    """Line numbers, from 1, of table headers and keys. Inline tables count as one key: good enough to point at."""
    lines: dict[Place, int] = {}
    table: Place = ()
    counts: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            names = tuple(part.strip().strip("\"'") for part in header[2].split("."))
            if header[1] == "[[":
                counts[names] = counts.get(names, -1) + 1
            table = _with_indices(names, counts)
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines.setdefault((*table, *(part.strip("\"'") for part in key[1].split("."))), number)
    return lines


def _with_indices(names: tuple[str, ...], counts: Mapping[tuple[str, ...], int]) -> Place:
    steps: list[str | int] = []
    for end, name in enumerate(names, start=1):
        steps.append(name)
        if names[:end] in counts:
            steps.append(counts[names[:end]])
    return tuple(steps)
