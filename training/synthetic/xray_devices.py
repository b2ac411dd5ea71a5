"""Things in an X-ray picture that look like vessels and are none: catheters, wires, leads, loops, electrodes, clips."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import make_interp_spline

from training.synthetic.fields import chance, spot, step
from training.synthetic.growth import path
from training.synthetic.picture import Plane
from training.synthetic.strokes import draw


def catheter(tip: ArrayLike, size: int, scale: float, rng: np.random.Generator) -> Plane:
    """A tube from the border of the picture to ``tip`` (row, column in pixels): 0 outside, about 1 at its darkest."""
    entry = rng.uniform(0, size, 2)
    entry[int(rng.integers(2))] = rng.choice([-10.0, size + 10.0])
    line = _curve(entry, np.clip(np.asarray(tip, float), 0.03 * size, 0.97 * size), size, rng)
    strokes = draw(path(line, rng.uniform(1.6, 4.8) * scale), size)
    wall = np.exp(-(((strokes.centrality - rng.uniform(0.1, 0.5)) / 0.3) ** 2)) * (strokes.centrality > 0)
    hollow = rng.uniform(0, 1) if chance(rng, 0.5) else 0
    tube: Plane = strokes.coverage * (hollow * wall + (1 - hollow) * np.sqrt(np.clip(strokes.centrality, 0.05, 1)))
    return np.asarray(tube * rng.uniform(0.25, 1.0), np.float32)


def _curve(
    begin: NDArray[np.floating], end: NDArray[np.floating], size: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A smooth bow from one point to another, often with a hook at its end; ``(points, 2)``."""
    along = end - begin
    across = np.array([-along[1], along[0]])
    bow = rng.normal(0, 0.3)
    points = [begin, begin + 0.35 * along + bow * across, begin + 0.75 * along + bow * rng.uniform(0.3, 1.1) * across]
    if chance(rng, 0.5):
        points.append(end + rng.normal(0, 0.06, 2) * size)
    points.append(end)
    at = np.append(0, np.cumsum(np.hypot(*np.diff(points, axis=0).T) + 1e-3))
    steps = np.linspace(0, at[-1], max(int(at[-1] / 3), 8))
    return np.asarray(make_interp_spline(at, np.array(points), k=min(3, len(points) - 1))(steps), float)


def devices(size: int, scale: float, rng: np.random.Generator) -> Plane:
    """A random choice of everything else, 0 to about 1."""
    metal = np.zeros((size, size), np.float32)
    for part, probability in (
        (_wire, 0.25),
        (_wire, 0.15),
        (_lead, 0.15),
        (_sternal_wires, 0.15),
        (_electrodes, 0.15),
        (_clips, 0.12),
        (_probe, 0.04),
    ):
        if chance(rng, probability):
            np.maximum(metal, part(size, scale, rng), out=metal)
    return metal


def _ends(size: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    begin = rng.uniform(0, size, 2)
    begin[int(rng.integers(2))] = rng.choice([-8.0, size + 8.0])
    return begin, rng.uniform(-0.1, 1.1, 2) * size


def _wire(size: int, scale: float, rng: np.random.Generator) -> Plane:
    """A guide wire or the cable of an electrode: thin and even."""
    line = _curve(*_ends(size, rng), size, rng)
    wire = draw(path(line, rng.uniform(0.6, 1.4) * scale), size).coverage * rng.uniform(0.2, 1.0)
    return np.asarray(wire, np.float32)


def _lead(size: int, scale: float, rng: np.random.Generator) -> Plane:
    """A pacing lead: a wire with thicker dark stretches at its tip."""
    line = _curve(*_ends(size, rng), size, rng)
    radius = np.full(len(line), rng.uniform(1.0, 2.2) * scale)
    radius[-4:] *= 1.6
    radius[-12:-9] *= 1.6
    return np.asarray(draw(path(line, radius), size).coverage * rng.uniform(0.5, 1.0), np.float32)


def _sternal_wires(size: int, scale: float, rng: np.random.Generator) -> Plane:
    """Twisted loops, one above the other."""
    metal = np.zeros((size, size), np.float32)
    middle, turn = rng.uniform(0.2, 0.8) * size, np.linspace(0, 2 * np.pi, 40)
    for row in np.arange(rng.uniform(0, 0.2), 1, rng.uniform(0.14, 0.3)) * size:
        half = rng.uniform(8, 26, 2) * scale
        tilt = rng.normal(0, 0.3)
        rows = row + half[0] * np.sin(turn) + tilt * half[1] * np.cos(turn)
        columns = middle + rng.normal(0, 5) * scale + half[1] * np.cos(turn) * (1 + 0.2 * np.sin(2 * turn))
        loop = draw(path(np.stack([rows, columns], 1), rng.uniform(0.8, 1.6) * scale), size)
        np.maximum(metal, loop.coverage, out=metal)
    return metal


def _electrodes(size: int, scale: float, rng: np.random.Generator) -> Plane:
    """Round patches of an electrocardiograph with their snaps."""
    metal = np.zeros((size, size), np.float32)
    for _ in range(int(rng.integers(1, 5))):
        centre, radius = rng.uniform(0, size, 2), rng.uniform(5, 16) * scale
        spot(metal, centre, (radius, radius), 0.0, rng.uniform(0.15, 0.5), 0.1)
        spot(metal, centre, (0.4 * radius, 0.4 * radius), 0.0, rng.uniform(0.5, 1.0), 0.2)
    return metal


def _clips(size: int, scale: float, rng: np.random.Generator) -> Plane:
    """Short bright or dark bars."""
    metal = np.zeros((size, size), np.float32)
    for _ in range(int(rng.integers(2, 12))):
        centre, angle, length = rng.uniform(0, size, 2), rng.uniform(0, np.pi), rng.uniform(2, 8) * scale
        spot(metal, centre, (length, 1.1 * scale), angle, rng.uniform(0.5, 1.0), 0.3)
    return metal


def _probe(size: int, scale: float, rng: np.random.Generator) -> Plane:
    """An ultrasound probe in the oesophagus: a broad dark tube."""
    line = _curve(*_ends(size, rng), size, rng)
    strokes = draw(path(line, rng.uniform(8, 13) * scale), size)
    return np.asarray(step(strokes.depth, 2.0 * scale) * rng.uniform(0.4, 1.0), np.float32)
