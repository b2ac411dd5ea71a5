"""``vesselq studies`` with ``show``, ``close`` and ``rerun``."""

from typing import Annotated

import typer

from console import options
from console.commands.rerun import rerun


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(rich_markup_mode=None)
    group.callback(invoke_without_command=True)(studies)
    group.command()(show)
    group.command()(close)
    group.command()(rerun)
    app.add_typer(
        group,
        name="studies",
        help="List the studies that were received; show one; close one at once; ask about one again.",
    )


def studies(
    context: typer.Context,
    study: Annotated[
        str, typer.Option("--study", metavar="UID", help="Only this one.", callback=options.checked_uid)
    ] = "",
    state: Annotated[
        str, typer.Option("--state", metavar="STATE", help="Only studies, or with jobs, in this state.")
    ] = "",
    limit: options.Limit = 100,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """List the studies that were received, the latest first."""
    if context.invoked_subcommand is not None:
        return
    from console.output import print_json, print_table
    from db import reports

    _known_state(state)
    with options.open_record(options.settings_of(config, data_folder)) as record:
        found = [reports.study(record, study)] if study else reports.studies(record, state=state.upper(), limit=limit)
    if json:
        print_json({"studies": found})
        return
    print_table(
        "Studies",
        ("StudyInstanceUID", "state", "gen.", "modality", "series", "instances", "last received", "from", "jobs"),
        [
            (
                one.study_instance_uid, one.state, one.generation, one.modalities, one.series, one.instances,
                one.last_received_at, one.calling_ae_title, one.job_states,
            )
            for one in found
        ],
        empty="none received yet",
    )  # fmt: skip


def _known_state(state: str) -> None:
    from dicom_core.job import JobState
    from dicom_core.study import StudyState

    known = [*(item.value for item in StudyState), *(item.value for item in JobState)]
    if state and state.upper() not in known:
        raise typer.BadParameter(f"{state!r} is no state; there are {', '.join(known)}", param_hint="--state")


def show(
    study_instance_uid: Annotated[str, typer.Argument(metavar="UID", callback=options.checked_uid)],
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Show one study: its jobs, the objects that were made, and what each destination answered."""
    from console.output import print_json, print_table
    from db import reports

    with options.open_record(options.settings_of(config, data_folder)) as record:
        study = reports.study(record, study_instance_uid)
        jobs = reports.jobs(record, study_instance_uid=study_instance_uid)
        deliveries = reports.deliveries(record, study_instance_uid)
    if json:
        print_json({"study": study, "jobs": jobs, "deliveries": deliveries})
        return
    typer.echo(f"study {study_instance_uid}: {study.state}, {study.series} series, {study.instances} instances")
    print_table(
        "Jobs",
        ("job", "gen.", "modality", "state", "segmenter", "changed", "reason"),
        [
            (job.job_id[:8], job.generation, job.modality, job.state.value, job.segmenter, job.updated_at, job.reason)
            for job in jobs
        ],
    )
    print_table(
        "Results",
        ("job", "kind", "part", "SOPInstanceUID", "SeriesInstanceUID", "bytes", "file"),
        [
            (
                job.job_id[:8], result.kind.value, result.part, result.sop_instance_uid, result.series_instance_uid,
                result.size_bytes or None, result.path or "removed",
            )
            for job in jobs
            for result in job.results
        ],
    )  # fmt: skip
    print_table(
        "Deliveries",
        ("job", "kind", "SOPInstanceUID", "destination", "state", "tries", "answer"),
        [
            (one.job_id[:8], one.kind, one.sop_instance_uid, one.destination, one.state, one.attempts, one.answer)
            for one in deliveries
        ],
    )


def close(
    study_instance_uid: Annotated[str, typer.Argument(metavar="UID", callback=options.checked_uid)],
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Take a study for complete at once, without waiting for the quiet time."""
    from console.output import print_json
    from db.studies import close_now

    with options.open_record(options.settings_of(config, data_folder)) as record:
        close_now(record, study_instance_uid)
    if json:
        print_json({"study_instance_uid": study_instance_uid, "close_requested": True})
    else:
        typer.echo(f"study {study_instance_uid} is complete at the next pass of the dispatcher")
