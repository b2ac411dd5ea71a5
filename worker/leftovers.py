"""What workers left behind that died in the middle of a job. Images of patients: nothing may stay for ever."""

import shutil
from pathlib import Path

from db import jobs
from dicom_core.errors import VesselqError
from dicom_core.job import JobState
from worker.services import Services


def remove_leftovers(services: Services) -> None:
    """At the start of a worker: work that nobody does any more, and results that never counted.

    Raises:
        UnavailableError: The record does not answer.
    """
    _remove_stale_work(services)
    for shard in services.settings.results_folder.glob("[0-9a-f][0-9a-f]"):
        _remove_uncounted(services, shard, "*")


def remove_earlier_tries(services: Services, job_id: str) -> None:
    """After a job: what its earlier tries left, and work of others that nobody does any more.

    A worker that starts right after another died cannot tell: the job still counts as running until its lease is over.

    Raises:
        UnavailableError: The record does not answer.
    """
    _remove_stale_work(services)
    _remove_uncounted(services, services.settings.results_folder / job_id[:2], f"{job_id}-*")


def _remove_uncounted(services: Services, shard: Path, names: str) -> None:
    # listed before the record is asked: a result that counts by then is found there
    there = [folder.name for folder in shard.glob(names)]
    for name in jobs.stale_tries(services.record, there):
        shutil.rmtree(shard / name, ignore_errors=True)


def _remove_stale_work(services: Services) -> None:
    for folder in (services.settings.results_folder / "tmp").glob("*-*"):
        job_id, _, fence = folder.name.partition("-")
        try:
            job = jobs.get(services.record, job_id)
        except VesselqError:
            continue
        if job.state is not JobState.RUNNING or str(job.fence) != fence:
            shutil.rmtree(folder, ignore_errors=True)
