"""While the audit log cannot be written nothing that it would tell of happens: every change of state is refused."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from databases import APPLICATION, as_owner
from record_story import (
    assert_sound,
    association,
    events,
    instance,
    kept,
    listener,
    queued,
    quiet,
    ready,
    receive,
    requests,
    running,
)
from sqlalchemy import select, text

from db import audit, deliveries, jobs, processes, register, retention, studies
from db.audit import Event
from db.models import Base
from db.session import Record
from dicom_core.errors import VesselqError
from dicom_core.job import JobState
from dicom_core.study import AssociationOutcome


@contextmanager
def _no_audit(record: Record) -> Iterator[None]:
    """The log takes no row: a lost right on PostgreSQL, a damaged table on SQLite."""
    if record.engine.dialect.name == "postgresql":
        broken, mended = (
            f"REVOKE INSERT ON audit_events FROM {APPLICATION}",
            f"GRANT INSERT ON audit_events TO {APPLICATION}",
        )
    else:
        broken, mended = "ALTER TABLE audit_events RENAME TO lost", "ALTER TABLE lost RENAME TO audit_events"
    with as_owner(record) as connection:
        connection.execute(text(broken))
    try:
        yield
    finally:
        with as_owner(record) as connection:
            connection.execute(text(mended))


def _everything(record: Record) -> dict[str, list[tuple[Any, ...]]]:
    with record.reading() as session:
        return {
            table.name: sorted((tuple(row) for row in session.execute(select(table))), key=repr)
            for table in Base.metadata.sorted_tables
        }


def _receive(record: Record) -> Callable[[], object]:
    by = association(listener(record))
    return lambda: register.record_instances(record, [instance(by, 1)])


def _receive_late(record: Record) -> Callable[[], object]:
    queued(record)
    by = association(listener(record))
    return lambda: register.record_instances(record, [instance(by, 9)])


def _close_association(record: Record) -> Callable[[], object]:
    by = association(listener(record))
    register.record_instances(record, [instance(by, 1)])
    return lambda: register.close_association(record, by, AssociationOutcome.RELEASED)


def _complete(record: Record) -> Callable[[], object]:
    receive(record, 1)
    found = quiet(record)
    return lambda: studies.complete(record, found, requests(found))


def _claim(record: Record) -> Callable[[], object]:
    queued(record)
    return lambda: jobs.claim(record, "worker-1", 60)


def _keep_result(record: Record) -> Callable[[], object]:
    job = running(record)
    return lambda: jobs.keep_result(record, job, kept(job))


def _find_nothing(record: Record) -> Callable[[], object]:
    job = running(record)
    return lambda: jobs.finish_without_result(record, job, JobState.NO_VESSEL_FOUND, "the mask is empty", {})


def _hand_back(record: Record) -> Callable[[], object]:
    job = running(record)
    return lambda: jobs.hand_back(record, job, "told to stop")


def _claim_delivery(record: Record) -> Callable[[], object]:
    ready(record)
    return lambda: deliveries.claim(record, "sender-1", 60)


def _sent(record: Record) -> Callable[[], object]:
    ready(record)
    delivery = deliveries.claim(record, "sender-1", 60)
    assert delivery is not None
    return lambda: deliveries.sent(record, delivery, "0x0000")


def _purge(record: Record) -> Callable[[], object]:
    receive(record, 1)
    found = quiet(record)
    studies.complete(record, found, requests(found, skip="no rule"))
    return lambda: retention.purge_sources(record, 0)


def _start_process(record: Record) -> Callable[[], object]:
    return lambda: processes.start(record, "web", version="1", configuration={})


def _read(record: Record) -> Callable[[], object]:
    return lambda: audit.record_event(record, Event.AUDIT_READ)


@pytest.mark.parametrize(
    "prepare",
    [
        _receive, _receive_late, _close_association, _complete, _claim, _keep_result, _find_nothing, _hand_back,
        _claim_delivery, _sent, _purge, _start_process, _read,
    ],
)  # fmt: skip
def test_without_its_audit_row_nothing_changes(record, prepare):
    """Refused with an error of ours, no row of any table differs; once the log works again it is done."""
    action = prepare(record)
    before = _everything(record)
    with _no_audit(record), pytest.raises(VesselqError):
        action()
    assert _everything(record) == before
    rows = len(events(record))
    action()
    assert len(events(record)) > rows
    assert_sound(record)
