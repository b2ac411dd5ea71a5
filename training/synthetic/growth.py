"""Vessel trees that grow at all tips at once: thousands of pieces in some milliseconds.

At every branching the cubes of the radii add up (C. D. Murray, PNAS 12:207, 1926). Tips meander, steer by a field of
directions, and may stop where another vessel of their tree has been before, which spreads a tree over its area.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
Steering = Callable[[Floats, Floats], tuple[Floats, Floats]]
"""Of points ``(tips, 2)`` and radii: the direction to take in radians (0 along the row) and how strongly, 0 to 1."""
Region = Callable[[Floats], NDArray[np.bool_]]
"""Whether a vessel may go on at points ``(tips, 2)``."""

_CELL = 4.0
"""Side of the squares in pixels in which a tree remembers where it has been."""
LAYERS = 3
"""Branches are dealt into so many layers."""


@dataclass(frozen=True, slots=True)
class Habit:
    """How a kind of vessel grows; lengths in pixels, angles in radians.

    Attributes:
        minimum_radius: A vessel ends when it is thinner.
        interval: Least and greatest distance between two side branches, as multiples of the radius.
        side_ratio: Least and greatest radius of a side branch as a share of the radius it leaves.
        side_angle: Least and greatest angle between a side branch and its parent.
        length: Least and greatest length of a side branch as a multiple of its radius.
        taper: Share of the radius that is lost in one pixel of length.
        wander: Standard deviation of the change of direction in one pixel of length.
        persistence: 0 for tremor, near 1 for long bows.
        corkscrew: Greatest amplitude of a periodic change of direction, in radians.
        crossing: Probability that a tip goes on where its tree has been before.
        step: Distance between two points.
        limit: No more than so many branches.
    """

    minimum_radius: float = 0.7
    interval: tuple[float, float] = (4.0, 16.0)
    side_ratio: tuple[float, float] = (0.4, 0.8)
    side_angle: tuple[float, float] = (0.5, 1.3)
    length: tuple[float, float] = (30.0, 70.0)
    taper: float = 0.0006
    wander: float = 0.02
    persistence: float = 0.9
    corkscrew: float = 0.0
    crossing: float = 1.0
    step: float = 3.0
    limit: int = 500


@dataclass(frozen=True, slots=True)
class Pieces:
    """Straight pieces of vessels, in no order.

    Attributes:
        begin: ``(pieces, 2)`` rows and columns.
        end: ``(pieces, 2)``.
        begin_radius: ``(pieces,)`` pixels.
        end_radius: ``(pieces,)`` pixels.
        distance: ``(pieces,)`` path length from the root.
        branch: ``(pieces,)`` number of the branch; the pieces of a branch follow each other.
        generation: ``(pieces,)`` 0 for a trunk, 1 for its branches.
        layer: ``(pieces,)`` in which of three layers it lies: thickness adds up between layers, not within one. A branch
            begins in the layer of its parent, so that a branching does not count twice.
    """

    begin: Floats
    end: Floats
    begin_radius: Floats
    end_radius: Floats
    distance: Floats
    branch: NDArray[np.int64]
    generation: NDArray[np.int64]
    layer: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.begin)

    def where(self, keep: NDArray[np.bool_]) -> "Pieces":
        """The pieces that ``keep`` marks."""
        return Pieces(*(getattr(self, name)[keep] for name in self.__slots__))


def joined(trees: Sequence[Pieces]) -> Pieces:
    """Several trees as one, with branch numbers of their own."""
    moved, first = [], 0
    for tree in trees:
        columns = [getattr(tree, name) for name in Pieces.__slots__]
        columns[5] = columns[5] + first
        first = int(columns[5].max(initial=first)) + 1
        moved.append(columns)
    return Pieces(*(np.concatenate(parts) for parts in zip(*moved, strict=True)))


def area(tree: Pieces, size: int) -> float:
    """Share of a square picture that a tree covers, crossings counted twice."""
    seen = ((tree.end > 0) & (tree.end < size)).all(1)
    lengths = np.hypot(*(tree.end - tree.begin).T)
    return float((lengths * (tree.begin_radius + tree.end_radius))[seen].sum()) / size**2


def path(points: ArrayLike, radius: ArrayLike) -> Pieces:
    """One unbranched line, such as a catheter.

    Args:
        points: ``(points, 2)`` rows and columns.
        radius: One number, or one for each point.
    """
    line = np.asarray(points, np.float32)
    radii = np.broadcast_to(np.asarray(radius, np.float32), len(line))
    lengths = np.hypot(*np.diff(line, axis=0).T)
    zeros = np.zeros(len(line) - 1, np.int64)
    return Pieces(line[:-1], line[1:], radii[:-1], radii[1:], np.cumsum(lengths, dtype=np.float32), zeros, zeros, zeros)


def grow(
    starts: ArrayLike,
    headings: ArrayLike,
    radii: ArrayLike,
    habit: Habit,
    rng: np.random.Generator,
    extent: float,
    steering: Steering | None = None,
    region: Region | None = None,
) -> Pieces:
    """Grow trees from their roots until all tips have ended.

    Args:
        starts: ``(roots, 2)`` rows and columns.
        headings: ``(roots,)`` radians; 0 runs along the row, a quarter turn down the column.
        radii: ``(roots,)`` pixels.
        habit: How they grow.
        rng: The only source of chance.
        extent: Side of the picture; a tip ends well outside of it.
        steering: Where the tips are drawn to.
        region: Where they may grow.
    """
    growing = _Growing(np.asarray(starts, np.float32), np.asarray(headings), np.asarray(radii), habit, rng, extent)
    for _ in range(int(3 * extent / habit.step)):
        if not len(growing.branch):
            break
        growing.advance(steering, region)
        growing.sprout()
    return growing.pieces()


class _Growing:
    """The tips of trees and the pieces behind them."""

    def __init__(
        self,
        starts: Floats,
        headings: NDArray[np.floating],
        radii: NDArray[np.floating],
        habit: Habit,
        rng: np.random.Generator,
        extent: float,
    ) -> None:
        self._habit, self._rng, self._extent = habit, rng, extent
        self._cells = int(2 * extent / _CELL) + 2
        self._visitor = np.full(self._cells * self._cells, -1, np.int64)
        self._kept: list[tuple[NDArray[np.generic], ...]] = []
        self._branches = 0
        self.branch = np.empty(0, np.int64)
        empty = np.empty(0, np.float32)
        self.generation, self._parent = self.branch, self.branch
        self._point = np.empty((0, 2), np.float32)
        self._heading = self._radius = self._turn = self._phase = self._screw = empty
        self._travelled = self._rest = self._countdown = self._age = self._covered = empty
        self._parent_layer = self.branch
        count = len(starts)
        none, zeros = np.full(count, -1, np.int64), np.zeros(count)
        self._add(starts, headings, radii, zeros, np.full(count, 9 * extent), none, none, zeros)

    def _add(
        self,
        point: Floats,
        heading: NDArray[np.floating],
        radius: NDArray[np.floating],
        travelled: NDArray[np.floating],
        rest: NDArray[np.floating],
        parent: NDArray[np.int64],
        generation: NDArray[np.int64],
        covered: NDArray[np.floating],
    ) -> None:
        count, rng, habit = len(point), self._rng, self._habit
        fresh: dict[str, NDArray[np.floating] | NDArray[np.int64]] = {
            "branch": self._branches + np.arange(count),
            "generation": generation + 1,
            "_parent": parent,
            "_point": point,
            "_heading": heading,
            "_radius": radius,
            "_turn": np.zeros(count),
            "_phase": rng.uniform(0, 6.28, count),
            "_screw": habit.corkscrew * rng.uniform(0, 1, count) ** 2,
            "_travelled": travelled,
            "_rest": rest,
            "_countdown": rng.uniform(0.3, 1.0, count) * habit.interval[1] * radius,
            "_age": np.zeros(count),
            "_covered": covered,
            "_parent_layer": parent % LAYERS,
        }
        for name, values in fresh.items():
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, values.astype(old.dtype)]))
        self._branches += count

    def _keep(self, alive: NDArray[np.bool_]) -> None:
        for name, values in vars(self).items():
            if isinstance(values, np.ndarray) and name != "_visitor":
                setattr(self, name, values[alive])

    def advance(self, steering: Steering | None, region: Region | None) -> None:
        """Move each tip by one step, record the piece, and let tips end."""
        habit, count = self._habit, len(self.branch)
        noise = self._rng.standard_normal(count, np.float32) * (habit.wander * np.sqrt(habit.step))
        self._turn = habit.persistence * self._turn + noise
        self._phase = self._phase + 0.35 * habit.step / np.sqrt(self._radius + 0.5)
        self._heading = self._heading + self._turn * (1 - habit.persistence / 2) + self._screw * np.sin(self._phase)
        if steering is not None:
            wanted, strength = steering(self._point, self._radius)
            self._heading = self._heading + strength * np.sin(wanted - self._heading)
        before, radius = self._point, self._radius
        direction = np.stack([np.sin(self._heading), np.cos(self._heading)], 1)
        self._point = (before + habit.step * direction).astype(np.float32)
        self._radius = (radius * (1 - habit.taper * habit.step)).astype(np.float32)
        for name in ("_travelled", "_age"):
            setattr(self, name, getattr(self, name) + np.float32(habit.step))
        for name in ("_rest", "_countdown"):
            setattr(self, name, getattr(self, name) - np.float32(habit.step))
        layer = np.where(self._age < 1.1 * self._covered + habit.step, self._parent_layer, self.branch % LAYERS)
        piece = (before, self._point, radius, self._radius, self._travelled, self.branch, self.generation, layer)
        self._kept.append(piece)
        margin = 0.1 * self._extent
        inside = ((self._point > -margin) & (self._point < self._extent + margin)).all(1)
        alive = inside & (self._radius >= habit.minimum_radius) & (self._rest > 0) & self._finds_room()
        self._keep(alive if region is None else alive & region(self._point))

    def _finds_room(self) -> NDArray[np.bool_]:
        """Whether each tip is where no other branch has been, or may cross it all the same."""
        cell = np.clip((self._point + 0.5 * self._extent) / _CELL, 0, self._cells - 1).astype(np.int64)
        place = cell[:, 0] * self._cells + cell[:, 1]
        visitor = self._visitor[place]
        own = (visitor < 0) | (visitor == self.branch) | (visitor == self._parent)
        young = self._age < 3 * _CELL
        free: NDArray[np.bool_] = own | young | (self._rng.random(len(place)) < self._habit.crossing)
        self._visitor[place] = self.branch
        return free

    def sprout(self) -> None:
        """Let the tips branch that have come far enough, and share their radius by Murray's law."""
        due = np.flatnonzero(self._countdown < 0)
        if not len(due) or self._branches >= self._habit.limit:
            return
        rng, habit, count = self._rng, self._habit, len(due)
        ratio = rng.uniform(*habit.side_ratio, count)
        side = np.where(rng.random(count) < 0.5, -1.0, 1.0)
        angle = side * rng.uniform(*habit.side_angle, count)
        radius = self._radius[due] * ratio
        self._countdown[due] = rng.uniform(*habit.interval, count) * self._radius[due]
        grown = radius >= habit.minimum_radius
        due, ratio, angle, radius = due[grown], ratio[grown], angle[grown], radius[grown]
        self._radius[due] *= (1 - ratio**3) ** (1 / 3)
        heading = self._heading[due] + angle
        self._heading[due] -= 0.5 * angle * ratio**2
        rest, covered = rng.uniform(*habit.length, len(due)) * radius, self._radius[due]
        parent, generation = self.branch[due], self.generation[due]
        self._add(self._point[due], heading, radius, self._travelled[due], rest, parent, generation, covered)

    def pieces(self) -> Pieces:
        """Everything that has grown."""
        return Pieces(*(np.concatenate(parts) for parts in zip(*self._kept, strict=True)))  # type: ignore[arg-type]
