"""Which way the axes of a volume run through the patient, and how such a volume is looked at."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.image_stack import Arrangement
from worker.source_images.functional_groups import functional_group
from worker.source_series import SourceSeries

_LETTERS = ("RL", "AP", "FH")
"""Where a patient axis comes from and goes to: x to the left, y to the back, z to the head (PS3.3 C.7.6.2.1.1)."""
_NAMES = ("Sagittal", "Coronal", "Axial")
"""The view along each patient axis."""
_FROM_THE_END = (True, False, False)
"""Who looks along an axis stands at its end: a sagittal view is taken from the left, the others from front and feet."""
_UPRIGHT = (-1, 1, 2)
"""The axis with the larger number is drawn upright: heads and, in axial views, noses are up."""


@dataclass(frozen=True, slots=True)
class View:
    """How a volume ``(frames, rows, columns)`` becomes a picture.

    Attributes:
        along: Axis of the volume that is looked along.
        vertical: Axis that runs down the picture.
        horizontal: Axis that runs to the right.
        flip_vertical: Whether the picture is turned upside down.
        flip_horizontal: Whether it is mirrored.
        from_the_end: Whether the viewer stands behind the last index of ``along``.
        name: For the reader.
        letters: Of the left, right, upper and lower edge (PS3.3 C.7.6.1.1.1); empty where unknown.
    """

    along: int
    vertical: int
    horizontal: int
    flip_vertical: bool
    flip_horizontal: bool
    from_the_end: bool
    name: str
    letters: tuple[str, str, str, str]


def patient_axes(source: SourceSeries) -> NDArray[np.float64] | None:
    """Unit vectors of the three axes of the stack in patient coordinates, None where the source does not tell.

    Returns:
        ``(3, 3)``: one row for the frame, row and column axis, each x, y, z (PS3.3 C.7.6.2.1.1).
    """
    if source.arrangement is not Arrangement.VOLUME or len(source.frames) < 2:
        return None
    headers = {str(header.SOPInstanceUID): header for header in source.datasets}
    places = []
    for frame in (source.frames[0], source.frames[-1]):
        header = headers[frame.sop_instance_uid]
        plane = functional_group(header, frame.frame_number, "PlanePositionSequence") or header
        turned = functional_group(header, frame.frame_number, "PlaneOrientationSequence") or header
        places.append((plane.get("ImagePositionPatient"), turned.get("ImageOrientationPatient")))
    if any(value is None for place in places for value in place):
        return None
    try:
        cosines = np.array(places[0][1], np.float64).reshape(2, 3)
        through = np.array(places[1][0], np.float64) - np.array(places[0][0], np.float64)
    except ValueError:
        return None
    axes: NDArray[np.float64] = np.stack([through, cosines[1], cosines[0]])
    lengths = np.linalg.norm(axes, axis=1, keepdims=True)
    return axes / lengths if np.isfinite(lengths).all() and lengths.min() > 0 else None


def views(axes: NDArray[np.float64] | None) -> tuple[View, View, View]:
    """The coronal, sagittal and axial view of a volume, or the nearest to them for an oblique one.

    Args:
        axes: Result of ``patient_axes``; None draws the volume as if it were axial, without letters.
    """
    known = axes is not None
    axes = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], np.float64) if axes is None else axes
    nearest = _nearest(axes)
    found = {nearest[along]: _view(axes, nearest, along, known=known) for along in range(3)}
    return found[1], found[0], found[2]


def _nearest(axes: NDArray[np.float64]) -> list[int]:
    """The patient axis that each axis of the stack is nearest to, each patient axis once."""
    left = np.abs(axes)
    nearest = [0, 0, 0]
    for _ in range(3):
        axis, patient = np.unravel_index(int(left.argmax()), left.shape)
        nearest[axis] = int(patient)
        left[axis, :], left[:, patient] = -1, -1
    return nearest


def _view(axes: NDArray[np.float64], nearest: list[int], along: int, *, known: bool) -> View:
    horizontal, vertical = sorted(
        (axis for axis in range(3) if axis != along), key=lambda axis: _UPRIGHT[nearest[axis]]
    )
    runs = [axes[axis, nearest[axis]] > 0 for axis in range(3)]
    # upright: the head above, the front above; across: the right side and the front on the left hand
    flip_vertical = runs[vertical] if nearest[vertical] == 2 else not runs[vertical]
    flip_horizontal = not runs[horizontal]
    across, upright = _LETTERS[nearest[horizontal]], _LETTERS[nearest[vertical]]
    top = upright[1] + upright[0] if nearest[vertical] == 2 else upright
    return View(
        along=along,
        vertical=vertical,
        horizontal=horizontal,
        flip_vertical=flip_vertical,
        flip_horizontal=flip_horizontal,
        from_the_end=_FROM_THE_END[nearest[along]] == runs[along],
        name=_NAMES[nearest[along]] if known else "",
        letters=(across[0], across[1], top[0], top[1]) if known else ("", "", "", ""),
    )
