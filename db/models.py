"""The tables. Names are DICOM keywords in snake case, times are UTC."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes in Python, UTC in the database (SQLite has no time zones)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware time into UTC; a naive one is a programming error."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without zone reached the record")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give times from SQLite their zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def storable(text: str, length: int | None = None) -> str:
    """Text that every database takes: what cannot be printed becomes ``?`` (PostgreSQL refuses NUL).

    With ``length`` it is a name: one line, cut to that length.
    """
    if text.isprintable():
        return text[:length]
    spaces = "\n\t" if length is None else ""
    return "".join(letter if letter.isprintable() or letter in spaces else "?" for letter in text[:length])


class Words(TypeDecorator[str]):
    """Sentences, parts of which may come from outside."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Keep out what a database refuses."""
        return None if value is None else storable(value)


class Base(DeclarativeBase):
    """Root of the tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JSON, list[str]: JSON, dict[str, list[str]]: JSON}  # noqa: RUF012


UID = String(64)
AE_TITLE = String(16)
IDENTIFIER = String(32)
OWNER = String(64)


class Installation(Base):
    """One row: facts drawn once when the record is made."""

    __tablename__ = "installation"
    id: Mapped[int] = mapped_column(primary_key=True)
    site_key: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    older_fingerprints: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether an older release may have recorded instances: by SHA-256 (``dicom_core.fingerprint``)."""


class Process(Base):
    """A running listener, dispatcher, worker or web server. A process that stops beating is dead."""

    __tablename__ = "processes"
    process_id: Mapped[str] = mapped_column(IDENTIFIER, primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    version: Mapped[str] = mapped_column(String(32), default="")
    started_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    stopped_at: Mapped[datetime | None]
    doing: Mapped[str] = mapped_column(Words, default="")
    resources: Mapped[dict[str, Any] | None]
    """What a worker has at hand: the device in words, bytes of memory of the device and of the child."""


class AssociationRow(Base):
    """An association that brought at least one instance."""

    __tablename__ = "associations"
    association_id: Mapped[str] = mapped_column(IDENTIFIER, primary_key=True)
    process_id: Mapped[str] = mapped_column(IDENTIFIER, index=True)
    calling_ae_title: Mapped[str] = mapped_column(AE_TITLE)
    called_ae_title: Mapped[str] = mapped_column(AE_TITLE)
    peer_address: Mapped[str] = mapped_column(String(64))
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None] = mapped_column(index=True)
    outcome: Mapped[str] = mapped_column(String(16))


class AssociationStudy(Base):
    """What one association brought of one study."""

    __tablename__ = "association_studies"
    association_id: Mapped[str] = mapped_column(ForeignKey("associations.association_id"), primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(UID, primary_key=True, index=True)
    stored: Mapped[int] = mapped_column(default=0)
    duplicates: Mapped[int] = mapped_column(default=0)
    conflicts: Mapped[int] = mapped_column(default=0)
    size_bytes: Mapped[int] = mapped_column(BigInteger, default=0)


class Study(Base):
    """One StudyInstanceUID."""

    __tablename__ = "studies"
    study_instance_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    state: Mapped[str] = mapped_column(String(16), index=True)
    generation: Mapped[int] = mapped_column(default=0)
    first_received_at: Mapped[datetime] = mapped_column(index=True)
    last_received_at: Mapped[datetime]
    revision: Mapped[int] = mapped_column(default=0)
    """Grows with every stored instance: unlike a time it never stands still or goes back."""
    completed_at: Mapped[datetime | None]
    close_requested: Mapped[bool] = mapped_column(default=False)
    patient_hash: Mapped[str] = mapped_column(String(64), default="", server_default=text("''"), index=True)
    """Pseudonym of the patient (``dicom_core.pseudonym``), "" where the header names none. Never the identifier."""


class Series(Base):
    """One SeriesInstanceUID of a study."""

    __tablename__ = "series"
    study_instance_uid: Mapped[str] = mapped_column(ForeignKey("studies.study_instance_uid"), primary_key=True)
    series_instance_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    modality: Mapped[str] = mapped_column(String(16))
    last_association_id: Mapped[str] = mapped_column(IDENTIFIER)


class Instance(Base):
    """One stored SOP instance."""

    __tablename__ = "instances"
    sop_instance_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(ForeignKey("studies.study_instance_uid"))
    series_instance_uid: Mapped[str] = mapped_column(UID)
    sop_class_uid: Mapped[str] = mapped_column(UID)
    transfer_syntax_uid: Mapped[str] = mapped_column(UID)
    state: Mapped[str] = mapped_column(String(16))
    fingerprint: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    path: Mapped[str] = mapped_column(String(128), index=True)
    association_id: Mapped[str] = mapped_column(IDENTIFIER)
    generation: Mapped[int]
    """The first generation of its study that holds it."""
    received_at: Mapped[datetime]
    __table_args__ = (Index(None, "study_instance_uid", "series_instance_uid"),)


class ConflictingInstance(Base):
    """Bytes that came under a SOP Instance UID which other content already has; kept aside for a person."""

    __tablename__ = "conflicting_instances"
    id: Mapped[int] = mapped_column(primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(UID, index=True)
    study_instance_uid: Mapped[str] = mapped_column(UID)
    fingerprint: Mapped[str] = mapped_column(String(64))
    path: Mapped[str] = mapped_column(String(128), index=True)
    association_id: Mapped[str] = mapped_column(IDENTIFIER)
    received_at: Mapped[datetime]
    __table_args__ = (UniqueConstraint("sop_instance_uid", "fingerprint"),)


class JobRow(Base):
    """One series of one generation of a study, one segmenter."""

    __tablename__ = "jobs"
    job_id: Mapped[str] = mapped_column(IDENTIFIER, primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(ForeignKey("studies.study_instance_uid"))
    series_instance_uid: Mapped[str] = mapped_column(UID)
    generation: Mapped[int]
    modality: Mapped[str] = mapped_column(String(16))
    rule: Mapped[str] = mapped_column(String(64))
    segmenter: Mapped[str] = mapped_column(String(64))
    prompt: Mapped[str] = mapped_column(Words)
    destinations: Mapped[list[str]]
    priority: Mapped[int]
    input_hash: Mapped[str] = mapped_column(String(64))
    configuration_hash: Mapped[str] = mapped_column(String(64))
    calling_ae_title: Mapped[str] = mapped_column(AE_TITLE)
    peer_address: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Words, default="")
    attempts: Mapped[int] = mapped_column(default=0)
    fence: Mapped[int] = mapped_column(default=0)
    lease_owner: Mapped[str] = mapped_column(OWNER, default="")
    lease_expires_at: Mapped[datetime | None]
    next_try_at: Mapped[datetime | None]
    rung_at: Mapped[datetime | None]
    queue_key: Mapped[float] = mapped_column(Float)
    created_at: Mapped[datetime] = mapped_column(index=True)
    updated_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None] = mapped_column(index=True)
    model: Mapped[str] = mapped_column(String(64), default="", server_default=text("''"))
    """What made the result, with ``model_version``: found again when a model is recalled."""
    model_version: Mapped[str] = mapped_column(String(64), default="", server_default=text("''"))
    wanted: Mapped[dict[str, list[str]] | None]
    """The kinds of object for each destination; one that is not named gets the SEG object. Older rows name none."""
    result: Mapped[dict[str, Any]] = mapped_column(default=dict)
    results: Mapped[list["ResultRow"]] = relationship(order_by="ResultRow.place", viewonly=True)
    __table_args__ = (
        # the name that the convention gives is longer than PostgreSQL allows
        UniqueConstraint(
            "study_instance_uid",
            "series_instance_uid",
            "generation",
            "configuration_hash",
            name="uq_jobs_series_generation",
        ),
        Index(None, "state", "queue_key"),
        # with the job, so that the studies without a result are found without reading jobs
        Index(None, "study_instance_uid", "job_id"),
        # the first is small and counts what the second lists
        Index(None, "model", "model_version"),
        Index(None, "model", "model_version", "created_at", "job_id"),
    )


class JobProgress(Base):
    """How far the try of a job is that runs now. Written every second or so and not audited: it may be lost."""

    __tablename__ = "job_progress"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    fence: Mapped[int]
    stage: Mapped[str] = mapped_column(String(16))
    share: Mapped[float] = mapped_column(Float)
    """Of the stage, 0 to 1."""
    worker: Mapped[str] = mapped_column(OWNER)
    device: Mapped[str] = mapped_column(String(64), default="")
    updated_at: Mapped[datetime] = mapped_column(index=True)


class ResultRow(Base):
    """One object of the result set of a job."""

    __tablename__ = "results"
    result_id: Mapped[str] = mapped_column(IDENTIFIER, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"))
    place: Mapped[int]
    """From 1, in the order in which the objects of the job are sent."""
    kind: Mapped[str] = mapped_column(String(16))
    part: Mapped[int]
    item: Mapped[int]
    path: Mapped[str] = mapped_column(String(128))
    sha256: Mapped[str] = mapped_column(String(64))
    sop_class_uid: Mapped[str] = mapped_column(UID)
    sop_instance_uid: Mapped[str] = mapped_column(UID, index=True)
    series_instance_uid: Mapped[str] = mapped_column(UID, index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    __table_args__ = (UniqueConstraint("job_id", "place"),)


class DeliveryRow(Base):
    """One result object on its way to one destination."""

    __tablename__ = "deliveries"
    delivery_id: Mapped[str] = mapped_column(IDENTIFIER, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), index=True)
    result_id: Mapped[str] = mapped_column(ForeignKey("results.result_id"))
    place: Mapped[int] = mapped_column(default=1)
    """That of the object: of those that became due together the first goes first."""
    destination: Mapped[str] = mapped_column(String(64))
    lane: Mapped[str] = mapped_column(String(96))
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(default=0)
    refusals: Mapped[int] = mapped_column(default=0)
    fence: Mapped[int] = mapped_column(default=0)
    answer: Mapped[str] = mapped_column(Words, default="")
    lease_owner: Mapped[str] = mapped_column(OWNER, default="")
    lease_expires_at: Mapped[datetime | None]
    next_try_at: Mapped[datetime]
    lane_held_until: Mapped[datetime | None] = mapped_column(index=True)
    """Set when this one failed: how long all others of its lane wait."""
    rung_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    __table_args__ = (
        UniqueConstraint("result_id", "destination"),
        Index(None, "state", "lane"),
        Index(None, "state", "next_try_at"),
    )


def _index_of_some(*columns: str, having: str, name: str | None = None) -> Index:
    """An index of the rows that fulfil a condition."""
    return Index(name, *columns, sqlite_where=text(having), postgresql_where=text(having))


class AuditEvent(Base):
    """One link of the audit chain (``db.audit``). Rows are only ever added."""

    __tablename__ = "audit_events"
    sequence: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False
    )
    at: Mapped[str] = mapped_column(String(32))
    event: Mapped[str] = mapped_column(String(32))
    event_id: Mapped[str] = mapped_column(String(16))
    event_type: Mapped[str] = mapped_column(String(16), default="")
    action: Mapped[str] = mapped_column(String(1))
    outcome: Mapped[int]
    process: Mapped[str] = mapped_column(String(64))
    user: Mapped[str] = mapped_column(String(128), default="")
    ae_title: Mapped[str] = mapped_column(AE_TITLE, default="")
    address: Mapped[str] = mapped_column(String(64), default="")
    study_instance_uid: Mapped[str] = mapped_column(UID, default="", index=True)
    job_id: Mapped[str] = mapped_column(IDENTIFIER, default="", index=True)
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    previous_hash: Mapped[str] = mapped_column(String(64))
    row_hash: Mapped[str] = mapped_column(String(64))
    # one for each question of ``db.audit_queries``, walked from its newest entry; most rows have no person and no peer
    __table_args__ = (
        Index(None, "at", "sequence"),
        Index(None, "event", "at", "sequence"),
        _index_of_some("ae_title", "at", "sequence", having="ae_title <> ''"),
        _index_of_some("ae_title", "event", "at", "sequence", having="ae_title <> ''"),
        _index_of_some("address", "at", "sequence", having="address <> ''"),
        _index_of_some("user", "at", "sequence", having="\"user\" <> ''"),
        _index_of_some("user", "event", "at", "sequence", having="\"user\" <> ''"),
        _index_of_some("at", "sequence", having="outcome > 0", name="ix_audit_events_failures"),
        _index_of_some("event", "at", "sequence", having="outcome > 0", name="ix_audit_events_event_failures"),
        _index_of_some("outcome", "at", "sequence", having="outcome > 0"),
        _index_of_some("ae_title", "at", "sequence", having="outcome > 0", name="ix_audit_events_ae_title_failures"),
        _index_of_some("user", "at", "sequence", having="outcome > 0", name="ix_audit_events_user_failures"),
    )


class AuditForwarding(Base):
    """How far one audit repository has been told. The audit log itself is what waits to be sent."""

    __tablename__ = "audit_forwarding"
    repository: Mapped[str] = mapped_column(String(64), primary_key=True)
    next_sequence: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"))
    lease_owner: Mapped[str] = mapped_column(OWNER, default="")
    lease_expires_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0)
    next_try_at: Mapped[datetime | None]
    last_sent_at: Mapped[datetime | None]
    last_error: Mapped[str] = mapped_column(Words, default="")


class PeerCheck(Base):
    """The last question to a peer or destination whether it answers, asked by a person."""

    __tablename__ = "peer_checks"
    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    """``peer/NAME`` or ``destination/NAME``."""
    checked_at: Mapped[datetime]
    answered: Mapped[bool]
    answer: Mapped[str] = mapped_column(Words, default="")


class User(Base):
    """A person who may sign in. Rows stay when a person leaves: the audit log names them."""

    __tablename__ = "users"
    user_name: Mapped[str] = mapped_column(String(128), primary_key=True)
    source: Mapped[str] = mapped_column(String(8))
    """``local`` or ``oidc``; the roles of the second kind come anew with each sign-in."""
    display_name: Mapped[str] = mapped_column(String(128), default="")
    roles: Mapped[list[str]]
    password_hash: Mapped[str] = mapped_column(String(256), default="")
    must_change_password: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]
    failed_sign_ins: Mapped[int] = mapped_column(default=0)
    locked_until: Mapped[datetime | None]
    last_sign_in_at: Mapped[datetime | None]


class SignInSession(Base):
    """A browser that is signed in."""

    __tablename__ = "sign_in_sessions"
    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_name: Mapped[str] = mapped_column(ForeignKey("users.user_name"), index=True)
    address: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class ApiToken(Base):
    """A token of a program; only its hash is kept."""

    __tablename__ = "api_tokens"
    token_id: Mapped[str] = mapped_column(IDENTIFIER, primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[str]]
    created_by: Mapped[str] = mapped_column(String(128))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


__all__ = [
    "ApiToken", "AssociationRow", "AssociationStudy", "AuditEvent", "AuditForwarding", "Base", "ConflictingInstance",
    "DeliveryRow", "Installation", "Instance", "JobProgress", "JobRow", "PeerCheck", "Process", "ResultRow", "Series",
    "SignInSession", "Study", "User",
]  # fmt: skip
