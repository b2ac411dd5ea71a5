"""A small Storage SCP that files what it is sent: the result PACS of a demonstration where no real one is installed."""

from pathlib import Path
from types import TracebackType
from typing import Self

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import SegmentationStorage, Verification
from pynetdicom.transport import ThreadedAssociationServer

from dicom_core.identifiers import is_uid

_STORED, _CANNOT_UNDERSTAND, _OUT_OF_RESOURCES = 0x0000, 0xC000, 0xA700


class ResultFolder:
    """Takes Segmentation objects on loopback and writes ``FOLDER/SOPInstanceUID.dcm``; starts with ``start``."""

    def __init__(self, folder: Path, *, ae_title: str, port: int) -> None:
        self.folder = folder
        self.ae_title = ae_title
        self.port = port
        self._server: ThreadedAssociationServer | None = None

    def start(self) -> None:
        """Listen in threads of this process."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        entity = AE(ae_title=self.ae_title)
        entity.require_called_aet = True
        entity.add_supported_context(Verification)
        entity.add_supported_context(SegmentationStorage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        self._server = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def path(self, sop_instance_uid: str) -> Path:
        """Where an object is, if it was sent."""
        return self.folder / f"{sop_instance_uid}.dcm"

    def _store(self, event: Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        if not is_uid(uid):
            return _CANNOT_UNDERSTAND
        part = self.folder / f"{uid}.part"
        try:
            part.write_bytes(event.encoded_dataset())
            part.rename(self.path(uid))
        except OSError:
            return _OUT_OF_RESOURCES
        return _STORED

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
