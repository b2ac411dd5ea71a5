"""A generated contrast CT of the upper abdomen early in the arterial phase: the aorta and its branches are bright."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from console.demo.texture import smooth_noise
from console.demo.vessel_drawing import draw_vessels
from console.demo.vessel_tree import Habit, Points, Route, Vessel, grow_tree, placed

Volume = NDArray[np.float32]
"""``(slices, rows, columns)``, slices from the feet up, rows toward the back, columns toward the patient's left."""

ARTERY_HU = 330.0
_EDGE_MM = 1.2
"""Over this width one tissue gives way to the next."""
_DESIGN_HEIGHT_MM = 90.0
"""Places below are ``(up, back, left)`` in millimetres from the middle of the lowest slice of a volume this high."""
_HABIT = Habit(step=2.0, minimum_radius=1.2, interval=(14, 34), side_ratio=(0.5, 0.8), length_to_radius=16)
_AORTA = Route(
    waypoints=[(110, 22, 6), (75, 17, 5), (40, 13, 5), (-20, 9, 3)],
    passes_through=True,
    branches=(
        Route([(74, 17, 5), (78, -12, 2), (84, -18, -22), (88, -14, -58)], radius_ratio=0.32),
        Route([(72, 17, 5), (75, -2, 8), (78, 6, 40), (70, 26, 72), (74, 36, 92)], radius_ratio=0.36),
        Route([(60, 15, 5), (56, -6, 5), (34, -16, 2), (6, -24, -8), (-20, -32, -14)], radius_ratio=0.4),
        Route([(46, 13, 5), (44, 16, -18), (40, 34, -48), (38, 38, -62)], radius_ratio=0.34),
        Route([(42, 13, 5), (42, 18, 26), (44, 34, 50), (45, 40, 64)], radius_ratio=0.34),
        Route([(14, 11, 5), (4, 2, 14), (-16, 2, 26)], radius_ratio=0.24),
    ),
)
"""Hepatic, splenic, superior mesenteric, both renal and the inferior mesenteric artery."""


@dataclass(frozen=True, slots=True)
class _Organ:
    """An ellipsoid, later ones over earlier ones; ``wobble`` is how far its surface strays, in millimetres."""

    middle: tuple[float, float, float]
    half_axes: tuple[float, float, float]
    hounsfield: float
    wobble: float = 3.0


_ORGANS = (
    _Organ((78, -12, -66), (62, 62, 62), 96, 5),  # liver
    _Organ((86, -30, 2), (38, 34, 46), 96, 5),  # its left lobe
    _Organ((86, -26, 66), (36, 36, 38), 34, 4),  # stomach and its gas
    _Organ((90, -44, 64), (24, 14, 24), -820, 2),
    _Organ((82, 36, 98), (36, 34, 20), 108, 3),  # spleen
    _Organ((58, -16, 22), (11, 11, 44), 88, 4),  # pancreas
    _Organ((40, 38, -68), (46, 23, 20), 126, 2),  # right kidney: cortex, medulla, pelvis
    _Organ((40, 38, -66), (33, 13, 11), 76, 3),
    _Organ((40, 37, -58), (18, 6, 12), -60, 2),
    _Organ((46, 40, 72), (46, 23, 20), 128, 2),  # left kidney
    _Organ((46, 40, 70), (33, 13, 11), 76, 3),
    _Organ((46, 39, 62), (18, 6, 12), -60, 2),
    _Organ((45, 14, -20), (400, 9, 12), 62, 1),  # inferior vena cava, not yet opacified
    _Organ((66, -8, -22), (34, 8, 7), 92, 1),  # portal vein
    _Organ((16, -46, 40), (18, 15, 30), 42, 4),  # bowel
    _Organ((8, -20, 62), (22, 16, 15), 48, 4),
    _Organ((14, -52, -28), (16, 16, 30), 40, 4),
    _Organ((14, -58, -28), (10, 8, 18), -760, 2),
    _Organ((2, -20, -52), (22, 18, 16), 46, 4),
    _Organ((4, -30, 12), (20, 14, 16), 44, 4),
    _Organ((30, 46, -32), (70, 17, 15), 58, 2),  # psoas
    _Organ((30, 46, 34), (70, 17, 15), 58, 2),
)


def contrast_ct(
    slices: int = 60,
    rows: int = 256,
    columns: int = 256,
    spacing_mm: tuple[float, float, float] = (1.5, 1.2, 1.2),
    seed: int = 0,
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """A contrast CT of a slim patient's upper abdomen in Hounsfield units.

    Args:
        slices: From the feet up.
        rows: From the front to the back.
        columns: From the patient's right to the left.
        spacing_mm: Between slices, rows and columns.
        seed: The same seed gives the same volume.

    Returns:
        Pixels ``(slices, rows, columns)`` int16 in Hounsfield units, and the truth, bool of the same shape: the lumen
        of the aorta and of the arteries that come from it.
    """
    rng = np.random.default_rng([seed, 3])
    shape = (slices, rows, columns)
    spacing = np.array(spacing_mm, np.float32)
    places = _places(shape, spacing)
    wobble = smooth_noise(shape, tuple(28 / spacing), rng)
    volume, body_depth = _trunk(places, wobble)
    for organ in _ORGANS:
        middle = np.array(organ.middle) + rng.normal(0, 1.5, 3)
        _paint_organ(volume, places, organ, middle, wobble, body_depth - 19)
    _paint_spine(volume, places)
    _paint_ribs(volume, shape, spacing)
    arteries = draw_vessels(placed(_arteries(rng), offset=_offset(shape, spacing)), shape, tuple(spacing))
    volume += arteries.coverage * (ARTERY_HU + 8 * wobble - volume)
    truth = arteries.lumen & (body_depth > 0)
    return _reconstructed(volume, spacing, rng), truth


def _places(shape: tuple[int, ...], spacing: NDArray[np.float32]) -> list[Volume]:
    """Open grids of millimetres along each axis, in the frame of the anatomy."""
    offset = _offset(shape, spacing)
    axes = (
        np.arange(size, dtype=np.float32) * step - zero for size, step, zero in zip(shape, spacing, offset, strict=True)
    )
    return list(np.ix_(*axes))


def _offset(shape: tuple[int, ...], spacing: NDArray[np.float32]) -> NDArray[np.float32]:
    """Where the origin of the anatomy lies in the volume, in millimetres."""
    size = (np.array(shape, np.float32) - 1) * spacing
    return np.array([(size[0] - _DESIGN_HEIGHT_MM) / 2, size[1] / 2, size[2] / 2], np.float32)


def _arteries(rng: np.random.Generator) -> list[Vessel]:
    def inside(point: Points) -> bool:
        return bool(((point[1:] / (92, 128)) ** 2).sum() < 0.8)

    return grow_tree(_AORTA, rng.uniform(8.6, 9.6), _HABIT, rng, inside)


def _blend(volume: Volume, depth_mm: Volume, hounsfield: float | Volume) -> None:
    """Set what lies deeper than 0 to ``hounsfield``, with the partial volume of cells on the surface."""
    share = np.clip(depth_mm / _EDGE_MM + 0.5, 0, 1)
    volume += share * (hounsfield - volume)


def _trunk(places: list[Volume], wobble: Volume) -> tuple[Volume, Volume]:
    """Air, skin, fat, the muscular wall and the fat inside it; and the depth below the skin in millimetres."""
    up, back, left = places
    flattened = np.where(back > 0, back * 1.08, back)
    depth = 102 * (1 - np.sqrt((flattened / 102) ** 2 + (left / 143) ** 2)) + 0.02 * (up - 45) + 0.8 * wobble
    depth = depth.astype(np.float32)
    volume = np.full(depth.shape, -1000, np.float32)
    _blend(volume, depth, 20.0)
    _blend(volume, depth - 2, -104 + 5 * wobble)
    _blend(volume, depth - 12 - 1.5 * wobble, 56 + 5 * wobble)
    behind = np.clip((back - 30) / 30, 0, 1) * 14
    _blend(volume, depth - 22 - behind - wobble, -98 + 7 * wobble)
    return volume, depth


def _paint_organ(
    volume: Volume,
    places: list[Volume],
    organ: _Organ,
    middle: NDArray[np.float64],
    wobble: Volume,
    cavity: Volume,
) -> None:
    """Blend one ellipsoid with an uneven surface into the box around it, as far as ``cavity`` is positive."""
    box = []
    for axis, place in enumerate(places):
        inside = np.flatnonzero(np.abs(place.ravel() - middle[axis]) < organ.half_axes[axis] * 1.3 + 4)
        if not len(inside):
            return
        box.append(slice(int(inside[0]), int(inside[-1]) + 1))
    cells = [place.take(range(s.start, s.stop), axis) for axis, (place, s) in enumerate(zip(places, box, strict=True))]
    squared = sum(((cell - m) / half) ** 2 for cell, m, half in zip(cells, middle, organ.half_axes, strict=True))
    depth = min(organ.half_axes) * (1 - np.sqrt(squared)) + organ.wobble * wobble[tuple(box)]
    depth = np.minimum(depth, cavity[tuple(box)])
    _blend(volume[tuple(box)], depth.astype(np.float32), organ.hounsfield + 4 * wobble[tuple(box)])


def _paint_spine(volume: Volume, places: list[Volume]) -> None:
    """Vertebral bodies with a cortical shell, discs, the canal, transverse and spinous processes."""
    up, back, left = places
    rows = np.flatnonzero((back.ravel() > 20) & (back.ravel() < 95))
    box = (slice(None), slice(int(rows[0]), int(rows[-1]) + 1), slice(None))
    part, back = volume[box], back[:, box[1]]
    level = np.cos(2 * np.pi * (up - 10) / 34)
    body = 15.5 - 1.6 * level - np.hypot((back - 44) / 0.92, left / 1.18)
    disc = np.clip((level - 0.80) / 0.08, 0, 1)
    arch = np.maximum(
        4.2 - np.maximum(np.abs(back - 66 - 0.02 * left**2 * 0.3), np.abs(left) - 30 * (level < 0)),
        3.8 - np.maximum(np.abs(left), np.abs(back - 78) - 9 * (level < 0.3)),
    )
    ring = 14.5 - np.hypot(back - 62, left)
    for shape in (ring, arch):
        _blend(part, shape.astype(np.float32), 640.0)
        _blend(part, (shape - 1.8).astype(np.float32), 300.0)
    _blend(part, body, (780 - 690 * disc).astype(np.float32))
    _blend(part, body - 1.6, (105 - 25 * disc).astype(np.float32))
    _blend(part, (9.5 - np.hypot((back - 63) * 1.1, left)).astype(np.float32), 28.0)


def _paint_ribs(volume: Volume, shape: tuple[int, ...], spacing: NDArray[np.float32]) -> None:
    """Ribs that run down and forward in the wall of the trunk, with cortex and marrow."""
    ribs: list[Vessel] = []
    for number in range(7):
        for side in (-1, 1):
            angle = np.linspace(0.15, 2.4, 40)
            path = np.stack(
                [30 * number - 20 - 36 * (angle - 0.2), 80 * np.cos(angle), side * 123 * np.sin(angle)], axis=1
            )
            ribs.append(Vessel(path, np.full(40, 5.2), np.arange(40.0), len(ribs), None))
    bone = draw_vessels(placed(ribs, offset=_offset(shape, spacing)), shape, tuple(spacing))
    depth = bone.depth * min(spacing)
    _blend(volume, depth, 720.0)
    _blend(volume, depth - 1.6, 110.0)


def _reconstructed(volume: Volume, spacing: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int16]:
    """What scanner and kernel make of it: blur in plane and correlated noise; rounded to whole Hounsfield units."""
    blur = 0.55 / spacing[1]
    volume = ndimage.gaussian_filter(volume, (0, blur, blur), truncate=3)
    noise = rng.standard_normal(volume.shape, np.float32)
    noise = ndimage.gaussian_filter(noise, (0, 0.8, 0.8), truncate=3)
    noise *= 14 / noise.std()
    pixels: NDArray[np.int16] = np.clip(np.rint(volume + noise), -1024, 3071).astype(np.int16)
    return pixels
