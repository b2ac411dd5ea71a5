"""The settings file that ``vesselq config init`` writes: every setting, explained, with its default, commented out.

It is made from the models themselves, so it cannot fall behind them. A line that starts with ``#`` and a letter or a
bracket is a setting to uncomment; one that starts with ``# `` is an explanation.
"""

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from dicom_core.default_rules import DEFAULT_RULES
from dicom_core.routing import Rule
from dicom_core.setting_tables import FolderSettings, PeerSettings, StorageSCUSettings, StowRSSettings
from dicom_core.settings import Settings

_WIDTH = 118
_HEAD = """\
vesselq reads this file from --config, $VESSELQ_CONFIG, ./vesselq.toml or /etc/vesselq/vesselq.toml.
Every setting below is commented out and shows its default; unknown names are errors (`vesselq config check`).
The environment wins over this file: VESSELQ_LISTENER__PORT=104, and for secrets a file: VESSELQ_DATABASE_URL_FILE.
"""
_PEERS = (
    {"name": "angio-suite", "ae_title": "ANGIO1", "addresses": ("192.0.2.10",), "host": "192.0.2.10", "port": 104},
)
_DESTINATIONS: tuple[tuple[type[BaseModel], dict[str, Any]], ...] = (
    (
        StorageSCUSettings,
        {"name": "pacs", "kind": "storage_scu", "ae_title": "PACS", "host": "pacs.example.org", "port": 104},
    ),
    (StowRSSettings, {"name": "archive", "kind": "stow_rs", "url": "https://archive.example.org/dicom-web"}),
    (FolderSettings, {"name": "folder", "kind": "folder", "path": "/srv/vesselq/results"}),
)
_MODELS = (
    "Segmenters by name, one table each, with their arguments; `vesselq models list` names those that are installed. "
    "A name of your own needs the system that runs it, so that several models of one system stand side by side."
)
_MODEL_EXAMPLE = {"system": "sa2va", "folder": "/srv/vesselq/models/sa2va-vessel"}
_RULES = (
    "Rules decide, series by series, which segmenter runs and where the result goes; the first one that matches wins, "
    'a series that none wants is skipped. "sender" stands for the AE title that sent the study. Rules that you write '
    "replace all of the default rules, which are these:"
)


def example() -> str:
    """The text of the file; it loads as it is, and with every setting uncommented."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield from _explanation(_HEAD)
    fields = Settings.model_fields
    for name, field in fields.items():
        if isinstance(field.default, str | Path):
            yield ""
            yield from _setting(name, field, field.default)
    for name, field in fields.items():
        if isinstance(field.default, BaseModel):
            yield from _table(name, field.default)
    yield from _array_of_tables("peers", fields["peers"].description, [(PeerSettings, values) for values in _PEERS])
    yield from _array_of_tables("destinations", fields["destinations"].description, _DESTINATIONS)
    yield from _rules()
    yield ""
    yield from _explanation(_MODELS)
    yield "#[models.ridge]"
    yield ""
    yield "#[models.coronary]"
    for key, value in _MODEL_EXAMPLE.items():
        yield f"#{key} = {_toml(value)}"


def _table(name: str, defaults: BaseModel) -> Iterator[str]:
    model = type(defaults)
    yield ""
    yield ""
    yield from _explanation(_first_line(model.__doc__))
    yield f"#[{name}]"
    inner: dict[str, BaseModel] = {}
    for setting, field in model.model_fields.items():
        value = getattr(defaults, setting)
        if isinstance(value, BaseModel):
            inner[setting] = value
        else:
            yield from _setting(setting, field, value)
    for setting, value in inner.items():
        yield from _table(f"{name}.{setting}", value)


def _array_of_tables(
    name: str, description: str | None, examples: Iterable[tuple[type[BaseModel], Mapping[str, Any]]]
) -> Iterator[str]:
    yield ""
    yield ""
    yield from _explanation(f"{description or ''} Examples:")
    for model, values in examples:
        yield ""
        yield from _explanation(_first_line(model.__doc__))
        yield f"#[[{name}]]"
        for setting, field in model.model_fields.items():
            value = values.get(setting, field.default)
            if value is not None:
                yield from _setting(setting, field, value)


def _rules() -> Iterator[str]:
    yield ""
    yield ""
    yield from _explanation(_RULES)
    for rule in DEFAULT_RULES:
        yield ""
        yield from (f"#{line}" for line in _rule(rule))


def _rule(rule: Rule) -> Iterator[str]:
    yield "[[rules]]"
    for name in type(rule).model_fields:
        value = getattr(rule, name)
        if value != type(rule).model_fields[name].default:
            yield f"{name} = {_toml(value)}"


def rules_as_toml(rules: Iterable[Rule]) -> str:
    """Rules as they stand in a settings file, for a person to change."""
    return "\n\n".join("\n".join(_rule(rule)) for rule in rules) + "\n"


def _setting(name: str, field: FieldInfo, value: Any) -> Iterator[str]:
    yield from _explanation(field.description or "")
    yield f"#{name} = {_toml(value)}"


def _explanation(text: str) -> Iterator[str]:
    for paragraph in text.splitlines():
        for line in textwrap.wrap(paragraph, _WIDTH):
            yield f"# {line}"


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0]


def _toml(value: Any) -> str:
    """A value on one line of TOML; texts of JSON are texts of TOML."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields.items()
        value = {field.alias or name: getattr(value, name) for name, field in fields}
    if value is None:
        return '""'
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items() if item is not None) + " }"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
