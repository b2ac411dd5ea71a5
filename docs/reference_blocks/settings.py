"""The settings and the arguments of segmenters, from the models and classes that read them."""

import inspect
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

from dicom_core.routing import Condition
from dicom_core.settings import ENVIRONMENT_PREFIX, Settings
from reference_blocks.markdown import code, table
from worker.segmenters import registry

_DEFAULT_IN_WORDS = {"data_folder": "`~/.local/share/vesselq`"}
"""Defaults that depend on who asks."""
_COMPARISONS = {
    "equals": "The value is this text or number.",
    "one_of": "The value is one of these.",
    "contains": "This text occurs in the value.",
    "matches": "This regular expression (Python's `re`) fits the whole value.",
    "exists": "`true`: the element is there with a value; `false`: it is absent or empty.",
    "greater_than": "The value is a number above this one.",
    "at_least": "The value is this number or one above it.",
    "less_than": "The value is a number below this one.",
    "at_most": "The value is this number or one below it.",
}
_TREE = {
    "all": "A list of conditions: every one holds.",
    "any": "A list of conditions: at least one holds.",
    "not": "One condition: it does not hold.",
    "keyword": "The DICOM keyword that a comparison looks at, for example `Modality` (PS3.6 chapter 6).",
}


def settings_tables() -> str:
    """One section a table of the TOML file."""
    schema = Settings.model_json_schema()
    definitions = schema["$defs"]
    tables, top = {}, {}
    for name, field in schema["properties"].items():
        (tables if "$ref" in field or _parts(field) else top)[name] = field
    sections = ["## Top level", _rows(top, [], "")]
    for name, field in tables.items():
        for part in _parts(field) or [field]:
            definition = definitions[part["$ref"].rpartition("/")[2]]
            sections += _section(name, field, definition, repeated=bool(_parts(field)))
            for inner, inner_field in definition["properties"].items():
                for inner_part in _inner_tables(inner_field):
                    inner_definition = definitions[inner_part["$ref"].rpartition("/")[2]]
                    sections += _section(
                        f"{name}.{inner}", inner_field, inner_definition, repeated=bool(_parts(inner_field))
                    )
    return "\n\n".join(sections)


_WRITTEN_IN_PLACE = ("/Prompt", "/Condition", "/ResultKind")
"""Tables that have a page of their own."""


def _inner_tables(field: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    parts = _parts(field) or ([field] if "$ref" in field else [])
    return [part for part in parts if "$ref" in part and not part["$ref"].endswith(_WRITTEN_IN_PLACE)]


def _parts(field: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The kinds of item of an array of tables, none for anything else."""
    items = field.get("items", {})
    return [items] if "$ref" in items else items.get("oneOf", [])


def _section(name: str, field: Mapping[str, Any], definition: Mapping[str, Any], *, repeated: bool) -> list[str]:
    kind = definition["properties"].get("kind", {}).get("const")
    title = f"`[[{name}]]`" if repeated else f"`[{name}]`"
    return [
        f"## {title}" + (f" with `kind = {json.dumps(kind)}`" if kind else ""),
        " ".join(filter(None, [definition.get("description", "").split("\n\n")[0], field.get("description", "")])),
        _rows(
            {key: value for key, value in definition["properties"].items() if not _inner_tables(value)},
            definition.get("required", []),
            "" if repeated else f"{name.replace('.', '__')}__",
        ),
    ]


def _rows(fields: Mapping[str, Any], required: list[str], path: str) -> str:
    columns = ["setting", "what it is", "default", "value"] + (["environment"] if path else [])
    rows = []
    for name, field in fields.items():
        default = "required" if name in required else _default(name, field)
        row = [code(name), _description(name, field), default, _value(field)]
        rows.append(row + ([code(f"{ENVIRONMENT_PREFIX}{path}{name}".upper())] if path else []))
    return table(columns, rows)


def _description(name: str, field: Mapping[str, Any]) -> str:
    return str(field.get("description", "Says which kind of destination this is." if name == "kind" else ""))


def _default(name: str, field: Mapping[str, Any]) -> str:
    if name in _DEFAULT_IN_WORDS:
        return _DEFAULT_IN_WORDS[name]
    default = field.get("default")
    if default is None or field.get("$ref", "").endswith("/Prompt"):
        return "none"
    if isinstance(default, float) and default.is_integer():
        default = int(default)
    return code(json.dumps(default, ensure_ascii=False))


def _value(field: Mapping[str, Any]) -> str:
    """Type and limits in words."""
    if "anyOf" in field:
        field = {**field, **next(option for option in field["anyOf"] if option.get("type") != "null")}
    if "enum" in field or "const" in field:
        return ", ".join(code(value) for value in field.get("enum", [field.get("const")]))
    if "$ref" in field:
        return "text or table" if field["$ref"].endswith("/Prompt") else "a condition, see below"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
    if field.get("type") == "array":
        return "list of " + _value(field["items"])
    if field.get("type") == "object":
        return "tables"
    text = {"path": "path", "password": "text, kept out of every list"}.get(field.get("format", ""), "")
    return (text or words[field["type"]]) + "".join(_limits(field))


def _limits(field: Mapping[str, Any]) -> Iterator[str]:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    yield from (f", {sign} {field[name]:g}" for name, sign in signs.items() if name in field and field[name] < 1e6)
    yield from (f", {sign} {field[name]}" for name, sign in signs.items() if name in field and field[name] >= 1e6)
    if "maxLength" in field:
        yield f", at most {field['maxLength']} characters"
    if "pattern" in field:
        yield f", fits `{field['pattern']}`"


def conditions_table() -> str:
    """Every word of a condition."""
    names = [field.alias or name for name, field in Condition.model_fields.items()]
    words = {**_TREE, **_COMPARISONS}
    if set(names) != set(words):
        raise SystemExit(f"docs/reference_blocks/settings.py: explain {sorted(set(names) ^ set(words))}")
    return table(["word", "meaning"], [(code(name), words[name]) for name in names])


def default_rules_table() -> str:
    """The rules of a site that has written none."""
    rules = Settings.model_fields["rules"].default
    rows = []
    for rule in rules:
        outcome = f"segmented by {code(rule.segments_by)}" if rule.segmenter else f"skipped: {rule.skip}"
        words = rule.when.in_words()
        rows.append((code(rule.name), words if len(words) < 300 else words[:297] + "...", outcome))
    return table(["rule", "when", "outcome"], rows)


def segmenters_tables() -> str:
    """The segmenters that come with vesselq; plug-ins that happen to be installed are left out."""
    own = sorted(
        point.name for point in entry_points(group=registry.GROUP) if point.dist and point.dist.name == "vesselq"
    )
    return "\n\n".join(_segmenter(name) for name in own)


def _segmenter(name: str) -> str:
    info = registry.info(name)
    facts = [
        ("version", info.version),
        ("what it is", info.summary),
        ("for", ", ".join(sorted(code(imaging.value) for imaging in info.imagings))),
        ("takes", ", ".join(sorted(code(arrangement.value) for arrangement in info.arrangements))),
        ("is asked by", ", ".join(sorted(code(kind.value) for kind in info.prompts))),
        ("finds", ", ".join(one.label for one in info.classes)),
        ("licence", info.license),
    ]
    (point,) = entry_points(group=registry.GROUP, name=name)
    made_by = point.load()
    arguments = [
        (code(argument.name), _arguments_of(made_by).get(argument.name, ""), _argument_default(argument))
        for argument in inspect.signature(made_by).parameters.values()
        if argument.name != "device"
    ]
    parts = [f"## `{name}`", table(["", ""], facts)]
    if arguments:
        parts += [f"Settings of the table `[models.{name}]`:", table(["setting", "what it is", "default"], arguments)]
    return "\n\n".join(parts)


def _argument_default(argument: inspect.Parameter) -> str:
    if argument.default is argument.empty:
        return "required"
    return code(json.dumps(argument.default, default=list))


def _arguments_of(made_by: type) -> dict[str, str]:
    """The ``Args:`` parts of the docstrings of a class and its bases by name."""
    found: dict[str, str] = {}
    for one in reversed(made_by.__mro__):
        found |= _arguments_in(one)
    return found


def _arguments_in(made_by: type) -> dict[str, str]:
    lines = inspect.cleandoc(made_by.__doc__ or "").split("\n")
    if "Args:" not in lines:
        return {}
    found: dict[str, str] = {}
    name = ""
    for line in lines[lines.index("Args:") + 1 :]:
        if not line.startswith("    "):
            break
        text = line
        if not line.startswith("        "):
            name, _, text = line.strip().partition(":")
        found[name] = f"{found.get(name, '')} {text.strip()}".strip()
    return {name: text.replace("``", "`") for name, text in found.items()}
