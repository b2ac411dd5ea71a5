"""The centre line as a graph: branches between branch points and ends, each an ordered path of pixels.

Two pixels are joined when they touch, but not across a corner that a third pixel fills: a staircase is one path.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Points = NDArray[np.intp]
"""``(points, axes)``: array indices of pixels."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One stretch of centre line.

    Attributes:
        path: ``(points, axes)`` float64, array indices from end to end; at a branch point the path begins or ends in
            the middle of the pixels that meet there.
        members: Which rows of the traced points lie on it, branch points apart.
        nodes: At each end the number of the branch point, or -1 where it ends freely. ``(-1, -1)`` for a closed ring.
        closed: Whether it is a ring without any branch point.
    """

    path: NDArray[np.float64]
    members: Points
    nodes: tuple[int, int]
    closed: bool = False

    @property
    def free_ends(self) -> tuple[bool, bool]:
        """Which ends are ends of the vessel, and no branch points."""
        return (False, False) if self.closed else (self.nodes[0] < 0, self.nodes[1] < 0)


def trace(points: Points, shape: tuple[int, ...]) -> list[Branch]:
    """Follow the pixels of a centre line from branch point to branch point.

    Args:
        points: ``(points, axes)`` indices of the pixels of a skeleton, each once, in the order of ``np.argwhere``.
        shape: Of the array that they are indices of.

    Returns:
        Every branch once; a lone pixel is a branch of one point.
    """
    neighbours = _neighbours(points, shape)
    node_of, centres = _nodes(points, neighbours)
    seen = node_of >= 0
    return [
        _branch(points, chain, centres, ends, closed=closed)
        for chain, ends, closed in _chains(neighbours, node_of, seen)
    ]


def _branch(
    points: Points, chain: list[int], centres: NDArray[np.float64], ends: tuple[int, int], *, closed: bool
) -> Branch:
    members = np.array(chain, np.intp)
    path = points[members].astype(np.float64)
    first, last = (centres[[node]] if node >= 0 else path[:0] for node in ends)
    return Branch(np.concatenate([first, path, last]), members, ends, closed)


# --- neighbours -------------------------------------------------------------------------------------------------------


def _neighbours(points: Points, shape: tuple[int, ...]) -> list[list[int]]:
    """For each pixel the pixels it is joined with, in a fixed order."""
    padded = tuple(size + 2 for size in shape)
    keys = np.ravel_multi_index(tuple((points + 1).T), padded)
    strides = np.array([int(np.prod(padded[axis + 1 :])) for axis in range(len(padded))])
    lists: list[list[int]] = [[] for _ in keys]
    for offset in product((-1, 0, 1), repeat=len(shape)):
        step = np.array(offset)
        if offset <= (0,) * len(shape):
            continue
        index, found = _lookup(keys, keys + step @ strides)
        for shorter in _shorter_ways(offset):
            found &= ~_lookup(keys, keys + np.array(shorter) @ strides)[1]
        for one, other in zip(np.flatnonzero(found).tolist(), index[found].tolist(), strict=True):
            lists[one].append(other)
            lists[other].append(one)
    return lists


def _shorter_ways(offset: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Steps to pixels between here and ``offset``: where one is set, the way leads over it."""
    for way in product(*((0, step) if step else (0,) for step in offset)):
        if any(way) and way != offset:
            yield way


def _lookup(keys: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Where each wanted key stands in the sorted keys, and whether it is there."""
    index = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return index, keys[index] == wanted


# --- branch points ----------------------------------------------------------------------------------------------------


def _nodes(points: Points, neighbours: list[list[int]]) -> tuple[Points, NDArray[np.float64]]:
    """The number of the branch point that each pixel belongs to, -1 for none, and the middle of each branch point."""
    degree = np.array([len(joined) for joined in neighbours])
    crowded = np.flatnonzero(degree > 2)
    pairs = [(one, other) for one in crowded.tolist() for other in neighbours[one] if degree[other] > 2]
    row, column = np.array(pairs, np.intp).reshape(-1, 2).T
    graph = coo_array((np.ones(len(row), np.bool_), (row, column)), shape=(len(points), len(points)))
    labels = connected_components(graph, directed=False)[1] if len(points) else np.zeros(0, np.intp)
    node_of = np.full(len(points), -1, np.intp)
    numbers, node_of[crowded] = np.unique(labels[crowded], return_inverse=True)
    members = np.bincount(node_of[crowded], minlength=len(numbers))
    sums = [np.bincount(node_of[crowded], weights=axis, minlength=len(numbers)) for axis in points[crowded].T]
    return node_of, np.stack(sums, axis=-1) / members[:, None]


# --- following --------------------------------------------------------------------------------------------------------


def _chains(
    neighbours: list[list[int]], node_of: Points, seen: NDArray[np.bool_]
) -> Iterator[tuple[list[int], tuple[int, int], bool]]:
    """Pixels in order, the branch points at both ends (-1 for none), and whether the chain is a closed ring."""
    for start in np.flatnonzero(node_of >= 0).tolist():
        for first in neighbours[start]:
            if not seen[first]:
                chain, last = _follow(first, start, neighbours, node_of, seen)
                yield chain, (int(node_of[start]), last), False
    for start, joined in enumerate(neighbours):
        if not seen[start] and len(joined) < 2:
            chain, last = _follow(start, -1, neighbours, node_of, seen)
            yield chain, (-1, last), False
    for start in range(len(neighbours)):
        if not seen[start]:
            yield _follow(start, -1, neighbours, node_of, seen)[0], (-1, -1), True


def _follow(
    first: int, before: int, neighbours: list[list[int]], node_of: Points, seen: NDArray[np.bool_]
) -> tuple[list[int], int]:
    """Walk from ``first`` until a branch point, an end or a pixel seen before."""
    chain, previous, here = [first], before, first
    seen[first] = True
    while True:
        onward = [pixel for pixel in neighbours[here] if pixel != previous and (node_of[pixel] >= 0 or not seen[pixel])]
        if not onward:
            return chain, -1
        if node_of[onward[0]] >= 0:
            return chain, int(node_of[onward[0]])
        previous, here = here, onward[0]
        seen[here] = True
        chain.append(here)
