"""Fundus photographs of many cameras, red-free and infra-red pictures, scanning laser pictures and angiograms."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.synthetic.camera import filed, motion_blurred, noisy, sharpened
from training.synthetic.fields import blobs, chance, softened, step
from training.synthetic.fundus_retina import Eye, lesions, retina
from training.synthetic.growth import Floats, Habit, Pieces, Steering, area, grow, joined
from training.synthetic.picture import Plane, SyntheticPicture
from training.synthetic.strokes import Strokes, draw, lumen

_VEIN_DENSITY = np.array((0.35, 1.0, 0.8), np.float32)
_ARTERY_DENSITY = np.array((0.14, 0.85, 0.75), np.float32)
"""Optical density of the thickest vessel in red, green and blue, relative to each other: blood takes the green."""
_LEAST_SHARE = 0.03
"""Of the picture that vessels cover."""


def fundus_photograph(rng: np.random.Generator, size: int) -> SyntheticPicture:
    """One picture. The choroid's vessels, haemorrhages and reflexes are not vessels of the retina."""
    eye, arteries, veins = _vessels_in_view(rng, size)
    drawn = draw(arteries, size), draw(veins, size)
    aperture = _aperture(size, rng)
    picture = retina(eye, size, rng)
    if chance(rng, 0.55):
        picture = lesions(picture, eye, rng)
    picture = _with_blood(picture, drawn, eye, rng)
    picture = _photographed(picture, aperture, size, rng)
    field = aperture > 0.5
    mask = (drawn[0].lumen | drawn[1].lumen) & field
    both = joined([arteries, veins])
    sure = lumen(both.where(both.begin_radius > max(0.12 * eye.thickest, 0.65 * size / 512)), size)
    line = (drawn[0].centre_line | drawn[1].centre_line) & mask
    return SyntheticPicture(filed(picture, rng, 0.45), mask, line, mask & ~sure, field, "fundus")


def _vessels_in_view(rng: np.random.Generator, size: int) -> tuple[Eye, Pieces, Pieces]:
    """An eye that shows a fair share of its arteries and veins: the first of four, or the last."""
    for _ in range(4):
        eye = _eye(rng, size)
        arteries = _vessels(eye, eye.thickest * rng.uniform(0.6, 0.9), rng, size)
        veins = _vessels(eye, eye.thickest, rng, size)
        if area(arteries, size) + area(veins, size) > _LEAST_SHARE:
            break
    return eye, arteries, veins


def _eye(rng: np.random.Generator, size: int) -> Eye:
    """Where disc and fovea lie, and how large the disc is: 20 to 60 degrees of view, or 200 in a few."""
    wide = chance(rng, 0.08)
    disc_radius = size * (rng.uniform(0.018, 0.035) if wide else rng.uniform(0.05, 0.125))
    way = rng.choice([-1.0, 1.0])
    tilt = rng.normal(0, 0.15)
    towards = np.array([np.sin(tilt), way * np.cos(tilt)])
    distance = disc_radius * rng.uniform(4.2, 5.6)
    centred = rng.random()
    share = 0.0 if centred < 0.3 else 0.5 if centred < 0.5 else 1.0
    disc = np.array([0.5, 0.5]) * size - share * distance * towards + rng.normal(0, 0.05, 2) * size
    if chance(rng, 0.08):
        disc = rng.uniform(-0.1, 1.1, 2) * size
    calibre = disc_radius * rng.uniform(0.075, 0.145)
    temporal = towards.astype(np.float32)
    fovea = (disc + distance * towards).astype(np.float32)
    return Eye(disc.astype(np.float32), fovea, float(disc_radius), float(max(calibre, 1.4 * size / 512)), temporal)


def _vessels(eye: Eye, radius: float, rng: np.random.Generator, size: int) -> Pieces:
    """Trees out of the disc, arcades around the fovea and small vessels towards it."""
    fine = size / 512
    habit = Habit(
        minimum_radius=max(rng.uniform(0.5, 0.85) * fine, 0.5),
        interval=(rng.uniform(5, 10), rng.uniform(18, 45)),
        side_ratio=(rng.uniform(0.25, 0.4), rng.uniform(0.55, 0.85)),
        side_angle=(rng.uniform(0.3, 0.7), rng.uniform(0.9, 1.4)),
        length=(rng.uniform(30, 60), rng.uniform(90, 200)),
        taper=rng.uniform(0.0002, 0.0013) / fine,
        wander=rng.uniform(0.02, 0.09),
        persistence=rng.uniform(0.7, 0.95),
        corkscrew=rng.uniform(0, 0.7) * chance(rng, 0.25),
        crossing=rng.uniform(0.0, 0.35),
        step=max(4.6 * fine, 1.8),
        limit=int(rng.integers(60, 240)),
    )
    temporal = float(np.arctan2(*eye.temporal))
    away = np.array([0.75, 1.25, 1.9, 2.5]) + rng.normal(0, 0.15, 4)
    shares = np.array([1.0, 0.6, 0.45, 0.7]) * rng.uniform(0.75, 1.05, 4)
    headings = np.concatenate([temporal - away, temporal + away + rng.normal(0, 0.1, 4)])
    if chance(rng, 0.5):
        headings = np.append(headings, temporal + rng.normal(0, 0.3, 2))
    radii = radius * np.resize(shares, len(headings))
    radii[8:] = radius * 0.3
    origin = eye.disc + rng.normal(0, 0.12, (len(headings), 2)) * eye.disc_radius

    def region(points: Floats) -> NDArray[np.bool_]:
        return np.asarray(np.hypot(*(points - eye.fovea).T) > 0.7 * eye.disc_radius)

    return grow(origin, headings, radii, habit, rng, size, _arcades(eye, rng), region)


def _arcades(eye: Eye, rng: np.random.Generator) -> Steering:
    """Away from the disc, bent to the temporal side, around the fovea."""
    bend, strength = rng.uniform(0.5, 2.2), rng.uniform(0.015, 0.06)

    def steering(points: Floats, radii: Floats) -> tuple[Floats, Floats]:
        from_disc = (points - eye.disc) / eye.disc_radius
        from_fovea = (points - eye.fovea) / eye.disc_radius
        reach = np.hypot(*from_disc.T)[:, np.newaxis] + 1e-3
        near = np.hypot(*from_fovea.T)[:, np.newaxis] + 1e-3
        side = np.clip(from_disc @ eye.temporal, -1, 1)[:, np.newaxis] * 0.5 + 0.5
        thick = np.clip(radii / (0.5 * eye.thickest), 0, 1)[:, np.newaxis]
        wanted = from_disc / reach + bend * side * np.clip(reach / 4, 0, 1) * eye.temporal
        wanted = wanted + (3.0 * thick - 1.2) * np.exp(-((near / 3.5) ** 2)) * from_fovea / near
        pull = strength * np.clip(reach[:, 0] / 2, 0, 1) * (0.3 + 0.7 * thick[:, 0])
        return np.arctan2(wanted[:, 0], wanted[:, 1]).astype(np.float32), pull.astype(np.float32)

    return steering


def _with_blood(picture: Plane, drawn: tuple[Strokes, Strokes], eye: Eye, rng: np.random.Generator) -> Plane:
    """The retina behind its vessels: arteries lighter, with a bright reflex along their middle."""
    dark = np.float32(np.exp(rng.uniform(np.log(0.38), np.log(1.0))))
    bend = np.float32(rng.uniform(0.35, 0.75))
    tint = rng.uniform(0.6, 1.4, 3).astype(np.float32)
    reflex, wide = rng.uniform(0, 0.65), rng.uniform(0.55, 0.85)
    lightness = rng.uniform(0.5, 1.0)
    for strokes, density, share in zip(
        drawn, (_ARTERY_DENSITY, _VEIN_DENSITY), (1.0, rng.uniform(0, 0.6)), strict=True
    ):
        amount = np.clip(strokes.chord / (2 * eye.thickest), 0, 1.4) ** bend
        amount *= np.minimum(strokes.coverage + 0.3, 1)
        thick = step(strokes.chord - 0.5 * eye.thickest, eye.thickest)
        amount *= 1 - np.float32(reflex * share) * step(strokes.centrality - wide, 0.15) * thick
        amount = softened(amount, 0.35)
        strength = dark * density * tint * np.float32(lightness if density is _ARTERY_DENSITY else 1)
        picture = picture * np.exp(-amount[..., np.newaxis] * strength)
    if chance(rng, 0.2):
        sheen = softened(np.maximum(drawn[0].coverage, drawn[1].coverage), 0.25 * eye.disc_radius)
        patches = step(blobs(len(picture), rng.uniform(5, 14), rng) - 0.5, 0.4) * sheen
        patches *= 1 - np.maximum(drawn[0].coverage, drawn[1].coverage) * 0.8
        picture = picture + (rng.uniform(20, 90) * patches)[..., np.newaxis] * np.array((1, 0.9, 0.6), np.float32)
    return picture


def _aperture(size: int, rng: np.random.Generator) -> Plane:
    """1 where the camera sees: round, round and cut, with a notch, or the whole picture."""
    row, column = (2 * (axis - 0.5) for axis in np.ogrid[0 : 1 : size * 1j, 0 : 1 : size * 1j])
    shape, edge = rng.random(), rng.uniform(0.004, 0.03)
    if shape > 0.85:
        return np.ones((size, size), np.float32)
    radius = rng.uniform(0.9, 1.0) if shape < 0.6 else rng.uniform(1.0, 1.25)
    centre = rng.normal(0, 0.015, 2)
    aperture = step(radius - np.hypot(row - centre[0], column - centre[1]), edge)
    if shape > 0.35:
        aperture = aperture * step(rng.uniform(0.72, 0.98) - np.abs(row), edge)
    if chance(rng, 0.2):
        angle = rng.uniform(0, 2 * np.pi)
        notch = np.hypot(row - radius * np.sin(angle), column - radius * np.cos(angle))
        aperture = np.maximum(aperture, step(0.06 - notch, edge))
    return np.asarray(aperture, np.float32)


@dataclass(frozen=True, slots=True)
class _Style:
    """How a picture is shown: weights of red, green and blue that make the grey, and whether it is inverted."""

    weights: tuple[float, float, float]
    inverted: bool = False


_GREY_STYLES = (
    _Style((0.0, 1.0, 0.0)),
    _Style((0.1, 0.75, 0.15)),
    _Style((0.5, 0.5, 0.0)),
    _Style((0.0, 1.0, 0.0), inverted=True),
)


def _photographed(picture: Plane, aperture: Plane, size: int, rng: np.random.Generator) -> Plane:
    """What lens, sensor and display make of it."""
    scale = size / 512
    picture = softened(picture, rng.uniform(0.2, 1.1) * scale if chance(rng, 0.85) else rng.uniform(1, 1.9) * scale)
    if chance(rng, 0.08):
        picture = motion_blurred(picture, rng.uniform(1, 5) * scale, rng.uniform(0, np.pi))
    if chance(rng, 0.25):
        haze = rng.uniform(0.1, 0.45) * (1 + 0.3 * blobs(size, 2, rng))[..., np.newaxis]
        picture = picture * (1 - haze) + haze * rng.uniform(60, 170, 3).astype(np.float32)
    if chance(rng, 0.2):
        rim = softened(1 - aperture, rng.uniform(10, 45) * scale)[..., np.newaxis]
        picture = (
            picture + rim * rng.uniform(0, 160, 3).astype(np.float32) * step(blobs(size, 2, rng), 1.0)[..., np.newaxis]
        )
    picture = noisy(picture.astype(np.float32), rng.uniform(0.3, 7), rng.uniform(0, 1.1), rng.uniform(0, 1), rng)
    if chance(rng, 0.35):
        picture = sharpened(picture, rng.uniform(1, 8) * scale, rng.uniform(0.3, 1.5))
    if chance(rng, 0.22):
        picture = _grey(picture, rng)
    outside = rng.uniform(0, 14, 3 if picture.ndim == 3 else 1).astype(np.float32)
    window = aperture[..., np.newaxis] if picture.ndim == 3 else aperture
    picture = np.clip(picture, 0, 255) * window + outside * (1 - window)
    return picture if picture.ndim == 3 or chance(rng, 0.5) else np.repeat(picture[..., np.newaxis], 3, axis=2)


def _grey(picture: Plane, rng: np.random.Generator) -> Plane:
    """Red-free, infra-red, laser or dye: one channel, stretched."""
    style = _GREY_STYLES[int(rng.integers(len(_GREY_STYLES)))]
    grey = picture @ np.array(style.weights, np.float32)
    low, high = np.percentile(grey[::4, ::4], (1, 99))
    grey = (grey - low) / max(float(high - low), 10.0) * rng.uniform(130, 230) + rng.uniform(5, 40)
    return np.asarray(255 - grey if style.inverted else grey, np.float32)
