"""Tables of the conformance statement, from the policy, the statuses and the destinations in the code."""

from collections.abc import Iterator

from pydicom.uid import UID

from dicom_core.errors import DeliveryError
from dicom_core.identifiers import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_core.setting_tables import ListenerSettings
from dicom_listener.association_policy import (
    TRANSFER_SYNTAXES,
    AllowedPeer,
    AssociationPolicy,
    AssociationRequest,
    Load,
    storage_contexts,
)
from dicom_listener.handlers import Status
from reference_blocks.markdown import code, table
from worker.destinations.interface import dimse_status_in_words, judge_dimse_status
from worker.destinations.storage_scu import RESULT_OFFERS, sop_class_name
from worker.result_header.catalogue import VESSEL_TYPES

_STATUSES = {
    Status.SUCCESS: "The object is on the disk and in the record. Also for a duplicate with equal content.",
    Status.PROCESSING_FAILURE: "A fault of vesselq that no other status names.",
    Status.DUPLICATE_SOP_INSTANCE: "Other content is stored under this SOP Instance UID. The first stays; this one is "
    "kept aside and audited.",
    Status.INVALID_OBJECT_INSTANCE: "The SOP Instance UID of the command is not a valid UID (PS3.5 section 9.1).",
    Status.SOP_CLASS_NOT_SUPPORTED: "The SOP Class of the command is not that of the presentation context, or is not "
    "one that is taken.",
    Status.OUT_OF_RESOURCES: "The object is larger than `listener.maximum_object_bytes`, the disk has less free space "
    "than `listener.critical_water_bytes`, is full or failing, or the database does not answer.",
    Status.DATA_SET_DOES_NOT_MATCH: "SOP Class or Instance UID in the data set differ from those of the command.",
    Status.CANNOT_UNDERSTAND: "The header cannot be read, or Study, Series or SOP UIDs are missing or invalid.",
}
_ANSWERS = (
    0x0000, 0x0001, 0x0107, 0x0110, 0x0111, 0x0112, 0x0116, 0x0117, 0x0122, 0x0124, 0x0210, 0x0211, 0x0212, 0x0213,
    0xA700, 0xA900, 0xB000, 0xB006, 0xB007, 0xC000, 0xFE00,
)  # fmt: skip
_RESULTS = {1: "rejected permanent", 2: "rejected transient"}
_SOURCES = {1: "service user", 2: "service provider (ACSE)", 3: "service provider (presentation)"}
_REASONS = {
    (1, 3): "calling AE title not recognised",
    (1, 7): "called AE title not recognised",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}


def implementation_table() -> str:
    """How vesselq names itself."""
    rows = [
        ("Implementation Class UID", code(IMPLEMENTATION_CLASS_UID)),
        ("Implementation Version Name", code(IMPLEMENTATION_VERSION_NAME)),
    ]
    return table(["", ""], rows)


def sop_classes_table() -> str:
    """What the Storage SCP accepts."""
    rows = [
        (UID(context.abstract_syntax_uid).name, code(context.abstract_syntax_uid)) for context in storage_contexts()
    ]
    return table(["SOP Class", "UID"], rows)


def transfer_syntaxes_table() -> str:
    """In which encodings, best first."""
    rows = [(number, UID(syntax).name, code(syntax)) for number, syntax in enumerate(TRANSFER_SYNTAXES, 1)]
    return table(["preference", "Transfer Syntax", "UID"], rows)


def verification_syntaxes() -> str:
    """The transfer syntaxes of Verification."""
    verification = storage_contexts()[0]
    return table(
        ["SOP Class", "Transfer Syntaxes"],
        [
            (
                UID(verification.abstract_syntax_uid).name,
                ", ".join(UID(s).name for s in verification.transfer_syntax_uids),
            )
        ],
    )


def rejections_table() -> str:
    """Every reason to reject an association, found by asking the policy itself."""
    rows = []
    for condition, rejection in _rejections():
        reason = _REASONS[rejection[1], rejection[2]]
        rows.append(
            (condition, f"{rejection[0]} ({_RESULTS[rejection[0]]})", f"{rejection[1]} ({_SOURCES[rejection[1]]})",
             f"{rejection[2]} ({reason})")
        )  # fmt: skip
    return table(["condition", "Result", "Source", "Reason"], rows)


def _rejections() -> Iterator[tuple[str, tuple[int, int, int]]]:
    settings = ListenerSettings()
    peers = (AllowedPeer("known", "KNOWN", ()),)
    ours, room = settings.ae_title, settings.low_water_bytes
    cases = (
        ("called AE title is not `listener.ae_title`", peers, ("KNOWN", "OTHER"), Load(0, 0, room)),
        ("no peer is configured", (), ("KNOWN", ours), Load(0, 0, room)),
        ("no configured peer has this calling AE title and address", peers, ("STRANGER", ours), Load(0, 0, room)),
        ("the listener is stopping, or its disk has failed", peers, ("KNOWN", ours), Load(0, 0, room, closing=True)),
        ("`listener.maximum_associations` is reached", peers, ("KNOWN", ours),
         Load(settings.maximum_associations, 0, room)),
        ("`listener.maximum_associations_per_peer` is reached for the address", peers, ("KNOWN", ours),
         Load(0, settings.maximum_associations_per_peer, room)),
        ("less free space than `listener.low_water_bytes`", peers, ("KNOWN", ours), Load(0, 0, room - 1)),
    )  # fmt: skip
    for condition, allowed, (calling, called), load in cases:
        verdict = AssociationPolicy(settings, allowed).verdict(AssociationRequest(calling, called, "192.0.2.1"), load)
        if verdict is None:
            raise SystemExit(f"docs/reference_blocks/dicom.py: {condition}: the policy accepts it")
        yield condition, (verdict.result, verdict.source, verdict.reason)


def store_statuses_table() -> str:
    """What a C-STORE response of the listener can say."""
    if set(_STATUSES) != set(Status):
        raise SystemExit(f"docs/reference_blocks/dicom.py: explain {sorted(set(Status) ^ set(_STATUSES))}")
    return table(["status", "when"], [(code(f"0x{status:04X}"), _STATUSES[status]) for status in Status])


def offered_table() -> str:
    """What the Storage SCU offers."""
    syntaxes: dict[str, list[str]] = {}
    for sop_class, syntax in RESULT_OFFERS:
        syntaxes.setdefault(sop_class, []).append(UID(syntax).name)
    rows = [(sop_class_name(sop_class), code(sop_class), ", ".join(names)) for sop_class, names in syntaxes.items()]
    return table(["SOP Class", "UID", "Transfer Syntaxes"], rows)


def answers_table() -> str:
    """What the Storage SCU makes of an answer, found by asking the code that judges it."""
    return table(["status", "meaning", "behaviour"], [_answer(status) for status in _ANSWERS])


def _answer(status: int) -> tuple[str, str, str]:
    number, _, words = dimse_status_in_words(status).partition(" ")
    try:
        judge_dimse_status(status, "the peer")
    except DeliveryError as error:
        again = "tried again with growing pauses" if error.retryable else "tried three times, then SEND_FAILED"
        return code(number), words, again
    return code(number), words, "stored"


def vessel_types_table() -> str:
    """What a segment can be called."""
    rows = [
        (code(key), entry.code.meaning, f"({entry.code.value}, {entry.code.scheme_designator})")
        for key, entry in VESSEL_TYPES.items()
    ]
    return table(["key", "Segmented Property Type", "code"], rows)
