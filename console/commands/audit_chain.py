"""``vesselq audit verify``, ``checkpoint`` and ``archive``: is the log what was written, who vouches, what may go."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console import options

if TYPE_CHECKING:
    from db.audit import Verification

_Archives = Annotated[
    list[Path] | None,
    typer.Option("--archive", metavar="FILE", help="Walk along these archived rows first, oldest first; repeat it."),
]
_PublicKey = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The public key that you trust, PEM; else the one beside the checkpoints."),
]


def register(group: typer.Typer) -> None:
    """Add the commands to ``vesselq audit``."""
    group.command()(verify)
    group.command()(checkpoint)
    group.command()(archive)


def verify(
    public_key: _PublicKey = None,
    archive: _Archives = None,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Walk the whole chain and compare it with the checkpoints. Exit code 1, with the first bad row, when it fails."""
    from console.audit_reading import verify_chain
    from console.output import print_json
    from console.progress_bars import rows_bar

    settings = options.settings_of(config, data_folder)
    with options.open_record(settings) as record, rows_bar("Verifying", quiet=json) as progress:
        found = verify_chain(record, settings, public_key_file=public_key, archives=archive or (), progress=progress)
    if json:
        print_json(
            {
                "holds": found.holds,
                "rows": found.rows,
                "first_sequence": found.first_sequence,
                "first_bad_sequence": found.first_bad_sequence,
                "problem": found.problem,
                "head_hash": found.head_hash,
                "checkpoints": found.checkpoints,
                "signed_through": found.signed_through,
            }
        )
    else:
        typer.echo(_in_words(found))
    if not found.holds:
        raise typer.Exit(1)


def _in_words(found: "Verification") -> str:
    if not found.holds:
        return f"the chain is broken at row {found.first_bad_sequence}: {found.problem}"
    lines = [f"the chain holds: {found.rows} rows, head {found.head_hash}"]
    if found.first_sequence > 1:
        lines.append(f"rows 1 to {found.first_sequence - 1} were archived")
    if found.checkpoints:
        waiting = found.head_sequence - found.signed_through
        rest = f", {waiting} rows wait for the next" if waiting else ""
        lines.append(f"{found.checkpoints} checkpoints agree, the last with row {found.signed_through}{rest}")
    else:
        lines.append("there are no checkpoints: an end that was cut off, or a chain made anew, would not show")
    return "\n".join(lines)


def checkpoint(
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Sign the last row of the audit log now. The dispatcher does it by itself every minute."""
    from console.output import print_json
    from db.audit_checkpoints import CheckpointFile
    from db.audit_signing import sign_checkpoint

    settings = options.settings_of(config, data_folder)
    file = CheckpointFile.of(settings)
    with options.open_record(settings) as record:
        made = sign_checkpoint(record, file)
    last = made or file.last()
    if json:
        print_json({"new": made is not None, "file": file.path, "checkpoint": last})
    elif last is None:
        typer.echo("the audit log is empty: there is nothing to sign")
    else:
        words = "signed" if made else "no row was added since"
        typer.echo(f"{words}: row {last.sequence}, hash {last.row_hash}\ncheckpoint {last.number} in {file.path}")
        typer.echo(f"key {last.key}")


def archive(
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where the files of archived rows go.")],
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Move rows older than audit.keep_days into files that prove themselves. That it was done is in the log."""
    from console.output import print_json
    from db.audit_archive import archive as archive_rows
    from db.audit_checkpoints import CheckpointFile

    settings = options.settings_of(config, data_folder)
    repositories = [repository.name for repository in settings.audit.repositories]
    archives = []
    with options.open_record(settings) as record:
        for made in archive_rows(
            record,
            to,
            keep_days=settings.audit.keep_days,
            checkpoints=CheckpointFile.of(settings),
            repositories=repositories,
        ):
            archives.append(made)
            if not json:
                typer.echo(
                    f"rows {made.first_sequence} to {made.last_sequence} are in {made.file}, SHA-256 {made.sha256}"
                )
    if json:
        print_json({"keep_days": settings.audit.keep_days, "archives": archives})
    elif not archives:
        also = ", or an audit repository has not got it yet" if repositories else ""
        typer.echo(f"nothing was archived: no row is older than {settings.audit.keep_days:g} days{also}")
