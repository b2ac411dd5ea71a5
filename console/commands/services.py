"""``vesselq up`` and the processes alone; ``vesselq demo``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console import options

if TYPE_CHECKING:
    from dicom_core.settings import Settings

_ONLY_TO_DOWNLOAD = ("requests",)
"""pydicom loads it for fetching test files, which these processes never do."""


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    for command in (up, listener, dispatcher, worker, web, demo):
        app.command()(command)


def up(config: options.Config = None, data_folder: options.DataFolder = None) -> None:
    """Run everything on this machine: Redis, database, listener, dispatcher, workers and web pages."""
    from console import up as all_in_one

    all_in_one.run(options.settings_of(config, data_folder))


def listener(config: options.Config = None, data_folder: options.DataFolder = None) -> None:
    """Run the Storage SCP, which takes studies."""
    from dicom_core.quick_imports import quick_imports

    with quick_imports(*_ONLY_TO_DOWNLOAD):
        from dicom_listener import process

    process.run(_prepared("listener", config, data_folder))


def dispatcher(config: options.Config = None, data_folder: options.DataFolder = None) -> None:
    """Run the dispatcher, which closes quiet studies and makes their jobs."""
    from dicom_core.quick_imports import quick_imports

    with quick_imports(*_ONLY_TO_DOWNLOAD):
        from dicom_listener import dispatcher as process

    process.run(_prepared("dispatcher", config, data_folder))


def worker(
    queues: Annotated[
        str, typer.Option("--queues", metavar="NAMES", help="What to work on: segment, deliver, or both with a comma.")
    ] = "segment,deliver",
    config: options.Config = None,
    data_folder: options.DataFolder = None,
) -> None:
    """Run a worker, which segments series and delivers results."""
    from dicom_core.messages import DELIVER_QUEUE, SEGMENT_QUEUE

    names = tuple(name.strip() for name in queues.split(",") if name.strip())
    if not names or set(names) - {SEGMENT_QUEUE, DELIVER_QUEUE}:
        raise typer.BadParameter(f"{queues!r}: there are {SEGMENT_QUEUE} and {DELIVER_QUEUE}", param_hint="--queues")
    from dicom_core.quick_imports import quick_imports

    with quick_imports():
        from worker import app as process

    process.run(_prepared("worker", config, data_folder), queues=names)


def _prepared(kind: str, config: Path | None, data_folder: Path | None) -> "Settings":
    """Settings of a process whose logs are set up and whose database has the schema of this release."""
    from dicom_core.logs import configure_logs

    settings = options.settings_of(config, data_folder)
    configure_logs(kind, settings.log_level)
    with options.open_record(settings):
        return settings


def web(config: options.Config = None, data_folder: options.DataFolder = None) -> None:
    """Run the web pages, the JSON API and the metrics, for people and programs that were let in."""
    from dicom_core.quick_imports import quick_imports

    with quick_imports():
        from console.web import server

    server.run(_prepared("web", config, data_folder))


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Keep everything running until Ctrl-C.")] = False,
    data_folder: Annotated[
        Path | None, typer.Option("--data-folder", metavar="DIR", help="Keep the data there; else it is removed.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the table as one line of JSON.")] = False,
    seed: Annotated[int, typer.Option(min=0, metavar="NUMBER", help="Other numbers make other pictures.")] = 0,
) -> None:
    """Show the whole way at work: three generated studies go in, DICOM-SEG comes out in a result PACS."""
    from console.demo.run import run_demo

    if not run_demo(data_folder=data_folder, keep=keep, json=json, seed=seed):
        raise typer.Exit(1)
