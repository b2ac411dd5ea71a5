"""Cuts what the network sees in one step from a pack; each step's batch follows from the seed and its number alone.

So training that was stopped goes on with the very pictures that it would have seen.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray
from torch.utils.data import Dataset

from training.augment import changed
from training.pack import Example, Truth
from worker.image_stack import Imaging
from worker.segmenters.vesselnet.network import KINDS
from worker.segmenters.vesselnet.preparing import BRIGHT, WORKING_SIZES, channels

CROP = 192
"""Side of what the network sees in training, a multiple of its stride."""
_MARGIN = 16
"""Cut around it for the local normalisation, then thrown away."""
WEIGHTS: Mapping[str, float] = {
    "ARCADE": 0.40,
    "CHASE_DB1": 0.16,
    "ROSSA": 0.13,
    "OCTA_synth": 0.01,
    "synthetic-xa": 0.06,
    "synthetic-fundus": 0.10,
    "synthetic-octa": 0.05,
    "synthetic-oct": 0.01,
    "negative": 0.09,
    "CT": 0.02,
}
"""How often a set is drawn from; those that a pack lacks are left out."""
_WRONG_KIND = 0.06
"""Share of crops told to be of a kind that they are not, or with vessels turned from dark to bright."""
_LARGEST_TURN: Mapping[Imaging, float] = {Imaging.XRAY_ANGIOGRAPHY: 30.0}
_ZOOM: Mapping[Imaging, tuple[float, float]] = {
    Imaging.XRAY_ANGIOGRAPHY: (0.75, 1.4),
    Imaging.FUNDUS: (0.6, 1.6),
    Imaging.OCT_ANGIOGRAPHY: (0.65, 1.6),
}
_ALIASED = 1.5
"""A picture reduced by more than this is averaged first."""
_COLLIMATED = 0.12
"""Share of crops that a straight or round border cuts."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step learns from.

    Attributes:
        pictures: ``(crops, channels, rows, columns)`` float32.
        kinds: ``(crops,)`` int64.
        vessel: ``(crops, 1, rows, columns)`` float32, 1 on vessels.
        counted: The same shape: 1 where the loss looks.
        known: ``(crops,)`` float32: 1 where a crop is of the kind it is said to be.
    """

    pictures: torch.Tensor
    kinds: torch.Tensor
    vessel: torch.Tensor
    counted: torch.Tensor
    known: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on another device."""
        values = {name: getattr(self, name).to(device, non_blocking=True) for name in self.__slots__}
        values["pictures"] = values["pictures"].contiguous(memory_format=torch.channels_last)
        return replace(self, **values)


class CropBatches(Dataset[Batch]):
    """Batch number ``n`` for each ``n``, cut and changed at random.

    Args:
        examples: What may be learnt from.
        size: Crops of a batch.
        seed: Decides all that is drawn.
        side: Rows and columns of a crop, a multiple of the network's stride.
    """

    def __init__(self, examples: Sequence[Example], size: int, seed: int, side: int = CROP) -> None:
        self._by_dataset: dict[str, list[Example]] = defaultdict(list)
        for example in examples:
            if example.entry.dataset in WEIGHTS:
                self._by_dataset[example.entry.dataset].append(example)
        self._names = sorted(self._by_dataset)
        weights = np.array([WEIGHTS[name] for name in self._names])
        self._shares = weights / weights.sum()
        self._size, self._seed, self._side = size, seed, side

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of one step."""
        generator = np.random.default_rng((self._seed, step))
        # Sets are drawn by quota: each batch then holds nearly the same mixture, which batch norm likes.
        places = (generator.random() + np.arange(self._size)) / self._size
        chosen = np.searchsorted(np.cumsum(self._shares), places).clip(max=len(self._names) - 1)
        crops = []
        for index in chosen:
            examples = self._by_dataset[self._names[index]]
            crops.append(_crop(examples[generator.integers(len(examples))], generator, self._side))
        return joined(crops)


def joined(batches: Sequence[Batch]) -> Batch:
    """Return several batches as one."""
    return Batch(*(torch.cat([getattr(batch, name) for batch in batches]) for name in Batch.__slots__))


def centre_crop(example: Example, side: int = CROP) -> Batch:
    """Return the unchanged middle of a picture at the working size, to follow the training by."""
    imaging = KINDS[example.entry.kind]
    factor = example.entry.diameter / WORKING_SIZES[imaging]
    intensity, truth = _cut(example, np.eye(2) * factor, np.array(example.truth.shape) / 2, side + 2 * _MARGIN)
    return _finished(intensity, truth, imaging, known=True, bright=imaging in BRIGHT, learnt=True)


def _crop(example: Example, generator: np.random.Generator, side: int) -> Batch:
    of_a_kind = example.entry.kind >= 0
    imaging = KINDS[example.entry.kind] if of_a_kind else KINDS[generator.integers(len(KINDS))]
    said, bright = imaging, imaging in BRIGHT
    wrong = of_a_kind and generator.random() < _WRONG_KIND
    if wrong and imaging is Imaging.XRAY_ANGIOGRAPHY and generator.random() < 0.5:
        bright = not bright
    elif wrong:
        others = [kind for kind in KINDS if kind is not imaging]
        said = others[generator.integers(len(others))]
        bright = said in BRIGHT
    linear = _transform(example, said, generator)
    centre = _centre(example, generator, linear, side)
    intensity, truth = _cut(example, linear, centre, side + 2 * _MARGIN)
    if generator.random() < _COLLIMATED:
        truth = _collimated(truth, generator)
    outside = truth == Truth.OUTSIDE
    intensity = changed(intensity, generator)
    intensity[outside] = float(generator.uniform(0.0, 0.05))
    return _finished(intensity, truth, said, known=of_a_kind and not wrong, bright=bright, learnt=not wrong)


def _transform(example: Example, imaging: Imaging, generator: np.random.Generator) -> NDArray[np.float64]:
    """Return the matrix from pixels of the crop to pixels of the picture."""
    least, most = _ZOOM[imaging]
    factor = example.entry.diameter / WORKING_SIZES[imaging]
    factor /= float(np.exp(generator.uniform(np.log(least), np.log(most))))
    largest = _LARGEST_TURN.get(imaging, 180.0)
    turn = np.deg2rad(generator.uniform(-largest, largest))
    squeeze = np.exp(generator.uniform(-0.12, 0.12))
    flips = np.where(generator.random(2) < (0.25, 0.5), -1.0, 1.0)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.asarray(factor * rotation @ np.diag([squeeze, 1 / squeeze]) @ np.diag(flips))


def _centre(
    example: Example, generator: np.random.Generator, linear: NDArray[np.float64], side: int
) -> NDArray[np.float64]:
    """Return where in the picture the crop's middle lies, so that little of it lies beyond the border."""
    shape = np.array(example.truth.shape, float)
    reach = np.minimum(0.42 * side * np.sqrt(abs(np.linalg.det(linear))), shape / 2)
    return np.asarray(generator.uniform(reach, shape - reach))


def _cut(
    example: Example, linear: NDArray[np.float64], centre: NDArray[np.float64], side: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``(1, 1, side, side)`` intensity in [0, 1] and truth; beyond the border is outside the field of view."""
    steps = np.arange(side) - (side - 1) / 2
    rows, columns = np.meshgrid(steps, steps, indexing="ij")
    places = np.stack([rows, columns], axis=-1) @ linear.T + centre
    first = np.maximum(np.floor(places.min(axis=(0, 1))).astype(int) - 2, 0)
    last = np.minimum(np.ceil(places.max(axis=(0, 1))).astype(int) + 2, example.truth.shape)
    window = (slice(first[0], max(last[0], first[0] + 1)), slice(first[1], max(last[1], first[1] + 1)))
    there, true = example.intensity[window], example.truth[window]
    shape = np.array(true.shape, float)
    grid = torch.from_numpy(((places - first)[..., ::-1] / shape[::-1] * 2 - 1).astype(np.float32))[None]
    intensity = torch.from_numpy(there.astype(np.float32) / 255.0)[None, None]
    if abs(np.linalg.det(linear)) > _ALIASED**2:
        intensity = F.avg_pool2d(intensity, 3, stride=1, padding=1, count_include_pad=False)
    intensity = F.grid_sample(intensity, grid, mode="bilinear", padding_mode="border", align_corners=False)
    # Truth is sampled as shares of its classes, so that turned and enlarged vessels gain no steps.
    planes = np.stack([true == Truth.VESSEL, true == Truth.UNSURE, true != Truth.OUTSIDE]).astype(np.float32)[None]
    vessel, unsure, seen = (F.grid_sample(torch.from_numpy(planes), grid, align_corners=False) > 0.5).unbind(dim=1)
    truth = vessel * int(Truth.VESSEL) + (unsure & ~vessel) * int(Truth.UNSURE) + ~(seen | vessel) * int(Truth.OUTSIDE)
    return intensity, truth[:, None].to(torch.uint8)


def _collimated(truth: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Return truth cut by a straight line or a circle."""
    side = truth.shape[-1]
    rows, columns = np.mgrid[:side, :side] - side / 2
    turn = generator.uniform(0, 2 * np.pi)
    if generator.random() < 0.5:
        away = rows * np.sin(turn) + columns * np.cos(turn) - generator.uniform(0.2, 0.5) * side
    else:
        radius = generator.uniform(0.8, 2.5) * side
        middle = generator.uniform(0.15, 0.45) * side - radius
        away = np.hypot(rows - middle * np.sin(turn), columns - middle * np.cos(turn)) - radius
    cut = torch.from_numpy(away > 0)[None, None]
    return torch.where(cut, torch.tensor(int(Truth.OUTSIDE), dtype=torch.uint8), truth)


def _finished(
    intensity: torch.Tensor, truth: torch.Tensor, imaging: Imaging, *, known: bool, bright: bool, learnt: bool
) -> Batch:
    shown = (truth != Truth.OUTSIDE).float()
    inner = slice(_MARGIN, -_MARGIN)
    vessel = (truth == Truth.VESSEL).float()[..., inner, inner]
    counted = shown * (truth != Truth.UNSURE).float()
    return Batch(
        pictures=channels(intensity, shown, bright=bright)[..., inner, inner],
        kinds=torch.tensor([KINDS.index(imaging)]),
        vessel=vessel,
        counted=counted[..., inner, inner] * float(learnt),
        known=torch.tensor([float(known)]),
    )
