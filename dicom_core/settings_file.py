"""Reads ``vesselq.toml`` and says everything that is wrong with it at once, each with its line."""

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from dicom_core.errors import ConfigurationError
from dicom_core.settings import ENVIRONMENT_PREFIX, Settings

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


def load_settings(file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read all sources.

    Args:
        file: A TOML file, or None for the places of ``find_settings_file``.
        overrides: Values of command line options by top-level name; they win over the file, not over the environment.

    Raises:
        ConfigurationError: One line for each thing that is wrong, with the line of the file.
    """
    path = find_settings_file(file)
    text = _read(path) if path else ""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from None
    problems = _unknown_variables()
    try:
        settings = Settings(**{**values, **(overrides or {})})
    except ValidationError as error:
        lines = _lines_of_keys(text)
        problems += [
            _in_words(path, lines, dict(problem)) for problem in error.errors(include_url=False, include_input=False)
        ]
    except SettingsError as error:
        problems.append(f"environment: {error}; a whole table in one variable is written as JSON")
    except UnicodeDecodeError:
        problems.append(f"environment: a file named by a {ENVIRONMENT_PREFIX}*_FILE variable is no UTF-8 text")
    except OSError as error:
        problems.append(
            f"environment: {error.filename}, named by a {ENVIRONMENT_PREFIX}*_FILE variable, cannot be read: "
            f"{error.strerror}"
        )
    if problems:
        raise ConfigurationError("\n".join(problems))
    return settings


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8 text at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be read ({error.strerror}); `vesselq config init` writes an example"
        ) from None


def _unknown_variables() -> list[str]:
    problems = []
    for variable in sorted(os.environ):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in NOT_SETTINGS:
            continue
        top = variable.removeprefix(ENVIRONMENT_PREFIX).removesuffix("_FILE").lower().split("__")[0]
        if top not in Settings.model_fields:
            problems.append(f"environment: {variable} is no setting of vesselq")
    return problems


def _in_words(path: Path | None, lines: Mapping[tuple[str | int, ...], int], problem: Mapping[str, Any]) -> str:
    location: Sequence[str | int] = problem["loc"]
    known = [step for step in location if step not in ("storage_scu", "stow_rs", "folder")]
    name = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in known).lstrip(".")
    line = next((lines[tuple(known[:end])] for end in range(len(known), 0, -1) if tuple(known[:end]) in lines), None)
    where = f"{path}:{line}" if path and line else (str(path) if path else "settings")
    message = (
        "no such setting" if problem["type"] == "extra_forbidden" else str(problem["msg"]).removeprefix("Value error, ")
    )
    return f"{where}: {name}: {message}" if name else f"{where}: {message}"


def _lines_of_keys(text: str) -> dict[tuple[str | int, ...], int]:
    """Line numbers, from 1, of table headers and keys. Inline tables count as one key: good enough to point at."""
    lines: dict[tuple[str | int, ...], int] = {}
    table: tuple[str | int, ...] = ()
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


def _with_indices(names: tuple[str, ...], counts: Mapping[tuple[str, ...], int]) -> tuple[str | int, ...]:
    steps: list[str | int] = []
    for end, name in enumerate(names, start=1):
        steps.append(name)
        if names[:end] in counts:
            steps.append(counts[names[:end]])
    return tuple(steps)
