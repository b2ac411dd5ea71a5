"""Vessel trees on a grid: distances, thickness and an antialiased picture, in two or three dimensions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from console.demo.vessel_tree import Vessel

_Patch = NDArray[np.float32]

_FRINGE = 2.0
"""How many grid cells outside a wall the distance to it is still known: enough for antialiasing and for warping."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Vessels on a grid; every array has its shape and is float32.

    Attributes:
        depth: Distance to the nearest wall, positive inside, in grid cells, not less than ``-2``.
        chord: Length of lumen that a ray across the picture meets, in grid cells; crossing vessels add up.
        distance: Path length from the root of the vessel at this place, 0 where there is none.
        centrality: 0 at the wall and outside, 1 on the centre line.
    """

    depth: NDArray[np.float32]
    chord: NDArray[np.float32]
    distance: NDArray[np.float32]
    centrality: NDArray[np.float32]

    @property
    def coverage(self) -> NDArray[np.float32]:
        """Share of each grid cell that lies in a lumen, 0 to 1: the antialiased picture."""
        share: NDArray[np.float32] = np.clip(self.depth + 0.5, 0, 1)
        return share

    @property
    def lumen(self) -> NDArray[np.bool_]:
        """The cells that lie at least half in a lumen."""
        return self.depth >= 0


def draw_vessels(vessels: Sequence[Vessel], shape: tuple[int, ...], spacing: Sequence[float] | None = None) -> Drawing:
    """Draw a tree on a grid.

    Args:
        vessels: Points in the units of ``spacing``, the centre of cell 0 at 0.
        shape: Of the grid, as many axes as the points have.
        spacing: Size of a cell along each axis, 1 if not given. Depth and chord are in units of the smallest.
    """
    cells = np.asarray(spacing or [1.0] * len(shape), float)
    cell = float(cells.min())
    depth = np.full(shape, -_FRINGE, np.float32)
    chord, distance, centrality = (np.zeros(shape, np.float32) for _ in range(3))
    branches: dict[int, list[Vessel]] = {}
    for vessel in vessels:
        branches.setdefault(vessel.branch, []).append(vessel)
    own_chord = np.zeros(shape, np.float32)
    for stretches in branches.values():
        places = []
        for place, squared, radius, along in _pieces(_without_origin(stretches, vessels), shape, cells):
            away = np.sqrt(squared)
            here = (radius - away) / cell
            nearer = here > depth[place]
            np.copyto(depth[place], here, where=nearer)
            np.copyto(distance[place], along, where=nearer)
            np.copyto(centrality[place], np.clip(1 - away / radius, 0, 1), where=nearer)
            lens = 2 / cell * np.sqrt(np.clip(radius**2 - squared, 0, None))
            np.maximum(own_chord[place], lens, out=own_chord[place])
            places.append(place)
        if places:
            box = _enclosing(places)
            chord[box] += own_chord[box]
            own_chord[box] = 0
    return Drawing(depth, chord, distance, centrality)


def _enclosing(places: list[tuple[slice, ...]]) -> tuple[slice, ...]:
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*places, strict=True))


def _without_origin(stretches: list[Vessel], vessels: Sequence[Vessel]) -> list[Vessel]:
    """The stretches of a branch without the points inside its parent, so that a branching does not count twice."""
    first = stretches[0]
    if first.parent is None:
        return stretches
    hidden = float(vessels[first.parent].radii[-1])
    keep = first.distances - first.distances[0] >= 0.8 * hidden
    keep[-2:] = True
    shown = replace(first, points=first.points[keep], radii=first.radii[keep], distances=first.distances[keep])
    return [shown, *stretches[1:]]


def _pieces(
    stretches: list[Vessel], shape: tuple[int, ...], spacing: NDArray[np.float64]
) -> Iterator[tuple[tuple[slice, ...], _Patch, _Patch, _Patch]]:
    """For each straight piece of centre line, over the cells around it: squared distance, radius and path length."""
    axes = [np.arange(size, dtype=np.float32) * np.float32(step) for size, step in zip(shape, spacing, strict=True)]
    for vessel in stretches:
        reach = vessel.radii[:-1, np.newaxis] + _FRINGE * spacing
        lows, highs = (pick(vessel.points[:-1], vessel.points[1:]) for pick in (np.minimum, np.maximum))
        lows = np.maximum(np.floor((lows - reach) / spacing), 0).astype(int)
        highs = np.minimum(np.ceil((highs + reach) / spacing) + 1, shape).astype(int)
        for index in np.flatnonzero((lows < highs).all(axis=1)).tolist():
            place = tuple(map(slice, lows[index].tolist(), highs[index].tolist()))
            begin, line = vessel.points[index], vessel.points[index + 1] - vessel.points[index]
            offsets = np.ix_(*(axis[part] - np.float32(x) for axis, part, x in zip(axes, place, begin, strict=True)))
            parts = (line / max(line @ line, 1e-12)).astype(np.float32)
            share = np.clip(sum(offset * part for offset, part in zip(offsets, parts, strict=True)), 0, 1)
            steps = line.astype(np.float32)
            squared = sum((offset - share * step) ** 2 for offset, step in zip(offsets, steps, strict=True))
            yield place, squared, _between(vessel.radii, index, share), _between(vessel.distances, index, share)


def _between(values: NDArray[np.float64], index: int, share: _Patch) -> _Patch:
    return np.float32(values[index]) + share * np.float32(values[index + 1] - values[index])
