"""Look at generated pictures or write many: ``python -m training.synthetic --kind xa --count 8 --out sheet.png``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from dicom_core.errors import VesselqError
from training.synthetic.shards import picture, write_shards
from training.synthetic.sheet import contact_sheet


def main(
    kind: Annotated[str, typer.Option(help="xa, fundus, octa, oct or negative.")] = "xa",
    count: Annotated[int, typer.Option(min=1, help="Number of pictures.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the first picture; the others follow.")] = 0,
    size: Annotated[int, typer.Option(min=64, help="Rows and columns.")] = 384,
    out: Annotated[Path | None, typer.Option(help="PNG: the pictures, each beside its outlined vessels.")] = None,
    pack: Annotated[Path | None, typer.Option(help="Folder for shards (.npz) of 100 pictures.")] = None,
) -> None:
    """Generate pictures of vessels with their exact masks; the same seed gives the same bytes."""
    notes = Console(stderr=True)
    if out is None and pack is None:
        notes.print("Say --out FILE.png for a contact sheet or --pack FOLDER for shards", style="red")
        raise typer.Exit(2)
    seeds = range(seed, seed + count)
    try:
        with Progress(
            *Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn(), console=notes
        ) as progress:
            if pack is not None:
                bar = progress.add_task(f"{kind} to shards", total=count)
                write_shards(pack, kind, seeds, size, done=lambda: progress.advance(bar))
            if out is not None:
                shown = [picture(kind, one, size) for one in progress.track(seeds, description=f"{kind} on a sheet")]
                contact_sheet(shown).save(out)
    except VesselqError as error:
        notes.print(str(error), style="red", markup=False)
        raise typer.Exit(error.exit_code) from error


if __name__ == "__main__":
    typer.run(main)
