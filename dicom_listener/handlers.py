"""C-STORE and C-ECHO as rules: what is taken, what is refused and with which status. Knows no network library.

An object passes through ``Intake.begin`` (the command set is known), ``IncomingInstance.write`` (its bytes stream into
the spool) and ``IncomingInstance.finish`` (it is durable and recorded, or refused). None of them raises: whatever
happens to one object is answered with a status, and the association lives on.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from enum import IntEnum

from db.audit import Event
from dicom_core.errors import IntakeError, SpoolError, UnavailableError
from dicom_core.identifiers import is_uid
from dicom_core.logs import get_logger
from dicom_core.pseudonym import patient_hash
from dicom_core.spool import IncomingFile, Spool
from dicom_core.study import Association, ReceivedInstance, Registration
from dicom_listener.association_policy import STORAGE_CLASSES
from dicom_listener.committer import Committer
from dicom_listener.data_set_header import Header, HeaderError, HeaderIncompleteError, read_header
from dicom_listener.file_meta import file_meta
from dicom_listener.refusals import Refusal, RefusalAudit

HEADER_BYTES = 4 * 1024 * 1024
"""(0020,000E) must come within this much of the data set; only reference sequences of thousands of items reach far."""
_FIRST_LOOK_BYTES = 16 * 1024
_MODALITY_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _")
_MODALITY_LENGTH = 16
_STORAGE_CLASSES = frozenset(STORAGE_CLASSES)
log = get_logger("listener.handlers")


class Status(IntEnum):
    """What a C-STORE-RSP can say (PS3.4 B.2.3, PS3.7 annex C)."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    """A fault of ours that has no better word."""
    DUPLICATE_SOP_INSTANCE = 0x0111
    """Other content under a SOP Instance UID that is stored already (PS3.7 C.5.7): the first one stays, this one is
    kept aside. Orthanc and others take this status for a warning and go on sending."""
    INVALID_OBJECT_INSTANCE = 0x0117
    """The SOP Instance UID is no UID (PS3.7 C.5.10)."""
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    """The class is not that of the presentation context, or not one that is taken."""
    OUT_OF_RESOURCES = 0xA700
    """The object is too large, the disk is full or failing, the database does not answer. Try again later."""
    DATA_SET_DOES_NOT_MATCH = 0xA900
    """SOP Class or Instance UID in the data set are not those of the command."""
    CANNOT_UNDERSTAND = 0xC000
    """The header cannot be read, or it names no study or series."""


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """What a C-STORE-RQ and its presentation context say; the UIDs are as they came, unchecked."""

    sop_class_uid: str
    sop_instance_uid: str
    abstract_syntax_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and, for anything but success, an Error Comment (0000,0902) of at most 64 characters."""

    status: Status
    comment: str = ""


@dataclass(slots=True)
class OpenAssociation:
    """An accepted association and what it brought so far, by registration or status."""

    association: Association
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Intake:
    """What storing needs: where bytes go, who commits, what the limits are.

    Attributes:
        spool: Where bytes go.
        committer: Makes them durable and recorded.
        refusals: The audit of what is not taken.
        free_bytes: Free space of the spool, cheap to ask.
        critical_water_bytes: With less free space objects are refused before their bytes are written.
        maximum_object_bytes: Larger objects are refused; what comes beyond is thrown away as it arrives.
        site_key: What the pseudonyms of patients are made with.
        older_fingerprint: Under which an older release knows an instance (``SpooledFile.keep``), "" for none.
    """

    spool: Spool
    committer: Committer
    refusals: RefusalAudit
    free_bytes: Callable[[], int]
    critical_water_bytes: int
    maximum_object_bytes: int
    site_key: str
    older_fingerprint: Callable[[str], str]

    def begin(self, opened: OpenAssociation, request: StoreRequest) -> "IncomingInstance":
        """Begin to take one object, or to throw it away if the command alone says that it cannot be taken."""
        return IncomingInstance(self, opened, request)


def answer_echo() -> int:
    """C-ECHO (PS3.7 section 9.1.5): always success."""
    return Status.SUCCESS


class IncomingInstance:
    """One object on its way in. ``write`` and ``finish`` come from one thread, ``abandon`` from any."""

    def __init__(self, intake: Intake, opened: OpenAssociation, request: StoreRequest) -> None:
        self._intake = intake
        self._opened = opened
        self._request = request
        self._head = bytearray()
        self._look_at = _FIRST_LOOK_BYTES
        self._header: Header | None = None
        self._size = 0
        self._refused: IntakeError | None = None
        self._file: IncomingFile | None = None
        self._stack = ExitStack()
        self._end = threading.Lock()
        with self._refusing():
            self._check_request()
            meta = file_meta(request.sop_class_uid, request.sop_instance_uid, request.transfer_syntax_uid)
            self._file = self._stack.enter_context(intake.spool.receive(meta))

    def write(self, *pieces: bytes | memoryview) -> None:
        """Take the next bytes of the data set as they came. Bytes of a refused object are thrown away."""
        if self._refused is not None or self._file is None:
            return
        with self._refusing():
            self._size += sum(map(len, pieces))
            if self._size > self._intake.maximum_object_bytes:
                raise IntakeError("object is larger than maximum_object_bytes", status=Status.OUT_OF_RESOURCES)
            for piece in pieces:
                if self._header is None and len(self._head) < HEADER_BYTES:
                    self._look(piece)
            self._file.write(*pieces)

    def finish(self) -> Answer:
        """The object is complete: keep and record it, or refuse it."""
        try:
            with self._refusing():
                if self._refused is None and self._file is not None:
                    return self._keep(self._file)
            return self._refusal(self._refused or IntakeError("not begun", status=Status.PROCESSING_FAILURE))
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Leave nothing behind that was not kept. Harmless when it is called again."""
        with self._end:
            self._stack.close()
        self._head.clear()

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Turn whatever goes wrong inside the block into the refusal of the object; its file goes at once."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  the edge: an object of a stranger must not end the association
            self._refused = _as_intake_error(error)
            self.abandon()

    def _keep(self, file: IncomingFile) -> Answer:
        header = self._whole_header()
        kept: list[ReceivedInstance] = []

        def durable() -> ReceivedInstance:
            kept.append(self._durable(file, header))
            return kept[0]

        registration = self._intake.committer.commit(durable)
        if not self._intake.spool.path(kept[0].path).is_file():
            # the retention policy removed the same, purged instance at the moment at which it came again
            raise IntakeError("The stored file went; send again", status=Status.OUT_OF_RESOURCES)
        self._opened.counts[registration.value] += 1
        if registration is Registration.CONFLICT:
            return Answer(Status.DUPLICATE_SOP_INSTANCE, "other content is stored under this UID; kept aside")
        return Answer(Status.SUCCESS)

    def _durable(self, file: IncomingFile, header: Header) -> ReceivedInstance:
        spooled = file.keep(header.sop_instance_uid, self._intake.older_fingerprint(header.sop_instance_uid))
        return ReceivedInstance(
            association=self._opened.association,
            study_instance_uid=header.study_instance_uid,
            series_instance_uid=header.series_instance_uid,
            sop_instance_uid=header.sop_instance_uid,
            sop_class_uid=header.sop_class_uid,
            transfer_syntax_uid=self._request.transfer_syntax_uid,
            modality=_modality(header.modality),
            fingerprint=spooled.fingerprint,
            size_bytes=spooled.size_bytes,
            path=spooled.path,
            patient_hash=patient_hash(self._intake.site_key, header.patient_id, header.issuer_of_patient_id),
        )

    def _check_request(self) -> None:
        request = self._request
        if request.sop_class_uid != request.abstract_syntax_uid or request.sop_class_uid not in _STORAGE_CLASSES:
            raise IntakeError("SOP Class is not that of the context", status=Status.SOP_CLASS_NOT_SUPPORTED)
        if not is_uid(request.sop_instance_uid):
            raise IntakeError("SOP Instance UID is not a valid UID", status=Status.INVALID_OBJECT_INSTANCE)
        if self._intake.committer.failure is not None:
            raise IntakeError("the disk of the spool has failed", status=Status.OUT_OF_RESOURCES)
        if self._intake.free_bytes() < self._intake.critical_water_bytes:
            raise IntakeError("the spool is below critical_water_bytes", status=Status.OUT_OF_RESOURCES)

    def _look(self, data: bytes | memoryview) -> None:
        """Look whether the header is whole in the first bytes, and again in four times as many; else keep them."""
        while self._look_at <= len(self._head) + len(data):
            beginning = bytes(self._head) + bytes(data[: self._look_at - len(self._head)])
            self._look_at *= 4
            with suppress(HeaderIncompleteError):
                self._header = read_header(beginning, self._request.transfer_syntax_uid, complete=False)
                self._check_header(self._header)
                self._head.clear()
                return
        self._head += data

    def _whole_header(self) -> Header:
        if self._header is None:
            complete = len(self._head) == self._size
            self._header = read_header(bytes(self._head), self._request.transfer_syntax_uid, complete=complete)
            self._check_header(self._header)
        return self._header

    def _check_header(self, header: Header) -> None:
        named = (header.sop_class_uid, header.sop_instance_uid)
        if not all(named):
            raise IntakeError("data set has no SOP Class or Instance UID", status=Status.CANNOT_UNDERSTAND)
        if named != (self._request.sop_class_uid, self._request.sop_instance_uid):
            raise IntakeError("data set is another SOP Class or Instance", status=Status.DATA_SET_DOES_NOT_MATCH)
        for name, value in (("Study", header.study_instance_uid), ("Series", header.series_instance_uid)):
            if not is_uid(value):
                problem = "is not a valid UID" if value else "is missing"
                raise IntakeError(f"{name} Instance UID {problem}", status=Status.CANNOT_UNDERSTAND)

    def _refusal(self, refused: IntakeError) -> Answer:
        status = Status(refused.status)
        self._opened.counts["REFUSED"] += 1
        association = self._opened.association
        study = self._header.study_instance_uid if self._header else ""
        instance = self._request.sop_instance_uid
        self._intake.refusals.note(
            Refusal(
                Event.INSTANCE_REFUSED,
                calling_ae_title=association.calling_ae_title,
                peer_address=association.peer_address,
                code=f"0x{status:04X}",
                reason=str(refused),
                study_instance_uid=study if is_uid(study) else "",
                sop_instance_uid=instance if is_uid(instance) else "",
                association_id=association.association_id,
            )
        )
        return Answer(status, str(refused)[:64])


def _as_intake_error(error: Exception) -> IntakeError:
    if isinstance(error, IntakeError):
        return error
    if isinstance(error, HeaderError):
        return IntakeError(f"header cannot be read: {error}", status=Status.CANNOT_UNDERSTAND)
    if isinstance(error, SpoolError):
        return IntakeError(str(error), status=Status.OUT_OF_RESOURCES)
    if isinstance(error, UnavailableError):
        return IntakeError("the database does not answer", status=Status.OUT_OF_RESOURCES)
    # the name of the class only: the text of an unknown error may quote the data set
    log.error("object-failed", error=type(error).__name__)
    return IntakeError(f"internal error: {type(error).__name__}", status=Status.PROCESSING_FAILURE)


def _modality(value: str) -> str:
    """A Code String of PS3.5 section 6.2, "" if it is none."""
    fits = len(value) <= _MODALITY_LENGTH and _MODALITY_CHARACTERS.issuperset(value)
    return value if fits else ""
