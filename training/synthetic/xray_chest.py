"""What X-rays meet besides contrast medium: attenuation of soft tissue, lung, heart, diaphragm, spine and ribs."""

import math

import numpy as np

from training.synthetic.fields import Grid, blobs, chance, clouds, grid, softened, step
from training.synthetic.growth import Habit, grow
from training.synthetic.picture import Plane
from training.synthetic.strokes import draw


def chest(size: int, scale: float, rng: np.random.Generator) -> Plane:
    """Attenuation of a body without contrast medium, in no unit; about 0 to 2. Limbs and heads come out of it too."""
    place = _tilted(grid(size), rng)
    body = rng.uniform(0.05, 0.35) * clouds(size, rng.uniform(1, 3), rng, 3)
    body += rng.uniform(0.0, 0.07) * clouds(size, rng.uniform(6, 25), rng, 4, 0.7)
    for part, probability in (
        (_heart, 0.7),
        (_dome, 0.7),
        (_dome, 0.3),
        (_spine, 0.6),
        (_ribs, 0.6),
        (_long_bone, 0.1),
    ):
        if chance(rng, probability):
            body += part(place, rng)
    if chance(rng, 0.35):
        body += _lung_vessels(size, scale, rng)
    return softened(body, rng.uniform(0.4, 1.5) * scale)


def _tilted(place: Grid, rng: np.random.Generator) -> Grid:
    """Coordinates turned and mirrored, so that nothing always lies at the same place."""
    angle = float(rng.normal(0, 0.25)) + (int(rng.integers(4)) * np.pi / 2 if chance(rng, 0.15) else 0)
    row, column = place[0] - 0.5, (place[1] - 0.5) * np.float32(rng.choice([-1, 1]))
    zoom = np.float32(rng.uniform(0.7, 1.3))
    return (
        (row * np.float32(math.cos(angle)) + column * np.float32(math.sin(angle))) * zoom + np.float32(0.5),
        (column * np.float32(math.cos(angle)) - row * np.float32(math.sin(angle))) * zoom + np.float32(0.5),
    )


def _heart(place: Grid, rng: np.random.Generator) -> Plane:
    """A dense rounded shadow."""
    row, column = place
    centre, half = rng.uniform(0.35, 0.75, 2).tolist(), rng.uniform(0.25, 0.6, 2).tolist()
    inside = 1 - np.hypot((row - centre[0]) / half[0], (column - centre[1]) / half[1])
    inside = inside + 0.05 * blobs(len(row), rng.uniform(2, 5), rng)
    dense = rng.uniform(0.1, 0.5) * step(inside, rng.uniform(0.02, 0.25))
    return np.asarray(dense + rng.uniform(0, 0.3) * np.sqrt(np.clip(inside, 0, None)), np.float32)


def _dome(place: Grid, rng: np.random.Generator) -> Plane:
    """A half of the diaphragm: sharp curved edge, dense below."""
    row, column = place
    top, middle, curve = rng.uniform(0.5, 0.95), rng.uniform(-0.1, 1.1), rng.uniform(0.2, 1.4)
    below = row - top - curve * (column - middle) ** 2 + 0.006 * blobs(len(row), 4, rng)
    return rng.uniform(0.1, 0.55) * step(below, rng.uniform(0.006, 0.05))


def _spine(place: Grid, rng: np.random.Generator) -> Plane:
    """A column of vertebral bodies with brighter discs between them and the shadows of their processes."""
    row, column = place
    middle, width, period = rng.uniform(0.0, 0.8), rng.uniform(0.06, 0.13), rng.uniform(0.13, 0.26)
    across = np.abs(column - middle - rng.normal(0, 0.12) * row)
    level = np.cos(2 * np.pi * (row / period + rng.uniform()))
    edge = width - 0.006 * level
    body = step(edge - across, 0.012)
    disc = step(level - 0.8, 0.3)
    rim = np.exp(-(((across - edge) / 0.008) ** 2))
    process = np.exp(-((across / 0.016) ** 2) - ((level - 0.2) / 0.4) ** 2)
    dense = rng.uniform(0.12, 0.4) * body * (1 - 0.3 * disc) + 0.07 * rim * (1 - disc) + 0.12 * process
    return np.asarray(dense, np.float32)


def _ribs(place: Grid, rng: np.random.Generator) -> Plane:
    """Curved bands with denser rims, hence with lines that look like vessels."""
    row, column = place
    period, slope, curve = rng.uniform(0.12, 0.3), rng.normal(0, 0.4), rng.uniform(-0.6, 0.6)
    half, dense, rim = rng.uniform(0.015, 0.045), rng.uniform(0.02, 0.14), rng.uniform(0.0, 0.08)
    phase = row - slope * column - curve * (column - rng.uniform(0.2, 0.8)) ** 2 + rng.uniform(0, 1)
    away = np.abs((phase / period) % 1 - 0.5) * period
    bands = dense * step(half - away, 0.012) + rim * np.exp(-(((away - half) / 0.006) ** 2))
    return np.asarray(bands * step(column - rng.uniform(-0.6, 0.5), 0.1), np.float32)


def _long_bone(place: Grid, rng: np.random.Generator) -> Plane:
    """A shaft with dense walls, as in a limb."""
    row, column = place
    half = rng.uniform(0.07, 0.16)
    away = np.abs(column - rng.uniform(0.2, 0.8) + rng.normal(0, 0.15) * row + 0.02 * np.sin(3 * row))
    wall = np.exp(-(((away - half) / rng.uniform(0.012, 0.03)) ** 2))
    return np.asarray(0.25 * step(half - away, 0.02) + 0.3 * wall, np.float32)


def _lung_vessels(size: int, scale: float, rng: np.random.Generator) -> Plane:
    """Faint, blurred vessels without contrast medium: they are not what is looked for."""
    habit = Habit(minimum_radius=1.2 * scale, wander=0.05, interval=(3, 12), crossing=1, step=6 * scale, limit=40)
    start = rng.uniform(0.2, 0.8, 2) * size
    tree = grow([start] * 3, rng.uniform(0, 6.28, 3), rng.uniform(3, 7, 3) * scale, habit, rng, size)
    blurred = softened(draw(tree, size).chord, 2.5 * scale)
    return np.asarray(rng.uniform(0.004, 0.012) / scale * blurred, np.float32)
