"""The console's tables, what recalls and patients are found by, and an audit log that refuses to be changed.

Revision ID: 0003
Revises: 0002
"""

import json

import sqlalchemy as sa
from alembic import op

from db.audit_guard import guard

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_JOBS_AT_ONCE = 1000
_EMPTY = sa.text("''")


def upgrade() -> None:
    _add_columns()
    _fill_models()
    _add_progress()
    _add_forwarding_and_checks()
    _add_accounts()
    _index_audit()
    guard(op.get_bind())


def _add_columns() -> None:
    op.add_column("processes", sa.Column("resources", sa.JSON(), nullable=True))
    op.add_column("studies", sa.Column("patient_hash", sa.String(length=64), nullable=False, server_default=_EMPTY))
    op.create_index("ix_studies_patient_hash", "studies", ["patient_hash"])
    # never in a batch: SQLite would drop and remake the table, which others refer to
    op.add_column("jobs", sa.Column("model", sa.String(length=64), nullable=False, server_default=_EMPTY))
    op.add_column("jobs", sa.Column("model_version", sa.String(length=64), nullable=False, server_default=_EMPTY))
    op.drop_index("ix_jobs_study_instance_uid", "jobs")
    for columns in (
        ("study_instance_uid", "job_id"),
        ("model", "model_version"),
        ("model", "model_version", "created_at", "job_id"),
        ("finished_at",),
    ):
        op.create_index(f"ix_jobs_{'_'.join(columns)}", "jobs", list(columns))


def _fill_models() -> None:
    """Give the jobs of older releases the model that their result tells of."""
    jobs = sa.table("jobs", sa.column("job_id"), sa.column("result", sa.JSON()), sa.column("model"),
                    sa.column("model_version"))  # fmt: skip
    connection = op.get_bind()
    last = ""
    while rows := connection.execute(
        sa.select(jobs.c.job_id, jobs.c.result).where(jobs.c.job_id > last).order_by(jobs.c.job_id).limit(_JOBS_AT_ONCE)
    ).all():
        last = rows[-1].job_id
        for row in rows:
            result = row.result if isinstance(row.result, dict) else json.loads(row.result or "{}")
            if result.get("model"):
                connection.execute(
                    jobs.update()
                    .where(jobs.c.job_id == row.job_id)
                    .values(model=str(result["model"])[:64], model_version=str(result.get("model_version", ""))[:64])
                )


def _add_progress() -> None:
    op.create_table(
        "job_progress",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("worker", sa.String(length=64), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_job_progress_job_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_progress")),
    )
    op.create_index("ix_job_progress_updated_at", "job_progress", ["updated_at"])


def _add_forwarding_and_checks() -> None:
    op.create_table(
        "audit_forwarding",
        sa.Column("repository", sa.String(length=64), nullable=False),
        sa.Column("next_sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("lease_owner", sa.String(length=64), nullable=False),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_try_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("repository", name=op.f("pk_audit_forwarding")),
    )
    op.create_table(
        "peer_checks",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered", sa.Boolean(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_peer_checks")),
    )


def _add_accounts() -> None:
    op.create_table(
        "users",
        sa.Column("user_name", sa.String(length=128), nullable=False),
        sa.Column("source", sa.String(length=8), nullable=False),
        sa.Column("display_name", sa.String(length=128), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("password_hash", sa.String(length=256), nullable=False),
        sa.Column("must_change_password", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failed_sign_ins", sa.Integer(), nullable=False),
        sa.Column("locked_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_sign_in_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("user_name", name=op.f("pk_users")),
    )
    op.create_table(
        "sign_in_sessions",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("user_name", sa.String(length=128), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_name"], ["users.user_name"], name=op.f("fk_sign_in_sessions_user_name")),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_sign_in_sessions")),
    )
    op.create_index("ix_sign_in_sessions_user_name", "sign_in_sessions", ["user_name"])
    op.create_index("ix_sign_in_sessions_expires_at", "sign_in_sessions", ["expires_at"])
    op.create_table(
        "api_tokens",
        sa.Column("token_id", sa.String(length=32), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_api_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_api_tokens_token_hash")),
    )


def _index_audit() -> None:
    """Indices that answer every question of an auditor from their newest entry (``db.audit_queries``)."""
    for column in ("at", "event", "ae_title"):
        op.drop_index(f"ix_audit_events_{column}", "audit_events")
    for columns, having, name in (
        (("at",), "", ""),
        (("event", "at"), "", ""),
        (("ae_title", "at"), "ae_title <> ''", ""),
        (("ae_title", "event", "at"), "ae_title <> ''", ""),
        (("address", "at"), "address <> ''", ""),
        (("user", "at"), "\"user\" <> ''", ""),
        (("user", "event", "at"), "\"user\" <> ''", ""),
        (("at",), "outcome > 0", "ix_audit_events_failures"),
        (("event", "at"), "outcome > 0", "ix_audit_events_event_failures"),
        (("outcome", "at"), "outcome > 0", ""),
        (("ae_title", "at"), "outcome > 0", "ix_audit_events_ae_title_failures"),
        (("user", "at"), "outcome > 0", "ix_audit_events_user_failures"),
    ):
        condition = sa.text(having) if having else None
        op.create_index(
            name or f"ix_audit_events_{'_'.join(columns)}_sequence",
            "audit_events",
            [*columns, "sequence"],
            sqlite_where=condition,
            postgresql_where=condition,
        )


def downgrade() -> None:
    raise NotImplementedError("accounts and tokens do not fit into the older schema: restore the backup")
