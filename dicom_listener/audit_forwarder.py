"""The dispatcher's duty to tell audit repositories what the log says (PS3.15 section A.6)."""

from dataclasses import dataclass

from db import audit_forwarding
from db.audit_export.dicom_xml import audit_message
from db.audit_export.facts import site_of
from db.audit_export.forms import messages
from db.audit_export.message import Message
from db.session import Record
from dicom_core.errors import ConfigurationError, LeaseLostError, UnavailableError
from dicom_core.setting_tables import AuditRepositorySettings
from dicom_core.settings import Settings
from dicom_listener.audit_repository import SyslogMessage, sender

FORWARD_SECONDS = 2.0
"""Pause between two looks for news."""
ROWS_AT_ONCE = 200
_BATCHES_AT_ONCE = 50
_LEASE_TIMEOUTS = 6
"""A batch may wait for the server this many times: name, connection, handshake, bytes, end, and one to spare."""


@dataclass(frozen=True, slots=True)
class AuditForwarder:
    """Tells one repository, holding the lease in the name of the record's process."""

    settings: Settings
    repository: AuditRepositorySettings
    record: Record

    def forward(self) -> None:
        """Send what the repository has not got, batch by batch.

        Raises:
            UnavailableError: It did not take a batch; the rows are sent again after a pause.
            ConfigurationError: A certificate or key cannot be used any more; the rows are sent again after a pause.
        """
        for _ in range(_BATCHES_AT_ONCE):
            batch = audit_forwarding.claim(
                self.record,
                self.repository.name,
                self.record.process,
                lease_seconds=30 + _LEASE_TIMEOUTS * self.repository.timeout_seconds,
                limit=ROWS_AT_ONCE,
            )
            if batch is None:
                return
            told = [
                _as_syslog(message)
                for message in messages(self.record, site_of(self.settings), batch.rows)
                if message.standard
            ]
            try:
                if told:
                    sender(self.repository)(told)
            except (UnavailableError, ConfigurationError) as error:
                audit_forwarding.failed(self.record, batch, str(error))
                raise
            try:
                audit_forwarding.sent(self.record, batch)
            except LeaseLostError:  # another dispatcher goes on
                return


def forwarders(settings: Settings, record: Record) -> list[AuditForwarder]:
    """One for each repository of the settings.

    Raises:
        ConfigurationError: A certificate or key cannot be used.
    """
    for repository in settings.audit.repositories:
        sender(repository)
    return [AuditForwarder(settings, repository, record) for repository in settings.audit.repositories]


def _as_syslog(message: Message) -> SyslogMessage:
    return SyslogMessage(message.at, message.process, message.outcome > 0, audit_message(message))
