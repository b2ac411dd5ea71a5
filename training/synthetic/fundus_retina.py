"""The retina behind the vessels: colour and light, choroid, disc, macula and lesions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.synthetic.fields import blobs, chance, clouds, grid, softened, spot, step
from training.synthetic.growth import Habit, grow
from training.synthetic.picture import Plane
from training.synthetic.strokes import draw

_PALETTES = (
    (205, 90, 35),
    (190, 100, 60),
    (165, 75, 30),
    (215, 120, 70),
    (140, 85, 45),
    (180, 65, 20),
    (120, 110, 90),
    (130, 150, 95),
    (200, 150, 110),
    (90, 130, 60),
    (225, 105, 85),
)
"""Red, green and blue in the middle of the picture: orange, brown, pale, greenish and grey fundi."""


@dataclass(frozen=True, slots=True)
class Eye:
    """Where things lie; lengths in pixels.

    Attributes:
        disc: Row and column of the middle of the optic disc.
        fovea: Row and column of the fovea.
        disc_radius: Of the optic disc.
        thickest: Radius of the thickest vein.
        temporal: Unit vector (row, column) from the disc to the fovea.
    """

    disc: NDArray[np.float32]
    fovea: NDArray[np.float32]
    disc_radius: float
    thickest: float
    temporal: NDArray[np.float32]


def retina(eye: Eye, size: int, rng: np.random.Generator) -> Plane:
    """The background in colour, ``(size, size, 3)``, 0 to 255."""
    row, column = grid(size)
    colour = np.array(_PALETTES[int(rng.integers(len(_PALETTES)))]) * rng.uniform(0.75, 1.25, 3)
    middle, spread = rng.normal(0.5, 0.12, 2).tolist(), rng.uniform(0.35, 1.0)
    light = np.exp(-((row - middle[0]) ** 2 + (column - middle[1]) ** 2) / (2 * spread**2))
    light = light * (1 + rng.uniform(0, 0.15) * blobs(size, 2, rng)) * rng.uniform(0.7, 1.15)
    mottle = rng.uniform(0.005, 0.05) * clouds(size, rng.uniform(3, 12), rng, 5, 0.7) + _choroid(eye, size, rng)
    row, column = row * size, column * size
    away = np.hypot(row - eye.fovea[0], column - eye.fovea[1]) / eye.disc_radius
    macula = rng.uniform(0, 0.6) * np.exp(-((away / rng.uniform(0.9, 2.2)) ** 2))
    macula = macula + rng.uniform(-0.3, 0.25) * np.exp(-((away / 0.3) ** 2))
    strengths = zip(colour.tolist(), (0.7, 1.5, 1.6), (0.35, 1.0, 0.9), strict=True)
    channels = [value * light * np.exp(wave * mottle - dense * macula) for value, wave, dense in strengths]
    picture = np.stack(channels, axis=-1).astype(np.float32)
    return _with_disc(picture, eye, rng)


def _choroid(eye: Eye, size: int, rng: np.random.Generator) -> Plane:
    """Broad, blurred vessels behind the retina, lighter or darker than what lies between them."""
    if chance(rng, 0.45):
        return np.zeros((size, size), np.float32)
    if chance(rng, 0.15):
        noise = blobs(size, rng.uniform(8, 25), rng, rng.uniform(0.5, 2.5))
        web = np.exp(-((noise / rng.uniform(0.2, 0.5)) ** 2)) - 0.4
        return np.asarray(float(rng.choice([-1, 1])) * rng.uniform(0.03, 0.14) * web, np.float32)
    habit = Habit(minimum_radius=0.8 * eye.thickest, interval=(3, 8), wander=0.06, step=0.016 * size, limit=90)
    starts = rng.uniform(-0.05, 1.05, (14, 2)) * size
    towards = rng.uniform(0.2, 0.8, 2) * size - starts
    headings = np.arctan2(towards[:, 0], towards[:, 1]) + rng.normal(0, 0.5, len(starts))
    tree = grow(starts, headings, rng.uniform(0.9, 2.2, len(starts)) * eye.thickest, habit, rng, size)
    web = softened(draw(tree, size).coverage, eye.thickest * rng.uniform(0.6, 1.3))
    return np.asarray(float(rng.choice([-0.6, 1])) * rng.uniform(0.05, 0.22) * web, np.float32)


def _with_disc(picture: Plane, eye: Eye, rng: np.random.Generator) -> Plane:
    """The picture with the optic disc, its cup and, in some, atrophy or a pigmented crescent around it."""
    size = len(picture)
    row, column = (axis * size for axis in grid(size))
    tilt = float(rng.uniform(0.85, 1.2))
    down, across = (row - eye.disc[0]) * tilt, (column - eye.disc[1]) / tilt
    away = np.hypot(down, across) / eye.disc_radius + 0.04 * blobs(size, 12, rng)
    rim = step(1 - away, rng.uniform(0.05, 0.4))
    offset = (rng.normal(0, 0.15, 2) * eye.disc_radius).tolist()
    cup = step(rng.uniform(0.2, 0.7) - np.hypot(down - offset[0], across - offset[1]) / eye.disc_radius, 0.25)
    light = rng.uniform(0.5, 1.0) * step(1 - 0.4 * away, 2.0)
    shown = np.array((250, 175, 95), np.float32) * rng.uniform(0.75, 1.1, 3).astype(np.float32)
    bright = np.array((255, 225, 160), np.float32) * rng.uniform(0.85, 1.1, 3).astype(np.float32)
    inner = (shown + (bright - shown) * cup[..., np.newaxis]) * light[..., np.newaxis]
    inner = np.maximum(inner, picture * rng.uniform(0.95, 1.3))
    if chance(rng, 0.3):
        ring = step(rng.uniform(1.15, 1.6) - away - 0.3 * across / eye.disc_radius * float(rng.choice([-1, 1])), 0.2)
        picture = picture * (1 + float(rng.choice([-0.35, 0.3, 0.5])) * (ring * (1 - rim))[..., np.newaxis])
    share = (rim * rng.uniform(0.6, 1.0))[..., np.newaxis]
    return np.asarray(picture * (1 - share) + inner * share, np.float32)


def lesions(picture: Plane, eye: Eye, rng: np.random.Generator) -> Plane:
    """The picture with some of haemorrhages, exudates, drusen, cotton wool, laser scars, pigment and dust."""
    size, unit = len(picture), eye.disc_radius
    kinds = (
        # colour by which the picture is multiplied or to which it tends, sizes in disc radii, edge, greatest number
        ("dark", (0.55, 0.35, 0.4), (0.03, 0.1), 0.4, 40),
        ("dark", (0.5, 0.3, 0.35), (0.1, 0.5), 0.5, 9),
        ("light", (235, 205, 120), (0.03, 0.12), 0.45, 50),
        ("light", (225, 185, 105), (0.04, 0.1), 0.8, 60),
        ("light", (230, 215, 185), (0.15, 0.4), 1.0, 6),
        ("light", (225, 190, 140), (0.1, 0.24), 0.6, 60),
        ("dark", (0.5, 0.5, 0.5), (0.08, 0.25), 0.3, 25),
        ("dark", (0.8, 0.8, 0.8), (0.05, 0.9), 1.0, 5),
    )
    chosen = rng.choice(len(kinds), int(rng.integers(1, 4)), replace=False)
    for kind, colour, sizes, edge, most in (kinds[index] for index in chosen.tolist()):
        shape = np.zeros((size, size), np.float32)
        middle = rng.uniform(0.15, 0.85, 2) * size
        spread = rng.uniform(0.06, 0.4) * size
        for _ in range(int(rng.integers(1, most + 1))):
            radius = rng.uniform(*sizes) * unit * np.array((1, rng.uniform(0.4, 1)))
            centre = middle + rng.normal(0, 1, 2) * spread
            spot(shape, centre, np.maximum(radius, 0.8), rng.uniform(0, 3.14), rng.uniform(0.2, 1.0), edge)
        shape = (shape * (1 + 0.4 * blobs(size, size / 8, rng)))[..., np.newaxis]
        target = picture * np.array(colour, np.float32) if kind == "dark" else np.array(colour, np.float32)
        picture = picture + np.clip(shape, 0, 1) * (target - picture)
    return np.asarray(picture, np.float32)
