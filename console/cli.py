"""The ``vesselq`` command. Nothing heavy is imported here: ``--help`` must be quick everywhere."""

import os
from typing import Annotated, Any

import typer

from console import options
from console.commands import (
    audit,
    configuration,
    doctor,
    imaging,
    jobs,
    models,
    peers,
    rules,
    segmentations,
    services,
    studies,
    tls,
    tokens,
    top,
    users,
)
from console.quick_help import HELP_OPTIONS, QuickHelpGroup
from dicom_core.errors import ConfigurationError, VesselqError

_EXIT_CODES = (
    "Exit codes: 0 ok; 1 the answer is no (a study failed, the chain is broken); 2 usage or configuration; "
    "3 a needed service does not answer; 4 not found; 5 the record does not allow it; 130 interrupted."
)


class _Commands(QuickHelpGroup):
    """Turns the errors of vesselq into one sentence on standard error and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except VesselqError as error:
            typer.echo(f"vesselq: {error}", err=True)
            raise typer.Exit(error.exit_code) from None
        except UnicodeEncodeError:  # Python keeps such octets as half a character, which no database and no page takes
            typer.echo("vesselq: an argument is not text in UTF-8", err=True)
            raise typer.Exit(ConfigurationError.exit_code) from None
        except PermissionError as error:  # wherever: the data folder is for the user of the processes alone
            typer.echo(
                f"vesselq: {options.person()} may not use {error.filename}; run this as the user of vesselq", err=True
            )
            raise typer.Exit(ConfigurationError.exit_code) from None


app = typer.Typer(
    name="vesselq",
    cls=_Commands,
    help="Receives imaging studies over DICOM, segments the vessels and returns DICOM-SEG, with an audit log.",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": list(HELP_OPTIONS)},
)
for room in (
    services, imaging, models, segmentations, studies, jobs, top, peers, rules, audit, users, tokens, configuration,
    tls, doctor,
):  # fmt: skip
    room.register(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        from console.output import software_version

        typer.echo(f"vesselq {software_version()}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", help="Say the version and end.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Receives imaging studies over DICOM, segments the vessels and returns DICOM-SEG, with an audit log."""


def main() -> None:
    """Entry point of the ``vesselq`` program."""
    os.umask(0o027)  # what is written may hold patient data: nothing for strangers on this machine
    os.environ["HF_HUB_OFFLINE"] = "1"  # models are folders of this machine; no library may look for them elsewhere
    app()


if __name__ == "__main__":
    main()
