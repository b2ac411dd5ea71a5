"""The form in which a row of the audit log is hashed, and the hash.

``row_hash`` is SHA-256 over one JSON object of all other columns, the previous hash among them: keys sorted, no white
space, everything outside ASCII escaped (what ``json.dumps(..., sort_keys=True, separators=(",", ":"))`` writes). It is
put together by hand here, since reading a long chain does little else.
"""

import hashlib
import json
from collections.abc import Mapping
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

FIRST_PREVIOUS_HASH = "0" * 64
"""What the first row continues."""
COLUMNS = (
    "sequence", "at", "event", "event_id", "event_type", "action", "outcome", "process", "user", "ae_title", "address",
    "study_instance_uid", "job_id", "detail", "previous_hash", "row_hash",
)  # fmt: skip
"""Of a row; all but the last are under the hash. ``detail`` is JSON text, as it is stored."""
# the detail as text, and not as an object: one that is no JSON any more is a finding, not an error
SELECTED = ", ".join("CAST(detail AS TEXT)" if name == "detail" else f'"{name}"' for name in COLUMNS)
"""The columns in SQL."""
Row = tuple[int, str, str, str, str, str, int, str, str, str, str, str, str, str, str, str]
_encode = json.JSONEncoder(allow_nan=False).encode
_canonical_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode
_PLAIN = frozenset({str, int, bool, float, type(None)})
"""What JSON gives back as it was."""


def canonical_detail(detail: Mapping[str, Any]) -> str:
    """The JSON text under the hash. New rows are stored with exactly this text, older ones with another white space.

    Raises:
        TypeError: Something in it has no form in JSON.
        ValueError: A number is infinite or none.
    """
    content = dict(detail)
    if not (_PLAIN.issuperset(map(type, content.values())) and all(type(key) is str for key in content)):
        # once there and back: keys that are no text become text before they are sorted
        content = json.loads(_encode(content))
    return _canonical_encode(content)


def row_hash(row: Row) -> str:
    """The hash over a row whose detail is canonical; what stands in the place of the hash does not matter.

    No two rows are hashed over the same text, whatever their detail: behind it the text can be read in one way only.
    """
    (
        sequence, at, event, event_id, event_type, action, outcome, process, user, ae_title, address,
        study_instance_uid, job_id, detail, previous_hash, _,
    ) = row  # fmt: skip
    text = (
        f'{{"action":{quoted(action)},"address":{quoted(address)},"ae_title":{quoted(ae_title)},"at":{quoted(at)},'
        f'"detail":{detail},"event":{quoted(event)},"event_id":{quoted(event_id)},"event_type":{quoted(event_type)},'
        f'"job_id":{quoted(job_id)},"outcome":{outcome:d},"previous_hash":{quoted(previous_hash)},'
        f'"process":{quoted(process)},"sequence":{sequence:d},"study_instance_uid":{quoted(study_instance_uid)},'
        f'"user":{quoted(user)}}}'
    )
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def problem_of(row: Row) -> str:
    """What is wrong with the content of a row, "" for nothing."""
    try:
        if row_hash(row) == row[15]:
            return ""
        again: Any = (*row[:13], _canonical_encode(json.loads(row[13])), *row[14:])
        if row_hash(again) == row[15]:
            return ""
    except (TypeError, ValueError, RecursionError):
        return "its content cannot be read"
    return "its content is not what was written"
