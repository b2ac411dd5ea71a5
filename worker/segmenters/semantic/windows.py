"""Looks at large pictures and volumes piece by piece; pieces fade into each other, and memory stays bounded."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from worker.segmenters.semantic.looking import Looker

Numbers = NDArray[np.float32]
Shape = tuple[int, ...]


def through_windows(
    looker: Looker, image: Numbers, window: Shape, overlap: float, progress: Callable[[float], None]
) -> Iterator[tuple[int, Numbers]]:
    """Look at a picture or volume through windows.

    Only as much of the answer is held as windows that begin at one place of the first axis cover.

    Args:
        looker: The network.
        image: ``(channels, *spatial)``, nowhere smaller than the window.
        window: Its spatial shape.
        overlap: Share of the window that neighbours have in common.
        progress: Called with the finished share.

    Yields:
        Where a finished part begins on the first spatial axis, and its probabilities ``(classes, *part)``; the parts
        follow each other.
    """
    spatial = image.shape[1:]
    firsts, *others = (starts(length, size, overlap) for length, size in zip(spatial, window, strict=True))
    places = list(itertools.product(*others))
    fade = fading(window, overlap)
    sums = np.zeros((looker.classes, window[0], *spatial[1:]), np.float32)
    weights = np.zeros(sums.shape[1:], np.float32)
    for number, first in enumerate(firsts):
        _add(looker, image[:, first : first + window[0]], places, fade, sums, weights)
        progress((number + 1) / len(firsts))
        done = (firsts[number + 1] if number + 1 < len(firsts) else spatial[0]) - first
        yield first, np.asarray(sums[:, :done] / weights[:done], np.float32)
        _shift(sums, done, axis=1)
        _shift(weights, done, axis=0)


def _add(looker: Looker, image: Numbers, places: list[Shape], fade: Numbers, sums: Numbers, weights: Numbers) -> None:
    """Add what is seen through all windows that begin at one place of the first axis."""
    rest = fade.shape[1:]

    def piece(start: Shape) -> tuple[slice, ...]:
        return tuple(slice(one, one + size) for one, size in zip(start, rest, strict=True))

    def windows(which: slice) -> Numbers:
        return np.stack([image[(slice(None), slice(None), *piece(start))] for start in places[which]])

    def keep(which: slice, found: Numbers) -> None:
        for start, one in zip(places[which], found, strict=True):
            sums[(slice(None), slice(None), *piece(start))] += one * fade
            weights[(slice(None), *piece(start))] += fade

    looker.look(len(places), windows, keep)


def _shift(values: Numbers, by: int, axis: int) -> None:
    """Move values towards the beginning of an axis and fill up with 0."""
    along = np.moveaxis(values, axis, 0)
    kept = along[by:].copy()
    along[: len(kept)] = kept
    along[len(kept) :] = 0


def starts(length: int, window: int, overlap: float) -> list[int]:
    """Where windows begin: evenly spread, the last one ending with the picture."""
    if length <= window:
        return [0]
    step = max(1.0, window * (1 - overlap))
    count = int(np.ceil((length - window) / step)) + 1
    return [round(index * (length - window) / (count - 1)) for index in range(count)]


def fading(window: Shape, overlap: float) -> Numbers:
    """Weights of a window's places: they rise from its ends over the overlap and are nowhere 0."""
    weights = np.ones(window, np.float32)
    for axis, length in enumerate(window):
        steps = np.arange(1, length + 1, dtype=np.float32)
        reach = max(1.0, length * overlap)
        along = np.minimum(np.minimum(steps, steps[::-1]), reach) / reach
        weights *= along.reshape([-1 if n == axis else 1 for n in range(len(window))])
    return weights
