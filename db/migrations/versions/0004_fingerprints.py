"""Fingerprints of data sets may be made with another algorithm than SHA-256; those that are there stay.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ASIDE = "uq_conflicting_instances_sop_instance_uid"


def upgrade() -> None:
    op.add_column(
        "installation", sa.Column("older_fingerprints", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.execute("UPDATE installation SET older_fingerprints = EXISTS (SELECT 1 FROM instances)")
    # not in a batch, in which SQLite would copy the whole table
    op.execute("ALTER TABLE instances RENAME COLUMN sha256 TO fingerprint")
    with op.batch_alter_table("conflicting_instances") as batch:
        batch.drop_constraint(f"{_ASIDE}_sha256", type_="unique")
        batch.alter_column("sha256", new_column_name="fingerprint")
    with op.batch_alter_table("conflicting_instances") as batch:
        batch.create_unique_constraint(f"{_ASIDE}_fingerprint", ["sop_instance_uid", "fingerprint"])


def downgrade() -> None:
    raise NotImplementedError("releases before this one cannot compare the new fingerprints: restore the backup")
