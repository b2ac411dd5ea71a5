"""Which processes are alive. A process beats; one that is silent is taken for dead and its work goes to others."""

import os
import socket
import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy import update

from db import audit
from db.audit import Event
from db.models import Process
from db.session import Record

BEAT_SECONDS = 5.0
SILENT_AFTER_SECONDS = 30.0
"""A process that has not beaten for this long is dead."""


def start(record: Record, kind: str, *, version: str, configuration: Mapping[str, Any]) -> str:
    """Announce this process and audit its start and the configuration it loaded.

    Args:
        record: The record.
        kind: ``listener``, ``dispatcher``, ``worker`` or ``web``.
        version: Of the software.
        configuration: Facts about the settings for the audit log, for example their hash; no secrets.

    Returns:
        The process id of the record, 32 hexadecimal digits.

    Raises:
        UnavailableError: The record cannot be written: no work may begin.
    """
    process_id = uuid.uuid4().hex
    with record.writing() as transaction:
        transaction.session.add(
            Process(
                process_id=process_id,
                kind=kind,
                host=socket.gethostname(),
                pid=os.getpid(),
                version=version,
                started_at=transaction.now,
                last_seen_at=transaction.now,
            )
        )
        audit.append(transaction, Event.APPLICATION_START, detail={"kind": kind, "version": version})
        audit.append(transaction, Event.CONFIGURATION_LOADED, detail=dict(configuration))
    return process_id


def beat(
    record: Record, process_id: str, doing: str = "", resources: Mapping[str, str | int | None] | None = None
) -> None:
    """Say that the process is alive and, in words, what it does.

    Args:
        record: The record.
        process_id: From ``start``.
        doing: For the operator.
        resources: What a worker has at hand: its device, bytes of memory.
    """
    with record.writing() as transaction:
        transaction.session.execute(
            update(Process)
            .where(Process.process_id == process_id)
            .values(last_seen_at=transaction.now, doing=doing, resources=dict(resources) if resources else None)
        )


def stop(record: Record, process_id: str) -> None:
    """Say that the process ends on purpose."""
    with record.writing() as transaction:
        process = transaction.session.get(Process, process_id)
        if process is not None and process.stopped_at is None:
            process.stopped_at = transaction.now
            audit.append(transaction, Event.APPLICATION_STOP, detail={"kind": process.kind})
