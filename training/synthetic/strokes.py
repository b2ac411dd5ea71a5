"""Vessels on the pixel grid: every point of a centre line stamps a ball, all balls of a size at once."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.synthetic.growth import LAYERS, Pieces
from training.synthetic.picture import Bits, Plane

_FRINGE = 1.5
"""Pixels outside a wall where the distance to it is still known, which antialiasing needs."""


@dataclass(frozen=True, slots=True)
class Strokes:
    """Vessels as pictures; every array is ``(rows, columns)``.

    Attributes:
        depth: Distance to the nearest wall to a third of a pixel, positive inside, at least -1.5.
        chord: Length of lumen behind a pixel, in pixels, times the filling; vessels that cross add up.
        centrality: 1 on the centre line, 0 at the wall and outside.
        centre_line: One pixel wide lines.
    """

    depth: Plane
    chord: Plane
    centrality: Plane
    centre_line: Bits

    @property
    def coverage(self) -> Plane:
        """Share of each pixel that lies in a lumen: the antialiased picture."""
        share: Plane = np.clip(self.depth + 0.5, 0, 1)
        return share

    @property
    def lumen(self) -> Bits:
        """Pixels that lie at least half in a lumen."""
        return self.depth >= 0


def draw(pieces: Pieces, size: int, filling: NDArray[np.floating] | None = None) -> Strokes:
    """Draw vessels on a square grid.

    Args:
        pieces: The vessels; pixel (0, 0) has its centre at (0, 0).
        size: Rows and columns.
        filling: ``(pieces,)`` factor of the chord, such as the contrast that has arrived; 1 without.
    """
    canvas = _Canvas(pieces, size)
    weights = np.ones(len(pieces), np.float32) if filling is None else filling.astype(np.float32)
    layer, weights = pieces.layer[canvas.owner] * canvas.side**2, weights[canvas.owner]
    depth, centrality = canvas.plane(-_FRINGE), canvas.plane(0)
    chord = np.zeros(LAYERS * canvas.side**2, np.float32)
    for these, places, squared in canvas.balls():
        radius = canvas.radii[these, np.newaxis]
        away = np.sqrt(squared)
        np.maximum.at(depth, places.ravel(), (radius - away).ravel())
        np.maximum.at(centrality, places.ravel(), (1 - away / radius).ravel())
        # A little more than the lumen keeps the finest vessels from falling between the pixels.
        lens = np.sqrt(np.clip((radius + 0.35) ** 2 - squared, 0, None)) * (2 * weights[these, np.newaxis])
        np.maximum.at(chord, (places + layer[these, np.newaxis]).ravel(), lens.ravel())
    line = canvas.plane(0)
    line[canvas.base] = 1
    inner = canvas.cut(depth)
    whole = canvas.cut(chord.reshape(LAYERS, -1).sum(0))
    return Strokes(inner, whole, canvas.cut(centrality), (canvas.cut(line) > 0) & (inner >= 0))


def lumen(pieces: Pieces, size: int) -> Bits:
    """The pixels that lie at least half in a vessel; quicker than ``draw`` where nothing else is wanted."""
    canvas = _Canvas(pieces, size)
    depth = canvas.plane(-_FRINGE)
    for these, places, squared in canvas.balls():
        np.maximum.at(depth, places.ravel(), (canvas.radii[these, np.newaxis] - np.sqrt(squared)).ravel())
    return np.asarray(canvas.cut(depth) >= 0)


class _Canvas:
    """A grid with a margin, as one long row, and the balls that lie on it.

    Attributes:
        side: Of the grid with its margin.
        owner: ``(points,)`` the piece that each ball is of.
        radii: ``(points,)``.
        base: ``(points,)`` number of the pixel nearest to the middle.
    """

    def __init__(self, pieces: Pieces, size: int) -> None:
        thickest = float(max(pieces.begin_radius.max(initial=1.0), pieces.end_radius.max(initial=1.0)))
        reach = int(np.ceil(thickest + _FRINGE)) + 1
        self._margin, self._size = 2 * reach + 1, size
        self.side = size + 2 * self._margin
        points, self.radii, self.owner = _points(pieces, size, reach)
        nearest = np.rint(points).astype(np.int64)
        self.base = (nearest[:, 0] + self._margin) * self.side + nearest[:, 1] + self._margin
        self._fraction = (points - nearest).astype(np.float32)

    def plane(self, value: float) -> Plane:
        """A new plane, as one long row."""
        return np.full(self.side**2, value, np.float32)

    def cut(self, plane: Plane) -> Plane:
        """The plane without its margin, as rows and columns."""
        inner = slice(self._margin, self._margin + self._size)
        return plane.reshape(self.side, self.side)[inner, inner]

    def balls(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], Plane]]:
        """For all balls of like size: their numbers, the pixels around each and the squared distances to them."""
        half_sides = np.ceil(self.radii + _FRINGE).astype(np.int64)
        for half_side in np.unique(half_sides).tolist():
            these = np.flatnonzero(half_sides == half_side)
            rows, columns = (axis.ravel() for axis in np.mgrid[-half_side : half_side + 1, -half_side : half_side + 1])
            near = rows**2 + columns**2 <= (half_side + 0.8) ** 2
            rows, columns = rows[near], columns[near]
            places = self.base[these, np.newaxis] + (rows * self.side + columns)
            down = rows.astype(np.float32) - self._fraction[these, :1]
            across = columns.astype(np.float32) - self._fraction[these, 1:]
            yield these, places, down**2 + across**2


def _points(
    pieces: Pieces, size: int, margin: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Points along the pieces, close enough for smooth walls: rows and columns, radii and the piece each is of."""
    lengths = np.hypot(*(pieces.end - pieces.begin).T)
    spacing = np.clip(0.3 * np.minimum(pieces.begin_radius, pieces.end_radius), 0.4, 0.7)
    counts = np.maximum(np.ceil(lengths / spacing).astype(np.int64), 1)
    owner = np.repeat(np.arange(len(pieces)), counts)
    first = np.cumsum(counts) - counts
    share = ((np.arange(len(owner)) - first[owner] + 0.5) / counts[owner]).astype(np.float32)
    points = pieces.begin[owner] + share[:, np.newaxis] * (pieces.end - pieces.begin)[owner]
    radii = pieces.begin_radius[owner] + share * (pieces.end_radius - pieces.begin_radius)[owner]
    seen = ((points > -margin) & (points < size - 1 + margin)).all(1)
    return points[seen].astype(np.float32), radii[seen].astype(np.float32), owner[seen]
