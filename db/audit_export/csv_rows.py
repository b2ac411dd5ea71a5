"""Audit rows as CSV (RFC 4180) that no spreadsheet takes for formulas."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any

from db.audit_export.message import clean
from db.audit_queries import AuditRow

COLUMNS = tuple(field.name for field in fields(AuditRow))
_FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")
"""The wide forms are formulas in Chinese and Japanese spreadsheets."""


def csv_lines(rows: Iterable[AuditRow]) -> Iterator[str]:
    """A line of headings, then one for each row."""
    yield _line(COLUMNS)
    for row in rows:
        yield _line([_cell(getattr(row, name)) for name in COLUMNS])


def _cell(value: Any) -> str:
    """Text that begins like a formula gets an apostrophe before it; numbers of ours cannot be any."""
    if isinstance(value, int):
        return str(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    text = clean(text)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA_STARTS) else text


def _line(cells: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(cells)
    return out.getvalue()
