"""``vesselq audit`` and the commands below it."""

from typing import Annotated

import typer

from console import audit_options, options
from console.commands import audit_answers, audit_chain, audit_export


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(rich_markup_mode=None)
    group.callback(invoke_without_command=True)(audit)
    audit_chain.register(group)
    group.command("export")(audit_export.export)
    audit_answers.register(group)
    app.add_typer(group, name="audit", help="Read the audit log, ask it, verify its chain, export it.")


def _known_outcome(number: int | None) -> int | None:
    from db.audit import Outcome

    if number is not None and number not in list(Outcome):
        raise typer.BadParameter(f"{number} is no outcome; there are {', '.join(str(int(one)) for one in Outcome)}")
    return number


def audit(
    context: typer.Context,
    study: audit_options.Study = "",
    since: audit_options.Since = None,
    until: audit_options.Until = None,
    job: Annotated[str, typer.Option("--job", metavar="ID", help="Only of this job: the whole id.")] = "",
    user: audit_options.User = "",
    ae: Annotated[str, typer.Option("--ae", metavar="AE", help="Only of this AE title.")] = "",
    address: Annotated[str, typer.Option("--address", metavar="IP", help="Only of this network address.")] = "",
    event: audit_options.Event = "",
    outcome: Annotated[
        int | None,
        typer.Option(
            metavar="0|4|8|12", help="Only this EventOutcomeIndicator of PS3.15 A.5.2.", callback=_known_outcome
        ),
    ] = None,
    failed: audit_options.Failed = False,
    before: Annotated[int, typer.Option(min=0, metavar="NO", help="Only what comes before this row.")] = 0,
    limit: options.Limit = 1000,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Read the audit log. The reading itself is written into it."""
    if context.invoked_subcommand is not None:
        return
    from console.audit_reading import read_page
    from console.output import print_json
    from db.audit_queries import AuditQuery

    query = AuditQuery(
        study_instance_uid=study, job_id=job, user=user, ae_title=ae, address=address, event=event, outcome=outcome,
        failed_only=failed, since=since, until=until, before=before, limit=limit,
    )  # fmt: skip
    with options.open_record(options.settings_of(config, data_folder)) as record:
        page = read_page(record, query)
    if json:
        print_json({"events": page.rows, "before": page.before})
        return
    audit_answers.print_rows("Audit log", page.rows)
    if page.before:
        typer.echo(f"there is more: --before {page.before} with the same options shows it", err=True)
