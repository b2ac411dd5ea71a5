"""English words for the codes of the record, as pages show them; keys of the catalogues of other languages."""

from collections.abc import Mapping

STATES: Mapping[str, str] = {
    "RECEIVING": "Receiving",
    "COMPLETE": "Complete",
    "QUEUED": "Queued",
    "WAITING": "Waiting",
    "RUNNING": "Running",
    "SEG_READY": "Result ready",
    "SENDING": "Sending",
    "SENT": "Sent",
    "COMMITTED": "Committed",
    "DONE": "Done",
    "PURGED": "Purged",
    "SKIPPED": "Not analysed",
    "NO_VESSEL_FOUND": "No vessel found",
    "SUPERSEDED": "Superseded",
    "FAILED": "Failed",
    "SEND_FAILED": "Sending failed",
    "CANCELLED": "Cancelled",
}
"""Of studies, jobs and deliveries."""

TONES: Mapping[str, str] = {
    "RECEIVING": "busy",
    "RUNNING": "busy",
    "SENDING": "busy",
    "QUEUED": "wait",
    "WAITING": "wait",
    "SEG_READY": "wait",
    "SENT": "good",
    "COMMITTED": "good",
    "DONE": "good",
    "COMPLETE": "good",
    "FAILED": "bad",
    "SEND_FAILED": "bad",
}
"""Colour of a state: busy, wait, good or bad; states that are not here are quiet."""

TITLES: Mapping[int, str] = {
    400: "Bad request",
    403: "Not allowed",
    404: "Not found",
    409: "Not possible now",
    413: "Too large",
    422: "Not understood",
    429: "Too many requests",
    500: "Something went wrong",
    503: "Not available",
}
"""Of pages that tell of an error, by status."""

ASSOCIATION_ENDS: Mapping[str, str] = {"RELEASED": "released", "ABORTED": "aborted", "LOST": "lost"}
"""How an association ended (PS3.8 section 7)."""

STAGES: Mapping[str, str] = {
    "load": "Loading the model",
    "read": "Reading files",
    "decode": "Decoding pixels",
    "segment": "Segmenting",
    "draw": "Drawing pictures",
    "preview": "Writing previews",
    "encode": "Encoding objects",
    "validate": "Validating objects",
}
"""What a worker does with a job, in this order."""

ROLES: Mapping[str, str] = {"viewer": "Viewer", "operator": "Operator", "admin": "Administrator", "auditor": "Auditor"}
"""What a person is."""

SCOPES: Mapping[str, str] = {
    "read": "See studies and queues",
    "operate": "Change the work on studies",
    "admin": "Manage accounts and tokens",
    "audit": "Read the audit log",
}
"""What a token may do."""
