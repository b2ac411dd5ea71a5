"""OCT angiograms en face (vessels bright on a bed of capillaries) and OCT projections (vessels dark on grey)."""

import numpy as np
from numpy.typing import NDArray

from training.synthetic.camera import banded, filed, levels, noisy, sharpened, shifted_rows
from training.synthetic.fields import blobs, chance, clouds, grid, softened, spot, step
from training.synthetic.growth import Floats, Habit, Pieces, Steering, area, grow, joined
from training.synthetic.picture import Plane, SyntheticPicture
from training.synthetic.strokes import Strokes, draw, lumen

_DESIGN_SIZE = 384.0


def oct_angiogram(rng: np.random.Generator, size: int) -> SyntheticPicture:
    """A superficial plexus of 2 to 12 mm. Arteries, veins and their branches are vessels, the capillary bed is not."""
    scale = size / _DESIGN_SIZE
    fovea, zone = _fovea(rng, size)
    tree = _tree(rng, size, scale, fovea, zone)
    strokes = draw(tree, size)
    bed = _bed(size, scale, fovea, zone, rng)
    thickest = float(tree.begin_radius.max())
    flow = np.clip(strokes.chord / (2 * thickest), 0, 1.2) ** np.float32(rng.uniform(0.15, 0.55))
    flow = (flow * np.minimum(strokes.coverage + 0.3, 1)).astype(np.float32)
    if chance(rng, 0.4):
        flow *= 1 - np.float32(rng.uniform(0.1, 0.5)) * (blobs(size, rng.uniform(20, 60), rng) > 0.8)
    bright = rng.uniform(120, 235)
    speckle = rng.standard_normal((size, size), np.float32)
    grainy = np.exp(np.float32(rng.uniform(0.05, 0.35)) * softened(speckle, rng.uniform(0, 0.7)))
    level = rng.uniform(0.15, 0.55) * bright
    picture = level * bed + (bright - level * 0.5 * bed) * flow * grainy
    picture += rng.uniform(0, 25)
    return _scanned(picture.astype(np.float32), strokes, tree, scale, "octa", rng)


def oct_projection(rng: np.random.Generator, size: int) -> SyntheticPicture:
    """The retina in reflected infra-red light as an OCT sums it up: vessels throw dark shadows."""
    scale = size / _DESIGN_SIZE
    fovea, zone = _fovea(rng, size)
    tree = _tree(rng, size, scale, fovea, zone)
    tree = tree.where(tree.generation < 4)
    strokes = draw(tree, size)
    row, column = (axis * size for axis in grid(size))
    ground = rng.uniform(90, 190) * (1 + rng.uniform(0.03, 0.15) * clouds(size, rng.uniform(1, 3), rng, 5))
    away = np.hypot(row - fovea[0], column - fovea[1])
    ground = ground * (1 - rng.uniform(-0.3, 0.5) * np.exp(-((away / (rng.uniform(1, 3) * zone)) ** 2)))
    if chance(rng, 0.3):
        disc = np.zeros((size, size), np.float32)
        radii = rng.uniform(0.12, 0.3, 2) * size
        spot(disc, rng.choice([0.0, 1.0], 2) * size * rng.uniform(0.8, 1), radii, 0.0, 1.0, 0.1)
        ground = ground * (1 + rng.uniform(-0.6, 0.5) * disc)
    shadow = np.clip(strokes.chord / (2 * float(tree.begin_radius.max())), 0, 1.3) ** np.float32(rng.uniform(0.3, 0.8))
    picture = ground * (1 - np.float32(rng.uniform(0.2, 0.65)) * softened(shadow, rng.uniform(0.3, 1.0)))
    return _scanned(picture.astype(np.float32), strokes, tree, scale, "oct", rng)


def _fovea(rng: np.random.Generator, size: int) -> tuple[NDArray[np.float32], float]:
    """Middle and radius of the zone without vessels, in pixels; in some pictures it lies outside."""
    spread = 0.05 if chance(rng, 0.75) else 0.6
    return ((0.5 + rng.normal(0, spread, 2)) * size).astype(np.float32), float(rng.uniform(0.02, 0.15) * size)


def _tree(rng: np.random.Generator, size: int, scale: float, fovea: NDArray[np.float32], zone: float) -> Pieces:
    """Trunks that pass the fovea above and below and send their branches towards it."""
    thick = rng.uniform(2.4, 5.5) * scale
    habit = Habit(
        minimum_radius=max(rng.uniform(0.65, 1.1) * scale, 0.6),
        interval=(rng.uniform(2, 6), rng.uniform(9, 20)),
        side_ratio=(rng.uniform(0.25, 0.4), rng.uniform(0.5, 0.75)),
        side_angle=(rng.uniform(0.4, 0.9), rng.uniform(1.0, 1.6)),
        length=(rng.uniform(20, 40), rng.uniform(60, 110)),
        taper=rng.uniform(0.0005, 0.002) / scale,
        wander=rng.uniform(0.03, 0.09),
        persistence=rng.uniform(0.5, 0.9),
        corkscrew=rng.uniform(0, 0.35) * chance(rng, 0.3),
        crossing=rng.uniform(0.4, 0.9),
        step=max(3.8 * scale, 1.8),
        limit=int(rng.integers(80, 280)),
    )
    turn = rng.choice([0.0, np.pi / 2, np.pi], p=[0.6, 0.1, 0.3]) + rng.normal(0, 0.2)
    steering = _inward(rng, fovea, thick, turn, zone)

    def region(points: Floats) -> NDArray[np.bool_]:
        return np.asarray(np.hypot(*(points - fovea).T) > zone * 1.05)

    least = 1.3 * habit.minimum_radius
    trees: list[Pieces] = []
    wanted = rng.uniform(0.04, 0.15)
    while not trees or (sum(area(tree, size) for tree in trees) < wanted and len(trees) < 4):
        count = int(rng.integers(4, 9)) if not trees else int(rng.integers(8, 16))
        radii = np.maximum(
            thick * (rng.uniform(0.35, 1.0, count) if not trees else rng.uniform(0.25, 0.65, count)), least
        )
        starts, headings = _roots(count, turn if len(trees) < 2 else rng.uniform(0, 6.28), rng, size)
        trees.append(grow(starts, headings, radii, habit, rng, size, steering, region))
    return joined(trees)


def _roots(count: int, turn: float, rng: np.random.Generator, size: int) -> tuple[Floats, Floats]:
    """Where trunks enter the picture, above and below its middle line, and where they head."""
    offsets = np.full((count, 2), -0.56)
    offsets[:, 0] = np.where(np.arange(count) % 2, 1, -1) * rng.uniform(0.05, 0.55, count)
    flat = rng.random(count) < 0.25
    offsets[flat, 0] = np.sign(offsets[flat, 0]) * 0.54
    offsets[flat, 1] = rng.uniform(-0.5, 0.4, flat.sum())
    offsets = offsets @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) * size
    headings = np.arctan2(-offsets[:, 0], -offsets[:, 1]) + rng.normal(0, 0.5, count)
    return (offsets + size / 2).astype(np.float32), headings.astype(np.float32)


def _inward(rng: np.random.Generator, fovea: NDArray[np.float32], thick: float, along: float, zone: float) -> Steering:
    """Thin vessels are drawn to the fovea, thick ones pass along."""
    pull, straight = rng.uniform(0.01, 0.1), rng.uniform(0.02, 0.07)

    def steering(points: Floats, radii: Floats) -> tuple[Floats, Floats]:
        towards = fovea - points
        thin = radii < 0.5 * thick
        wanted = np.where(thin, np.arctan2(towards[:, 0], towards[:, 1]), -along)
        passing = np.where(thin, pull, straight) * np.clip(np.hypot(*towards.T) / (2 * zone), 0.2, 1)
        return wanted.astype(np.float32), passing.astype(np.float32)

    return steering


def _bed(size: int, scale: float, fovea: NDArray[np.float32], zone: float, rng: np.random.Generator) -> Plane:
    """The capillary bed, 0 to about 1: meshes where they can be told apart, grain where not, nothing in the fovea."""
    bed = np.zeros((size, size), np.float32)
    mesh = rng.uniform(0, 1) ** 1.5
    pitch = rng.uniform(1.4, 4.0) * scale
    for _ in range(2):
        noise = softened(rng.standard_normal((size, size), np.float32), pitch)
        ridge = np.exp(-((noise / (float(noise.std()) * rng.uniform(0.15, 0.4))) ** 2))
        np.maximum(bed, ridge * np.float32(rng.uniform(0.5, 1)), out=bed)
    grain = softened(rng.standard_normal((size, size), np.float32), rng.uniform(0.0, 0.9))
    grain = np.asarray(np.abs(grain) * (0.5 / max(float(np.abs(grain).mean()), 1e-3)), np.float32)
    bed = np.asarray(mesh * bed + (1 - mesh) * grain, np.float32)
    bed *= np.clip(1 + rng.uniform(0.05, 0.5) * clouds(size, rng.uniform(1, 4), rng, 3), 0.05, 2.2)
    row, column = (axis * size for axis in grid(size))
    wave = rng.uniform(0, 0.35) * blobs(size, rng.uniform(3, 9), rng)
    away = np.hypot(row - fovea[0], column - fovea[1]) / zone + wave
    bed *= rng.uniform(0.05, 0.4) + step(away - 1, rng.uniform(0.1, 0.6))
    if chance(rng, 0.2):
        bed *= 1 - rng.uniform(0.4, 0.95) * step(blobs(size, rng.uniform(3, 7), rng) - 0.9, 0.2)
    return np.asarray(bed, np.float32)


def _scanned(
    picture: Plane, strokes: Strokes, tree: Pieces, scale: float, kind: str, rng: np.random.Generator
) -> SyntheticPicture:
    """Uneven signal, stripes, eye movements (which displace the truth as well), noise and the display."""
    size = len(picture)
    thickest = float(tree.begin_radius.max())
    sure = lumen(tree.where(tree.begin_radius > max(0.22 * thickest, 0.85 * scale)), size)
    planes = [strokes.lumen, strokes.centre_line, strokes.lumen & ~sure]
    if chance(rng, 0.4):
        shifts = _eye_movements(size, scale, rng)
        picture = np.asarray(shifted_rows(picture, shifts), np.float32)
        planes = [np.asarray(shifted_rows(plane, shifts), bool) for plane in planes]
    picture = picture * banded(
        size, rng.uniform(0, 0.22 if kind == "octa" else 0.07), rng.choice([0.3, 0.6, 2.0, 8.0, 25.0]), rng
    )
    picture *= np.clip(1 + rng.uniform(0, 0.3) * blobs(size, 2, rng), 0.3, 1.7)
    if chance(rng, 0.15):
        shade = np.zeros_like(picture)
        for _ in range(int(rng.integers(1, 4))):
            spot(shade, rng.uniform(0, size, 2), rng.uniform(0.05, 0.25, 2) * size, rng.uniform(0, 3), 1.0, 0.8)
        picture *= 1 - rng.uniform(0.3, 0.85) * shade
    picture = softened(picture, rng.uniform(0, 0.9) * scale if chance(rng, 0.7) else 0)
    picture = noisy(picture, rng.uniform(1, 22), rng.uniform(0, 0.8), rng.uniform(0, 1), rng)
    if chance(rng, 0.3):
        picture = sharpened(picture, rng.uniform(0.8, 3) * scale, rng.uniform(0.3, 1.5))
    for row in rng.integers(0, size, int(rng.integers(0, 5)) if chance(rng, 0.25) else 0).tolist():
        picture[row : row + int(rng.integers(1, 4))] += rng.uniform(-60, 90)
    brightest = max(float(np.percentile(picture[::3, ::3], 99)), 30.0)
    picture = picture * (rng.uniform(150, 330) / brightest) + rng.uniform(-25, 15)
    picture = levels(picture, 0, 255, rng.uniform(0.6, 1.3))
    mask, line, unsure = planes
    everywhere = np.ones((size, size), bool)
    return SyntheticPicture(filed(picture, rng, 0.25), mask, line & mask, unsure & mask, everywhere, kind)


def _eye_movements(size: int, scale: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Sideways displacement of each row: jumps, and drift between them."""
    shifts = np.cumsum(rng.normal(0, 0.08, size))
    for row in rng.integers(0, size, int(rng.integers(1, 6))).tolist():
        shifts[row:] += rng.normal(0, 3.0) * scale
    return np.rint(shifts - np.median(shifts)).astype(np.int64)
