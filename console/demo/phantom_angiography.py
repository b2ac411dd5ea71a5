"""A generated coronary angiography run: the left coronary tree fills with contrast over beating-heart frames."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from console.demo.texture import smooth_noise, soft_step
from console.demo.vessel_drawing import Drawing, draw_vessels
from console.demo.vessel_tree import Habit, Points, Route, Vessel, grow_tree, placed

Picture = NDArray[np.float32]
"""``(rows, columns)``, here mostly attenuation: the negative logarithm of the share of radiation that passes."""

FILLED = 0.35
"""A lumen belongs to the truth of a frame while its contrast is above this share of full filling."""

_DESIGN_SIZE = 512.0
"""Lengths below are in pixels of a 512 x 512 picture."""
_CONTRAST_PER_PIXEL = 0.05
_CATHETER_PER_PIXEL = 0.05
_QUANTA = 1500.0
"""Radiation quanta in a pixel behind nothing at all."""
_FRAMES_PER_BEAT = 8

_LEFT_CORONARY = Route(
    waypoints=[(108, 118), (112, 150), (104, 205), (88, 270), (112, 345), (196, 402), (306, 428), (388, 452)],
    branches=(
        Route(
            [(112, 152), (160, 158), (235, 178), (318, 172), (372, 212), (392, 300)],
            branches=(
                Route([(205, 170), (262, 208), (318, 224), (366, 262)], radius_ratio=0.7),
                Route([(300, 172), (356, 160), (408, 178), (446, 222)], radius_ratio=0.7),
            ),
            radius_ratio=0.84,
        ),
        Route([(112, 165), (172, 226), (258, 272), (330, 345)], radius_ratio=0.72),
        Route([(92, 250), (60, 300), (66, 372), (120, 438)], radius_ratio=0.7),
        Route([(110, 345), (200, 340), (292, 300), (352, 255)], radius_ratio=0.68),
    ),
)
_CATHETER = [(-20, 66), (30, 82), (76, 97), (108, 118)]
_HABIT = Habit(step=2.0, minimum_radius=1.7, interval=(70, 170), side_ratio=(0.4, 0.62), tortuosity=0.55)


def angiography_run(
    frames: int = 20, rows: int = 512, columns: int = 512, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A coronary angiography run as an XA system shows it: vessels filled with contrast are dark.

    The first frame shows no contrast, then it comes from the root, and at the end it washes out. The catheter is dark
    all the time and not in the truth.

    Args:
        frames: How many, at about 7.5 a second.
        rows: Of each frame.
        columns: Of each frame.
        seed: The same seed gives the same run.

    Returns:
        Pixels ``(frames, rows, columns)`` uint8, and the truth, bool of the same shape: the lumen where its contrast
        is above ``FILLED`` of full filling.
    """
    rng = np.random.default_rng([seed, 1])
    shape = (rows, columns)
    scale = np.array(shape) / _DESIGN_SIZE
    tree, catheter = _coronary_tree(rng), _catheter()
    coronary, tube = (draw_vessels(placed(vessels, scale), shape) for vessels in (tree, catheter))
    background = _chest(shape, rng) + _CATHETER_PER_PIXEL / scale.min() * tube.chord
    window = _collimator(shape, rng)
    length = max(float(vessel.distances[-1]) for vessel in tree)
    beat = _beat(coronary, rng)
    pixels = np.empty((frames, *shape), np.uint8)
    truth = np.empty((frames, *shape), bool)
    for index in range(frames):
        depth, chord, distance = beat[index % _FRAMES_PER_BEAT]
        filling = _filling(distance / length, (index + 0.5) / frames)
        attenuation = background + _CONTRAST_PER_PIXEL / scale.min() * filling * chord
        pixels[index] = _exposed(attenuation, window, rng)
        truth[index] = (depth >= 0) & (filling > FILLED) & (window > 0.5)
    return pixels, truth


def _coronary_tree(rng: np.random.Generator) -> list[Vessel]:
    """The left coronary artery in pixels of the design size, its routes displaced a little by chance."""

    def displaced(route: Route) -> Route:
        waypoints = np.asarray(route.waypoints, float)
        moved = waypoints + np.vstack([[0, 0], rng.normal(0, 7, (len(waypoints) - 1, 2))])
        return Route(moved, tuple(displaced(branch) for branch in route.branches), route.radius_ratio)

    def inside(point: Points) -> bool:
        return bool(((point > 24) & (point < _DESIGN_SIZE - 24)).all())

    return grow_tree(displaced(_LEFT_CORONARY), rng.uniform(8.4, 9.2), _HABIT, rng, inside)


def _catheter() -> list[Vessel]:
    habit = Habit(step=3.0, minimum_radius=3.4, interval=(1e9, 1e9), tortuosity=0)
    return grow_tree(Route(_CATHETER, passes_through=True), 3.4, habit, np.random.default_rng(0))


def _filling(arrival: Picture, time: float) -> Picture:
    """Concentration of contrast, 0 to 1, where blood arrives after ``arrival`` (0 root, 1 farthest tip).

    Args:
        arrival: Path length from the root as a share of the longest.
        time: 0 begin of the run, 1 its end.
    """
    transit = 0.22 * arrival
    inflow = soft_step(time - 0.1 - transit, 0.10)
    outflow = soft_step(time - 0.84 - 0.6 * transit, 0.12)
    filling: Picture = inflow * (1 - 0.93 * outflow)
    return filling


def _beat(coronary: Drawing, rng: np.random.Generator) -> list[tuple[Picture, Picture, Picture]]:
    """Depth, chord and distance of the tree at each moment of a beat: a quick contraction, then a slow filling."""
    shape = coronary.depth.shape
    place = np.indices(shape, np.float32)
    middle = np.reshape([0.5 * shape[0], 0.55 * shape[1]], (2, 1, 1)).astype(np.float32)
    outward = place - middle
    turn = np.float32(rng.uniform(-0.012, 0.012))
    motion = 0.022 * outward + turn * np.stack([outward[1], -outward[0]])
    moments = []
    for moment in np.arange(_FRAMES_PER_BEAT) / _FRAMES_PER_BEAT:
        source = place + np.float32(np.sin(np.pi * moment**0.7) ** 2) * motion
        depth, chord, distance = (
            ndimage.map_coordinates(picture, source, order=1, mode="nearest")
            for picture in (coronary.depth, coronary.chord, coronary.distance)
        )
        moments.append((depth, chord, distance))
    return moments


def _chest(shape: tuple[int, int], rng: np.random.Generator) -> Picture:
    """Attenuation of everything but contrast: soft tissue, lung, heart, diaphragm, spine and ribs."""
    row, column = np.meshgrid(*(np.linspace(0, 1, size, dtype=np.float32) for size in shape), indexing="ij")
    cell = min(shape) / _DESIGN_SIZE
    wave = 0.03 * smooth_noise(shape, (90 * cell, 90 * cell), rng)
    chest = 1.0 + 0.12 * smooth_noise(shape, (200 * cell, 200 * cell), rng)
    heart = 1 - np.hypot((row - 0.55) / 0.46, (column - 0.47) / 0.44) + wave
    chest += 0.20 * soft_step(heart + wave, 0.22) + 0.24 * np.sqrt(np.clip(heart, 0, None))
    dome = row - 0.76 - rng.uniform(0, 0.06) - 0.55 * (1 - np.cos(1.1 * (column - rng.uniform(0.5, 0.7)))) + 0.12 * wave
    chest += 0.34 * soft_step(dome, 0.018)
    chest += _spine(row, column, rng) + _ribs(row, column, rng)
    for scale, strength in ((40, 0.030), (16, 0.018), (7, 0.010)):
        chest += strength * smooth_noise(shape, (scale * cell, scale * cell), rng)
    return chest


def _spine(row: Picture, column: Picture, rng: np.random.Generator) -> Picture:
    """A column of vertebral bodies with brighter discs between them."""
    across = np.abs(column - 0.10 - rng.uniform(-0.03, 0.03) - 0.10 * row)
    level = np.cos(2 * np.pi * (row / 0.21 + rng.uniform()))
    width = 0.082 - 0.004 * level
    body = soft_step(width - across, 0.02)
    disc = soft_step(level - 0.86, 0.25)
    rim: Picture = np.exp(-(((across - width) / 0.008) ** 2))
    spine: Picture = 0.26 * body * (1 - 0.22 * disc) + 0.05 * rim * (1 - disc)
    return spine


def _ribs(row: Picture, column: Picture, rng: np.random.Generator) -> Picture:
    """Oblique bands with denser rims."""
    ribs = np.zeros_like(row)
    phase, slope = rng.uniform(), rng.uniform(0.25, 0.45)
    for number in range(-2, 6):
        middle = 0.2 * (number + phase) + slope * column - 0.32 * (column - 0.4) ** 2
        away = np.abs(row - middle)
        half = 0.028 + 0.006 * np.sin(9 * column + number)
        ribs += 0.075 * soft_step(half - away, 0.02) + 0.045 * np.exp(-(((away - half) / 0.007) ** 2))
    return ribs


def _collimator(shape: tuple[int, int], rng: np.random.Generator) -> Picture:
    """1 in the beam, 0 behind the blades, which leave a soft shadow at the borders."""
    row, column = np.ogrid[: shape[0], : shape[1]]
    cell = min(shape) / _DESIGN_SIZE
    left, right, top, bottom = rng.uniform(6, 14, 4) * cell
    beam = soft_step(np.minimum(row - top, shape[0] - 1 - bottom - row), 4 * cell)
    return beam * soft_step(np.minimum(column - left, shape[1] - 1 - right - column), 4 * cell)


def _exposed(attenuation: Picture, window: Picture, rng: np.random.Generator) -> NDArray[np.uint8]:
    """What the detector and the display make of it: blur, quantum noise, logarithm, 8 bits."""
    quanta = _QUANTA * ndimage.gaussian_filter(np.exp(-attenuation), 0.7, truncate=3)
    # With hundreds of quanta in each pixel the Poisson distribution is normal, and drawn five times as fast.
    counts = quanta + np.sqrt(quanta) * rng.standard_normal(quanta.shape, np.float32)
    counts = ndimage.gaussian_filter(counts, 0.45, truncate=3)
    display = 262 + 92 * np.log(np.maximum(counts, 1) / _QUANTA)
    pixels: NDArray[np.uint8] = np.clip(8 + (display - 8) * window, 0, 255).astype(np.uint8)
    return pixels
