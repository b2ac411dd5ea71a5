"""Writes drawn pictures and a manifest of them, to be scored: ``python -m training.drawn_set --out FOLDER``."""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from training.synthetic.picture import Kind
from training.synthetic.sampling import sample

_MODALITIES: dict[Kind, str] = {"xa": "XA, drawn", "fundus": "fundus, drawn", "octa": "OCTA, drawn"}


def write_drawn_set(folder: Path, count: int, size: int) -> Path:
    """Write pictures, masks and fields of view as PNG and return the manifest beside them.

    Args:
        folder: Made where it does not exist.
        count: Pictures of each kind, from seed 0 on: training draws from far higher seeds.
        size: Rows and columns.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    jobs = [(kind, seed) for kind in _MODALITIES for seed in range(count)]
    for kind, seed in track(jobs, "drawing"):
        drawn, name = sample(kind, seed, size), f"{kind}_{seed}"
        Image.fromarray(drawn.image).save(folder / f"{name}.png")
        _save(drawn.mask, folder / f"{name}_mask.png")
        _save(drawn.field, folder / f"{name}_field.png")
        entries.append(
            {
                "dataset": f"synthetic-{kind}",
                "modality": _MODALITIES[kind],
                "image": f"{name}.png",
                "mask": f"{name}_mask.png",
                "mask_rule": ">127",
                "fov_mask": f"{name}_field.png",
                "split": "val",
            }
        )
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps(entries, indent=1))
    return manifest


def main(
    out: Annotated[Path, typer.Option(help="Folder for pictures and manifest.")],
    count: Annotated[int, typer.Option(min=1, help="Pictures of each kind.")] = 20,
    size: Annotated[int, typer.Option(min=64, help="Rows and columns.")] = 512,
) -> None:
    """Write drawn pictures and a manifest of them."""
    write_drawn_set(out, count, size)


def _save(mask: NDArray[np.bool_], path: Path) -> None:
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


if __name__ == "__main__":
    typer.run(main)
