"""``vesselq jobs`` with ``priority`` and ``resend``, ``vesselq retry`` and ``vesselq cancel``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console import options

if TYPE_CHECKING:
    from collections.abc import Callable

    from db.session import Record
    from dicom_core.job import Job, JobState

JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job, or its first six digits or more.")]

Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the audit log.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(rich_markup_mode=None)
    group.callback(invoke_without_command=True)(jobs)
    group.command()(priority)
    group.command()(resend)
    app.add_typer(
        group, name="jobs", help="List jobs, the latest first; change the priority of one; send its result once more."
    )
    app.command()(retry)
    app.command()(cancel)


def jobs(
    context: typer.Context,
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
    if context.invoked_subcommand is not None:
        return
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


def priority(
    job: JobId,
    value: Annotated[int, typer.Argument(metavar="PRIORITY", min=0, max=100, help="0 is routine, 100 is STAT.")],
    reason: Reason = "",
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Let a job that waits for a worker overtake others, or be overtaken."""
    from console.output import print_json
    from db import job_actions

    with options.open_record(options.settings_of(config, data_folder)) as record:
        changed = job_actions.change_priority(record, job, value, reason or f"asked for by {options.person()}")
    if json:
        print_json(changed)
    else:
        typer.echo(f"job {changed.job_id} has priority {changed.priority} now")


def resend(
    job: JobId,
    destination: Annotated[
        str, typer.Option("--destination", metavar="NAME", help="Only to this destination, not to all of them.")
    ] = "",
    reason: Reason = "",
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Send the kept result of a finished job once more: the same objects under the same UIDs."""
    from functools import partial

    from db import job_actions

    send_again = partial(job_actions.resend, destination=destination)
    _act(send_again, job, reason or f"sent again by {options.person()}", config, data_folder, json)


def retry(
    job: JobId,
    reason: Reason = "",
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Try a job again: the segmentation, or the deliveries that failed."""
    from db import job_actions

    _act(job_actions.retry, job, reason or f"tried again by {options.person()}", config, data_folder, json)


def cancel(
    job: JobId,
    reason: Reason = "",
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Stop a job; one that is running loses its lease."""
    from db import job_actions

    _act(job_actions.cancel, job, reason or f"cancelled by {options.person()}", config, data_folder, json)


def _act(
    action: "Callable[[Record, str, str], Job]",
    job: str,
    reason: str,
    config: Path | None,
    data_folder: Path | None,
    json: bool,
) -> None:
    from console.output import print_json

    with options.open_record(options.settings_of(config, data_folder)) as record:
        changed = action(record, job, reason)
    if json:
        print_json(changed)
    else:
        typer.echo(f"job {changed.job_id} is {changed.state.value} now: {changed.reason}")
