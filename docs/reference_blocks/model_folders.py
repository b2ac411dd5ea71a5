"""The manifest of a folder of weights, and what it must say of networks that anybody may have made."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from reference_blocks.markdown import code, table
from worker.model_folder.manifest import PERMISSIVE, ModelManifest
from worker.segmenters.onnx_model.kinds import SamSettings, YoloeSettings
from worker.segmenters.semantic.settings import SemanticSettings

_COLUMNS = ["key", "what it is", "default", "values"]
_IN_WORDS = {
    "files": "By name, in the folder itself: `sha256` and `size_bytes`. Nothing that is not listed is ever read.",
    "settings": "What the system needs to know of this model; each system checks its own.",
    "version": "Of the weights; changes whenever the same image may give another mask.",
    "summary": "One line for lists.",
    "revision": "Which state of the source.",
    "size": "How a picture gets a size that the network takes, see below.",
    "normalisation": "Which numbers it gets, see below.",
    "output": "What comes out, see below.",
    "mask": "From probability to mask, see below.",
    "kind": "Which of the kinds on this page it is.",
    "channels": "Of a picture: grey or colour.",
    "scale": "How values become numbers of a known range.",
    "mean": "Taken from each channel.",
    "std": "Each channel is divided by it.",
    "threshold": "Least probability of a pixel in the mask.",
}


def manifest_table() -> str:
    """Every key of vesselq-model.json."""
    return _table(ModelManifest)


def permissive_licenses() -> str:
    """The licences that nobody has to accept."""
    return ", ".join(code(name) for name in sorted(PERMISSIVE)) + "."


def network_settings_tables() -> str:
    """The settings of networks, one section a kind, and one for each table in it."""
    parts = []
    for title, model in (
        ("Semantic networks (`onnx`, `torchscript`)", SemanticSettings),
        ("A pair of SAM (`onnx`)", SamSettings),
        ("An exported YOLOE (`onnx`)", YoloeSettings),
    ):
        parts += [f"### {title}", _first_line(model), _table(model)]
        for name, field in model.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                parts += [f"Keys of the table `[{name}]`: {_first_line(kind)}", _table(kind)]
    return "\n\n".join(parts)


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").split("\n\n")[0].replace("``", "`").replace("\n", " ").strip()


def _table(model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    required = schema.get("required", [])
    rows = [
        (
            code(name),
            field.get("description") or _IN_WORDS.get(name, ""),
            "required" if name in required else _default(field),
            _values(field, schema.get("$defs", {})),
        )
        for name, field in schema["properties"].items()
    ]
    return table(_COLUMNS, rows)


def _default(field: Mapping[str, Any]) -> str:
    default = field.get("default")
    return "none" if default in (None, "", []) or isinstance(default, dict) else code(json.dumps(default))


def _values(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Words for what may stand there."""
    if "$ref" in field:
        field = definitions[field["$ref"].rpartition("/")[2]]
    options = [one for one in field.get("anyOf", []) if one.get("type") != "null"]
    if options:
        return " or ".join(_values(one, definitions) for one in options)
    if "enum" in field or "const" in field:
        return ", ".join(code(value) for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        item = field.get("items") or field["prefixItems"][0]
        return "list of " + _values(item, definitions)
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
    return words.get(field.get("type", ""), "table")
