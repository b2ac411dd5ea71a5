"""Result sets: a table of result objects, and deliveries that carry one of them each.

Until now a job had one object, in columns of its own. That object becomes the first row of the job's result set, under
the identifier of the job; its deliveries point to it.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_OLD_COLUMNS = ("result_path", "result_sha256", "result_sop_instance_uid", "result_series_instance_uid")


def upgrade() -> None:
    _add_results()
    _point_deliveries_to_results()
    op.drop_index("ix_jobs_result_sop_instance_uid", table_name="jobs")
    # never in a batch: SQLite would drop and remake the table, which others refer to
    for column in _OLD_COLUMNS:
        op.drop_column("jobs", column)
    op.add_column("jobs", sa.Column("wanted", sa.JSON(), nullable=True))


def _add_results() -> None:
    op.create_table(
        "results",
        sa.Column("result_id", sa.String(length=32), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("item", sa.Integer(), nullable=False),
        sa.Column("path", sa.String(length=128), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_results_job_id")),
        sa.PrimaryKeyConstraint("result_id", name=op.f("pk_results")),
        sa.UniqueConstraint("job_id", "place", name=op.f("uq_results_job_id_place")),
    )
    op.create_index("ix_results_sop_instance_uid", "results", ["sop_instance_uid"])
    op.create_index("ix_results_series_instance_uid", "results", ["series_instance_uid"])
    op.execute(
        "INSERT INTO results (result_id, job_id, place, kind, part, item, path, sha256, sop_class_uid,"
        " sop_instance_uid, series_instance_uid, size_bytes) "
        "SELECT job_id, job_id, 1, 'seg', 1, 1, result_path, result_sha256, '1.2.840.10008.5.1.4.1.1.66.4',"
        " result_sop_instance_uid, result_series_instance_uid, 0 FROM jobs WHERE result_sop_instance_uid <> ''"
    )


def _point_deliveries_to_results() -> None:
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.add_column(sa.Column("result_id", sa.String(length=32), nullable=True))
        deliveries.add_column(sa.Column("place", sa.Integer(), nullable=False, server_default="1"))
    op.execute("UPDATE deliveries SET result_id = job_id")
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.alter_column("result_id", existing_type=sa.String(length=32), nullable=False)
        deliveries.alter_column("place", existing_type=sa.Integer(), server_default=None)
        deliveries.drop_constraint("uq_deliveries_job_id_destination", type_="unique")
        deliveries.create_unique_constraint("uq_deliveries_result_id_destination", ["result_id", "destination"])
        deliveries.create_foreign_key("fk_deliveries_result_id", "results", ["result_id"], ["result_id"])
        # the constraint that is gone was what found the deliveries of a job
        deliveries.create_index("ix_deliveries_job_id", ["job_id"])


def downgrade() -> None:
    raise NotImplementedError("a result set does not fit into the older schema: restore the backup")
