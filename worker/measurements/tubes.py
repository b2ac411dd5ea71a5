"""Length, calibre, tortuosity and branch points of what a mask shows as tubes.

The numbers come from the centre line and from the distance of its points to the nearest pixel outside. Both are made of
whole pixels; how each estimate is freed of that, and what bias is left, is told in docs/reference/measurements.md.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from worker.measurements.branches import Branch, Points, trace
from worker.measurements.centre_line import bounding_box, skeleton

_SMOOTHING = 1.5
"""Standard deviation, in points of the path, of the Gaussian that takes the staircase off. A larger one cuts bends."""
_TANGENT = 6.0
"""The direction of an end is taken over this many radii: thinning leaves the last of them crooked."""
_LEAST_TANGENT = 6
_LONGEST_END = 8.0
"""An end is followed over at most this many radii to the surface of the mask."""
_MARCH = 0.25
"""Step of that, in the shortest step of the grid."""
_CENTRING = (0.5, 0.35, 0.25, 0.17)
"""Steps, in pixels, by which a point is moved away from the nearest surface as long as it gets farther from all."""
_EDGE = {2: 0.5, 3: 0.15}
"""By how many pixels a diameter is smaller than twice the distance to the nearest pixel outside, by dimensions: the
centre of that pixel lies beyond the surface, the less so the more such pixels there are to be nearest."""
_SPUR = 1.5
"""A branch that ends freely within this many radii of its branch point, and a pixel, is roughness of the surface."""
_PRUNING_ROUNDS = 4
_MOST_POINTS = 150_000
"""A centre line of more points is that of noise, and takes minutes to follow; a large tree of vessels has 50 000."""

Vectors = NDArray[np.float64]
"""``(points, axes)`` in millimetres or pixels."""


@dataclass(frozen=True, slots=True)
class Tubes:
    """What the centre line of a mask tells; lengths in the unit of the axes given.

    Attributes:
        length: Of all branches together, free ends reaching to the surface of the mask.
        branch_points: Places where three or more branches meet.
        tortuosity: Sum of the lengths of the branches over the sum of the distances between their ends, closed rings
            left out; 1 is straight. None where there is no branch with two ends.
        diameter_mean: Of the largest disc or ball that fits at each point of the centre line.
        diameter_median: The same.
        diameter_maximum: The same.
    """

    length: float
    branch_points: int
    tortuosity: float | None
    diameter_mean: float
    diameter_median: float
    diameter_maximum: float


def measure_tubes(mask: NDArray[np.bool_], axes: NDArray[np.float64]) -> Tubes | None:
    """Measure what a mask shows as tubes.

    Args:
        mask: ``(rows, columns)`` or ``(slices, rows, columns)`` bool.
        axes: ``(dimensions, dimensions)``, row ``i``: the step of array axis ``i`` in millimetres or pixels.

    Returns:
        None for an empty mask, and for one so intricate that it shows no tubes but noise.
    """
    box = bounding_box(mask)
    if box is None:
        return None
    points: Points = np.argwhere(skeleton(mask[box]))
    if len(points) > _MOST_POINTS:
        return None
    grid = _Grid(mask[box], axes)
    branches = _branches(points, grid)
    smooth = [_smooth(branch.path @ axes, closed=branch.closed) for branch in branches]
    lengths = [_arc(path, closed=branch.closed) for path, branch in zip(smooth, branches, strict=True)]
    centred, radii = grid.centred(np.concatenate(smooth))
    ends = np.cumsum([len(path) for path in smooth])[:-1]
    parts = (branches, smooth, np.split(centred, ends), np.split(radii, ends))
    reach = sum(_reach_of_ends(*part, grid) for part in zip(*parts, strict=True))
    return Tubes(
        length=sum(lengths) + reach,
        branch_points=_branch_points(branches),
        tortuosity=_tortuosity(branches, smooth, lengths),
        diameter_mean=2 * float(radii.mean()),
        diameter_median=2 * float(np.median(radii)),
        diameter_maximum=2 * float(radii.max()),
    )


class _Grid:
    """A mask in space, and how far a point in it is from the outside."""

    def __init__(self, mask: NDArray[np.bool_], axes: NDArray[np.float64]) -> None:
        self.mask = mask
        self.axes = axes
        self.to_index = np.linalg.inv(axes)
        self.shortest_step = float(np.linalg.norm(axes, axis=1).min())
        self._outside: Vectors = (np.argwhere(_rim(np.pad(mask, 1))) - 1.0) @ axes
        self._tree = KDTree(self._outside)

    def distances(self, points: Vectors) -> tuple[Vectors, Vectors]:
        """Vectors from the centres of the nearest pixels outside to each point, and their lengths."""
        lengths, nearest = self._tree.query(points)
        return points - self._outside[nearest], lengths

    def centred(self, points: Vectors) -> tuple[Vectors, NDArray[np.float64]]:
        """The points moved to the middle of the tube, and the radius of the tube there."""
        centred = points.copy()
        away, lengths = self.distances(centred)
        for step in _CENTRING:
            moved = centred + away * (step / np.maximum(self._in_pixels(away), 1e-9))[:, None]
            away_moved, lengths_moved = self.distances(moved)
            better = lengths_moved > lengths
            centred[better], away[better], lengths[better] = moved[better], away_moved[better], lengths_moved[better]
        one_pixel = lengths / np.maximum(self._in_pixels(away), 1e-9)
        return centred, lengths - _EDGE[self.mask.ndim] / 2 * one_pixel

    def inside(self, points: Vectors) -> NDArray[np.bool_]:
        """Whether the pixel nearest to each point is in the mask."""
        indices = np.rint(points @ self.to_index).astype(np.intp)
        within = np.clip(indices, 0, np.array(self.mask.shape) - 1)
        return np.asarray(self.mask[tuple(within.T)] & (within == indices).all(axis=1))

    def _in_pixels(self, vectors: Vectors) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(vectors @ self.to_index, axis=1))


def _rim(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels outside that share a side with one inside; shifting is ten times as fast as a dilation."""
    rim = np.zeros(mask.shape, np.bool_)
    for axis in range(mask.ndim):
        here, there = np.moveaxis(rim, axis, 0), np.moveaxis(mask, axis, 0)
        here[1:] |= there[:-1]
        here[:-1] |= there[1:]
    return rim & ~mask


# --- branches ---------------------------------------------------------------------------------------------------------


def _branches(points: Points, grid: _Grid) -> list[Branch]:
    """The branches of the centre line without spurs."""
    branches = trace(points, grid.mask.shape)
    for _ in range(_PRUNING_ROUNDS):
        spurs = _spurs(branches, grid)
        if not spurs:
            break
        keep = np.ones(len(points), np.bool_)
        keep[np.concatenate([spur.members for spur in spurs])] = False
        points = points[keep]
        branches = trace(points, grid.mask.shape)
    return branches


def _spurs(branches: list[Branch], grid: _Grid) -> list[Branch]:
    """Branches that do not leave the tube they come from; of a shape that has no others the longest two stay."""
    at_node: dict[int, list[Branch]] = {}
    for branch in branches:
        for node in branch.nodes:
            if node >= 0:
                at_node.setdefault(node, []).append(branch)
    candidates = []
    for meeting in at_node.values():
        ending = [branch for branch in meeting if sum(branch.free_ends) == 1]
        if ending:
            candidates.append((ending, len(meeting)))
    if not candidates:
        return []
    nodes = np.array([ending[0].path[-1 if ending[0].free_ends[0] else 0] for ending, _ in candidates])
    limits = _SPUR * grid.distances(nodes @ grid.axes)[1] + grid.shortest_step
    spurs: list[Branch] = []
    for (ending, count), limit in zip(candidates, limits.tolist(), strict=True):
        lengths = [(_arc(branch.path @ grid.axes), branch) for branch in ending]
        short = sorted((pair for pair in lengths if pair[0] < limit), key=lambda pair: -pair[0])
        spurs += [branch for _, branch in (short[2:] if len(short) == count else short)]
    return spurs


def _branch_points(branches: list[Branch]) -> int:
    """Branch points with at least three branches; others are left over where a spur was."""
    nodes = [node for branch in branches for node in branch.nodes if node >= 0]
    return int((np.bincount(nodes) > 2).sum()) if nodes else 0


# --- lengths ----------------------------------------------------------------------------------------------------------


def _smooth(path: Vectors, *, closed: bool) -> Vectors:
    """The path without the staircase of pixels; ends stay where they are."""
    if len(path) < 3:
        return path
    if closed:
        return np.asarray(ndimage.gaussian_filter1d(path, _SMOOTHING, axis=0, mode="wrap"))
    margin = int(4 * _SMOOTHING + 0.5)
    longer = np.pad(path, ((margin, margin), (0, 0)), mode="reflect", reflect_type="odd")
    return np.asarray(ndimage.gaussian_filter1d(longer, _SMOOTHING, axis=0)[margin:-margin])


def _arc(path: Vectors, *, closed: bool = False) -> float:
    steps = np.diff(path, axis=0, append=path[:1]) if closed else np.diff(path, axis=0)
    return float(np.linalg.norm(steps, axis=1).sum())


def _tortuosity(branches: list[Branch], paths: list[Vectors], lengths: list[float]) -> float | None:
    chords = [
        0.0 if branch.closed else float(np.linalg.norm(path[-1] - path[0]))
        for branch, path in zip(branches, paths, strict=True)
    ]
    arcs = [length for length, chord in zip(lengths, chords, strict=True) if chord > 0]
    return sum(arcs) / sum(chords) if arcs else None


def _reach_of_ends(branch: Branch, path: Vectors, centred: Vectors, radii: NDArray[np.float64], grid: _Grid) -> float:
    """How far the free ends of a branch are from the surface of the mask, straight on: thinning eats the ends."""
    reach = 0.0
    for free, turn in zip(branch.free_ends, (1, -1), strict=True):
        if not free:
            continue
        points, radius = centred[::turn], float(radii[::turn][0])
        pixels = radius / grid.shortest_step
        last = min(len(points) - 1, max(_LEAST_TANGENT, int(_TANGENT * pixels)))
        first = min(last // 2, int(pixels))
        direction = points[first] - points[last]
        length = float(np.linalg.norm(direction))
        if length == 0:
            reach += radius
            continue
        direction /= length
        end = path[::turn][0]
        # In the middle of the tube, but no farther along it than the path whose length is counted already
        start = points[0] + direction * float((end - points[0]) @ direction)
        reach += _march(start, direction, radius, grid)
    return reach


def _march(start: Vectors, direction: Vectors, radius: float, grid: _Grid) -> float:
    step = _MARCH * grid.shortest_step
    count = max(1, int(_LONGEST_END * max(radius, grid.shortest_step) / step))
    inside = grid.inside(start + np.arange(1, count + 1)[:, None] * step * direction)
    return step * (count if inside.all() else int(np.argmin(inside)))
