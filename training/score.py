"""Measures a segmenter on images with known vessels: ``python -m training.score --manifest FILE --root DIR``."""

import json
import sys
import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table

from dicom_core.errors import ConfigurationError, VesselqError
from training.manifest import Case, read_manifest
from training.measures import Agreement, Summary, agreement, summarise
from worker.segmenters import registry
from worker.segmenters.interface import Prompt, Segmenter

_TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "centreline_dice": "centre-line\nDice",
}
_TILE = 256
"""Side of a picture on the contact sheet in pixels."""
_BOTH, _MISSED, _TOO_MUCH = (255, 255, 255), (230, 159, 0), (0, 114, 178)
_WORST = 8
"""Cases on the contact sheet."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One case and how the segmenter did on it."""

    case: Case
    agreement: Agreement


def score(cases: Sequence[Case], segmenter: Segmenter, progress: Progress | None = None) -> tuple[Scored, ...]:
    """Segment each case and compare the union of all classes with the truth."""
    bar = progress.add_task("scoring", total=len(cases)) if progress else None
    scored = []
    for case in cases:
        mask = _mask_of(case, segmenter)
        scored.append(Scored(case, agreement(mask, case.truth(mask.shape), case.inside(mask.shape))))
        if progress and bar is not None:
            progress.advance(bar)
    return tuple(scored)


def summaries(scored: Sequence[Scored]) -> dict[str, tuple[int, Mapping[str, Summary]]]:
    """Return number of images and summary of each measure, by data set."""
    by_dataset: dict[str, list[Agreement]] = defaultdict(list)
    for one in scored:
        by_dataset[one.case.dataset].append(one.agreement)
    return {name: (len(agreements), summarise(agreements)) for name, agreements in by_dataset.items()}


def as_json(
    scored: Sequence[Scored], skipped: int, compared: Mapping[str, Sequence[Scored]] = MappingProxyType({})
) -> str:
    """Return one line: means under the measure's name, bounds of the 95 % interval under ``NAME_interval``.

    Args:
        scored: The cases, under ``datasets``.
        skipped: Entries that were left out.
        compared: By name of another segmenter, under ``compared`` in the same form.
    """
    said: dict[str, object] = {"datasets": _numbers(scored), "skipped": skipped}
    if compared:
        said["compared"] = {name: _numbers(other) for name, other in compared.items()}
    return json.dumps(said)


def _numbers(scored: Sequence[Scored]) -> dict[str, dict[str, int | float | list[float]]]:
    datasets = {}
    for name, (count, measures) in summaries(scored).items():
        entry: dict[str, int | float | list[float]] = {"n": count}
        for measure, summary in measures.items():
            entry[measure] = round(summary.mean, 5)
            entry[f"{measure}_interval"] = [round(summary.low, 5), round(summary.high, 5)]
        datasets[name] = entry
    return datasets


def contact_sheet(scored: Sequence[Scored], segmenter: Segmenter) -> Image.Image:
    """Draw the worst cases by Dice, one a row: image, truth, and the mask against it (missed orange, too much blue)."""
    worst = sorted(scored, key=lambda one: one.agreement.dice)[:_WORST]
    sheet = Image.new("RGB", (3 * _TILE, max(1, len(worst)) * _TILE))
    for row, one in enumerate(worst):
        mask = _mask_of(one.case, segmenter)
        with Image.open(one.case.image) as picture:
            truth = one.case.truth(mask.shape)
            tiles = [picture.convert("RGB"), _compared(truth, truth), _compared(mask, truth)]
        for column, tile in enumerate(tiles):
            sheet.paste(tile.resize((_TILE, _TILE)), (column * _TILE, row * _TILE))
    return sheet


def main(
    manifest: Annotated[Path, typer.Option(help="JSON list of images and masks.")],
    root: Annotated[Path, typer.Option(help="Folder that the manifest's paths start from.")],
    dataset: Annotated[str | None, typer.Option(help="Only this data set.")] = None,
    split: Annotated[str | None, typer.Option(help="Only this split: train or val.")] = None,
    fold: Annotated[list[str] | None, typer.Option(help="DATASET:K, only this part of a data set.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many images of each data set.")] = None,
    segmenter: Annotated[str, typer.Option(help="Name of the segmenter.")] = "ridge",
    setting: Annotated[list[str] | None, typer.Option(help="KEY=VALUE of it, VALUE as in TOML.")] = None,
    compare: Annotated[list[str] | None, typer.Option(help="Another segmenter for the same table.")] = None,
    device: Annotated[str, typer.Option(help="Where it computes.")] = "cpu",
    sheet: Annotated[Path | None, typer.Option("--contact-sheet", "--sheet", help="PNG of the worst cases.")] = None,
    machine: Annotated[bool, typer.Option("--json", help="End with one JSON line on stdout.")] = False,
) -> None:
    """Measure a segmenter on images with known vessels."""
    notes = Console(stderr=True)
    try:
        listed = read_manifest(manifest, root, dataset=dataset, split=split)
        cases = _limited(_of_folds(listed.cases, fold or []), limit)
        loaded = registry.load(segmenter, {segmenter: _settings(setting or [])}, device)
        others = {name: registry.load(name, {}, device) for name in compare or []}
        with Progress(
            *Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn(), console=notes
        ) as progress:
            scored = score(cases, loaded, progress)
            compared = {name: score(cases, other, progress) for name, other in others.items()}
        Console().print(_table({segmenter: scored} | compared))
        notes.print(f"{listed.skipped} entries without a mask or of another kind of file were skipped")
        if sheet is not None:
            contact_sheet(scored, loaded).save(sheet)
    except VesselqError as error:
        notes.print(str(error), style="red", markup=False)
        raise typer.Exit(error.exit_code) from error
    if machine:
        sys.stdout.write(as_json(scored, listed.skipped, compared) + "\n")


def _of_folds(cases: Sequence[Case], folds: Sequence[str]) -> Sequence[Case]:
    """Return the cases of the folds ``DATASET:K``; all of them where no fold is named."""
    return [case for case in cases if not folds or f"{case.dataset}:{case.fold}" in folds]


def _limited(cases: Sequence[Case], limit: int | None) -> tuple[Case, ...]:
    if not cases:
        raise ConfigurationError("The manifest holds no image that can be scored; check --dataset, --split and --fold")
    taken: dict[str, int] = defaultdict(int)
    chosen = []
    for case in cases:
        taken[case.dataset] += 1
        if limit is None or taken[case.dataset] <= limit:
            chosen.append(case)
    return tuple(chosen)


def _settings(pairs: Sequence[str]) -> dict[str, object]:
    try:
        return tomllib.loads("\n".join(pairs))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"A setting is written KEY=VALUE with VALUE as in TOML: {error}") from error


def _mask_of(case: Case, segmenter: Segmenter) -> NDArray[np.bool_]:
    result = segmenter.segment(case.stack(), Prompt(), lambda _share: None)
    return np.asarray(result.mask[:, 0].any(axis=0))


def _compared(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Image.Image:
    """Return white where both are, orange where the mask misses the truth, blue where it says too much."""
    colours = np.zeros((*mask.shape, 3), np.uint8)
    for where, colour in ((mask & truth, _BOTH), (truth & ~mask, _MISSED), (mask & ~truth, _TOO_MUCH)):
        colours[where] = colour
    return Image.fromarray(colours)


def _table(by_segmenter: Mapping[str, Sequence[Scored]]) -> Table:
    table = Table(title="Mean and 95 % interval")
    table.add_column("data set")
    table.add_column("segmenter")
    table.add_column("images", justify="right")
    for title in _TITLES.values():
        table.add_column(title, justify="right")
    found = {segmenter: summaries(scored) for segmenter, scored in by_segmenter.items()}
    for name in dict.fromkeys(name for one in found.values() for name in one):
        for segmenter, by_dataset in found.items():
            count, measures = by_dataset[name]
            cells = [f"{s.mean:.3f}\n{s.low:.3f}-{s.high:.3f}" for s in (measures[key] for key in _TITLES)]
            table.add_row(name, segmenter, str(count), *cells)
    return table


if __name__ == "__main__":
    typer.run(main)
