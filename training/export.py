"""Ships what was trained: ``python -m training.export --state FOLDER --data PACK --out FOLDER --exclude-fold ROSSA:0``.

Writes the averaged weights in half precision, and a card with their hash and what is fitted to them on the pictures
that were held out: the folds must be those of the training.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from safetensors.torch import save
from scipy.optimize import minimize

from dicom_core.errors import ConfigurationError, VesselqError
from training import checkpoints
from training.pack import Example, Truth, read_pack
from training.train import split
from worker.image_stack import Arrangement, Imaging
from worker.postprocessing import clean
from worker.segmenters.vesselnet.network import KINDS, VesselNetwork
from worker.segmenters.vesselnet.preparing import BRIGHT, WORKING_SIZES, channels, resized, working_shape
from worker.segmenters.vesselnet.weights import CARD, WEIGHTS, Card, KindFit
from worker.segmenters.vesselnet.windows import look

_THRESHOLDS = (0.2, 0.25, 0.3, 0.36, 0.42, 0.5, 0.58)
_SEEDS = (0.0, 0.8)
_EXTENTS = (0.0, 0.015, 0.03)
_SAMPLE = 4000
"""Pixels of a picture that the calibration is fitted to."""
_GATE_MARGIN, _GATE_MOST = 3.5, 0.5
"""The gate lies so much below the least sure held-out picture, and never higher: other cameras look less familiar."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the network says of one held-out picture.

    Attributes:
        logits: ``(rows, columns)`` of vessel, at the working size.
        truth: ``(rows, columns)``, values of ``Truth``.
        known: Logit of being of its kind.
    """

    logits: NDArray[np.float32]
    truth: NDArray[np.uint8]
    known: float


@torch.inference_mode()
def answer(network: VesselNetwork, example: Example) -> Answer:
    """Show one whole picture to the network."""
    imaging = KINDS[example.entry.kind]
    shape = working_shape(example.truth.shape, example.entry.diameter, WORKING_SIZES[imaging])
    planes = np.stack([example.intensity / 255.0, *(example.truth == value for value in Truth)]).astype(np.float32)
    sized = resized(torch.from_numpy(planes)[None], shape)
    truth = sized[0, 1:].argmax(dim=0).to(torch.uint8).numpy()
    shown = torch.from_numpy(truth != Truth.OUTSIDE)[None, None].float()
    logits, known = look(network, channels(sized[:, :1], shown, bright=imaging in BRIGHT), example.entry.kind)
    return Answer(logits[0, 0].numpy(), truth, float(known))


def fitted(answers: Sequence[Answer], working_size: float) -> KindFit:
    """Fit calibration, threshold and the least piece to the answers of one kind of picture."""
    slope, offset = _calibrated(answers)
    best = (-1.0, 0.5, 0.0, 0.0)
    for threshold in _THRESHOLDS:
        for seed in _SEEDS:
            for extent in _EXTENTS:
                size = max(1, round((extent * working_size) ** 2))
                dice = np.mean([_dice(one, slope, offset, threshold, seed, size) for one in answers])
                best = max(best, (round(float(dice), 4), threshold, seed, extent))
    _, threshold, seed, extent = best
    gate = min(_GATE_MOST, min(one.known for one in answers) - _GATE_MARGIN)
    return KindFit(
        slope=round(slope, 4),
        offset=round(offset, 4),
        threshold=threshold,
        seed=seed,
        minimum_extent=extent,
        gate=round(gate, 3),
    )


def _calibrated(answers: Sequence[Answer]) -> tuple[float, float]:
    """Return slope and offset that make logits probabilities: logistic regression on pixels that count."""
    generator = np.random.default_rng(0)
    logits, vessel = [], []
    for one in answers:
        places = np.flatnonzero((one.truth == Truth.BACKGROUND) | (one.truth == Truth.VESSEL))
        chosen = generator.choice(places, min(_SAMPLE, len(places)), replace=False)
        logits.append(one.logits.ravel()[chosen])
        vessel.append(one.truth.ravel()[chosen] == Truth.VESSEL)
    x, y = np.concatenate(logits).astype(np.float64), np.concatenate(vessel).astype(np.float64)

    def surprise(line: NDArray[np.float64]) -> float:
        logit = line[0] * x + line[1]
        return float(np.mean(np.logaddexp(0, logit) - y * logit))

    best = minimize(surprise, (1.0, 0.0), bounds=((0.1, 3.0), (-5.0, 5.0)))
    return float(best.x[0]), float(best.x[1])


def _dice(one: Answer, slope: float, offset: float, threshold: float, seed: float, size: int) -> float:
    probability = 1 / (1 + np.exp(-np.clip(slope * one.logits + offset, -30, 30)))
    probability = (probability * (one.truth != Truth.OUTSIDE))[None]
    mask = clean(
        probability, arrangement=Arrangement.FRAMES, threshold=threshold, seed=max(seed, threshold), minimum_size=size
    )[0]
    vessel, counted = one.truth == Truth.VESSEL, one.truth != Truth.UNSURE
    both = np.count_nonzero(mask & counted) + np.count_nonzero(vessel)
    return 2 * np.count_nonzero(mask & vessel) / both if both else 1.0


def main(
    state: Annotated[Path, typer.Option(help="Folder of a training.")],
    data: Annotated[Path, typer.Option(help="The pack it learnt from.")],
    out: Annotated[Path, typer.Option(help="Folder that weights and card go to.")],
    exclude_fold: Annotated[list[str] | None, typer.Option(help="DATASET:K, as in training.")] = None,
    version: Annotated[str, typer.Option(help="Goes into the card and the SEG object.")] = "1",
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Write weights and card of a training."""
    notes = Console(stderr=True)
    torch.set_num_threads(threads)
    try:
        weights = {
            key: (value.half() if value.dtype.is_floating_point else value).contiguous()
            for key, value in checkpoints.average_of(state).items()
        }
        network = VesselNetwork()
        network.load_state_dict({key: value.float() for key, value in weights.items()})
        _, held_out = split(read_pack(data), exclude_fold or [])
        fits = _fits(network.fuse(), held_out, notes)
    except VesselqError as error:
        notes.print(str(error), style="red", markup=False)
        raise typer.Exit(error.exit_code) from error
    packed = save(weights)
    card = Card(version=version, sha256=hashlib.sha256(packed).hexdigest(), fits=fits)
    out.mkdir(parents=True, exist_ok=True)
    (out / WEIGHTS).write_bytes(packed)
    (out / CARD).write_text(card.model_dump_json(indent=2) + "\n")
    notes.print(f"{out / WEIGHTS}: {len(packed) / 2**20:.1f} MiB, SHA-256 {card.sha256}")


def _fits(network: VesselNetwork, held_out: Sequence[Example], notes: Console) -> Mapping[Imaging, KindFit]:
    answers: dict[Imaging, list[Answer]] = defaultdict(list)
    pictures = [example for example in held_out if example.entry.kind >= 0]
    for example in track(pictures, "looking at held-out pictures", console=notes):
        answers[KINDS[example.entry.kind]].append(answer(network, example))
    if set(answers) != set(KINDS):
        raise ConfigurationError("Each kind of picture needs held-out pictures; add --exclude-fold as in the training")
    return {imaging: fitted(answers[imaging], WORKING_SIZES[imaging]) for imaging in KINDS}


if __name__ == "__main__":
    typer.run(main)
