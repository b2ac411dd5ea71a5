"""Systems that we talk with: when they were last heard, whether they answered, having what waits for them sent now."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, or_, select, update

from db import audit, job_actions
from db.audit import Event, Outcome
from db.models import AssociationRow, AssociationStudy, DeliveryRow, JobRow, PeerCheck
from db.session import Record
from dicom_core.errors import ConflictError
from dicom_core.job import DeliveryState, JobState

REMEMBERED_DAYS = 30
"""Contacts that are longer ago are not looked for: the tables grow for years."""
MOST_RESENT = 1000
"""Jobs at once; the same again sends the next."""


@dataclass(frozen=True, slots=True)
class Contact:
    """What an AE title brought within the last days.

    Attributes:
        address: Of the last association.
        last_at: When that was opened.
        associations: How many brought something.
        instances: How many of these were stored.
    """

    ae_title: str
    address: str
    last_at: datetime
    associations: int
    instances: int


@dataclass(frozen=True, slots=True)
class Check:
    """The last question whether a system answers.

    Attributes:
        answer: In words.
    """

    name: str
    checked_at: datetime
    answered: bool
    answer: str


def contacts(record: Record) -> list[Contact]:
    """Who sent something within the last days, the last one first."""
    since = record.now() - timedelta(days=REMEMBERED_DAYS)
    recent = or_(AssociationRow.closed_at.is_(None), AssociationRow.closed_at >= since)
    grouped = (
        select(
            AssociationRow.calling_ae_title,
            AssociationRow.peer_address,
            func.max(AssociationRow.opened_at),
            func.count(func.distinct(AssociationRow.association_id)),
            func.coalesce(func.sum(AssociationStudy.stored), 0),
        )
        .outerjoin(AssociationStudy, AssociationStudy.association_id == AssociationRow.association_id)
        .where(recent)
        .group_by(AssociationRow.calling_ae_title, AssociationRow.peer_address)
    )
    with record.reading() as session:
        found = [Contact(*row[:4], int(row[4])) for row in session.execute(grouped)]
    return sorted(found, key=lambda one: one.last_at, reverse=True)


def last_sent(record: Record) -> Mapping[str, datetime]:
    """When each lane took an object last, within the last days."""
    since = record.now() - timedelta(days=REMEMBERED_DAYS)
    statement = (
        select(DeliveryRow.lane, func.max(DeliveryRow.finished_at))
        .join(JobRow, JobRow.job_id == DeliveryRow.job_id)
        .where(
            # the end of a job has an index; one that is not over is not old
            or_(JobRow.finished_at >= since, JobRow.state == JobState.SENDING),
            DeliveryRow.state.in_([DeliveryState.SENT, DeliveryState.COMMITTED]),
        )
        .group_by(DeliveryRow.lane)
    )
    with record.reading() as session:
        return {lane: at for lane, at in session.execute(statement) if at is not None}


def checks(record: Record) -> Mapping[str, Check]:
    """The last check of each system, by name."""
    with record.reading() as session:
        rows = session.scalars(select(PeerCheck)).all()
    return {row.name: Check(row.name, row.checked_at, row.answered, row.answer) for row in rows}


def keep_check(
    record: Record, name: str, *, answered: bool, answer: str, ae_title: str = "", address: str = ""
) -> Check:
    """Write down and audit what a system answered.

    Args:
        record: On behalf of who asked.
        name: ``peer/NAME`` or ``destination/NAME``.
        answered: Whether it did, and well.
        answer: In words.
        ae_title: Called, "" for what is no application entity.
        address: Where it was asked.
    """
    with record.writing() as transaction:
        row = transaction.session.get(PeerCheck, name)
        if row is None:
            row = PeerCheck(name=name)
            transaction.session.add(row)
        row.checked_at, row.answered, row.answer = transaction.now, answered, answer
        audit.append(
            transaction,
            Event.PEER_CHECKED,
            outcome=Outcome.SUCCESS if answered else Outcome.MINOR_FAILURE,
            ae_title=ae_title,
            address=address,
            detail={"name": name, "answer": answer},
        )
        return Check(name, row.checked_at, answered, answer)


def try_now(record: Record, lanes: tuple[str, ...], reason: str) -> int:
    """Have everything that waits for these lanes sent at once, without waiting for the end of a pause.

    Returns:
        How many objects.
    """
    with record.writing() as transaction:
        hurried = transaction.session.scalars(
            update(DeliveryRow)
            .where(DeliveryRow.lane.in_(lanes), DeliveryRow.state == DeliveryState.WAITING)
            .values(next_try_at=transaction.now, lane_held_until=None, rung_at=None)
            .returning(DeliveryRow.delivery_id)
        ).all()
        if hurried:
            audit.append(
                transaction,
                Event.TRANSFER_REPEATED,
                detail={"lanes": list(lanes), "objects": len(hurried), "reason": reason},
            )
        return len(hurried)


def resend_failed(record: Record, lanes: tuple[str, ...], reason: str) -> int:
    """Have sent again what these lanes refused for good: the same bytes under the same UIDs.

    Returns:
        Of how many jobs. Those whose result is no longer kept, or that were replaced meanwhile, are passed over.
    """
    with record.reading() as session:
        job_ids = session.scalars(
            select(DeliveryRow.job_id)
            .join(JobRow, JobRow.job_id == DeliveryRow.job_id)
            .where(
                DeliveryRow.lane.in_(lanes),
                DeliveryRow.state == DeliveryState.FAILED,
                JobRow.state == JobState.SEND_FAILED,
            )
            .distinct()
            .limit(MOST_RESENT)
        ).all()
    done = 0
    for job_id in job_ids:
        try:
            job_actions.retry(record, job_id, reason)
        except ConflictError:
            continue
        done += 1
    return done
