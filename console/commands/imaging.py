"""``vesselq send`` and ``vesselq segment``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console import asking, options

if TYPE_CHECKING:
    from ssl import SSLContext

    from dicom_listener.storage_scu import DicomFile, Receiver, SendReport
    from worker.local import LocalResult


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(send)
    app.command()(segment)


def send(
    places: Annotated[list[Path], typer.Argument(metavar="FILE|DIR...", help="DICOM files, or folders of them.")],
    to: Annotated[str, typer.Option("--to", metavar="HOST:PORT", help="The Storage SCP.")],
    called: Annotated[str, typer.Option(metavar="AE", help="Its AE title.", callback=options.checked_ae_title)],
    calling: Annotated[
        str, typer.Option(metavar="AE", help="Our AE title towards it.", callback=options.checked_ae_title)
    ] = "VESSELQ",
    timeout: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Longest wait for one answer.")] = 30.0,
    ca_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Speak TLS, with whom one of these certificates vouches for.")
    ] = None,
    certificate_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Our certificate for TLS, PEM; with --key-file.")
    ] = None,
    key_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key, PEM.")] = None,
    json: options.Json = False,
) -> None:
    """Send DICOM files by C-STORE, byte for byte as they are stored.

    Exit code 1 when the receiver answered no, for one object or for all; 3 when it gave no answer.
    """
    from console.output import print_json
    from dicom_core.errors import NotFoundError
    from dicom_listener.storage_scu import Receiver, find_dicom_files

    host, port = options.peer_address(to)
    files, others = find_dicom_files(places)
    if not files:
        raise NotFoundError("there is no DICOM file among what was named")
    tls = _tls(ca_file, certificate_file, key_file)
    report = _send(files, Receiver(host, port, called, calling, timeout, tls), quiet=json)
    if json:
        print_json(
            {
                "files": len(files),
                "sent": report.sent,
                "not_dicom": others,
                "statuses": {f"0x{status:04X}": count for status, count in sorted(report.statuses.items())},
                "problems": [{"file": path, "reason": reason} for path, reason in report.problems],
            }
        )
    else:
        for path, reason in report.problems:
            typer.echo(f"{path}: {reason}", err=True)
        more = f"; {others} files are not DICOM" if others else ""
        typer.echo(f"{report.sent} of {len(files)} objects are stored at {called}{more}")
    if report.problems:
        raise typer.Exit(1)


def _tls(ca_file: Path | None, certificate_file: Path | None, key_file: Path | None) -> "SSLContext | None":
    from dicom_core.tls import client_context

    if (certificate_file is None) != (key_file is None):
        raise typer.BadParameter("--certificate-file and --key-file go together")
    if certificate_file is not None and ca_file is None:
        raise typer.BadParameter("name the certificates to trust as well", param_hint="--ca-file")
    return client_context(ca_file, certificate_file, key_file) if ca_file is not None else None


def _send(files: "Sequence[DicomFile]", receiver: "Receiver", *, quiet: bool) -> "SendReport":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from dicom_listener.storage_scu import send_files

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as bar:
        task = bar.add_task("sending", total=len(files))
        return send_files(files, receiver, progress=lambda done: bar.update(task, completed=done))


def segment(
    folder: Annotated[Path, typer.Argument(metavar="DIR|FILE", help="Files of one or more series.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the SEG objects and previews go.")],
    segmenter: Annotated[
        str,
        typer.Option(metavar="NAME", help="Instead of the one that the rules choose; several joined by + refine it."),
    ] = "",
    prompt: asking.Words = None,
    box: asking.Boxes = None,
    point: asking.Points = None,
    mask: asking.Mask = None,
    results: Annotated[
        str, typer.Option(metavar="KIND,...", help="What to make, as in results of a destination; SEG always is.")
    ] = "seg",
    config: options.Config = None,
    json: options.Json = False,
) -> None:
    """Segment a folder here and now: no server, no queue, no record. Exit code 1 when a series failed."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from console.output import print_json, print_table
    from dicom_core.errors import NotFoundError
    from worker.local import segment_folder

    settings = options.settings_of(config, None)
    if not folder.exists():
        raise NotFoundError(f"{folder} is neither a folder nor a file")
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=json, transient=True) as bar:
        task = bar.add_task("reading", total=1.0)
        found = segment_folder(
            settings,
            folder,
            out,
            segmenter=segmenter,
            prompt=asking.asked(prompt, box, point, mask),
            results=options.result_kinds(results),
            progress=lambda stage, share: bar.update(task, description=stage, completed=share),
        )
    if json:
        print_json({"series": found})
    else:
        print_table(
            "Series",
            ("SeriesInstanceUID", "modality", "segmenter", "status", "with vessel", "seconds", "objects", "remarks"),
            [
                (
                    one.series_instance_uid, one.modality, one.segmenter, one.status,
                    f"{one.frames_with_vessel} of {one.frames}", sum(one.seconds.values()),
                    _short_names(one),
                    "; ".join(part for part in (one.reason, *one.warnings) if part),
                )
                for one in found
            ],
        )  # fmt: skip
        if any(one.objects for one in found):
            typer.echo(f"The files are {out}/SeriesInstanceUID.object, the previews {out}/SeriesInstanceUID.png")
    if any(one.status == "failed" for one in found):
        raise typer.Exit(1)


def _short_names(result: "LocalResult") -> list[str]:
    """The names of the files without the SeriesInstanceUID that all begin with."""
    prefix = f"{result.series_instance_uid}."
    return [path.name.removeprefix(prefix) for paths in result.objects.values() for path in paths]
