"""Which file is the preview of a job. Paths come from the record alone, never from a request."""

from pathlib import Path

from dicom_core.errors import NotFoundError
from dicom_core.job import Job

PREVIEW_KEY = "preview_path"
"""In ``Job.result``: the PNG, relative to the results folder."""


def preview_of(job: Job, results_folder: Path) -> Path:
    """The preview picture of a job.

    Raises:
        NotFoundError: It has none, or the file was removed.
    """
    relative = job.result.get(PREVIEW_KEY)
    if isinstance(relative, str) and relative:
        root = results_folder.resolve()
        path = (root / relative).resolve()
        # the record is ours, and still nothing outside the results is ever served
        if path.is_relative_to(root) and path.suffix == ".png" and path.is_file():
            return path
    raise NotFoundError(f"job {job.job_id} has no preview")
