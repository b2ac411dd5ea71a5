"""``vesselq tokens``: what programs may do over the JSON API."""

from typing import Annotated

import typer

from console import options

_DEFAULT_DAYS = 90.0


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
    group.command("list")(list_tokens)
    for command in (create, revoke):
        group.command()(command)
    app.add_typer(group, name="tokens", help="Make and revoke the tokens with which programs use the JSON API.")


def list_tokens(
    config: options.Config = None, data_folder: options.DataFolder = None, json: options.Json = False
) -> None:
    """List what is known of the tokens, the latest first; never the tokens themselves."""
    from console.output import print_json, print_table
    from db import api_tokens

    with options.open_record(options.settings_of(config, data_folder)) as record:
        found, now = api_tokens.tokens(record), record.now()
    if json:
        print_json({"tokens": found})
        return
    print_table(
        "Tokens",
        ("token", "for", "may", "state", "made by", "made", "until", "last used"),
        [
            (
                one.token_id, one.name, ", ".join(one.scopes),
                "revoked" if one.revoked_at else "expired" if one.expires_at <= now else "ok",
                one.created_by, one.created_at, one.expires_at, one.last_used_at,
            )
            for one in found
        ],
    )  # fmt: skip


def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the token is for.")],
    scope: Annotated[
        list[str], typer.Option("--scope", metavar="SCOPE", help="read, operate, admin or audit; may be repeated.")
    ],
    days: Annotated[
        float, typer.Option("--days", metavar="N", help="How long it is good, at most 366.")
    ] = _DEFAULT_DAYS,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Make a token and print it. It is kept as a hash only and cannot be shown again."""
    from console.output import print_json
    from db import api_tokens

    with options.open_record(options.settings_of(config, data_folder)) as record:
        made, secret = api_tokens.create(record, name, scope, days=days)
    if json:
        print_json({"token": made, "secret": secret})
        return
    typer.echo(f"{made.name}, may {', '.join(made.scopes)} until {made.expires_at.astimezone():%Y-%m-%d}; "
               f"`vesselq tokens revoke {made.token_id}` ends it", err=True)  # fmt: skip
    typer.echo(secret)


def revoke(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Id of the token, as the list has it.")],
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """End a token now: programs that use it are refused from then on."""
    from console.output import print_json
    from db import api_tokens

    with options.open_record(options.settings_of(config, data_folder)) as record:
        ended = api_tokens.revoke(record, token)
    if json:
        print_json({"token": ended})
        return
    typer.echo(f"{ended.name} is refused from now on")
