"""The story of one job: claim it, have the series segmented, keep the result, hand it over."""

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from db import jobs, progress, studies
from dicom_core.chain import tables_of
from dicom_core.errors import (
    LeaseLostError,
    SourceError,
    SpoolDamagedError,
    SpoolError,
    UnavailableError,
    UnsupportedSourceError,
    VesselqError,
)
from dicom_core.job import Job, JobState, KeptResult
from dicom_core.logs import get_logger
from dicom_core.settings import Settings
from dicom_core.spool import keep_file
from dicom_core.study import input_hash
from worker.lease import Lease
from worker.leftovers import remove_earlier_tries
from worker.pictures import preview_files
from worker.progress import ProgressReports
from worker.segmenters.interface import Status
from worker.series_messages import SeriesRequest, SeriesResult
from worker.services import SOFTWARE_VERSION, Services

log = get_logger("pipeline")


class _ToldToStopError(VesselqError):
    """The process ends; the job goes back to the queue."""


def run_next_job(services: Services) -> bool:
    """Claim the most urgent job and bring it to its next state.

    Returns:
        Whether there was one.

    Raises:
        UnavailableError: The record does not answer; the job's lease will run out.
    """
    settings = services.settings.worker
    job = jobs.claim(services.record, services.owner, settings.lease_seconds)
    if job is None:
        return False
    log.info("job claimed", job_id=job.job_id, study_instance_uid=job.study_instance_uid, attempt=job.attempts)
    try:
        with Lease(
            lambda: jobs.heartbeat(services.record, job, settings.lease_seconds), settings.lease_seconds
        ) as lease:
            _work(services, job, lease)
    except LeaseLostError as error:
        log.warning("job lost", job_id=job.job_id, reason=str(error))
    remove_earlier_tries(services, job.job_id)
    return True


def _work(services: Services, job: Job, lease: Lease) -> None:
    folder = services.settings.results_folder / "tmp" / f"{job.job_id}-{job.fence}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        result = _segment(services, job, lease, folder)
        _keep(services, job, result, folder)
    except (LeaseLostError, UnavailableError):
        raise
    except _ToldToStopError:
        jobs.hand_back(services.record, job, "the worker was told to stop")
    except UnsupportedSourceError as error:
        jobs.finish_without_result(services.record, job, JobState.SKIPPED, str(error), {})
    except VesselqError as error:
        _fail(services, job, error)
    except OSError as error:
        # the results folder, not the data: another try can help once there is room again
        _fail(services, job, SpoolDamagedError(f"the results folder cannot be used: {error.strerror}"), retryable=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _segment(services: Services, job: Job, lease: Lease, folder: Path) -> SeriesResult:
    request = _request(services.settings, services.site_key, job, _source(services, job), folder)
    reports = ProgressReports(
        lambda stage, share: progress.report(services.record, job, stage, share, services.runner.device)
    )

    def interruption() -> VesselqError | None:
        reports.write_if_due()
        return _ToldToStopError("told to stop") if services.stopping.is_set() else lease.lost

    return services.runner.run(request, progress=reports.tell, interruption=interruption)


def _source(services: Services, job: Job) -> tuple[Path, ...]:
    """The files of the series, all of them there and none that came later."""
    instances = studies.source_of(services.record, job)
    if input_hash(instances) != job.input_hash:
        raise SpoolDamagedError("images of this series are missing in the spool; send the series again")
    for instance in instances:
        if not (services.settings.spool_folder / instance.path).is_file():
            raise SpoolDamagedError(f"the stored file of instance {instance.sop_instance_uid} is missing")
    return tuple(services.settings.spool_folder / instance.path for instance in instances)


def _request(settings: Settings, site_key: str, job: Job, paths: tuple[Path, ...], folder: Path) -> SeriesRequest:
    return SeriesRequest(
        paths=paths,
        segmenter=job.segmenter,
        segmenter_settings=tables_of(job.segmenter, settings.models),
        prompt=job.prompt,
        device=settings.worker.device,
        threads=settings.worker.threads,
        decoded_limit_bytes=settings.worker.decoded_limit_bytes,
        uid_scope=(
            site_key, job.study_instance_uid, job.series_instance_uid, str(job.generation), job.input_hash,
            job.configuration_hash,
        ),
        created_at=job.created_at,
        generation=job.generation,
        series_number=settings.segmentation.series_number + job.generation - 1,
        software_version=SOFTWARE_VERSION,
        omit_empty_frames=settings.segmentation.omit_empty_frames,
        viewer_hints=settings.segmentation.viewer_hints,
        send_empty=settings.segmentation.send_empty,
        results=job.kinds,
        output_folder=folder,
    )  # fmt: skip


def _keep(services: Services, job: Job, result: SeriesResult, folder: Path) -> None:
    if not result.objects:
        jobs.finish_without_result(services.record, job, *_end_without_object(result), result.summary)
        return
    # with the fence: a worker that comes late must not replace the files that another one has kept
    name = f"{job.job_id[:2]}/{job.job_id}-{job.fence}"
    final = services.settings.results_folder / name
    begin = time.perf_counter()
    try:
        for file in (*result.previews, *(made.path for made in result.objects)):
            keep_file(folder / file, final / file)
        summary: dict[str, Any] = {
            **result.summary,
            "preview_path": f"{name}/{preview_files.OVERLAY}",
            "seconds": {**result.summary["seconds"], "keep": round(time.perf_counter() - begin, 4)},
        }
        # only now do the files count: all objects and their deliveries become known in one transaction, or none
        objects = tuple(replace(made, path=f"{name}/{made.path}") for made in result.objects)
        jobs.keep_result(services.record, job, KeptResult(objects, summary))
    except (LeaseLostError, SpoolError):
        shutil.rmtree(final, ignore_errors=True)
        raise
    _remove_earlier_tries(final, job)
    log.info("result kept", job_id=job.job_id, objects=[made.sop_instance_uid for made in result.objects])


def _remove_earlier_tries(final: Path, job: Job) -> None:
    """What workers left behind that died between writing their files and making them known."""
    for folder in final.parent.glob(f"{job.job_id}-*"):
        if folder != final:
            shutil.rmtree(folder, ignore_errors=True)


def _end_without_object(result: SeriesResult) -> tuple[JobState, str]:
    if result.status is Status.OUT_OF_DOMAIN:
        return JobState.SKIPPED, "the model does not know this kind of image"
    return JobState.NO_VESSEL_FOUND, "no vessel found"


def _fail(services: Services, job: Job, error: VesselqError, *, retryable: bool | None = None) -> None:
    settings = services.settings.worker
    state = jobs.fail_attempt(
        services.record,
        job,
        str(error),
        retryable=error.retryable if retryable is None else retryable,
        maximum_attempts=settings.maximum_attempts,
        retry_after_seconds=settings.retry_after_seconds,
    )
    known = isinstance(error, SourceError)
    log.log(30 if known else 40, "attempt failed", job_id=job.job_id, state=state, reason=str(error))
