"""Parallel planes in space: which of them belong to one volume, and in which order (PS3.3 C.7.6.2)."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dicom_core.errors import DamagedSourceError
from worker.source_images.phases import Marks, Phase, split

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
OTHER_AT_PLACE = "another image at the place of a used slice, and not of a volume of its own"
"""Why a plane is left out."""


@dataclass(frozen=True, slots=True)
class Plane:
    """One slice in the reference coordinate system.

    Attributes:
        orientation: ImageOrientationPatient, six direction cosines: along a row, then along a column.
        position: ImagePositionPatient in millimetres.
        pixel_spacing: PixelSpacing in millimetres, empty where unknown.
        family: Planes with different values never form one volume (matrix size, frame of reference, ...).
        marks: What may tell it from another plane at the same place (time, echo, ...), best first.
    """

    orientation: tuple[float, ...]
    position: tuple[float, ...]
    pixel_spacing: tuple[float, ...] = ()
    family: Hashable = None
    marks: Marks = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Volume:
    """Parallel planes of which no two lie at one place.

    Attributes:
        order: Indices of the planes along the slice normal, the volume's first axis.
        label: Which of several volumes it is, in words; "" for the only one.
        warnings: What the reader should know about it.
    """

    order: tuple[int, ...]
    label: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Volumes:
    """What the planes of a series form: one volume, or several at the same places.

    Attributes:
        volumes: At least one, in the order of time (echo, acquisition, ...).
        orientation: The one orientation that holds for all of their planes.
        pixel_spacing: The one pixel spacing in millimetres, empty where unknown.
        left_out: Index of each plane that is in none, with the reason in words.
        warnings: What the reader should know about all of them.
    """

    volumes: tuple[Volume, ...]
    orientation: tuple[float, ...]
    pixel_spacing: tuple[float, ...]
    left_out: Mapping[int, str]
    warnings: tuple[str, ...]

    @property
    def at_one_place(self) -> bool:
        """Whether they are several images of one plane."""
        return len(self.volumes) > 1 and all(len(volume.order) == 1 for volume in self.volumes)


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


def arrange(planes: Sequence[Plane]) -> Volumes:
    """Choose the largest set of parallel planes, part it into volumes of one plane a place, and order those.

    Missing slices and gantry tilt are kept with a warning.

    Args:
        planes: At least one.

    Raises:
        DamagedSourceError: An orientation is no orientation.
    """
    chosen = _largest_parallel_set(planes)
    orientation = planes[chosen[0]].orientation
    left_out = {}
    for index in sorted(set(range(len(planes))) - set(chosen)):
        turned = not _parallel(planes[index], planes[chosen[0]])
        left_out[index] = OTHER_ORIENTATION if turned else OTHER_GRID
    positions = dict(enumerate(positions_along_normal(planes, orientation)))
    phases = _phases(chosen, planes, positions)
    for index in sorted(set(chosen).difference(*(phase.members for phase in phases))):
        left_out[index] = OTHER_AT_PLACE
    volumes = []
    for phase in phases:
        order = tuple(sorted(phase.members, key=lambda index: positions[index]))
        warnings = _warnings([planes[index] for index in order], np.array([positions[index] for index in order]))
        volumes.append(Volume(order, phase.label, tuple(warnings)))
    reasons = Counter(left_out.values())
    told = tuple(f"{count} left out: {reason}" for reason, count in sorted(reasons.items()))
    return Volumes(tuple(volumes), orientation, planes[chosen[0]].pixel_spacing, left_out, told)


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


def _phases(chosen: Sequence[int], planes: Sequence[Plane], positions: dict[int, float]) -> tuple[Phase, ...]:
    """The volumes that the planes form; the first plane of each place where nothing tells the others apart."""
    places = _places(chosen, positions)
    if len(places) == len(chosen):
        return (Phase(tuple(chosen), ""),)
    found = split(places, [plane.marks for plane in planes])
    return found or (Phase(tuple(min(place) for place in places), ""),)


def _places(indices: Sequence[int], positions: dict[int, float]) -> list[list[int]]:
    """Group planes that lie at the same place."""
    places: list[list[int]] = []
    for index in sorted(indices, key=lambda index: positions[index]):
        if places and positions[index] - positions[places[-1][0]] < POSITION_TOLERANCE_MM:
            places[-1].append(index)
        else:
            places.append([index])
    return places


def _warnings(planes: Sequence[Plane], positions: NDArray[np.float64]) -> list[str]:
    """Of a volume whose planes lie in order at ``positions``."""
    warnings: list[str] = []
    if len(positions) < 2:
        return warnings
    steps = np.diff(positions)
    gaps = int((steps > GAP_FACTOR * np.median(steps)).sum())
    if gaps:
        warnings.append(f"slices are missing: gaps in the volume: {gaps}")
    first, last = np.array(planes[0].position), np.array(planes[-1].position)
    along_normal = positions[-1] - positions[0]
    across_normal = np.linalg.norm(last - first - along_normal * slice_normal(planes[0].orientation))
    if across_normal > TILT_TOLERANCE * along_normal:
        warnings.append("the slices are sheared against each other (gantry tilt)")
    return warnings
