"""``vesselq top``: a live view of the work."""

from typing import Annotated

import typer

from console import options

_WIDTH_OF_FILES = 140
"""Columns where nobody knows how wide the reader's screen is."""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(top)


def top(
    once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
    seconds: Annotated[float, typer.Option(min=0.2, max=3600, metavar="N", help="Look again after so long.")] = 2.0,
    hours: Annotated[int, typer.Option(min=1, max=168, metavar="N", help="How far back what was done is told.")] = 24,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Show what waits, runs and is stuck, which processes live, and what was done; live until Ctrl-C.

    With --json once, as one document.
    """
    import time

    from rich.console import Console
    from rich.live import Live

    from console.output import print_json
    from console.site_state import site_state
    from console.top_view import view

    settings = options.settings_of(config, data_folder)
    with options.open_record(settings) as record:
        state = site_state(settings, record, hours=hours)
        if json:
            print_json(state)
            return
        console = Console()
        if not console.is_terminal:
            console.width = _WIDTH_OF_FILES
        if once or not console.is_terminal:
            console.print(view(state))
            return
        try:
            with Live(view(state), console=console, screen=True, auto_refresh=False) as live:
                while True:
                    time.sleep(seconds)
                    live.update(view(site_state(settings, record, hours=hours)), refresh=True)
        except KeyboardInterrupt:  # the way to end it, not an interruption of work
            return
