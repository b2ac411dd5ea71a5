"""The composition root of a worker: where settings become a record, a runner and destinations."""

import threading
from importlib.metadata import version

from db import migrate
from db.session import Record
from dicom_core.errors import ConfigurationError
from dicom_core.job import Delivery
from dicom_core.settings import SENDER, Settings
from worker.destinations.interface import Destination
from worker.destinations.registry import back_to_sender, make_destination
from worker.runner import Runner

SOFTWARE_VERSION = version("vesselq")
DEFAULT_GIVE_UP_AFTER_HOURS = 72.0
"""For results that go back to the sender, which have no destination entry of their own."""


class Services:
    """Everything that the use cases of one worker process need, made once.

    Attributes:
        settings: As loaded at the start.
        record: The database.
        site_key: Of this installation, for derived UIDs.
        owner: Id of this process in the record.
        stopping: Set when the process is told to end: work is handed back.
    """

    def __init__(self, settings: Settings, record: Record, owner: str) -> None:
        self.settings = settings
        self.record = record
        self.owner = owner
        self.site_key = migrate.site_key(record)
        self.stopping = threading.Event()
        self.runner = Runner(settings.worker)
        self._destinations: dict[str, Destination] = {}
        self._lock = threading.Lock()

    def destination_of(self, delivery: Delivery) -> Destination:
        """Where a delivery goes; connections are kept for the next one.

        Raises:
            PermanentDeliveryError: "Back to the sender" and the sender is no configured peer.
            ConfigurationError: The destination is no longer configured.
        """
        sender = delivery.destination == SENDER
        key = f"{SENDER}:{delivery.calling_ae_title}@{delivery.peer_address}" if sender else delivery.destination
        with self._lock:
            if key not in self._destinations:
                self._destinations[key] = self._make(delivery, sender=sender)
            return self._destinations[key]

    def _make(self, delivery: Delivery, *, sender: bool) -> Destination:
        own_ae_title = self.settings.listener.ae_title
        if sender:
            return back_to_sender(
                self.settings.peers,
                calling_ae_title=delivery.calling_ae_title,
                peer_address=delivery.peer_address,
                own_ae_title=own_ae_title,
                identity=self.settings.listener.tls,
            )
        configured = self.settings.destination(delivery.destination)
        if configured is None:
            raise ConfigurationError(f"the destination {delivery.destination} is no longer configured")
        return make_destination(configured, calling_ae_title=own_ae_title)

    def give_up_after_hours(self, delivery: Delivery) -> float:
        """How long a delivery is tried."""
        configured = self.settings.destination(delivery.destination)
        return configured.give_up_after_hours if configured else DEFAULT_GIVE_UP_AFTER_HOURS

    def close(self) -> None:
        """End the child process and all connections."""
        self.runner.stop()
        for destination in self._destinations.values():
            destination.close()
