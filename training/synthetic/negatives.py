"""Pictures without vessels of the known kinds, for the gate that turns strange input away."""

import string
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from training.synthetic.camera import filed, noisy
from training.synthetic.fields import blobs, chance, clouds, grid, softened, spot, step
from training.synthetic.growth import path
from training.synthetic.picture import Plane
from training.synthetic.strokes import draw

_Maker = Callable[[np.random.Generator, int], Plane]


def negative(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """One picture, grey or RGB: text, chart, photograph, face, tomogram, film, texture, noise or nothing at all."""
    maker = _MAKERS[int(rng.integers(len(_MAKERS)))]
    plane = maker(rng, size)
    if plane.ndim == 2 and chance(rng, 0.25):
        plane = plane[..., np.newaxis] * rng.uniform(0.5, 1.2, 3).astype(np.float32)
    if chance(rng, 0.5):
        plane = noisy(plane, rng.uniform(0, 12), rng.uniform(0, 1.0), rng.uniform(0, 1), rng)
    if chance(rng, 0.3):
        plane = softened(plane, rng.uniform(0.3, 2.5))
    return filed(plane, rng, 0.5)


def _ink(rng: np.random.Generator) -> tuple[int, int]:
    """Grey level of paper and of ink: dark on light, at times the other way round."""
    paper, ink = int(rng.integers(200, 256)), int(rng.integers(0, 90))
    return (paper, ink) if chance(rng, 0.8) else (ink, paper)


def _text(rng: np.random.Generator, size: int) -> Plane:
    """Lines of words that mean nothing."""
    paper, ink = _ink(rng)
    page = Image.new("L", (size, size), paper)
    pen, height = ImageDraw.Draw(page), int(rng.uniform(0.02, 0.09) * size) + 6
    font = ImageFont.load_default(height)
    letters = np.array(list(string.ascii_letters + "     ,.0123456789"))
    for top in range(int(rng.uniform(0, height)), size, int(height * rng.uniform(1.1, 2.0))):
        line = "".join(rng.choice(letters, int(rng.integers(0, 2 * size // height))).tolist())
        pen.text((int(rng.uniform(0, 0.1) * size), top), line, fill=ink, font=font)
    turn = rng.normal(0, 2) if chance(rng, 0.7) else 90.0 * int(rng.integers(4))
    return np.asarray(page.rotate(turn, fillcolor=paper), np.float32)


def _chart(rng: np.random.Generator, size: int) -> Plane:
    """Axes, bars, curves and a grid."""
    paper, ink = _ink(rng)
    page = Image.new("L", (size, size), paper)
    pen = ImageDraw.Draw(page)
    if chance(rng, 0.6):
        for position in np.arange(0, size, size * rng.uniform(0.05, 0.2)).tolist():
            pen.line([(position, 0), (position, size)], fill=(paper + ink) // 2)
            pen.line([(0, position), (size, position)], fill=(paper + ink) // 2)
    for _ in range(int(rng.integers(1, 5))):
        heights = size * (0.5 + np.cumsum(rng.normal(0, rng.uniform(0.01, 0.06), 60)))
        pen.line(list(zip(np.linspace(0, size, 60).tolist(), heights.tolist(), strict=True)), fill=ink, width=2)
    if chance(rng, 0.5):
        for left in np.arange(0, size, size / int(rng.integers(4, 16))).tolist():
            top = rng.uniform(0.1, 0.95) * size
            pen.rectangle([left, top, left + 0.04 * size, size], fill=int(rng.integers(0, 255)))
    pen.line([(0.08 * size, 0), (0.08 * size, 0.92 * size), (size, 0.92 * size)], fill=ink, width=3)
    return np.asarray(page, np.float32)


def _scene(rng: np.random.Generator, size: int) -> Plane:
    """Like a photograph: sky or wall, ground, and shapes with texture and shade."""
    row, _ = grid(size)
    tint = rng.uniform(30, 240, (2, 3)).astype(np.float32)
    ground = step(row + 0.05 * blobs(size, 4, rng) - rng.uniform(0.3, 0.8), 0.01)[..., np.newaxis]
    picture = tint[0] * (1 - ground) + tint[1] * ground
    picture = picture * (1 + rng.uniform(0, 0.3) * clouds(size, rng.uniform(2, 12), rng, 5, 0.7))[..., np.newaxis]
    for _ in range(int(rng.integers(2, 14))):
        shape = np.zeros((size, size), np.float32)
        middle, half = rng.uniform(0, 1, 2) * size, rng.uniform(0.03, 0.3, 2) * size
        if chance(rng, 0.5):
            spot(shape, middle, half, rng.uniform(0, 3), 1.0, rng.uniform(0.02, 0.2))
        else:
            top, left = np.maximum(middle - half, 0).astype(int).tolist()
            shape[top : int(top + 2 * half[0]), left : int(left + 2 * half[1])] = 1
        shade = (1 + 0.3 * clouds(size, rng.uniform(1, 10), rng, 3))[..., np.newaxis]
        share = shape[..., np.newaxis]
        picture = picture * (1 - share) + rng.uniform(10, 250, 3).astype(np.float32) * shade * share
    return np.asarray(picture, np.float32)


def _face(rng: np.random.Generator, size: int) -> Plane:
    """An oval with eyes, mouth and hair."""
    picture = _scene(rng, size)
    skin = np.array(((225, 180, 150), (160, 110, 80), (95, 65, 50))[int(rng.integers(3))], np.float32)
    centre, unit = rng.uniform(0.4, 0.6, 2) * size, rng.uniform(0.15, 0.35) * size
    parts: list[tuple[tuple[float, float], tuple[float, float], NDArray[np.floating]]]
    parts = [((-0.35, 0), (1.0, 1.2), rng.uniform(10, 90, 3)), ((0, 0), (0.8, 1.1), skin)]
    parts += [((-0.2, side * 0.33), (0.14, 0.08), np.array((30.0, 25.0, 20.0))) for side in (-1, 1)]
    parts += [((0.45, 0), (0.3, 0.07), np.array((150.0, 60.0, 60.0))), ((0.15, 0), (0.08, 0.2), skin * 0.85)]
    for offset, (wide, high), colour in parts:
        shape = np.zeros((size, size), np.float32)
        spot(shape, centre + np.array(offset) * unit, (wide * unit, high * unit), 0.0, 1.0, 0.12)
        picture = picture * (1 - shape[..., np.newaxis]) + colour.astype(np.float32) * shape[..., np.newaxis]
    return picture


def _tomogram(rng: np.random.Generator, size: int) -> Plane:
    """Like a slice of CT or MR: an oval body with organs, bones and air on black."""
    body, centre = np.zeros((size, size), np.float32), np.array((0.5, 0.5)) * size + rng.normal(0, 0.04, 2) * size
    half = np.array((rng.uniform(0.3, 0.47), rng.uniform(0.22, 0.4))) * size
    spot(body, centre, half, rng.normal(0, 0.1), 1.0, 0.02)
    if chance(rng, 0.5):
        spot(body, centre, half * 0.93, 0.0, rng.uniform(1.1, 1.8), 0.03)
    inside = body.copy()
    for _ in range(int(rng.integers(4, 25))):
        organ, away = np.zeros_like(body), rng.normal(0, 0.35, 2) * half[::-1]
        spot(organ, centre + away, rng.uniform(0.03, 0.4, 2) * half, rng.uniform(0, 3), 1.0, rng.uniform(0.03, 0.3))
        body += organ * rng.uniform(-0.7, 0.7) * (inside > 0.5)
    bone = np.zeros_like(body)
    spot(bone, centre + np.array((0.6, 0)) * half[1], rng.uniform(0.1, 0.2, 2) * half, 0.0, rng.uniform(0.3, 1.2), 0.1)
    picture = rng.uniform(60, 120) * (body + bone) * (1 + 0.05 * clouds(size, 10, rng, 4, 0.8)) + rng.uniform(0, 12)
    return np.asarray(picture, np.float32)


def _film(rng: np.random.Generator, size: int) -> Plane:
    """Like an ultrasound sector: speckle in a fan on black."""
    row, column = grid(size)
    angle, away = np.arctan2(column - 0.5, row + 0.05), np.hypot(column - 0.5, row + 0.05)
    fan = step(rng.uniform(0.4, 0.8) - np.abs(angle), 0.01) * step(away - 0.15, 0.01) * step(1.0 - away, 0.01)
    speckle = np.abs(softened(rng.standard_normal((size, size), np.float32), rng.uniform(0.8, 2.5)))
    tissue = np.clip(1 + 0.8 * clouds(size, rng.uniform(2, 6), rng, 3), 0, 3)
    return np.asarray(rng.uniform(80, 250) * fan * speckle / max(float(speckle.std()), 1e-3) * tissue / 2, np.float32)


def _texture(rng: np.random.Generator, size: int) -> Plane:
    """Cloth, waves, gradients, checks or stains."""
    row, column = grid(size)
    choice = int(rng.integers(5))
    if choice == 0:
        wave = np.sin(6.28 * rng.uniform(2, 60) * (row + rng.normal(0, 1) * column) + blobs(size, 4, rng))
    elif choice == 1:
        wave = np.sign(np.sin(6.28 * rng.uniform(1, 20) * row) * np.sin(6.28 * rng.uniform(1, 20) * column))
    elif choice == 2:
        wave = 2 * rng.normal(0, 1) * (row - 0.5) + 2 * rng.normal(0, 1) * (column - 0.5)
    elif choice == 3:
        wave = clouds(size, rng.uniform(1, 20), rng, 5, rng.uniform(0.4, 0.9))
    else:
        wave = np.sign(blobs(size, rng.uniform(3, 40), rng)) + 0.2 * blobs(size, 30, rng)
    return np.asarray(rng.uniform(60, 200) + rng.uniform(5, 80) * wave, np.float32)


def _scribble(rng: np.random.Generator, size: int) -> Plane:
    """Roads, cables, cracks: lines that do not branch as vessels do."""
    paper, ink = _ink(rng)
    lines = np.zeros((size, size), np.float32)
    for _ in range(int(rng.integers(3, 20))):
        count = int(rng.integers(2, 12))
        points = rng.uniform(-0.1, 1.1, (count, 2)) * size
        np.maximum(lines, draw(path(points, rng.uniform(0.5, 4)), size).coverage, out=lines)
    return paper + (ink - paper) * lines + rng.uniform(0, 20) * blobs(size, 6, rng)


def _blank(rng: np.random.Generator, size: int) -> Plane:
    """One grey level, or nothing but noise."""
    level = float(rng.choice([0.0, 255.0, rng.uniform(0, 255)]))
    amount = rng.uniform(0, 80) if chance(rng, 0.5) else 0
    return level + amount * softened(rng.standard_normal((size, size), np.float32), rng.uniform(0, 1.5))


_MAKERS: tuple[_Maker, ...] = (
    _text,
    _chart,
    _scene,
    _scene,
    _face,
    _tomogram,
    _tomogram,
    _film,
    _texture,
    _scribble,
    _blank,
)
