"""``vesselq doctor``: is everything there that the work needs, and if not, what to do."""

import typer

from console import options


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(doctor)


def doctor(
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Check everything that the work needs and say what to do. Exit code 3 when something needed fails."""
    from console.checks import examine
    from console.findings import Health
    from console.output import print_json, print_table

    findings = examine(options.settings_of(config, data_folder))
    healthy = all(finding.health is not Health.FAILS for finding in findings)
    if json:
        print_json({"healthy": healthy, "findings": findings})
    else:
        print_table(
            "Doctor",
            ("what", "", "found", "what to do"),
            [(one.what, one.health.value, one.found, one.advice) for one in findings],
        )
    if not healthy:
        raise typer.Exit(3)
