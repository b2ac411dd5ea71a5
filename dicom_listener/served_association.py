"""What the association server knows of its associations, whichever way their bytes take."""

import ssl
from collections.abc import Callable
from typing import Any

from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association

from dicom_core.setting_tables import ListenerSettings
from dicom_listener.store_messages import BeginInstance


class ServedAssociation(Association):  # type: ignore[misc]  # pynetdicom is not typed for us
    """An association of the acceptor; tells once that it is over, however it ended.

    Args:
        entity: Who we are.
        settings: Limits and time limits.
        tls: What to speak TLS with, None for plain DICOM.
        ended: Called last, in the thread of the association.

    Attributes:
        judged: Whether an A-ASSOCIATE-RQ came that was accepted or rejected; the server sets it.
        certificate_names: Of the peer's certificate.
    """

    def __init__(
        self,
        entity: ApplicationEntity,
        settings: ListenerSettings,
        tls: ssl.SSLContext | None,
        ended: "Callable[[Any], None]",
    ) -> None:
        super().__init__(entity, "acceptor")
        self.judged = False
        self.certificate_names: frozenset[str] = frozenset()
        self._settings = settings
        self._tls = tls
        self._ended = ended

    @property
    def first_bytes(self) -> bytes:
        """The header of the first PDU, as much of it as came."""
        raise NotImplementedError

    @property
    def fault(self) -> str:
        """Why the first PDU was not read to its end, "" for none."""
        raise NotImplementedError

    def admit(self, begin: BeginInstance) -> None:
        """The policy lets this peer in: objects may come, and PDUs of the size that is offered."""
        raise NotImplementedError

    def stop(self) -> None:
        """Abort, at the latest when the object that is on its way has been answered; from any thread."""
        raise NotImplementedError

    def hang_up(self) -> None:
        """Close without a word; from any thread."""
        raise NotImplementedError
