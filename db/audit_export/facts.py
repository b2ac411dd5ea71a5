"""What audit messages need to know besides the row itself."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import func, select

from db.audit_checkpoints import CheckpointFile
from db.audit_queries import AuditRow
from db.models import Instance, ResultRow, Study
from db.session import Record
from dicom_core.setting_tables import StorageSCUSettings, StowRSSettings
from dicom_core.settings import Settings


@dataclass(frozen=True, slots=True)
class Node:
    """A system that results go to: AE title or URL, and its address."""

    user_id: str
    ae_titles: tuple[str, ...]
    address: str


@dataclass(frozen=True, slots=True)
class Site:
    """Who reports.

    Attributes:
        source_id: AuditSourceID.
        enterprise_site_id: AuditEnterpriseSiteID, "" for none.
        ae_title: Of the listener.
        destinations: By the names that the rows have.
        checkpoints: What vouches for its log, None where that is not known.
    """

    source_id: str
    enterprise_site_id: str
    ae_title: str
    destinations: Mapping[str, Node] = field(default_factory=dict)
    checkpoints: CheckpointFile | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """Of the studies and objects that some rows touch.

    Attributes:
        patients: Pseudonym of the patient by StudyInstanceUID.
        study_classes: SOP Class UIDs and numbers of instances by StudyInstanceUID, as the record knows them now.
        result_classes: SOP Class UID by SOPInstanceUID, of results.
    """

    patients: Mapping[str, str] = field(default_factory=dict)
    study_classes: Mapping[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    result_classes: Mapping[str, str] = field(default_factory=dict)


def site_of(settings: Settings) -> Site:
    """Who reports, from the settings."""
    nodes: dict[str, Node] = {}
    for one in settings.destinations:
        if isinstance(one, StorageSCUSettings):
            nodes[one.name] = Node(one.ae_title, (one.ae_title,), one.host)
        elif isinstance(one, StowRSSettings):
            nodes[one.name] = Node(one.url, (), "")
        else:
            nodes[one.name] = Node(one.name, (), "")
    audit, ae_title = settings.audit, settings.listener.ae_title
    return Site(audit.source_id, audit.enterprise_site_id, ae_title, nodes, CheckpointFile.of(settings))


def facts_of(record: Record, rows: Sequence[AuditRow]) -> Facts:
    """What the record knows now about the studies and results of ``rows``, in three queries."""
    studies = sorted({row.study_instance_uid for row in rows} - {""})
    objects = sorted({str(row.detail.get("sop_instance_uid", "")) for row in rows if row.job_id} - {""})
    counts: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    with record.reading() as session:
        patients = session.execute(
            select(Study.study_instance_uid, Study.patient_hash).where(Study.study_instance_uid.in_(studies))
        ).all()
        for uid, sop_class, number in session.execute(
            select(Instance.study_instance_uid, Instance.sop_class_uid, func.count())
            .where(Instance.study_instance_uid.in_(studies))
            .group_by(Instance.study_instance_uid, Instance.sop_class_uid)
            .order_by(Instance.sop_class_uid)
        ):
            counts[uid].append((sop_class, number))
        results = session.execute(
            select(ResultRow.sop_instance_uid, ResultRow.sop_class_uid).where(ResultRow.sop_instance_uid.in_(objects))
        ).all()
    return Facts(
        patients={uid: pseudonym for uid, pseudonym in patients},  # noqa: C416  rows are no pairs for the type checker
        study_classes={uid: tuple(found) for uid, found in counts.items()},
        result_classes={uid: sop_class for uid, sop_class in results},  # noqa: C416
    )
