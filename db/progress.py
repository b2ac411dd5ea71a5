"""How far running jobs are: one row a job, written by its worker, removed when the job leaves RUNNING.

Nothing is audited here and nothing depends on it: it is what people watch while they wait.
"""

from sqlalchemy import select

from db.models import JobProgress, JobRow, storable
from db.session import Record
from dicom_core.job import Job, JobState


def report(record: Record, job: Job, stage: str, share: float, device: str = "") -> None:
    """Note how far a job is; a worker that holds it no more notes nothing.

    Args:
        record: The record.
        job: As it was claimed.
        stage: What is being done, for example ``decode``.
        share: Of the stage, 0 to 1.
        device: What computes, in words; "" as long as it is not known.

    Raises:
        UnavailableError: The record does not answer.
    """
    held = select(JobRow.lease_owner).where(
        JobRow.job_id == job.job_id, JobRow.fence == job.fence, JobRow.state == JobState.RUNNING
    )
    with record.writing() as transaction:
        worker = transaction.session.scalars(held).one_or_none()
        if worker is None:
            return
        transaction.session.merge(
            JobProgress(
                job_id=job.job_id,
                fence=job.fence,
                stage=storable(stage, 16),
                share=min(1.0, max(0.0, share)),
                worker=worker,
                device=storable(device, 64),
                updated_at=transaction.now,
            )
        )
