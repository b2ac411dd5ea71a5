"""``vesselq jobs``, ``vesselq retry`` and ``vesselq cancel``."""

from typing import TYPE_CHECKING, Annotated

import typer

from console import options

if TYPE_CHECKING:
    from dicom_core.job import Job, JobState

JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job, or its first six digits or more.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(jobs)
    app.command()(retry)
    app.command()(cancel)


def jobs(
    study: Annotated[
        str, typer.Option("--study", metavar="UID", help="Only of this study.", callback=options.checked_uid)
    ] = "",
    state: Annotated[list[str] | None, typer.Option("--state", metavar="STATE", help="Only in this state.")] = None,
    limit: options.Limit = 100,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """List jobs, the latest first: one job is one series of one study."""
    from console.output import print_json, print_table
    from db import reports

    states = [_state(word) for word in state or []]
    with options.open_record(options.settings_of(config, data_folder)) as record:
        found = reports.jobs(record, study_instance_uid=study, states=states, limit=limit)
    if json:
        print_json({"jobs": found})
        return
    print_table(
        "Jobs",
        ("job", "StudyInstanceUID", "gen.", "modality", "state", "segmenter", "tries", "changed", "reason"),
        [
            (
                job.job_id[:8], job.study_instance_uid, job.generation, job.modality, job.state.value, job.segmenter,
                job.attempts, job.updated_at, job.reason,
            )
            for job in found
        ],
    )  # fmt: skip


def _state(word: str) -> "JobState":
    from dicom_core.job import JobState

    try:
        return JobState(word.upper())
    except ValueError:
        known = ", ".join(item.value for item in JobState)
        raise typer.BadParameter(f"{word!r} is no state of a job; there are {known}", param_hint="--state") from None


def retry(
    job: JobId,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Try a job again: the segmentation, or the deliveries that failed."""
    from db import jobs as queue

    with options.open_record(options.settings_of(config, data_folder)) as record:
        changed = queue.retry(record, job, f"tried again by {options.person()}")
    _say(changed, json)


def cancel(
    job: JobId,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Stop a job; one that is running loses its lease."""
    from db import jobs as queue

    with options.open_record(options.settings_of(config, data_folder)) as record:
        changed = queue.cancel(record, job, f"cancelled by {options.person()}")
    _say(changed, json)


def _say(job: "Job", json: bool) -> None:
    from console.output import print_json

    if json:
        print_json(job)
    else:
        typer.echo(f"job {job.job_id} is {job.state.value} now: {job.reason}")
