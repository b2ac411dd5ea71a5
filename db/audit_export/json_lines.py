"""Audit rows as JSON lines with what a stranger needs to check the chain without this program.

The first line says how, the last one what the whole amounts to; between them there is one row a line. Behind a row that
was signed stands its checkpoint (``db.audit_checkpoints``).
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from db.audit import FIRST_PREVIOUS_HASH
from db.audit_checkpoints import Checkpoint
from db.audit_queries import AuditRow
from dicom_core.errors import AuditError

FORMAT = "vesselq audit rows 1"
HASHED = (
    "row_hash is the SHA-256, in hexadecimal, over the JSON of the row without row_hash: keys sorted, no white space, "
    "everything outside ASCII escaped as \\uXXXX, numbers as they stand. previous_hash is the row_hash of the row with "
    "the sequence before; that of row 1 is 64 zeros."
)
SIGNED = (
    "A line with checkpoint stands behind the row of that sequence and says that its row_hash was the head of the log "
    "at that time. signature is Ed25519 (RFC 8032), in hexadecimal, over the JSON of the checkpoint without signature, "
    "written as above; key is the SHA-256 over the raw public key, which the site gives out as public_key.pem: take it "
    "from there, not from whoever gave you these rows. previous is the SHA-256 over the JSON of the whole checkpoint "
    "before, which may not be among these."
)


def json_lines(rows: Iterable[AuditRow], checkpoints: Iterable[Checkpoint] = ()) -> Iterator[str]:
    """The head, the rows with their checkpoints, and the end with the proof.

    Args:
        rows: In the order of their numbers.
        checkpoints: In their order; those of rows that are not told of are left out.
    """
    yield _line(
        {"format": FORMAT, "how_to_check": HASHED, "signatures": SIGNED, "first_previous_hash": FIRST_PREVIOUS_HASH}
    )
    signed = _Signed(checkpoints)
    number, gaps = 0, 0
    first: AuditRow | None = None
    last: AuditRow | None = None
    for row in rows:
        number += 1
        gaps += last is not None and row.sequence != last.sequence + 1
        first, last = first or row, row
        yield _line(asdict(row))
        yield from (_line({"checkpoint": asdict(checkpoint)}) for checkpoint in signed.of(row.sequence))
    end: dict[str, Any] = {"rows": number, "gaps": gaps, "checkpoints": signed.told}
    if signed.problem:
        end["checkpoints_problem"] = signed.problem
    if first is not None and last is not None:
        end |= {
            "first_sequence": first.sequence,
            "continues_hash": first.previous_hash,
            "last_sequence": last.sequence,
            "head_hash": last.row_hash,
        }
    yield _line({"end": end})


class _Signed:
    """The checkpoints while rows go by."""

    def __init__(self, checkpoints: Iterable[Checkpoint]) -> None:
        self._left = iter(checkpoints)
        self.told, self.problem = 0, ""
        self._next = self._advance()

    def of(self, sequence: int) -> Iterator[Checkpoint]:
        """Those of this row; whoever asks does so in the order of the rows."""
        while self._next is not None and self._next.sequence <= sequence:
            if self._next.sequence == sequence:
                self.told += 1
                yield self._next
            self._next = self._advance()

    def _advance(self) -> Checkpoint | None:
        try:
            return next(self._left, None)
        except AuditError as error:  # the rows are there all the same
            self.problem = str(error)
            return None


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True) + "\n"
