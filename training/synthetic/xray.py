"""X-ray angiograms: coronary, cerebral and limb arteries under contrast medium, native or subtracted."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from training.synthetic.camera import filed, levels, motion_blurred, noisy, sharpened
from training.synthetic.fields import chance, clouds, softened, step
from training.synthetic.growth import Floats, Habit, Pieces, Steering, area, grow, joined
from training.synthetic.picture import Plane, SyntheticPicture
from training.synthetic.strokes import Strokes, draw, lumen
from training.synthetic.xray_chest import chest
from training.synthetic.xray_devices import catheter, devices

_DESIGN_SIZE = 512.0


def xray_angiogram(rng: np.random.Generator, size: int) -> SyntheticPicture:
    """One frame. Catheters, wires and bones are no vessels; in a few frames no contrast medium has arrived."""
    scale = size / _DESIGN_SIZE * rng.uniform(0.8, 1.25)
    tree = _narrowed(_tree(rng, size, scale), rng)
    filling = _filling(tree, rng, size)
    subtracted = chance(rng, 0.18)
    strokes = draw(tree, size, filling)
    filled = tree.where(filling > 0.15)
    drawn = strokes if len(filled) == len(tree) else draw(filled, size) if len(filled) else None
    thickest = float(tree.begin_radius.max())
    background = _background(size, scale, subtracted, rng)
    root = tree.begin[0]
    metal = devices(size, scale, rng)
    if chance(rng, 0.85):
        metal = np.maximum(metal, catheter(root, size, scale, rng))
    plane = _exposed(background, strokes, metal * (0.1 if subtracted else 1), thickest, rng)
    beam = _beam(size, rng)
    picture = _recorded(plane, beam, scale, rng)
    field = beam > 0.5
    if drawn is None:
        nothing = np.zeros((size, size), bool)
        return SyntheticPicture(picture, nothing, nothing, nothing, field, "xa")
    mask = drawn.lumen & field
    sure = lumen(filled.where(filled.begin_radius > max(0.28 * thickest, 1.1 * scale)), size)
    return SyntheticPicture(picture, mask, drawn.centre_line & mask, mask & ~sure, field, "xa")


def _tree(rng: np.random.Generator, size: int, scale: float) -> Pieces:
    """One to four trees of one habit, shrunken or repeated until they cover a plausible share of the picture."""
    radius = rng.uniform(3.2, 8.5) * scale
    habit = Habit(
        minimum_radius=max(rng.uniform(0.6, 1.3) * scale, 0.55),
        interval=(rng.uniform(2, 6), rng.uniform(8, 26)),
        side_ratio=(rng.uniform(0.3, 0.5), rng.uniform(0.6, 0.95)),
        side_angle=(rng.uniform(0.25, 0.7), rng.uniform(0.8, 1.6)),
        length=(rng.uniform(15, 40), rng.uniform(50, 130)),
        taper=rng.uniform(0.0002, 0.0022) / scale,
        wander=rng.uniform(0.01, 0.08),
        persistence=rng.uniform(0.7, 0.97),
        corkscrew=rng.uniform(0, 0.9) * chance(rng, 0.4),
        crossing=rng.uniform(0.3, 1.0),
        step=max(4.5 * scale, 2.0),
        limit=int(rng.integers(6, 110)),
    )
    trees: list[Pieces] = []
    wanted = rng.uniform(0.01, 0.09)
    while not trees or (sum(area(tree, size) for tree in trees) < wanted and len(trees) < 4):
        count = 1 + int(chance(rng, 0.3)) + int(chance(rng, 0.2))
        starts, headings = zip(*(_root(rng, size) for _ in range(count)), strict=True)
        radii = radius * rng.uniform(0.6, 1.0, count)
        trees.append(grow(starts, headings, radii, habit, rng, size, _around(rng, size, radius)))
    return joined(trees)


def _root(rng: np.random.Generator, size: int) -> tuple[Floats, float]:
    """Where a tree begins and where it heads: inside the picture (coronary) or at its border (all others)."""
    if chance(rng, 0.7):
        start = rng.uniform(0.08, 0.55, 2) * size
    else:
        start = rng.uniform(0, 1, 2) * size
        start[int(rng.integers(2))] = rng.choice([-2.0, size + 2.0])
    towards = rng.uniform(0.3, 0.7, 2) * size - start
    return start.astype(np.float32), float(np.arctan2(*towards) + rng.normal(0, 0.5))


def _around(rng: np.random.Generator, size: int, radius: float) -> Steering:
    """Vessels that drape around a round organ; thin ones follow less."""
    centre = rng.uniform(0.25, 0.8, 2).astype(np.float32) * size
    turn = rng.choice([-1.0, 1.0]) * rng.uniform(0.9, 1.9)
    strength = rng.uniform(0.0, 0.10)

    def steering(points: Floats, radii: Floats) -> tuple[Floats, Floats]:
        away = points - centre
        return np.arctan2(away[:, 0], away[:, 1]) + np.float32(turn), strength * np.clip(radii / radius, 0, 1)

    return steering


def _narrowed(tree: Pieces, rng: np.random.Generator) -> Pieces:
    """The tree with plaques, stenoses and a few aneurysms."""
    factor = np.ones(len(tree), np.float32)
    for _ in range(int(rng.integers(0, 7))):
        place = int(rng.integers(len(tree)))
        along = tree.distance - tree.distance[place]
        width = rng.uniform(1.0, 5.0) * tree.begin_radius[place]
        change = rng.uniform(0.1, 0.75) if chance(rng, 0.85) else -rng.uniform(0.1, 0.6)
        bump = change * np.exp(-((along / width) ** 2)) * (tree.branch == tree.branch[place])
        factor *= (1 - bump).astype(np.float32)
    return replace(tree, begin_radius=tree.begin_radius * factor, end_radius=tree.end_radius * factor)


def _filling(tree: Pieces, rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """Share of contrast medium in each piece: complete, only as far as the front, or washed out near the root."""
    longest = float(tree.distance.max())
    filling = np.ones(len(tree), np.float32)
    if chance(rng, 0.35):
        filling *= step(rng.uniform(0.25, 1.0) * longest - tree.distance, rng.uniform(0.02, 0.3) * longest)
    if chance(rng, 0.12):
        filling *= 1 - 0.97 * step(rng.uniform(0.1, 0.4) * longest - tree.distance, 0.1 * longest)
    wave = np.sin(tree.distance / (size * rng.uniform(0.03, 0.2)) + rng.uniform(0, 6))
    filling *= 1 - rng.uniform(0, 0.25) * (0.5 + 0.5 * wave).astype(np.float32)
    if chance(rng, 0.03):
        filling *= 0
    return filling


def _background(size: int, scale: float, subtracted: bool, rng: np.random.Generator) -> Plane:
    """Grey levels without contrast medium, 0 to 255."""
    if subtracted:
        plane = clouds(size, rng.uniform(1, 4), rng) * rng.uniform(0, 5)
        if chance(rng, 0.6):
            body = chest(size, scale, rng)
            moved = np.roll(body, rng.integers(-3, 4, 2).tolist(), (0, 1))
            plane += (body - moved) * rng.uniform(10, 120)
        return plane + np.float32(rng.uniform(110, 215))
    body = chest(size, scale, rng)
    low, high = np.percentile(body[::4, ::4], (3, 97))
    middle, span = rng.uniform(85, 185), rng.uniform(25, 150)
    return np.asarray(middle - (body - (low + high) / 2) * (span / (high - low)), np.float32)


def _exposed(background: Plane, strokes: Strokes, metal: Plane, thickest: float, rng: np.random.Generator) -> Plane:
    """Background darkened by contrast medium and metal."""
    amount = np.clip(strokes.chord / (2 * thickest), 0, 1.6) ** np.float32(rng.uniform(0.5, 0.95))
    hardened = 1 - np.exp(-amount * np.float32(rng.uniform(0.8, 2.5)))
    hardened *= np.minimum(strokes.coverage + np.float32(0.35) * (strokes.chord > 0), 1)
    if chance(rng, 0.35):
        angle, length = rng.uniform(0, np.pi), rng.uniform(1, 4) * len(background) / _DESIGN_SIZE
        hardened = motion_blurred(hardened, length, angle)
    depth = float(np.exp(rng.uniform(np.log(28), np.log(150))))
    brightness = 0.45 + 0.55 * np.clip(background / 160, 0, 1.4)
    picture = background - depth * hardened * brightness - rng.uniform(20, 110) * metal * brightness
    if chance(rng, 0.2):
        picture += clouds(len(background), 2, rng, 2) * 6
    return np.asarray(picture, np.float32)


def _beam(size: int, rng: np.random.Generator) -> Plane:
    """1 in the beam, 0 behind the collimator: open, four blades, a round intensifier or cut corners."""
    row, column = (2 * (axis - 0.5) for axis in np.ogrid[0 : 1 : size * 1j, 0 : 1 : size * 1j])
    edge = rng.uniform(0.002, 0.02)
    shape = rng.random()
    beam = np.ones((size, size), np.float32)
    if shape < 0.45:
        inset = rng.uniform(0.0, 0.12, 4) * (rng.random(4) < 0.7)
        beam *= step(1 - inset[0] - row, edge) * step(1 - inset[1] + row, edge)
        beam = beam * step(1 - inset[2] - column, edge) * step(1 - inset[3] + column, edge)
    elif shape < 0.58:
        beam = step(rng.uniform(0.92, 1.15) - np.hypot(row, column), edge)
    elif shape < 0.66:
        beam = step(rng.uniform(1.5, 1.9) - np.abs(row) - np.abs(column), edge)
    return np.asarray(beam, np.float32)


def _recorded(picture: Plane, beam: Plane, scale: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """What the detector and the display make of it."""
    size = len(picture)
    row, column = (axis - rng.uniform(0.4, 0.6) for axis in np.ogrid[0 : 1 : size * 1j, 0 : 1 : size * 1j])
    picture = picture * (1 - np.float32(rng.uniform(0, 0.9) ** 2) * (row**2 + column**2)).astype(np.float32)
    picture = softened(picture, rng.uniform(0.3, 1.3) * max(scale, 0.6))
    picture = noisy(picture, rng.uniform(0, 1) ** 2 * 13 + 0.8, rng.uniform(0, 1.2), rng.uniform(0, 1), rng)
    if chance(rng, 0.4):
        picture = sharpened(picture, rng.uniform(1, 6) * scale, rng.uniform(0.3, 1.6))
    picture = picture + np.float32(rng.uniform(-25, 25))
    dark = rng.uniform(0, 20) if chance(rng, 0.95) else rng.uniform(180, 250)
    picture = picture * beam + dark * (1 - beam)
    if chance(rng, 0.15):
        picture = 255 - picture
    if chance(rng, 0.3):
        picture = levels(picture, 0, 255, rng.uniform(0.6, 1.6))
    return filed(picture, rng, 0.4)
