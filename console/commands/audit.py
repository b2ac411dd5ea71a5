"""``vesselq audit`` and ``vesselq audit verify``."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from console import options

if TYPE_CHECKING:
    from db.reports import AuditQuery

_OTHER_TIMES = ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S")
"""Taken as well, without the zeros that ISO 8601 asks for."""


def _moment(text: str) -> datetime:
    """A point in time in ISO 8601, for example as the log prints it; local time without a zone."""
    parsers: list[Callable[[str], datetime]] = [datetime.fromisoformat]
    parsers += [partial(_parsed_by, form) for form in _OTHER_TIMES]
    for parse in parsers:
        try:
            return parse(text).astimezone(UTC)
        except (ValueError, OverflowError):
            continue
    raise typer.BadParameter(f"{text!r} is no time of ISO 8601, for example 2026-11-21 or 2026-11-21T01:55:41.619Z")


def _parsed_by(form: str, text: str) -> datetime:
    return datetime.strptime(text, form)  # noqa: DTZ007  the caller gives it the local zone


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(rich_markup_mode=None)
    group.callback(invoke_without_command=True)(audit)
    group.command()(verify)
    app.add_typer(group, name="audit", help="Read the audit log; verify its chain.")


def audit(
    context: typer.Context,
    study: Annotated[
        str, typer.Option("--study", metavar="UID", help="Only of this study.", callback=options.checked_uid)
    ] = "",
    since: Annotated[
        datetime | None,
        typer.Option(metavar="TIME", parser=_moment, help="From this time on, ISO 8601; local time without a zone."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(metavar="TIME", parser=_moment, help="Before this time, ISO 8601.")
    ] = None,
    ae: Annotated[str, typer.Option("--ae", metavar="AE", help="Only of this AE title.")] = "",
    event: Annotated[str, typer.Option(metavar="EVENT", help="Only this event, for example job-failed.")] = "",
    failed: Annotated[bool, typer.Option("--failed", help="Only what did not succeed.")] = False,
    limit: options.Limit = 1000,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Read the audit log. The reading itself is written into it."""
    if context.invoked_subcommand is not None:
        return
    from console.output import in_words, print_json, print_table
    from db.audit import Event, record_event
    from db.reports import AuditQuery, audit_rows

    _known_event(event)
    query = AuditQuery(
        study_instance_uid=study, ae_title=ae, event=event, since=since, until=until,
        failed_only=failed, limit=limit,
    )  # fmt: skip
    with options.open_record(options.settings_of(config, data_folder)) as record:
        record_event(record, Event.AUDIT_READ, detail=_in_short(query))
        rows = audit_rows(record, query)
    if json:
        print_json({"events": rows})
        return
    print_table(
        "Audit log",
        ("no.", "time (UTC)", "event", "outcome", "by", "StudyInstanceUID", "job", "detail"),
        [
            (
                row.sequence, row.at, row.event, "ok" if row.outcome == 0 else f"failure {row.outcome}", row.by,
                row.study_instance_uid, row.job_id[:8], in_words(row.detail),
            )
            for row in rows
        ],
        empty="nothing fits",
    )  # fmt: skip


def _known_event(word: str) -> None:
    from db.audit import Event

    known = [event.word for event in Event]
    if word and word not in known:
        raise typer.BadParameter(f"{word!r} is no event; there are {', '.join(known)}", param_hint="--event")


def _in_short(query: "AuditQuery") -> dict[str, object]:
    from console.output import jsonable

    facts: dict[str, object] = jsonable(query)
    return {name: value for name, value in facts.items() if value}


def verify(
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Walk the whole chain. Exit code 1, with the first bad row, when it does not hold."""
    from console.output import print_json
    from db import audit as log

    with options.open_record(options.settings_of(config, data_folder)) as record:
        found = log.verify(record)
    holds = found.first_bad_sequence is None
    if json:
        print_json(
            {
                "holds": holds,
                "rows": found.rows,
                "first_bad_sequence": found.first_bad_sequence,
                "problem": found.problem,
                "head_hash": found.head_hash,
            }
        )
    elif holds:
        typer.echo(f"the chain holds: {found.rows} rows, head {found.head_hash}")
    else:
        typer.echo(f"the chain is broken at row {found.first_bad_sequence}: {found.problem}")
    if not holds:
        raise typer.Exit(1)
