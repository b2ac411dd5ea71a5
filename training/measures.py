"""Agreement of a mask with the truth, one number an image, and what many such numbers say."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

_RESAMPLES = 2000
"""Bootstrap samples; the bounds then move by less than 0.001 from one seed to another."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well one mask agrees with the truth; each number lies in [0, 1].

    Attributes:
        dice: Twice the common pixels over the sum of both.
        iou: The common pixels over the union.
        precision: Share of the mask that is right.
        recall: Share of the truth that is found.
        centreline_dice: Harmonic mean of the share of the mask's centre line that lies in the truth and the share of
            the truth's that lies in the mask: thin vessels count as much as thick ones.
    """

    dice: float
    iou: float
    precision: float
    recall: float
    centreline_dice: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The mean of one measure over a data set, with a 95 % bootstrap interval over its images."""

    mean: float
    low: float
    high: float


def agreement(mask: NDArray[np.bool_], truth: NDArray[np.bool_], inside: NDArray[np.bool_] | None = None) -> Agreement:
    """Compare a mask with the truth.

    Two empty masks agree perfectly; of an empty one against one that is not, every number is 0.

    Args:
        mask: ``(rows, columns)`` bool.
        truth: The same shape.
        inside: Where pixels count, None for everywhere.
    """
    if inside is not None:
        mask, truth = mask & inside, truth & inside
    common, found, there = (float(np.count_nonzero(m)) for m in (mask & truth, mask, truth))
    if found + there == 0:
        return Agreement(1.0, 1.0, 1.0, 1.0, 1.0)
    if common == 0:
        return Agreement(0.0, 0.0, 0.0, 0.0, 0.0)
    precise, sensitive = _share_inside(_centre_line(mask), truth), _share_inside(_centre_line(truth), mask)
    harmonic = 2 * precise * sensitive / (precise + sensitive) if precise + sensitive else 0.0
    return Agreement(
        dice=2 * common / (found + there),
        iou=common / (found + there - common),
        precision=common / found,
        recall=common / there,
        centreline_dice=harmonic,
    )


def summarise(agreements: Sequence[Agreement]) -> Mapping[str, Summary]:
    """Return mean and interval of each measure, by its name; the same images always give the same interval."""
    picks = np.random.default_rng(0).integers(0, len(agreements), (_RESAMPLES, len(agreements)))
    summaries = {}
    for name in Agreement.__dataclass_fields__:
        values = np.array([asdict(one)[name] for one in agreements])
        low, high = np.percentile(values[picks].mean(axis=1), (2.5, 97.5))
        summaries[name] = Summary(float(values.mean()), float(low), float(high))
    return summaries


def _centre_line(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(skeletonize(mask), np.bool_)


def _share_inside(line: NDArray[np.bool_], area: NDArray[np.bool_]) -> float:
    length = np.count_nonzero(line)
    return float(np.count_nonzero(line & area)) / length if length else 0.0
