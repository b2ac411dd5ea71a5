"""Masks of tubes whose length and diameter are known exactly, in any direction and on any grid."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From ``(points,)`` in [0, 1] to ``(points, axes)`` in millimetres."""


def bar(angle: float, length: float, width: float, centre: Sequence[float], size: int = 180) -> NDArray[np.bool_]:
    """A straight bar with flat ends in a square picture; ``angle`` in radians from the columns."""
    y, x = np.mgrid[0:size, 0:size]
    along = (y - centre[0]) * np.sin(angle) + (x - centre[1]) * np.cos(angle)
    across = (y - centre[0]) * np.cos(angle) - (x - centre[1]) * np.sin(angle)
    return np.asarray((np.abs(along) <= length / 2) & (np.abs(across) <= width / 2))


def ring(radius: float, width: float, centre: Sequence[float], size: int = 160) -> NDArray[np.bool_]:
    """A closed ring in a square picture."""
    y, x = np.mgrid[0:size, 0:size]
    return np.asarray(np.abs(np.hypot(y - centre[0], x - centre[1]) - radius) <= width / 2)


def tube(curve: Curve, radius: float, extent: Sequence[float], spacing: Sequence[float]) -> NDArray[np.bool_]:
    """All voxels (or pixels) within ``radius`` of a curve, on a grid of this spacing; the ends are round."""
    shape = tuple(int(np.ceil(side / step)) for side, step in zip(extent, spacing, strict=True))
    grid = np.stack(np.mgrid[tuple(slice(0, size) for size in shape)], -1).reshape(-1, len(shape)) * spacing
    distances, _ = KDTree(_points(curve)).query(grid, distance_upper_bound=radius + 1e-9)
    return np.asarray((distances <= radius).reshape(shape))


def tube_length(curve: Curve, radius: float) -> float:
    """From tip to tip of the round ends."""
    return float(np.linalg.norm(np.diff(_points(curve), axis=0), axis=1).sum()) + 2 * radius


def straight(centre: Sequence[float], direction: Sequence[float], length: float) -> Curve:
    """A straight line through ``centre``."""
    unit = np.array(direction) / np.linalg.norm(direction)
    return lambda t: np.array(centre) + (t[:, None] - 0.5) * length * unit


def helix(centre: Sequence[float], radius: float, *, turns: float = 2.0, rise: float = 44.0) -> Curve:
    """A helix along the first axis, from ``centre[0] - rise / 2``."""

    def curve(t: NDArray[np.float64]) -> NDArray[np.float64]:
        turn = 2 * np.pi * turns * t
        first = centre[0] + rise * (t - 0.5)
        return np.stack([first, centre[1] + radius * np.sin(turn), centre[2] + radius * np.cos(turn)], -1)

    return curve


def _points(curve: Curve) -> NDArray[np.float64]:
    return curve(np.linspace(0, 1, 2000))
