"""What the demonstration says at its end."""

from collections.abc import Sequence
from pathlib import Path

import typer

from console.demo.outcome import Outcome
from console.output import in_words, print_json, print_table
from db.audit import Verification
from db.audit_queries import AuditRow
from dicom_core.settings import Settings


def print_as_json(outcomes: Sequence[Outcome], chain: Verification, data_folder: Path | None) -> None:
    """One line of JSON for machines."""
    holds = chain.first_bad_sequence is None
    print_json(
        {
            "ok": holds and not any(outcome.problems for outcome in outcomes),
            "studies": outcomes,
            "audit": {"holds": holds, "rows": chain.rows, "head_hash": chain.head_hash},
            "data_folder": data_folder,
        }
    )


def print_report(outcomes: Sequence[Outcome], chain: Verification, trail: Sequence[AuditRow]) -> None:
    """Tables for people."""
    print_table(
        "Audit trail of one study",
        ("no.", "time (UTC)", "event", "process", "detail"),
        [(row.sequence, row.at[11:23], row.event, row.process, in_words(row.detail)) for row in trail],
    )
    stages = list(dict.fromkeys(stage for outcome in outcomes for stage in outcome.seconds))
    print_table(
        "Results",
        ("source", "frames", "Dice", *(f"{stage} s" for stage in stages), "state"),
        [
            (one.source, one.frames, one.dice, *(one.seconds.get(stage) for stage in stages), one.state)
            for one in outcomes
        ],
    )
    for one in outcomes:
        typer.echo(f"{one.source}\n  StudyInstanceUID {one.study_instance_uid}")
        if one.sop_instance_uid:
            typer.echo(f"  SEG SOPInstanceUID {one.sop_instance_uid}\n  in the result PACS: {one.where or 'no'}")
        if one.preview:
            typer.echo(f"  preview: {one.preview}")
        for problem in one.problems:
            typer.echo(f"  problem: {problem}")
    if chain.first_bad_sequence is None:
        typer.echo(f"the audit chain holds: {chain.rows} rows")
    else:
        typer.echo(f"the audit chain is broken at row {chain.first_bad_sequence}: {chain.problem}")


def print_farewell(settings: Settings, folder: Path, *, kept: bool, running: bool) -> None:
    """What can be done next."""
    if running:
        typer.echo(
            f"everything goes on running until Ctrl-C: web pages at http://127.0.0.1:{settings.web.port}/, "
            f"listener {settings.listener.ae_title} at 127.0.0.1:{settings.listener.port}, data in {folder}; "
            f"`vesselq users add NAME --role operator --data-folder {folder}` lets somebody in"
        )
    elif kept:
        typer.echo(f"the data stays in {folder}; look with `vesselq studies --data-folder {folder}`")
    else:
        typer.echo("the data goes now, the previews stay; keep it all with --data-folder DIR, or running with --keep")
