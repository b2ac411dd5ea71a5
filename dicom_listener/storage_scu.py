"""Sending files to a Storage SCP, and C-ECHO: what ``vesselq send``, ``doctor`` and ``demo`` need of DICOM.

Bytes are sent as they are stored: each file goes over a presentation context with exactly its own transfer syntax, so
nothing is decoded or converted, or even read beyond the File Meta Information (PS3.10 section 7.1).
"""

import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import MediaStorageDirectoryStorage
from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification

from dicom_core.errors import DeliveryError, NotFoundError, UnavailableError
from dicom_core.kept_answers import keep_answers
from dicom_core.setting_tables import ListenerSettings, PeerSettings
from dicom_core.tls import client_context, handshake_problem

CONTEXTS_PER_ASSOCIATION = 128
"""Presentation context identifiers are the odd numbers from 1 to 255 (PS3.8 section 9.3.2.2)."""
Context = tuple[str, str]
"""SOP Class UID and transfer syntax UID."""


@dataclass(frozen=True, slots=True)
class DicomFile:
    """A file that can be sent.

    Attributes:
        path: Where it is.
        context: What it needs.
    """

    path: Path
    context: Context


@dataclass(slots=True)
class SendReport:
    """What the receiver answered.

    Attributes:
        sent: Objects that it stored, with or without a warning.
        statuses: How often each DIMSE status came.
        problems: File and reason, in words, of everything that was not stored.
    """

    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    problems: list[tuple[Path, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Receiver:
    """A Storage SCP and how we call it.

    Attributes:
        timeout_seconds: Longest wait for a connection, an answer to the association request or to one object.
        tls: Context to speak TLS with, None for plain DICOM.
        server_name: That its certificate must have, "" for the host.
    """

    host: str
    port: int
    called_ae_title: str
    calling_ae_title: str = "VESSELQ"
    timeout_seconds: float = 30.0
    tls: ssl.SSLContext | None = None
    server_name: str = ""

    def __str__(self) -> str:
        """For error texts."""
        return f"{self.called_ae_title} at {self.host}:{self.port}"


def receiver_of(peer: PeerSettings, host: str, own: ListenerSettings, timeout_seconds: float) -> Receiver:
    """The Storage SCP of a peer at ``host``, called as the listener that we are.

    Raises:
        ConfigurationError: It is to be called over TLS, and a certificate or key cannot be used.
    """
    tls = client_context(own.tls.ca_file, own.tls.certificate_file, own.tls.key_file) if peer.tls else None
    return Receiver(host, peer.port, peer.ae_title, own.ae_title, timeout_seconds, tls)


def find_dicom_files(places: Iterable[Path]) -> tuple[list[DicomFile], int]:
    """All DICOM files among ``places`` and below them, sorted by path, and how many other files there were.

    Raises:
        NotFoundError: A place does not exist.
    """
    found, others = [], 0
    for place in places:
        if not place.exists():
            raise NotFoundError(f"{place} does not exist")
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if not path.is_file():
                continue
            if (file := _dicom_file(path)) is not None:
                found.append(file)
            else:
                others += 1
    return found, others


def _dicom_file(path: Path) -> DicomFile | None:
    try:
        meta = read_file_meta_info(path)
        sop_class, syntax = str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)
    except (InvalidDicomError, OSError, AttributeError, ValueError, EOFError):
        return None
    # a directory of files is no object that an SCP stores (PS3.10 section 8.6)
    return DicomFile(path, (sop_class, syntax)) if sop_class != MediaStorageDirectoryStorage else None


def send_files(
    files: Sequence[DicomFile], receiver: Receiver, *, progress: Callable[[int], None] = lambda _done: None
) -> SendReport:
    """Send ``files`` in order over one association; over several, one after another, beyond 128 contexts.

    Args:
        files: From ``find_dicom_files``.
        receiver: Where to.
        progress: Called with the number of files that have been dealt with.

    Raises:
        UnavailableError: The receiver cannot be reached or ends the association in the middle.
        DeliveryError: It answered no: it refuses the association, or takes nothing of what was offered.
    """
    report = SendReport()
    done = 0
    for group in _groups(files):
        association = _associate(receiver, sorted({file.context for file in group}))
        try:
            for file in group:
                _send_one(association, file, receiver, report)
                done += 1
                progress(done)
        except BaseException:
            association.abort()
            raise
        association.release()
    return report


def _groups(files: Sequence[DicomFile]) -> list[list[DicomFile]]:
    """Files in order, cut where one more context would not fit into an association."""
    groups: list[list[DicomFile]] = []
    contexts: set[Context] = set()
    for file in files:
        if not groups or len(contexts | {file.context}) > CONTEXTS_PER_ASSOCIATION:
            groups.append([])
            contexts = set()
        groups[-1].append(file)
        contexts.add(file.context)
    return groups


def _associate(receiver: Receiver, contexts: Sequence[Context]) -> Association:
    entity = AE(ae_title=receiver.calling_ae_title)
    entity.connection_timeout = entity.acse_timeout = receiver.timeout_seconds
    entity.dimse_timeout = entity.network_timeout = receiver.timeout_seconds
    association = entity.associate(
        receiver.host,
        receiver.port,
        contexts=[build_context(sop_class, syntax) for sop_class, syntax in contexts],
        ae_title=receiver.called_ae_title,
        max_pdu=0,
        tls_args=(receiver.tls, receiver.server_name or receiver.host) if receiver.tls else None,
    )
    if association.is_established:
        keep_answers(association)
        return association
    if association.is_rejected:
        reason = association.acceptor.primitive.reason_str if association.acceptor.primitive else "no reason given"
        raise DeliveryError(
            f"{receiver} refuses the association ({reason}); it must know the calling AE title "
            f"{receiver.calling_ae_title}"
        )
    if association.is_aborted and association.acceptor.primitive is not None:
        raise DeliveryError(f"{receiver} takes none of the SOP classes and transfer syntaxes that were offered")
    raise UnavailableError(f"{receiver} {_tls_problem(receiver) or 'does not answer'}")


def _tls_problem(receiver: Receiver) -> str:
    """What is wrong with TLS; pynetdicom keeps it to itself."""
    if receiver.tls is None:
        return ""
    problem = handshake_problem(
        receiver.host, receiver.port, receiver.tls, receiver.server_name, receiver.timeout_seconds
    )
    return f"cannot be spoken to: {problem}" if problem else ""


def _send_one(association: Association, file: DicomFile, receiver: Receiver, report: SendReport) -> None:
    accepted = {(str(context.abstract_syntax), str(context.transfer_syntax[0])) for context in
                association.accepted_contexts}  # fmt: skip
    if file.context not in accepted:
        report.problems.append((file.path, "the receiver does not take its SOP class in its transfer syntax"))
        return
    before, _config.STORE_SEND_CHUNKED_DATASET = _config.STORE_SEND_CHUNKED_DATASET, True
    try:
        answer = association.send_c_store(file.path)
    except (OSError, InvalidDicomError, AttributeError, ValueError) as error:
        report.problems.append((file.path, f"it cannot be read: {type(error).__name__}"))
        return
    except RuntimeError:
        raise UnavailableError(f"{receiver} ended the association after {report.sent} objects") from None
    finally:
        _config.STORE_SEND_CHUNKED_DATASET = before
    if "Status" not in answer:
        raise UnavailableError(f"{receiver} gave no answer after {report.sent} objects")
    status = int(answer.Status)
    report.statuses[status] += 1
    # PS3.7 annex C: success and the warnings mean that the object is stored
    if status == 0 or status >> 12 == 0xB or status in (0x0001, 0x0107, 0x0116):
        report.sent += 1
    else:
        report.problems.append((file.path, f"status 0x{status:04X}"))


def verify(receiver: Receiver) -> float:
    """C-ECHO (PS3.4 annex A). Returns the seconds from the connection to the answer.

    Raises:
        UnavailableError: No answer, or not a good one.
        DeliveryError: The receiver refuses the association.
    """
    begin = time.monotonic()
    association = _associate(receiver, [(str(Verification), "1.2.840.10008.1.2")])
    answer = association.send_c_echo()
    association.release()
    if "Status" not in answer or answer.Status != 0:
        raise UnavailableError(f"{receiver} does not answer C-ECHO with success")
    return time.monotonic() - begin
