"""``vesselq peers`` with ``check`` and ``resend``."""

from typing import TYPE_CHECKING, Annotated

import typer

from console import options

if TYPE_CHECKING:
    from dicom_core.settings import Settings

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Of a peer or destination; peer/NAME or destination/NAME where both are.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(rich_markup_mode=None)
    group.callback(invoke_without_command=True)(peers)
    group.command()(check)
    group.command()(resend)
    app.add_typer(
        group,
        name="peers",
        help="Show peers and destinations: last contact and what waits for them; ask one; send again.",
    )


def peers(
    context: typer.Context,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Show peers and destinations: what came from them lately, what waits for them and why."""
    if context.invoked_subcommand is not None:
        return
    from console.output import print_json, print_table
    from console.peer_states import peer_states

    settings = options.settings_of(config, data_folder)
    with options.open_record(settings) as record:
        found = peer_states(settings, record)
    if json:
        print_json({"peers": found})
        return
    print_table(
        "Peers and destinations",
        ("name", "AE title", "where", "last heard", "last sent", "waiting", "refused", "tried again", "answer"),
        [
            (
                one.name if one.kind in ("", "peer") else f"{one.name} ({one.kind})", one.ae_title, one.where,
                one.heard.last_at if one.heard else None, one.sent_at, one.waiting + one.sending, one.failed,
                one.next_try_at, one.answer or (one.check.answer if one.check else ""),
            )
            for one in found
        ],
    )  # fmt: skip


def check(
    name: Name,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Ask a system whether it answers: by C-ECHO, a DICOMweb query, or a file. Exit code 1 when it does not."""
    from console.output import print_json, print_table
    from console.peer_states import check as ask

    settings = options.settings_of(config, data_folder)
    with options.open_record(settings) as record:
        found = [ask(settings, record, key) for key in _keys(settings, name)]
    if json:
        print_json({"checks": found})
    else:
        rows = [(one.name, "ok" if one.answered else "fails", one.answer) for one in found]
        print_table("Checks", ("name", "", "answer"), rows)
    if not all(one.answered for one in found):
        raise typer.Exit(1)


def resend(
    name: Name,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the audit log.")] = "",
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Send at once what waits for a system, and again what it refused: the same objects under the same UIDs."""
    from console.output import print_json
    from console.peer_states import resend as send_again

    settings = options.settings_of(config, data_folder)
    with options.open_record(settings) as record:
        hurried, repeated = send_again(settings, record, _keys(settings, name), reason or f"sent by {options.person()}")
    if json:
        print_json({"objects_sent_now": hurried, "jobs_sent_again": repeated})
    else:
        typer.echo(f"{hurried} waiting objects are due now; {repeated} jobs whose result was refused are sent again")


def _keys(settings: "Settings", name: str) -> tuple[str, ...]:
    """The systems that a name may mean.

    Raises:
        NotFoundError: The settings have none.
    """
    from dicom_core.errors import NotFoundError

    known = [f"peer/{one.name}" for one in settings.peers]
    known += [f"destination/{one.name}" for one in settings.destinations]
    found = tuple(key for key in known if name in (key, key.partition("/")[2]))
    if not found:
        raise NotFoundError(f"the settings have no peer or destination {name!r}; `vesselq peers` lists them")
    return found
