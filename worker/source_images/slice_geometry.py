"""Parallel planes in space: which of them belong to one volume, and in which order (PS3.3 C.7.6.2)."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dicom_core.errors import DamagedSourceError

ORIENTATION_TOLERANCE = 1e-4
"""Scanners write direction cosines with rounding noise up to 1e-5, two real orientations differ by more than 1e-3. Also
for pixel spacing in millimetres: over 1000 pixels this is a tenth of a millimetre."""
POSITION_TOLERANCE_MM = 1e-2
"""Below a tenth of the thinnest slices made, above the rounding of positions (DS holds 16 characters)."""
GAP_FACTOR = 1.5
"""A step this many times the usual one has lost a slice; uneven spacing of real series stays below."""

TILT_TOLERANCE = 0.01
"""Half a degree; gantries tilt by whole degrees, rounding of positions stays far below."""

OTHER_ORIENTATION = "another orientation than most slices"
OTHER_GRID = "another size, pixel spacing, colour or frame of reference than most slices"
OTHER_PHASE = "another phase at the place of a used slice"
"""Why a plane is left out whose place is taken."""


@dataclass(frozen=True, slots=True)
class Plane:
    """One slice in the reference coordinate system.

    Attributes:
        orientation: ImageOrientationPatient, six direction cosines: along a row, then along a column.
        position: ImagePositionPatient in millimetres.
        pixel_spacing: PixelSpacing in millimetres, empty where unknown.
        family: Planes with different values never form one volume (matrix size, frame of reference, ...).
        phases: Values that may tell apart volumes at the same place (time, echo, ...), best first; None is unknown.
    """

    orientation: tuple[float, ...]
    position: tuple[float, ...]
    pixel_spacing: tuple[float, ...] = ()
    family: Hashable = None
    phases: tuple[Hashable, ...] = ()


@dataclass(slots=True)
class Volume:
    """The planes chosen from a series.

    Attributes:
        order: Indices of the planes along the slice normal, the volume's first axis.
        orientation: The one orientation that holds for all of them.
        left_out: Index of each other plane with the reason in words.
        warnings: What the reader should know.
    """

    order: list[int]
    orientation: tuple[float, ...]
    left_out: dict[int, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def slice_normal(orientation: Sequence[float]) -> NDArray[np.float64]:
    """The unit vector across the plane: row direction times column direction.

    Raises:
        DamagedSourceError: The cosines are not two perpendicular unit vectors.
    """
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    # 1e-2: far above the rounding of four decimals, far below any meaningful oblique angle.
    if max(abs(row @ row - 1), abs(column @ column - 1), abs(row @ column)) > 1e-2:
        raise DamagedSourceError("ImageOrientationPatient is not two perpendicular unit vectors")
    normal: NDArray[np.float64] = np.cross(row, column)
    return normal / np.linalg.norm(normal)


def positions_along_normal(planes: Sequence[Plane], orientation: Sequence[float]) -> NDArray[np.float64]:
    """Distance of each plane from the origin along the slice normal, in millimetres."""
    positions: NDArray[np.float64] = np.array([plane.position for plane in planes]) @ slice_normal(orientation)
    return positions


def spacing_between_slices(positions: NDArray[np.float64]) -> float | None:
    """The usual step between sorted positions in millimetres, None for a single slice."""
    return float(np.median(np.diff(positions))) if len(positions) > 1 else None


def arrange(planes: Sequence[Plane]) -> Volume:
    """Choose the largest set of parallel planes, one plane a place, and order it along the normal.

    Missing slices and gantry tilt are kept with a warning. Of several phases at the same places the one with most
    slices is taken, the first of equals.

    Args:
        planes: At least one.

    Raises:
        DamagedSourceError: An orientation is no orientation.
    """
    chosen = _largest_parallel_set(planes)
    volume = Volume([], planes[chosen[0]].orientation)
    for index in set(range(len(planes))) - set(chosen):
        turned = not _parallel(planes[index], planes[chosen[0]])
        volume.left_out[index] = OTHER_ORIENTATION if turned else OTHER_GRID
    positions = dict(enumerate(positions_along_normal(planes, volume.orientation)))
    phase = _one_phase(chosen, planes, positions)
    for index in set(chosen) - set(phase):
        volume.left_out[index] = OTHER_PHASE
    volume.order = sorted(phase, key=lambda index: positions[index])
    volume.warnings += _warnings(volume, planes, np.array([positions[index] for index in volume.order]))
    return volume


def _largest_parallel_set(planes: Sequence[Plane]) -> list[int]:
    sets: list[list[int]] = []
    for index, plane in enumerate(planes):
        for members in sets:
            if _belong_together(planes[members[0]], plane):
                members.append(index)
                break
        else:
            sets.append([index])
    return max(sets, key=len)


def _belong_together(one: Plane, other: Plane) -> bool:
    return one.family == other.family and _parallel(one, other) and _close(one.pixel_spacing, other.pixel_spacing)


def _parallel(one: Plane, other: Plane) -> bool:
    return _close(one.orientation, other.orientation)


def _close(one: Sequence[float], other: Sequence[float]) -> bool:
    return len(one) == len(other) and all(abs(a - b) <= ORIENTATION_TOLERANCE for a, b in zip(one, other, strict=True))


def _one_phase(chosen: Sequence[int], planes: Sequence[Plane], positions: dict[int, float]) -> list[int]:
    """The members of ``chosen`` that form one volume without two planes at a place."""
    places = _places(chosen, positions)
    if len(places) == len(chosen):
        return list(chosen)
    for kind in range(len(planes[chosen[0]].phases)):
        volumes: dict[Hashable, list[int]] = {}
        for index in chosen:
            volumes.setdefault(planes[index].phases[kind], []).append(index)
        if len(volumes) > 1 and all(len(_places(members, positions)) == len(members) for members in volumes.values()):
            return max(volumes.values(), key=len)
    return [min(place) for place in places]


def _places(indices: Sequence[int], positions: dict[int, float]) -> list[list[int]]:
    """Group planes that lie at the same place."""
    places: list[list[int]] = []
    for index in sorted(indices, key=lambda index: positions[index]):
        if places and positions[index] - positions[places[-1][0]] < POSITION_TOLERANCE_MM:
            places[-1].append(index)
        else:
            places.append([index])
    return places


def _warnings(volume: Volume, planes: Sequence[Plane], positions: NDArray[np.float64]) -> list[str]:
    reasons = Counter(volume.left_out.values())
    warnings = [f"{count} left out: {reason}" for reason, count in sorted(reasons.items())]
    if len(positions) < 2:
        return warnings
    steps = np.diff(positions)
    gaps = int((steps > GAP_FACTOR * np.median(steps)).sum())
    if gaps:
        warnings.append(f"slices are missing: gaps in the volume: {gaps}")
    first, last = (np.array(planes[index].position) for index in (volume.order[0], volume.order[-1]))
    along_normal = positions[-1] - positions[0]
    across_normal = np.linalg.norm(last - first - along_normal * slice_normal(volume.orientation))
    if across_normal > TILT_TOLERANCE * along_normal:
        warnings.append("the slices are sheared against each other (gantry tilt)")
    return warnings
