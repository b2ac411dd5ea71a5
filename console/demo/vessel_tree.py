"""Branching vessel trees that obey Murray's law.

A tree grows along planned routes (the anatomy) and sprouts free side branches from them (the variety). At every
branching the cubes of the radii add up: ``r_parent ** 3 == r_side ** 3 + r_onward ** 3`` (C. D. Murray, PNAS 12:207,
1926), which gives the taper that real trees have. All of it works in two and in three dimensions.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import make_interp_spline

Points = NDArray[np.float64]
"""``(points, axes)`` in millimetres or pixels; the axes are those of the grid, slices before rows before columns."""


@dataclass(frozen=True, slots=True)
class Route:
    """A planned vessel.

    Attributes:
        waypoints: ``(points, axes)``, three or more, that the vessel passes.
        branches: Planned side branches; each leaves the vessel where it comes nearest to its first waypoint.
        radius_ratio: Radius at its origin as a share of the radius of the vessel it leaves; unused for the root.
        passes_through: Whether the vessel leaves the picture: then it neither tapers at its end nor sprouts freely.
    """

    waypoints: ArrayLike
    branches: "tuple[Route, ...]" = ()
    radius_ratio: float = 1.0
    passes_through: bool = False


@dataclass(frozen=True, slots=True)
class Habit:
    """How a kind of vessel grows; lengths in the units of the points.

    Attributes:
        step: Distance between neighbouring points.
        minimum_radius: Nothing thinner is grown.
        interval: Least and greatest distance between two free side branches.
        side_ratio: Least and greatest radius of a side branch as a share of the radius it leaves.
        side_angle: Least and greatest angle between a side branch and its parent, in degrees.
        length_to_radius: Length of a free side branch as a multiple of its radius.
        tortuosity: Standard deviation of the change of direction over ten steps, in radians.
    """

    step: float
    minimum_radius: float
    interval: tuple[float, float]
    side_ratio: tuple[float, float] = (0.4, 0.75)
    side_angle: tuple[float, float] = (35.0, 75.0)
    length_to_radius: float = 45.0
    tortuosity: float = 0.3


@dataclass(frozen=True, slots=True)
class Vessel:
    """The stretch of a vessel between two branchings.

    Attributes:
        points: Centre line.
        radii: ``(points,)``, constant but for the last stretch of a vessel, which tapers.
        distances: ``(points,)`` path length from the root of the tree.
        branch: Number shared by the stretches that continue each other.
        parent: Index of the stretch it comes from in the list of the tree, None for the root.
    """

    points: Points
    radii: NDArray[np.float64]
    distances: NDArray[np.float64]
    branch: int
    parent: int | None


@dataclass(frozen=True, slots=True)
class _Shoot:
    """A centre line that waits to be cut into stretches."""

    path: Points
    radius: float
    distance: float
    parent: int | None
    branches: tuple[Route, ...] = ()
    passes_through: bool = False


def grow_tree(
    root: Route,
    radius: float,
    habit: Habit,
    rng: np.random.Generator,
    inside: Callable[[Points], bool] = lambda _point: True,
) -> list[Vessel]:
    """Grow one tree.

    Args:
        root: The trunk with its planned branches.
        radius: Of the trunk at its origin.
        habit: How it grows.
        rng: The only source of chance.
        inside: Whether a free side branch may grow at a point; planned routes are not asked.

    Returns:
        The stretches, parents before children. A stretch with children has exactly two.
    """
    vessels: list[Vessel] = []
    path = _smooth_path(np.asarray(root.waypoints, float), habit, rng)
    waiting = deque([_Shoot(path, radius, 0.0, None, root.branches, root.passes_through)])
    branch = 0
    while waiting:
        waiting.extend(_cut_into_stretches(waiting.popleft(), branch, vessels, habit, rng, inside))
        branch += 1
    return vessels


def _cut_into_stretches(
    shoot: _Shoot,
    branch: int,
    vessels: list[Vessel],
    habit: Habit,
    rng: np.random.Generator,
    inside: Callable[[Points], bool],
) -> list[_Shoot]:
    """Append the stretches of one centre line to ``vessels`` and return the side branches that leave it."""
    distances = shoot.distance + _path_lengths(shoot.path)
    radius, parent, begin = shoot.radius, shoot.parent, 0
    side_shoots: list[_Shoot] = []

    def add_stretch(end: int, end_radius: float) -> None:
        nonlocal parent
        radii = np.linspace(radius, end_radius, end - begin)
        vessels.append(Vessel(shoot.path[begin:end], radii, distances[begin:end], branch, parent))
        parent = len(vessels) - 1

    for index, route in sorted(_branching_places(shoot, habit, rng), key=lambda place: place[0]):
        ratio = route.radius_ratio if route else rng.uniform(*habit.side_ratio)
        path = _planned_path(route, shoot.path[index], habit, rng) if route else None
        if path is None:
            path = _wandering_path(shoot.path, index, radius * ratio, habit, rng, inside)
        if radius * ratio < habit.minimum_radius or len(path) * habit.step < 2 * radius or index <= begin:
            continue
        add_stretch(index + 1, radius)
        branches = route.branches if route else ()
        side_shoots.append(_Shoot(path, radius * ratio, float(distances[index]), parent, branches))
        radius, begin = radius * (1 - ratio**3) ** (1 / 3), index
    add_stretch(len(shoot.path), radius if shoot.passes_through else min(radius, habit.minimum_radius))
    return side_shoots


def _branching_places(shoot: _Shoot, habit: Habit, rng: np.random.Generator) -> Iterator[tuple[int, Route | None]]:
    """Indices on the path where something branches off: a planned route, or None for a free side branch."""
    last = len(shoot.path) - 2
    for route in shoot.branches:
        origin = np.asarray(route.waypoints, float)[0]
        yield int(np.clip(np.argmin(((shoot.path - origin) ** 2).sum(1)), 1, last)), route
    if shoot.passes_through:
        return
    position = rng.uniform(0.3, 1.0) * habit.interval[1]
    while (index := int(position / habit.step)) < last:
        yield index, None
        position += rng.uniform(*habit.interval)


def _smooth_path(waypoints: Points, habit: Habit, rng: np.random.Generator) -> Points:
    """A curve through the waypoints at equal steps, with the wiggle of the habit between them."""
    chords = np.append(0, np.cumsum(np.linalg.norm(np.diff(waypoints, axis=0), axis=1)))
    along = np.linspace(0, chords[-1], max(int(chords[-1] / habit.step), 4))
    path = make_interp_spline(chords, waypoints, k=2)(along)
    knots = np.linspace(0, chords[-1], max(int(chords[-1] / (25 * habit.step)), 4))
    wiggle = rng.normal(0, 5 * habit.step * habit.tortuosity, (len(knots), waypoints.shape[1]))
    wiggle[0] = 0
    return np.asarray(path + make_interp_spline(knots, wiggle, k=3)(along), float)


def _planned_path(route: Route, origin: Points, habit: Habit, rng: np.random.Generator) -> Points:
    waypoints = np.vstack([origin, np.asarray(route.waypoints, float)[1:]])
    return _smooth_path(waypoints, habit, rng)


def _wandering_path(
    parent: Points, index: int, radius: float, habit: Habit, rng: np.random.Generator, inside: Callable[[Points], bool]
) -> Points:
    """A free path that leaves ``parent`` at ``index`` sideways and drifts until it is long enough or not ``inside``."""
    ahead = _unit(parent[index + 1] - parent[index - 1])
    sideways = rng.normal(size=len(ahead))
    sideways = _unit(sideways - (sideways @ ahead) * ahead)
    angle = np.radians(rng.uniform(*habit.side_angle))
    direction = np.cos(angle) * ahead + np.sin(angle) * sideways
    turn = np.zeros(len(ahead))
    points = [parent[index]]
    for _ in range(int(habit.length_to_radius * rng.uniform(0.6, 1.2) * radius / habit.step)):
        turn = 0.9 * turn + rng.normal(0, 0.04 * habit.tortuosity, len(ahead))
        direction = _unit(direction + turn + 0.01 * ahead)
        if not inside(points[-1] + habit.step * direction):
            break
        points.append(points[-1] + habit.step * direction)
    return np.array(points)


def _unit(vector: Points) -> Points:
    return np.asarray(vector / np.linalg.norm(vector))


def _path_lengths(path: Points) -> NDArray[np.float64]:
    return np.append(0, np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1)))


def placed(vessels: Sequence[Vessel], scale: ArrayLike = 1.0, offset: ArrayLike = 0.0) -> list[Vessel]:
    """The tree enlarged by ``scale`` and then moved by ``offset``, each one number or one an axis.

    Radii grow with the least of the scales; distances from the root stay as they were.
    """
    thickness = float(np.min(scale))
    return [
        replace(vessel, points=vessel.points * np.asarray(scale) + np.asarray(offset), radii=vessel.radii * thickness)
        for vessel in vessels
    ]
