"""Trains the shipped network: ``python -m training.train --data PACK --out FOLDER``, with ``--resume`` to go on."""

import json
import math
import signal
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.data import DataLoader

from dicom_core.errors import ConfigurationError, VesselqError
from training import checkpoints
from training.checkpoints import Training
from training.crops import CROP, Batch, CropBatches, centre_crop
from training.losses import loss_of
from training.pack import Example, read_pack
from worker.segmenters.vesselnet.network import VesselNetwork

_WARM_UP = 100
"""Steps in which the rate of learning rises."""
_WEIGHT_DECAY = 0.02
_LARGEST_GRADIENT = 2.0
_WATCHED = 12
"""Pictures of each data set that the training is followed by."""
_WATCHED_SIDE = 320


def train(
    training: Training,
    batches: Iterator[Batch],
    watched: Mapping[str, Sequence[Batch]],
    folder: Path,
    *,
    steps: int,
    last: int,
    rate: float,
    decay: float,
    watch_every: int,
    keep_every_seconds: float,
    progress: Progress,
    asked_to_stop: Event,
) -> None:
    """Learn until ``last`` of ``steps`` are done; the state goes to ``folder`` now and then and at the end."""
    device = next(training.network.parameters()).device
    bar = progress.add_task("training", total=steps, completed=training.step, loss=math.nan, dice="")
    kept, mean = time.monotonic(), math.nan
    training.network.train()
    while training.step < last and not asked_to_stop.is_set():
        for group in training.optimizer.param_groups:
            group["lr"] = rate * rate_share(training.step, steps)
        loss = _learn(training, next(batches).to(device))
        training.step += 1
        training.follow(decay)
        mean = loss if math.isnan(mean) else 0.98 * mean + 0.02 * loss
        progress.update(bar, completed=training.step, loss=mean)
        if training.step % watch_every == 0 or training.step == last:
            dice = dice_of(training.average, watched)
            progress.update(bar, dice="  ".join(f"{name} {value:.3f}" for name, value in dice.items()))
            _note(folder, training.step, mean, dice)
        if time.monotonic() - kept > keep_every_seconds:
            checkpoints.save(training, folder)
            kept = time.monotonic()
    checkpoints.save(training, folder)


def rate_share(step: int, steps: int) -> float:
    """Return the share of the greatest rate of learning: a short rise, then half a cosine down to 0."""
    return min(1.0, (step + 1) / _WARM_UP) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))


def _learn(training: Training, batch: Batch) -> float:
    training.optimizer.zero_grad(set_to_none=True)
    mixed = batch.pictures.is_cuda
    with torch.autocast(batch.pictures.device.type, torch.bfloat16, enabled=mixed):
        logits, known = training.network(batch.pictures, batch.kinds)
    loss = loss_of(logits.float(), known.float(), batch)
    loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
    torch.nn.utils.clip_grad_norm_(training.network.parameters(), _LARGEST_GRADIENT)
    training.optimizer.step()
    return float(loss.detach())


@torch.inference_mode()
def dice_of(network: torch.nn.Module, watched: Mapping[str, Sequence[Batch]]) -> dict[str, float]:
    """Return the mean Dice coefficient at 0.5 of each data set over the middles of its pictures."""
    device = next(network.parameters()).device
    found = {}
    for name, batches in watched.items():
        values = []
        for one in batches:
            batch = one.to(device)
            mask = (network(batch.pictures, batch.kinds)[0] > 0).float() * batch.counted
            vessel = batch.vessel * batch.counted
            values.append(float((2 * (mask * vessel).sum() + 1) / (mask.sum() + vessel.sum() + 1)))
        found[name] = sum(values) / len(values)
    return found


def main(
    data: Annotated[list[Path], typer.Option(help="A pack made by training.pack; several are one.")],
    out: Annotated[Path, typer.Option(help="Folder that the state of the training goes to.")],
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what the folder holds.")] = False,
    steps: Annotated[int, typer.Option(min=1)] = 6000,
    batch: Annotated[int, typer.Option(min=1, help="Crops of a step.")] = 8,
    side: Annotated[int, typer.Option(min=64, help="Rows and columns of a crop: a multiple of 32.")] = CROP,
    rate: Annotated[float, typer.Option(help="Greatest rate of learning.")] = 2e-3,
    decay: Annotated[float, typer.Option(help="Of the average of the weights, from step to step.")] = 0.997,
    seed: int = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda:0, or auto.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Of the CPU.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that cut pictures; 0 cuts in this one.")] = 0,
    exclude_fold: Annotated[list[str] | None, typer.Option(help="DATASET:K is held out.")] = None,
    watch_every: Annotated[int, typer.Option(min=1, help="Steps between two looks at held-out pictures.")] = 250,
    keep_minutes: Annotated[float, typer.Option(help="Between two kept states.")] = 5.0,
    stop_after: Annotated[
        int | None, typer.Option(min=1, help="Stop and keep the state before all steps are done.")
    ] = None,
) -> None:
    """Train the network from a pack of pictures."""
    notes = Console(stderr=True)
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    try:
        learnt, held_out = split([example for pack in data for example in read_pack(pack)], exclude_fold or [])
        out.mkdir(parents=True, exist_ok=True)
        network = VesselNetwork().to(where)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from torch's types
        training = Training.of(network, _WEIGHT_DECAY)
        if resume:
            checkpoints.restore(training, out)
        elif checkpoints.exists(out):
            raise ConfigurationError(f"{out} holds a training already; add --resume, or choose another folder")
        batches = CropBatches(learnt, batch, seed, side)
        with _progress(notes) as progress, _asked_to_stop() as asked:
            train(
                training,
                _from(batches, training.step, steps, workers),
                watched_of(held_out),
                out,
                steps=steps,
                last=min(steps, stop_after or steps),
                rate=rate,
                decay=decay,
                watch_every=watch_every,
                keep_every_seconds=60 * keep_minutes,
                progress=progress,
                asked_to_stop=asked,
            )
    except VesselqError as error:
        notes.print(str(error), style="red", markup=False)
        raise typer.Exit(error.exit_code) from error


@contextmanager
def _asked_to_stop() -> Iterator[Event]:
    """Hand out what is set when Ctrl-C or SIGTERM asks to stop, so that this happens between two steps."""
    asked = Event()
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def split(examples: Sequence[Example], folds: Sequence[str]) -> tuple[list[Example], list[Example]]:
    """Return what may be learnt from, and what is held out: marked so in the pack, or of a fold ``DATASET:K``.

    Raises:
        ConfigurationError: A fold is misspelt or holds no picture.
    """
    excluded = set()
    for text in folds:
        dataset, _, fold = text.partition(":")
        if not any(e.entry.dataset == dataset and str(e.entry.fold) == fold for e in examples):
            raise ConfigurationError(f"The pack holds no fold {text!r}; write for example ROSSA:0")
        excluded.add((dataset, int(fold)))
    learnt: list[Example] = []
    held_out: list[Example] = []
    for example in examples:
        entry = example.entry
        away = entry.held_out or (entry.dataset, entry.fold) in excluded
        (held_out if away else learnt).append(example)
    return learnt, held_out


def watched_of(held_out: Sequence[Example]) -> dict[str, list[Batch]]:
    """Return the middles of a few held-out pictures of each data set."""
    by_dataset: dict[str, list[Batch]] = defaultdict(list)
    for example in held_out:
        if example.entry.kind >= 0 and len(by_dataset[example.entry.dataset]) < _WATCHED:
            by_dataset[example.entry.dataset].append(centre_crop(example, _WATCHED_SIDE))
    return dict(by_dataset)


def _from(batches: CropBatches, first: int, steps: int, workers: int) -> Iterator[Batch]:
    numbers = range(first, steps)
    if workers == 0:
        return (batches[number] for number in numbers)
    # Spawned: a fork of a process with torch's threads may hang.
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        prefetch_factor=4,
        multiprocessing_context="spawn",
        worker_init_fn=_single_threaded,
    )
    return iter(loader)


def _single_threaded(_worker: int) -> None:
    torch.set_num_threads(1)


def _progress(console: Console) -> Progress:
    return Progress(
        *Progress.get_default_columns()[:-1],
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  {task.fields[dice]}"),
        console=console,
        refresh_per_second=2,
    )


def _note(folder: Path, step: int, loss: float, dice: Mapping[str, float]) -> None:
    line = {"step": step, "loss": round(loss, 4)} | {name: round(value, 4) for name, value in dice.items()}
    with (folder / "progress.jsonl").open("a") as notes:
        notes.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    typer.run(main)
