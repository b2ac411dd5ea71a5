"""The preview files of a job. The folder comes from the record, the name from a fixed list: no path from a request."""

from collections.abc import Sequence
from pathlib import Path

from dicom_core.errors import NotFoundError
from dicom_core.job import Job
from worker.pictures import preview_files

PREVIEW_KEY = "preview_path"
"""In ``Job.result``: the first of the pictures, relative to the results folder; the others lie beside it."""


def preview_of(job: Job, results_folder: Path, name: str = preview_files.OVERLAY) -> Path:
    """One preview picture of a job.

    Args:
        job: Its record names the folder.
        results_folder: Nothing outside of it is given.
        name: Of ``preview_files``.

    Raises:
        NotFoundError: There is no such kind of preview, the job has none, or the file was removed.
    """
    relative = job.result.get(PREVIEW_KEY)
    if name in preview_files.MEDIA_TYPES and isinstance(relative, str) and relative:
        root = results_folder.resolve()
        first = root / relative
        path = first.with_name(name).resolve()
        # the record is ours, and still nothing outside the results is ever served
        if first.name == preview_files.OVERLAY and path.is_relative_to(root) and path.is_file():
            return path
    raise NotFoundError(f"job {job.job_id} has no such preview")


def previews_of(jobs: Sequence[Job], results_folder: Path) -> dict[str, tuple[str, ...]]:
    """The names of the previews that are there, by job id, in the order in which a page shows them."""
    return {job.job_id: tuple(_existing(job, results_folder)) for job in jobs}


def _existing(job: Job, results_folder: Path) -> list[str]:
    found = []
    for name in preview_files.MEDIA_TYPES:
        try:
            preview_of(job, results_folder, name)
        except NotFoundError:
            continue
        found.append(name)
    return found
