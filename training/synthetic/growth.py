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
        wander: Standard deviation of the change of direction in one pixel of length; it grows with the root of length.
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
    wander: float = 0.04
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
        layer: ``(pieces,)`` in which of three layers it lies: thickness adds up between layers, not within one. A
            branch begins in the layer of its parent, so that a branching does not count twice.
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
    growing = _Growing(habit, rng, extent)
    growing.plant(np.asarray(starts, np.float32), np.asarray(headings, np.float32), np.asarray(radii, np.float32))
    for _ in range(int(3 * extent / habit.step)):
        if not growing.tips:
            break
        growing.advance(steering, region)
        growing.sprout()
    return growing.pieces()


_ROW, _COLUMN, _HEADING, _RADIUS, _TURN, _PHASE, _SCREW, _COVERED, _TRAVELLED, _AGE, _REST, _COUNTDOWN = range(12)
_BRANCH, _GENERATION, _LAYER, _PARENT = range(4)
_ADVANCE = np.array([1, 1, -1, -1], np.float32)[:, np.newaxis]
"""By how many steps the last four numbers of each tip change in one."""


class _Growing:
    """The tips of trees, as columns of two tables, and the pieces behind them."""

    def __init__(self, habit: Habit, rng: np.random.Generator, extent: float) -> None:
        self._habit, self._rng, self._extent = habit, rng, extent
        self._cells = int(2 * extent / _CELL) + 2
        self._visitor = np.full(self._cells * self._cells, -1, np.int64)
        self._tips = np.empty((12, 0), np.float32)
        self._names = np.empty((4, 0), np.int64)
        self._kept: list[tuple[Floats, Floats, NDArray[np.int64]]] = []
        self._branches = 0

    @property
    def tips(self) -> int:
        """How many tips still grow."""
        return self._tips.shape[1]

    def plant(self, points: Floats, headings: Floats, radii: Floats) -> None:
        """Add roots."""
        tips = np.zeros((12, len(points)), np.float32)
        tips[_ROW : _COLUMN + 1] = points.T
        tips[_HEADING], tips[_RADIUS], tips[_REST] = headings, radii, 9 * self._extent
        self._add(tips, np.full((4, len(points)), -1, np.int64))

    def _add(self, tips: Floats, parents: NDArray[np.int64]) -> None:
        """Let new tips grow, whose place, heading, radius, length, origin and cover by the parent are set."""
        count, rng, habit = tips.shape[1], self._rng, self._habit
        tips[_PHASE] = rng.uniform(0, 6.28, count)
        tips[_SCREW] = habit.corkscrew * rng.uniform(0, 1, count) ** 2
        tips[_COUNTDOWN] = rng.uniform(0.3, 1.0, count) * habit.interval[1] * tips[_RADIUS]
        branch = self._branches + np.arange(count)
        # Until it has left its parent a branch lies in the layer of its parent.
        names = np.stack([branch, parents[_GENERATION] + 1, parents[_LAYER], parents[_BRANCH]])
        names[_LAYER] = np.where(parents[_BRANCH] < 0, branch % LAYERS, names[_LAYER])
        self._tips = np.concatenate([self._tips, tips], axis=1)
        self._names = np.concatenate([self._names, names], axis=1)
        self._branches += count

    def advance(self, steering: Steering | None, region: Region | None) -> None:
        """Move each tip by one step, record the piece, and let tips end."""
        habit, tips = self._habit, self._tips
        before = tips[: _RADIUS + 1].copy()
        noise = self._rng.standard_normal(tips.shape[1], np.float32)
        tips[_TURN] = habit.persistence * tips[_TURN] + noise * (
            habit.wander * habit.step**0.5 * (1 - habit.persistence)
        )
        tips[_HEADING] += tips[_TURN]
        if habit.corkscrew:
            tips[_PHASE] += 0.35 * habit.step / np.sqrt(tips[_RADIUS] + 0.5)
            tips[_HEADING] += tips[_SCREW] * np.sin(tips[_PHASE])
        if steering is not None:
            wanted, strength = steering(before[:2].T, tips[_RADIUS])
            tips[_HEADING] += strength * np.sin(wanted - tips[_HEADING])
        tips[_ROW] += habit.step * np.sin(tips[_HEADING])
        tips[_COLUMN] += habit.step * np.cos(tips[_HEADING])
        tips[_RADIUS] *= 1 - habit.taper * habit.step
        tips[_TRAVELLED:] += habit.step * _ADVANCE
        out = np.flatnonzero(tips[_AGE] >= 1.1 * tips[_COVERED])
        self._names[_LAYER, out] = self._names[_BRANCH, out] % LAYERS
        self._kept.append((before, tips[: _TRAVELLED + 1].copy(), self._names[: _LAYER + 1].copy()))
        self._end_tips(region)

    def _end_tips(self, region: Region | None) -> None:
        """Forget the tips that are too thin, long enough, outside, or where their tree has been."""
        tips, margin = self._tips, 0.1 * self._extent
        place = tips[: _COLUMN + 1]
        alive = ((place > -margin) & (place < self._extent + margin)).all(0)
        alive &= (tips[_RADIUS] >= self._habit.minimum_radius) & (tips[_REST] > 0) & self._finds_room()
        if region is not None:
            alive &= region(place.T)
        if not alive.all():
            self._tips, self._names = tips[:, alive], self._names[:, alive]

    def _finds_room(self) -> NDArray[np.bool_]:
        """Whether each tip is where no other branch has been, or may cross it all the same."""
        cell = ((self._tips[: _COLUMN + 1] + 0.5 * self._extent) / _CELL).astype(np.int64)
        place = np.clip(cell[0] * self._cells + cell[1], 0, len(self._visitor) - 1)
        visitor, branch = self._visitor[place], self._names[_BRANCH]
        free = (visitor < 0) | (visitor == branch) | (visitor == self._names[_PARENT])
        free |= self._tips[_AGE] < 3 * _CELL
        free |= self._rng.random(len(place)) < self._habit.crossing
        self._visitor[place] = branch
        return np.asarray(free)

    def sprout(self) -> None:
        """Let the tips branch that have come far enough, and share their radius by Murray's law."""
        due = np.flatnonzero(self._tips[_COUNTDOWN] < 0)
        if not len(due) or self._branches >= self._habit.limit:
            return
        rng, habit, count = self._rng, self._habit, len(due)
        ratio = rng.uniform(*habit.side_ratio, count)
        angle = np.sign(rng.random(count) - 0.5) * rng.uniform(*habit.side_angle, count)
        length = rng.uniform(*habit.length, count)
        radius = self._tips[_RADIUS, due]
        self._tips[_COUNTDOWN, due] = rng.uniform(*habit.interval, count) * radius
        grown = radius * ratio >= habit.minimum_radius
        if not grown.any():
            return
        due, ratio, angle, radius = due[grown], ratio[grown], angle[grown], radius[grown]
        self._tips[_RADIUS, due] *= (1 - ratio**3) ** (1 / 3)
        young = self._tips[:, due]
        young[_HEADING] += angle
        young[_RADIUS], young[_COVERED], young[_REST] = radius * ratio, radius, length[grown] * radius * ratio
        young[_TURN] = young[_AGE] = 0
        self._tips[_HEADING, due] -= 0.35 * angle * ratio**2
        self._add(young, self._names[:, due])

    def pieces(self) -> Pieces:
        """Everything that has grown."""
        before, after, names = (np.concatenate(parts, axis=1) for parts in zip(*self._kept, strict=True))
        return Pieces(
            begin=np.ascontiguousarray(before[: _COLUMN + 1].T),
            end=np.ascontiguousarray(after[: _COLUMN + 1].T),
            begin_radius=before[_RADIUS],
            end_radius=after[_RADIUS],
            distance=after[_TRAVELLED],
            branch=names[_BRANCH],
            generation=names[_GENERATION],
            layer=names[_LAYER],
        )
