"""Audit rows as JSON lines with what a stranger needs to check the chain without this program.

The first line says how, the last one what the whole amounts to; between them there is one row a line.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from db.audit import FIRST_PREVIOUS_HASH
from db.audit_queries import AuditRow

FORMAT = "vesselq audit rows 1"
HASHED = (
    "row_hash is the SHA-256, in hexadecimal, over the JSON of the row without row_hash: keys sorted, no white space, "
    "everything outside ASCII escaped as \\uXXXX, numbers as they stand. previous_hash is the row_hash of the row with "
    "the sequence before; that of row 1 is 64 zeros."
)


def json_lines(rows: Iterable[AuditRow]) -> Iterator[str]:
    """The head, the rows, and the end with the proof."""
    yield _line({"format": FORMAT, "how_to_check": HASHED, "first_previous_hash": FIRST_PREVIOUS_HASH})
    number, gaps = 0, 0
    first: AuditRow | None = None
    last: AuditRow | None = None
    for row in rows:
        number += 1
        gaps += last is not None and row.sequence != last.sequence + 1
        first, last = first or row, row
        yield _line(asdict(row))
    end: dict[str, Any] = {"rows": number, "gaps": gaps}
    if first is not None and last is not None:
        end |= {
            "first_sequence": first.sequence,
            "continues_hash": first.previous_hash,
            "last_sequence": last.sequence,
            "head_hash": last.row_hash,
        }
    yield _line({"end": end})


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True) + "\n"
