"""States of jobs and events of the audit log, from the tables that the code obeys."""

from collections.abc import Collection, Mapping

from db.audit import Event, Outcome
from db.audit_export.message import MEANINGS
from dicom_core.job import CANCELLABLE, FINISHED, RETRYABLE_BY_OPERATOR, TRANSITIONS, DeliveryState, JobState
from reference_blocks.markdown import code, table

_S = JobState
_STATES = {
    _S.QUEUED: "Waits for a worker, or for its next try.",
    _S.RUNNING: "A worker holds the lease and its child process works on the series.",
    _S.SEG_READY: "The objects are durable in the results folder; no destination has been tried.",
    _S.SENDING: "At least one destination has been tried, not all have what they get.",
    _S.SENT: "Every destination has answered that it stored all objects that it gets. Passed through: DONE follows in "
    "the same step.",
    _S.COMMITTED: "Every destination has promised to keep its objects. Not reached yet: nothing asks for commitment.",
    _S.DONE: "Nothing is left to do.",
    _S.PURGED: "DONE, and the source files have been removed by the retention policy; or SEND_FAILED or CANCELLED, and "
    "the result that was never sent everywhere has been removed.",
    _S.SKIPPED: "No rule wants the series, a rule says skip, or no code takes such images; the reason is in words.",
    _S.NO_VESSEL_FOUND: "The segmenter looked and found nothing; no object is made, unless `segmentation.send_empty` "
    "asks for one: then the job goes on like any other.",
    _S.SUPERSEDED: "A later generation of the study replaced it before its result was sent.",
    _S.FAILED: "All tries failed, or one failed in a way that another try cannot change.",
    _S.SEND_FAILED: "The result is kept; a destination refused one of its objects for good, or did not answer for too "
    "long.",
    _S.CANCELLED: "An operator stopped it.",
}
_NOT_YET = "allowed, but nothing does it yet"
_AGAIN = "operator: `vesselq retry`"
_STOPPED = "operator: `vesselq cancel`"
_REPLACED = "dispatcher: a later generation of the study holds other content for the series"
_NEVER_SENT = "dispatcher: `retention.purge_results_after_days` are over, and the result is removed"
_TRANSITIONS = {
    (_S.QUEUED, _S.RUNNING): "worker: claims it, most urgent first",
    (_S.QUEUED, _S.SUPERSEDED): _REPLACED,
    (_S.QUEUED, _S.CANCELLED): _STOPPED,
    (_S.QUEUED, _S.FAILED): _NOT_YET,
    (_S.RUNNING, _S.QUEUED): "worker: a try failed and another is left, or it is told to stop and hands the job back; "
    "dispatcher: the lease ran out and another try is left",
    (_S.RUNNING, _S.SEG_READY): "worker: all objects are valid and on the disk",
    (_S.RUNNING, _S.NO_VESSEL_FOUND): "worker: the mask is empty, and `segmentation.send_empty` is off",
    (_S.RUNNING, _S.SKIPPED): "worker: no code path takes such images, or the model does not know them",
    (_S.RUNNING, _S.FAILED): "worker or dispatcher: no try is left, or none can help",
    (_S.RUNNING, _S.SUPERSEDED): _REPLACED,
    (_S.RUNNING, _S.CANCELLED): _STOPPED,
    (_S.SEG_READY, _S.SENDING): "worker: the first delivery begins",
    (_S.SEG_READY, _S.SENT): _NOT_YET,
    (_S.SEG_READY, _S.DONE): "worker: the rule names no destination, or none gets one of the objects",
    (_S.SEG_READY, _S.SEND_FAILED): _NOT_YET,
    (_S.SEG_READY, _S.SUPERSEDED): _REPLACED,
    (_S.SEG_READY, _S.CANCELLED): _STOPPED,
    (_S.SENDING, _S.SENT): "worker: the last delivery was answered",
    (_S.SENDING, _S.SEND_FAILED): "worker or dispatcher: every delivery has ended, one of them FAILED",
    (_S.SENDING, _S.CANCELLED): _STOPPED,
    (_S.SENDING, _S.SUPERSEDED): f"{_REPLACED}, and nothing of the older result was sent or is on its way",
    (_S.SENT, _S.COMMITTED): _NOT_YET,
    (_S.SENT, _S.DONE): "worker: in the same transaction that made it SENT",
    (_S.SENT, _S.SENDING): _NOT_YET,
    (_S.SENT, _S.SEND_FAILED): _NOT_YET,
    (_S.COMMITTED, _S.DONE): _NOT_YET,
    (_S.DONE, _S.PURGED): "dispatcher: `retention.purge_sources_after_days` are over",
    (_S.DONE, _S.SENDING): _NOT_YET,
    (_S.NO_VESSEL_FOUND, _S.QUEUED): _AGAIN,
    (_S.NO_VESSEL_FOUND, _S.PURGED): _NOT_YET,
    (_S.SKIPPED, _S.QUEUED): f"{_AGAIN}, if a segmenter had been chosen for it",
    (_S.SKIPPED, _S.PURGED): _NOT_YET,
    (_S.FAILED, _S.QUEUED): _AGAIN,
    (_S.FAILED, _S.PURGED): _NOT_YET,
    (_S.SEND_FAILED, _S.SENDING): _AGAIN,
    (_S.SEND_FAILED, _S.SUPERSEDED): _REPLACED,
    (_S.SEND_FAILED, _S.PURGED): _NEVER_SENT,
    (_S.CANCELLED, _S.QUEUED): f"{_AGAIN}, when no result had been built",
    (_S.CANCELLED, _S.SENDING): f"{_AGAIN}, when the result had been built: it is sent, never built again",
    (_S.CANCELLED, _S.PURGED): _NEVER_SENT,
    (_S.SUPERSEDED, _S.PURGED): _NOT_YET,
}
_DELIVERY_STATES = {
    DeliveryState.WAITING: "Waits for a worker, or for its next try.",
    DeliveryState.SENDING: "A worker holds the lease and sends.",
    DeliveryState.SENT: "The destination answered that it stored the object.",
    DeliveryState.COMMITTED: "The destination promised to keep it. Not reached yet.",
    DeliveryState.FAILED: "Refused three times for good, or `give_up_after_hours` are over.",
    DeliveryState.CANCELLED: "Its job was cancelled or superseded before it was sent.",
}
_EVENTS = {
    Event.APPLICATION_START: "A process has started.",
    Event.APPLICATION_STOP: "A process has ended on purpose.",
    Event.CONFIGURATION_LOADED: "What a process that starts has read: the listener tells a hash of its settings.",
    Event.ASSOCIATION_REFUSED: "An association was rejected: result/source/reason and the reason in words.",
    Event.CONNECTION_REFUSED: "What came on the DICOM port is no association request; silent connects are not told.",
    Event.CONTEXT_REFUSED: "Presentation contexts of an accepted association were refused: all, or some of them.",
    Event.INSTANCE_REFUSED: "An object was answered with a failure status: the status and the reason in words.",
    Event.INSTANCE_CONFLICT: "Other content came under a SOP Instance UID that is stored already; it is kept aside.",
    Event.INSTANCES_RECEIVED: "An association ended: how many instances of one study it brought.",
    Event.INSTANCE_MISSING: "The file of a stored instance is gone or has other content: an alarm.",
    Event.STUDY_RECEIVING: "The first instance of a study, or one that came after it was complete.",
    Event.STUDY_COMPLETE: "The study was quiet for long enough, or an operator closed it: a generation begins.",
    Event.RUN_REQUESTED: "A person asked about one series: by what means, the prompt in words; a generation begins.",
    Event.JOB_QUEUED: "A job for one series: rule, segmenter, priority.",
    Event.JOB_SKIPPED: "A series that is not segmented, with the reason.",
    Event.JOB_RUNNING: "A worker has claimed the job; the attempt is counted.",
    Event.JOB_HANDED_BACK: "A worker that was told to stop gave the job back; costs no attempt.",
    Event.JOB_ATTEMPT_FAILED: "A try failed, another follows.",
    Event.JOB_FAILED: "The job is over without a result.",
    Event.JOB_NO_VESSEL_FOUND: "The segmenter found nothing.",
    Event.JOB_SUPERSEDED: "A later generation replaced the job.",
    Event.JOB_CANCELLED: "An operator stopped the job.",
    Event.JOB_RETRIED: "An operator wants another try.",
    Event.JOB_STATE: "Every other change of state: SENDING, SENT, DONE, SEND_FAILED, PURGED.",
    Event.SEG_CREATED: "The objects are kept: SOPInstanceUID, hash, model, version, weights, prompt, answer, warnings.",
    Event.TRANSFER_BEGUN: "A delivery begins.",
    Event.INSTANCES_SENT: "A destination answered that it stored the object.",
    Event.TRANSFER_HANDED_BACK: "A worker that was told to stop gave the delivery back.",
    Event.TRANSFER_FAILED: "A delivery failed; `gives_up` says whether it will be tried again.",
    Event.SOURCES_PURGED: "The retention policy removed the source files of a study.",
    Event.RESULT_REMOVED: "The retention policy removed a kept result.",
    Event.AUDIT_READ: "Somebody read the audit log, by command line, page or API.",
    Event.AUDIT_EXPORTED: "Rows were written into a file or an answer: the form, the range and the hash.",
    Event.AUDIT_VERIFIED: "Somebody had the chain walked: what was found.",
    Event.AUDIT_ARCHIVED: "Rows older than `audit.keep_days` went into an archive: range, hash of the file.",
    Event.STUDY_VIEWED: "A person opened the page, the pictures or the answer of one study.",
    Event.SIGNED_IN: "A person signed in, or tried to: then with an outcome other than success.",
    Event.SIGNED_OUT: "A person signed out, or was signed out.",
    Event.ACCESS_REFUSED: "A person or a token asked for what the role does not allow.",
    Event.ACCOUNT_CHANGED: "An account was made, disabled, enabled, or got another password.",
    Event.ROLES_CHANGED: "An account got other roles.",
    Event.TOKEN_CREATED: "A token of a program was made: its name and scopes.",
    Event.TOKEN_REVOKED: "A token counts no more.",
    Event.PRIORITY_CHANGED: "An operator changed the priority of a job: `from_priority`, `to_priority`, `reason`.",
    Event.TRANSFER_REPEATED: "An operator has a result sent again: `destinations`, `reason`.",
    Event.PEER_CHECKED: "An operator asked for a C-ECHO: the answer.",
}
_ACTIONS = {"C": "create", "R": "read", "U": "update", "D": "delete", "E": "execute"}


def _require_all(wanted: Collection[object], explained: Mapping[object, str]) -> None:
    if set(wanted) != set(explained):
        raise SystemExit(f"docs/reference_blocks/record.py: explain {sorted(map(str, set(wanted) ^ set(explained)))}")


def state_diagram() -> str:
    """The changes of state that happen today, as a Mermaid diagram."""
    _require_all(_pairs(), _TRANSITIONS)
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> QUEUED", "    [*] --> SKIPPED"]
    lines += [f"    {before} --> {after}" for before, after in _pairs() if _TRANSITIONS[before, after] != _NOT_YET]
    return "\n".join([*lines, "```"])


def _pairs() -> list[tuple[JobState, JobState]]:
    order = list(JobState)
    return [(before, after) for before in order for after in order if after in TRANSITIONS[before]]


def job_states_table() -> str:
    """Every state of a job."""
    _require_all(JobState, _STATES)
    rows = [
        (code(state.value), _STATES[state], _yes(state in FINISHED), _yes(state in RETRYABLE_BY_OPERATOR),
         _yes(state in CANCELLABLE))
        for state in JobState
    ]  # fmt: skip
    return table(["state", "meaning", "over", "`retry`", "`cancel`"], rows)


def _yes(value: bool) -> str:
    return "yes" if value else ""


def transitions_table() -> str:
    """Every change of state that the code allows, and who makes it."""
    _require_all(_pairs(), _TRANSITIONS)
    rows = [(code(before.value), code(after.value), _TRANSITIONS[before, after]) for before, after in _pairs()]
    return table(["from", "to", "by whom and when"], rows)


def delivery_states_table() -> str:
    """Every state of a delivery."""
    _require_all(DeliveryState, _DELIVERY_STATES)
    return table(["state", "meaning"], [(code(state.value), _DELIVERY_STATES[state]) for state in DeliveryState])


def events_table() -> str:
    """Every event of the audit log with its codes."""
    _require_all(Event, _EVENTS)
    rows = [
        (code(event.word), _EVENTS[event], _coded(event.event_id), _coded(event.event_type, ""),
         f"{event.action} ({_ACTIONS[event.action]})")
        for event in Event
    ]  # fmt: skip
    return table(["event", "when", "EventID", "EventTypeCode", "EventActionCode"], rows)


def _coded(value: str, absent: str = "none: our own event") -> str:
    return f"{value} {MEANINGS[value]}" if value else absent


def outcomes_table() -> str:
    """The outcomes of PS3.15 A.5.2."""
    return table(["number", "outcome"], [(int(outcome), outcome.name.lower().replace("_", " ")) for outcome in Outcome])
