"""The JSON API and the metrics, from the application that serves them."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client import Metric

from console.web.application import make_application
from console.web.metrics import SiteMetrics
from console.web.metrics_since_start import MetricsSinceStart
from db import migrate
from db.session import Record
from dicom_core.settings import Settings
from reference_blocks.markdown import code, table


@contextmanager
def _empty_record() -> Iterator[Record]:
    with tempfile.TemporaryDirectory() as folder:
        record = Record(f"sqlite:///{Path(folder) / 'empty.sqlite3'}", process="docs")
        try:
            migrate.upgrade(record)
            yield record
        finally:
            record.close()


def routes_sections() -> str:
    """One section a route: what it answers and which parameters it takes."""
    with _empty_record() as record:
        document = make_application(Settings(), record).openapi()
    schemas = document["components"]["schemas"]
    return "\n\n".join(
        _section(method, path, operation, schemas)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )


def _section(method: str, path: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    parts = [f"## `{method.upper()} {path}`", operation.get("description", ""), _needs(operation)]
    rows = [
        (code(parameter["name"]), parameter["in"], parameter.get("description", ""),
         _default(parameter["schema"]))
        for parameter in operation.get("parameters", [])
    ]  # fmt: skip
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body:
        fields = schemas[body["$ref"].rpartition("/")[2]]["properties"]
        rows += [
            (code(name), "body", field.get("description", ""), _default(field) if "default" in field else "required")
            for name, field in fields.items()
        ]
    if rows:
        parts.append(table(["parameter", "in", "what it is", "default"], rows))
    return "\n\n".join(part for part in parts if part)


def _needs(operation: Mapping[str, Any]) -> str:
    """Which scope is asked for."""
    if not operation.get("security"):
        return "Public."
    scopes = next(iter(operation["security"][0].values()))
    return f"Scope: {', '.join(map(code, scopes))}." if scopes else "Whoever is signed in."


def _default(schema: Mapping[str, Any]) -> str:
    default = schema.get("default", "")
    return code(default if isinstance(default, str) else json.dumps(default))


def metrics_table() -> str:
    """Every metric, found by asking for them over an empty record."""
    with _empty_record() as record:
        collectors = (SiteMetrics(Settings(), record), MetricsSinceStart(record))
        found = [
            (code(_shown_name(metric)), metric.documentation)
            for collector in collectors
            for metric in collector.collect()
        ]
    return table(["metric", "what it is"], found)


def _shown_name(metric: Metric) -> str:
    """As a query asks for it: the library keeps the ending of counters and facts to itself."""
    return metric.name + {"counter": "_total", "info": "_info"}.get(metric.type, "")
