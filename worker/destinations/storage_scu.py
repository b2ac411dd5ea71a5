"""A Storage SCP as destination: C-STORE over associations that stay open for a short while (PS3.4 annex B).

Opening an association costs more than sending a small object, so the last ones are kept warm. Explicit and implicit
VR little endian are offered in presentation contexts of their own, so that it is the peer's acceptance and not its
taste that decides; the bytes of the file go out as they are, unless the peer accepts only another of the syntaxes. Then
compressed objects are sent uncompressed, with equal pixels under the same UID.
"""

import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.presentation import PresentationContext, build_context

from dicom_core.errors import DeliveryError, PermanentDeliveryError, TransientDeliveryError
from dicom_core.kept_answers import keep_answers
from dicom_core.setting_tables import ListenerTLSSettings, StorageSCUSettings
from dicom_core.tls import client_context, handshake_problem
from worker.destinations.interface import judge_dimse_status, open_object

Offer = tuple[str, str]
"""SOP Class UID and Transfer Syntax UID."""

_VERIFICATION = "1.2.840.10008.1.1"
_SEGMENTATION, _LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
_RESULT_SOP_CLASSES = (
    _SEGMENTATION,
    _LABEL_MAP,
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
    "1.2.840.10008.5.1.4.1.1.7.2",  # Multi-frame Grayscale Byte Secondary Capture
    "1.2.840.10008.5.1.4.1.1.7.4",  # Multi-frame True Color Secondary Capture
    "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D SR
)
_UNCOMPRESSED = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
_NAMES = {_LABEL_MAP: "Label Map Segmentation Storage"}
"""Of SOP classes that are younger than pydicom's dictionary."""
_LOSSLESS = (str(RLELossless), str(DeflatedExplicitVRLittleEndian))
RESULT_OFFERS: tuple[Offer, ...] = (
    *((kind, syntax) for kind in _RESULT_SOP_CLASSES for syntax in _UNCOMPRESSED),
    *((kind, syntax) for kind in (_SEGMENTATION, _LABEL_MAP) for syntax in _LOSSLESS),
)
"""What vesselq makes."""


IDLE_SECONDS = 10.0
"""An association that is not used for this long is released."""
_MAXIMUM_IDLE = 4
_SLOWEST_BYTES_PER_SECOND = 256 * 1024
_MEDIUM_PRIORITY = 0
_REJECTED_PERMANENT, _SOURCE_IS_PRESENTATION = 1, 3  # PS3.8 table 9-21

# Send files as they are, in pieces, instead of decoding and encoding them; applies to paths only.
_config.STORE_SEND_CHUNKED_DATASET = True


def sop_class_name(sop_class: str) -> str:
    """The name of a SOP class in PS3.6, also of those that pydicom does not know yet."""
    return _NAMES.get(sop_class) or UID(sop_class).name


class _BrokenAssociationError(TransientDeliveryError):
    """The peer or the network ended the association before the answer came."""


class StorageSCU:
    """Sends objects to one Storage SCP.

    Args:
        settings: Where to and how long to wait.
        own_ae_title: Our AE title where the settings give none.
        offered: What may be sent; at most 128 pairs (PS3.8 section 9.3.2.2).

    Raises:
        ConfigurationError: A certificate or key cannot be used.
    """

    def __init__(
        self, settings: StorageSCUSettings, *, own_ae_title: str, offered: Sequence[Offer] = RESULT_OFFERS
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._contexts = [build_context(sop_class_uid, syntax) for sop_class_uid, syntax in offered]
        self._entity = AE(ae_title=settings.calling_ae_title or own_ae_title)
        self._entity.connection_timeout = settings.timeout_seconds
        self._entity.acse_timeout = settings.timeout_seconds
        self._entity.dimse_timeout = settings.timeout_seconds
        self._entity.network_timeout = max(settings.timeout_seconds, 2 * IDLE_SECONDS)  # the pool releases earlier
        self._warm = _WarmAssociations()
        self._tls = None
        if settings.tls:
            self._tls = client_context(settings.ca_file, settings.certificate_file, settings.key_file)

    @classmethod
    def for_sender(
        cls,
        ae_title: str,
        host: str,
        port: int,
        *,
        name: str,
        own_ae_title: str,
        timeout_seconds: float = 30,
        identity: ListenerTLSSettings | None = None,
    ) -> "StorageSCU":
        """The Storage SCP of an application that is not in the settings as a destination.

        With ``identity`` it is called over TLS, with that certificate and trust.
        """
        tls: dict[str, Any] = {}
        if identity is not None:
            files = ("ca_file", "certificate_file", "key_file")
            tls = {"tls": True, **{file: getattr(identity, file) for file in files}}
        settings = StorageSCUSettings(
            kind="storage_scu",
            name=name,
            ae_title=ae_title,
            host=host,
            port=port,
            timeout_seconds=timeout_seconds,
            **tls,
        )
        return cls(settings, own_ae_title=own_ae_title)

    def describe(self) -> str:
        """AE title, host and port."""
        over = " over TLS" if self._settings.tls else ""
        return f"Storage SCP {self._settings.ae_title} at {self._settings.host}:{self._settings.port}{over}"

    def send(
        self,
        file: Path,
        *,
        sop_instance_uid: str,
        study_instance_uid: str,  # noqa: ARG002  part of the Protocol
        series_instance_uid: str,  # noqa: ARG002  part of the Protocol
    ) -> str:
        """Store by C-STORE. See ``Destination.send``."""
        file_meta = _file_meta(file)
        if file_meta.MediaStorageSOPInstanceUID != sop_instance_uid:
            raise PermanentDeliveryError(f"the file {file.name} does not hold the instance {sop_instance_uid}")
        warm = self._warm.take()
        if warm is not None:
            try:
                return self._store(warm, file, file_meta)
            except _BrokenAssociationError:
                pass  # it may have been closed while it was idle; a fresh one tells
        return self._store(self._associate(self._contexts), file, file_meta)

    def check(self) -> str:
        """Verify by C-ECHO (PS3.4 annex A). See ``Destination.check``."""
        association = self._associate([build_context(_VERIFICATION)])
        try:
            response = association.send_c_echo()
        except RuntimeError as error:
            raise self._broken() from error
        finally:
            association.release()
        if "Status" not in response:
            raise self._broken()
        if response.Status != 0x0000:
            raise PermanentDeliveryError(
                f"{self.describe()} answered C-ECHO with 0x{response.Status:04X}", status=response.Status
            )
        return "0x0000 C-ECHO"

    def close(self) -> None:
        """Release the warm associations."""
        self._warm.close()

    def _associate(self, contexts: list[PresentationContext]) -> Association:
        rejections: list[A_ASSOCIATE_RJ] = []
        try:
            association = self._entity.associate(
                self._settings.host,
                self._settings.port,
                contexts=contexts,
                ae_title=self._settings.ae_title,
                tls_args=(self._tls, self._settings.server_name or self._settings.host) if self._tls else None,
                evt_handlers=[
                    (evt.EVT_CONN_OPEN, _tune_socket, [self._settings.timeout_seconds]),
                    (evt.EVT_DATA_SENT, _acknowledge_at_once),
                    (evt.EVT_PDU_RECV, _note_rejection, [rejections]),
                ],
            )
        except OSError as error:
            raise TransientDeliveryError(
                f"{self.describe()} cannot be reached: {error.strerror}; check host in the settings"
            ) from error
        if not association.is_established:
            raise self._refusal(association, rejections)
        keep_answers(association)
        return association

    def _refusal(self, association: Association, rejections: list[A_ASSOCIATE_RJ]) -> DeliveryError:
        if rejections:
            rejection = rejections[0]
            for_good = rejection.result == _REJECTED_PERMANENT and rejection.source != _SOURCE_IS_PRESENTATION
            kind = PermanentDeliveryError if for_good else TransientDeliveryError
            return kind(
                f"{self.describe()} rejected the association: {rejection.reason_str}; we called ourselves "
                f"{self._entity.ae_title}"
            )
        answer = association.acceptor.primitive
        if answer is not None and answer.result == 0 and not association.accepted_contexts:
            return PermanentDeliveryError(f"{self.describe()} accepts none of the SOP classes that were offered")
        return TransientDeliveryError(f"{self.describe()} {self._tls_problem() or 'does not answer'}")

    def _tls_problem(self) -> str:
        """What is wrong with TLS, for whoever has to mend it; pynetdicom keeps it to itself."""
        if self._tls is None:
            return ""
        settings = self._settings
        problem = handshake_problem(
            settings.host, settings.port, self._tls, settings.server_name, settings.timeout_seconds
        )
        return f"cannot be spoken to: {problem}" if problem else ""

    def _store(self, association: Association, file: Path, file_meta: FileMetaDataset) -> str:
        """One C-STORE; the association is kept warm when it is still good afterwards."""
        try:
            payload, remark = self._payload(association, file, file_meta)
            began = time.monotonic()
            # pynetdicom counts from the first byte sent, not from the last
            timeout_seconds = self._settings.timeout_seconds + file.stat().st_size / _SLOWEST_BYTES_PER_SECOND
            association.dimse_timeout = timeout_seconds
            response = association.send_c_store(payload, priority=_MEDIUM_PRIORITY)
        except RuntimeError as error:
            raise self._broken() from error
        except OSError as error:
            association.abort()
            raise TransientDeliveryError(f"the file {file.name} of the result cannot be read") from error
        except ValueError as error:
            association.abort()
            raise PermanentDeliveryError(f"the file {file.name} of the result cannot be encoded") from error
        if "Status" in response:
            self._warm.give_back(association)
            return judge_dimse_status(int(response.Status), self.describe()) + remark
        if time.monotonic() - began < timeout_seconds:
            raise self._broken()
        raise TransientDeliveryError(f"{self.describe()} took the object but did not answer in {timeout_seconds:.0f} s")

    def _payload(self, association: Association, file: Path, file_meta: FileMetaDataset) -> tuple[Any, str]:
        """What to send, and a remark for the answer.

        The path for bytes as they are, a data set when pynetdicom has to encode it for an accepted context.
        """
        sop_class_uid, syntax = str(file_meta.MediaStorageSOPClassUID), str(file_meta.TransferSyntaxUID)
        accepted = {
            str(context.transfer_syntax[0])
            for context in association.accepted_contexts
            if context.abstract_syntax == sop_class_uid
        }
        if syntax in accepted:
            return file, ""
        if accepted.intersection(_UNCOMPRESSED) and syntax in _UNCOMPRESSED:
            return pydicom.dcmread(file), ""
        if accepted.intersection(_UNCOMPRESSED) and syntax in _LOSSLESS:
            return _uncompressed(file), f"; sent uncompressed, {UID(syntax).name} is not accepted"
        self._warm.give_back(association)
        sop_class = sop_class_name(sop_class_uid)
        what = f"{sop_class} in {UID(syntax).name}" if accepted else sop_class
        raise PermanentDeliveryError(
            f"{self.describe()} accepts no {what}; have it accepted there, or take this kind of object out of results "
            "of the destination"
        )

    def _broken(self) -> _BrokenAssociationError:
        return _BrokenAssociationError(f"{self.describe()} ended the association before it answered")


class _WarmAssociations:
    """Associations between two uses. A timer releases those that nobody takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Association]] = []
        self._timer: threading.Timer | None = None

    def take(self) -> Association | None:
        """The one that was used last, None if there is none."""
        with self._lock:
            while self._idle:
                _, association = self._idle.pop()
                if association.is_established:
                    return association
        return None

    def give_back(self, association: Association) -> None:
        """Keep it for the next use."""
        with self._lock:
            keep = association.is_established and len(self._idle) < _MAXIMUM_IDLE
            if keep:
                self._idle.append((time.monotonic(), association))
                self._watch()
        if not keep:
            association.release()

    def close(self) -> None:
        """Release all."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        self._release_older_than(0)

    def _watch(self) -> None:
        """With the lock held: see that somebody looks after the oldest one in time."""
        if self._timer is None and self._idle:
            wait_seconds = max(0.0, self._idle[0][0] + IDLE_SECONDS - time.monotonic())
            self._timer = threading.Timer(wait_seconds, self._look_after)
            self._timer.daemon = True
            self._timer.start()

    def _look_after(self) -> None:
        with self._lock:
            self._timer = None
        self._release_older_than(IDLE_SECONDS)

    def _release_older_than(self, seconds: float) -> None:
        with self._lock:
            limit = time.monotonic() - seconds
            old = [association for used, association in self._idle if used <= limit]
            self._idle = [(used, association) for used, association in self._idle if used > limit]
            self._watch()
        for association in old:
            association.release()


def _file_meta(file: Path) -> FileMetaDataset:
    """The File Meta Information (PS3.10 section 7.1)."""
    with open_object(file) as stream:
        try:
            return read_partial(stream, stop_when=lambda *_: True).file_meta
        except (InvalidDicomError, ValueError, EOFError) as error:
            raise PermanentDeliveryError(f"the file {file.name} of the result is not a DICOM file") from error


def _uncompressed(file: Path) -> pydicom.Dataset:
    """The object in Explicit VR Little Endian: equal pixels, so the same SOP instance (PS3.4 B.4.1.3)."""
    dataset = pydicom.dcmread(file)
    if dataset.file_meta.TransferSyntaxUID == RLELossless:
        dataset.decompress(generate_instance_uid=False)
    # a deflated file is inflated by reading it
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _tune_socket(event: evt.Event, timeout_seconds: float) -> None:
    """No waiting for more to send (a request ends in a short packet), and no waiting for ever for a peer."""
    connection = event.assoc.dul.socket.socket
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(timeout_seconds)


def _note_rejection(event: evt.Event, rejections: list[A_ASSOCIATE_RJ]) -> None:
    """Keep a rejection: pynetdicom takes one that comes very fast for a failed connection."""
    if isinstance(event.pdu, A_ASSOCIATE_RJ):
        rejections.append(event.pdu)


def _acknowledge_at_once(event: evt.Event) -> None:
    """No delayed acknowledgement of the answer: peers built on DCMTK write it in two pieces and wait 40 ms between.

    Linux forgets the option with every segment that is sent.
    """
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
