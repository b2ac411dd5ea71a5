"""Rules out of a TOML text that are to be tried before they are put into the settings."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from console.checks import segmenter_misfits
from dicom_core.errors import ConfigurationError
from dicom_core.routing import Rule
from dicom_core.settings import SENDER, Settings

MOST_RULES = 500
_RULES = TypeAdapter(tuple[Rule, ...])


def read_rules(text: str, settings: Settings) -> tuple[Rule, ...]:
    """The ``[[rules]]`` of a text; ``[[destinations]]`` in it tell which there would be, all else is passed over.

    Args:
        text: TOML: rules alone, or a whole settings file.
        settings: Of this site, for its models and destinations.

    Raises:
        ConfigurationError: One line for each thing that is wrong.
    """
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also numbers and brackets without end
        raise ConfigurationError(f"this is not TOML: {error}") from None
    given = values.get("rules")
    if not isinstance(given, list) or not given:
        raise ConfigurationError("there are no [[rules]] in it")
    if len(given) > MOST_RULES:
        raise ConfigurationError(f"these are {len(given)} rules; {MOST_RULES} are the most")
    try:
        rules = _RULES.validate_python(given)
    except ValidationError as error:
        raise ConfigurationError("\n".join(_in_words(given, error))) from None
    if wrong := list(_misfits(rules, values, settings)):
        raise ConfigurationError("\n".join(wrong))
    return rules


def _in_words(given: Sequence[Any], error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_input=False):
        index, *place = problem["loc"]
        where = ".".join(str(step) for step in place)
        said = problem["msg"].removeprefix("Value error, ")
        yield f"{_named(given, int(index))}{f', {where}' if where else ''}: {said}"


def _named(given: Sequence[Any], index: int) -> str:
    entry = given[index]
    name = entry.get("name") if isinstance(entry, Mapping) else None
    return f"rule {index + 1} ({name})" if isinstance(name, str) else f"rule {index + 1}"


def _misfits(rules: Sequence[Rule], values: Mapping[str, Any], settings: Settings) -> Iterator[str]:
    """Names that are used twice or that nothing has."""
    names = [rule.name for rule in rules]
    tables = values.get("destinations")
    also = [table.get("name") for table in tables if isinstance(table, Mapping)] if isinstance(tables, list) else []
    known = {SENDER, *(one.name for one in settings.destinations), *also}
    for index, rule in enumerate(rules):
        if names.index(rule.name) < index:
            yield f"{_named(values['rules'], index)}: the name is used twice"
        if unknown := [name for name in rule.destinations if name not in known]:
            yield f"{_named(values['rules'], index)}: there is no destination {', '.join(unknown)}"
    # never the models of the text: their folders would be opened for whoever wrote it
    for place, said in segmenter_misfits({"rules": values["rules"], "models": settings.models}):
        if place[0] == "rules":
            yield f"{_named(values['rules'], int(place[1]))}: {said}"
