"""A generated fundus photograph of a right eye: optic disc, fovea, arteries and veins in a round aperture."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from console.demo.texture import smooth_noise, soft_step
from console.demo.vessel_drawing import Drawing, draw_vessels
from console.demo.vessel_tree import Habit, Points, Route, Vessel, grow_tree, placed

Picture = NDArray[np.float32]
"""``(rows, columns)`` or, with colour, ``(rows, columns, 3)``."""

_DESIGN_SIZE = 960.0
"""Lengths below are in pixels of a picture with 960 rows and about as many columns, from its middle."""
_APERTURE = 458.0
_DISC = np.array([8.0, 150.0])
_FOVEA = np.array([34.0, -118.0])
_RETINA = (208, 84, 30)
"""Red, green and blue in the middle of the picture."""
_ARTERY_DENSITY = (0.010, 0.052, 0.046)
_VEIN_DENSITY = (0.024, 0.066, 0.056)
"""Optical density of a pixel's length of blood in red, green and blue: blood takes the green."""
_HABIT = Habit(
    step=4.0,
    minimum_radius=1.25,
    interval=(42, 120),
    side_ratio=(0.38, 0.68),
    side_angle=(30, 65),
    length_to_radius=75,
    tortuosity=0.42,
)
_UPPER = (
    [(-6, 2), (-70, -20), (-165, -75), (-246, -180), (-268, -320), (-236, -480)],
    [(-4, 2), (-60, 8), (-150, 40), (-250, 120), (-330, 190)],
    [(-5, -1), (-90, 0), (-200, -22), (-310, -40), (-470, -20)],
)
"""Temporal arcade, nasal vessel and a steep one above the disc; the lower half is their mirror picture."""


def fundus_photograph(
    rows: int = 960, columns: int = 1000, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A colour photograph of the retina as a fundus camera shows it: vessels are darker than their surroundings.

    Args:
        rows: Of the picture.
        columns: Of the picture.
        seed: The same seed gives the same picture.

    Returns:
        Pixels ``(rows, columns, 3)`` uint8 RGB, and the truth ``(rows, columns)`` bool: the vessels inside the
        aperture.
    """
    rng = np.random.default_rng([seed, 2])
    shape = (rows, columns)
    scale = min(rows, columns * 0.96) / _DESIGN_SIZE
    row = ((np.arange(rows, dtype=np.float32) - (rows - 1) / 2) / scale)[:, np.newaxis]
    column = ((np.arange(columns, dtype=np.float32) - (columns - 1) / 2) / scale)[np.newaxis, :]
    arteries = _draw(_vessels(rng, radius=4.6, turn=rng.uniform(0.05, 0.10)), shape, scale)
    veins = _draw(_vessels(rng, radius=5.8, turn=-rng.uniform(0.05, 0.10)), shape, scale)
    aperture = soft_step(_APERTURE - np.hypot(row, column), 3.0)
    picture = _retina(row, column, shape, scale, rng)
    reflex = 1 - 0.5 * soft_step(arteries.centrality - 0.62, 0.3) * soft_step(arteries.chord / scale - 4.5, 2.0)
    for drawing, density, shade in ((arteries, _ARTERY_DENSITY, reflex), (veins, _VEIN_DENSITY, np.ones_like(reflex))):
        blood = (np.minimum(drawing.chord, 14 * scale) / scale * shade)[..., np.newaxis]
        picture = picture * np.exp(-blood * np.array(density, np.float32))
    truth = (arteries.lumen | veins.lumen) & (np.hypot(row, column) < _APERTURE)
    return _photographed(picture * aperture[..., np.newaxis], scale, rng), truth


def _vessels(rng: np.random.Generator, radius: float, turn: float) -> list[Vessel]:
    """Six trees out of the disc: three up, three down. ``turn`` keeps arteries and veins beside each other."""

    def inside(point: Points) -> bool:
        return bool(np.linalg.norm(point) < _APERTURE + 12 and np.linalg.norm(point - _FOVEA) > 62)

    cosine, sine = np.cos(turn), np.sin(turn)
    vessels: list[Vessel] = []
    for up in (1.0, -1.0):
        for waypoints, share in zip(_UPPER, (1.0, 0.72, 0.66), strict=True):
            route = np.array(waypoints, float) * (up, 1)
            route[1:] += rng.normal(0, 1, (len(route) - 1, 2)) * np.linspace(3, 18, len(route) - 1)[:, np.newaxis]
            route = route @ np.array([[cosine, -sine], [sine, cosine]]) + rng.normal(0, 3, 2) + _DISC
            tree = grow_tree(Route(route), radius * share * rng.uniform(0.9, 1.1), _HABIT, rng, inside)
            vessels.extend(_renumbered(tree, vessels))
    return vessels


def _renumbered(tree: list[Vessel], before: list[Vessel]) -> list[Vessel]:
    """The tree as it stands behind other trees in one list."""
    branches = max((vessel.branch + 1 for vessel in before), default=0)
    return [
        replace(v, branch=v.branch + branches, parent=None if v.parent is None else v.parent + len(before))
        for v in tree
    ]


def _draw(vessels: list[Vessel], shape: tuple[int, int], scale: float) -> Drawing:
    return draw_vessels(placed(vessels, scale, (np.array(shape) - 1) / 2), shape)


def _retina(row: Picture, column: Picture, shape: tuple[int, int], scale: float, rng: np.random.Generator) -> Picture:
    """The background in colour: uneven light, choroid, macula and optic disc."""
    light = np.exp(-(((row - rng.uniform(-60, 60)) / 520) ** 2 + ((column - rng.uniform(0, 120)) / 500) ** 2))
    light = 0.34 + 0.66 * light - 0.10 * soft_step(np.hypot(row, column) - 400, 160)
    coarse, middle, fine = (smooth_noise(shape, (size * scale, size * scale), rng) for size in (120, 34, 9))
    mottle = 0.050 * coarse + 0.026 * middle + 0.024 * fine
    macula = np.exp(-(((row - _FOVEA[0]) ** 2 + (column - _FOVEA[1]) ** 2) / (2 * 52**2)))
    pit = np.exp(-(((row - _FOVEA[0]) ** 2 + (column - _FOVEA[1]) ** 2) / (2 * 12**2)))
    channels = [
        value * light * np.exp(strength * mottle - density * macula - 0.4 * density * pit)
        for value, strength, density in zip(_RETINA, (0.8, 1.7, 1.9), (0.14, 0.38, 0.30), strict=True)
    ]
    from_disc = np.hypot((row - _DISC[0]) / 1.12, column - _DISC[1]) + 2.5 * coarse + 1.2 * middle
    rim = soft_step(62 - from_disc, 16)
    cup = soft_step(30 - np.hypot(row - _DISC[0] - 2, column - _DISC[1] + 8) + 2 * middle, 16)
    halo = 0.10 * np.exp(-(((from_disc - 76) / 14) ** 2))
    disc_colour, cup_colour = (250, 166, 82), (255, 212, 138)
    for index, (disc, bright) in enumerate(zip(disc_colour, cup_colour, strict=True)):
        inner = (disc + (bright - disc) * cup) * (0.55 + 0.45 * light)
        channels[index] = channels[index] * (1 - rim) * (1 - halo) + inner * rim
    return np.stack(channels, axis=-1).astype(np.float32)


def _photographed(picture: Picture, scale: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """What lens and sensor make of it: blur, noise, 8 bits."""
    blur = 0.9 * scale
    picture = ndimage.gaussian_filter(picture, (blur, blur, 0), truncate=3)
    grain = rng.standard_normal(picture.shape, np.float32)
    grain = ndimage.gaussian_filter(grain, (0.6, 0.6, 0), truncate=3) * np.sqrt(np.maximum(picture, 4)) * 0.55
    pixels: NDArray[np.uint8] = np.clip(picture + grain, 0, 255).astype(np.uint8)
    return pixels
