"""``vesselq users``: who may sign in to the web pages."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console import options

if TYPE_CHECKING:
    from collections.abc import Callable

    from db.accounts import Account
    from db.session import Record

UserName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the account.")]
Roles = Annotated[
    list[str] | None,
    typer.Option("--role", metavar="ROLE", help="viewer, operator, admin or auditor; may be repeated."),
]
AskPassword = Annotated[
    bool,
    typer.Option("--ask", help="Ask for the password, or read a line of standard input; else one is drawn and shown."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
    group.command("list")(list_users)
    for command in (add, roles, password, disable, enable):
        group.command()(command)
    app.add_typer(group, name="users", help="Manage who may sign in to the web pages, and as what.")


def list_users(
    config: options.Config = None, data_folder: options.DataFolder = None, json: options.Json = False
) -> None:
    """List the accounts, also those that may not sign in any more."""
    from console.output import print_json, print_table
    from db import accounts

    with options.open_record(options.settings_of(config, data_folder)) as record:
        found, now = accounts.accounts(record), record.now()
    if json:
        print_json({"accounts": found})
        return
    print_table(
        "Accounts",
        ("name", "roles", "kind", "state", "last sign-in"),
        [
            (
                one.user_name, ", ".join(one.roles), one.source,
                "disabled" if one.disabled_at else "locked" if one.locked_until and one.locked_until > now else "ok",
                one.last_sign_in_at,
            )
            for one in found
        ],
    )  # fmt: skip


def add(
    name: UserName,
    role: Roles = None,
    full_name: Annotated[str, typer.Option("--full-name", metavar="TEXT", help="For pages.")] = "",
    ask: AskPassword = False,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Add a person. The password that is drawn is good for one sign-in; one that was asked for stays."""
    from db import accounts

    with options.open_record(options.settings_of(config, data_folder)) as record:
        chosen = _password(name, ask)
        made = accounts.add(record, name, role or [], chosen, display_name=full_name, must_change_password=not ask)
    _say(made, "" if ask else chosen, json)


def roles(
    name: UserName,
    role: Roles = None,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Set all roles of a person; without --role none is left."""
    from db import accounts

    with options.open_record(options.settings_of(config, data_folder)) as record:
        changed = accounts.set_roles(record, name, role or [])
    _say(changed, "", json)


def password(
    name: UserName,
    ask: AskPassword = False,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Give a person another password, unlock the account and sign the person out everywhere."""
    from db import accounts

    with options.open_record(options.settings_of(config, data_folder)) as record:
        accounts.account(record, name)  # before anybody is asked for a password
        chosen = _password(name, ask)
        accounts.set_password(record, name, chosen, must_change_password=not ask)
        changed = accounts.account(record, name)
    _say(changed, "" if ask else chosen, json)


def disable(
    name: UserName,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Sign a person out everywhere and let the person in no more. The account stays: the audit log names it."""
    from db import accounts

    _change(accounts.disable, name, config, data_folder, json)


def enable(
    name: UserName,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Let a person sign in again, also after too many wrong passwords."""
    from db import accounts

    _change(accounts.enable, name, config, data_folder, json)


def _change(
    change: "Callable[[Record, str], None]", name: str, config: Path | None, data_folder: Path | None, json: bool
) -> None:
    from db import accounts

    with options.open_record(options.settings_of(config, data_folder)) as record:
        change(record, name)
        changed = accounts.account(record, name)
    _say(changed, "", json)


def _password(user_name: str, ask: bool) -> str:
    """A password that is drawn, or typed twice without being shown; never an argument, which others could see."""
    import sys

    from db.accounts import drawn_password

    if not ask:
        return drawn_password(user_name)
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    typed: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return typed


def _say(account: "Account", password: str, json: bool) -> None:
    from console.output import print_json

    if json:
        print_json({"account": account, **({"password": password} if password else {})})
        return
    state = "may not sign in" if account.disabled_at else ", ".join(account.roles) or "no roles"
    typer.echo(f"{account.user_name}: {state}")
    if password:
        typer.echo(f"password for the first sign-in, shown this once: {password}")
