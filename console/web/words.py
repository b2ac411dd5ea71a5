"""English words for the codes of the record, as pages show them; keys of the catalogues of other languages."""

from collections.abc import Mapping

from db import stuck_work

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

OUTCOMES: Mapping[int, str] = {0: "success", 4: "minor failure", 8: "serious failure", 12: "major failure"}
"""Of audit events, by the code of EventOutcomeIndicator (PS3.15 section A.5.2)."""

STAGES: Mapping[str, str] = {
    "load": "Loading the model",
    "read": "Reading files",
    "decode": "Decoding pixels",
    "segment": "Segmenting",
    "draw": "Drawing pictures",
    "preview": "Writing previews",
    "encode": "Encoding objects",
    "validate": "Validating objects",
    "keep": "Keeping the result",
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

PROCESSES: Mapping[str, str] = {
    "listener": "Listener",
    "dispatcher": "Dispatcher",
    "worker": "Worker",
    "web": "Web pages",
}
"""Kinds of process."""

DESTINATIONS: Mapping[str, str] = {"storage_scu": "C-STORE", "stow_rs": "STOW-RS", "folder": "Folder"}
"""Kinds of destination."""

JOINS: Mapping[str, str] = {
    "all": "all of these hold",
    "any": "at least one of these holds",
    "not": "this does not hold",
}
"""What joins the comparisons of a rule."""

STUCK_REASONS: Mapping[str, str] = {code: reason for code, (reason, _) in stuck_work.SENTENCES.items()}
STUCK_ADVICE: Mapping[str, str] = {code: advice for code, (_, advice) in stuck_work.SENTENCES.items()}
"""Why work does not go on, and what to do."""
