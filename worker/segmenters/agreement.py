"""Connected components of a mask on single frames, and how far another mask agrees with them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_core.prompt import Box
from worker.image_stack import FrameIdentity

_EIGHT = np.ones((3, 3), np.bool_)
"""Pixels that touch at a corner belong together: thin vessels run diagonally."""
_LEAST_MARGIN = 2.0


@dataclass(frozen=True, slots=True)
class Component:
    """Pixels that hang together on one frame, and the region around them.

    Attributes:
        frame: Index of the frame.
        region: Rows and columns: the bounding box, and as many pixels around it as count as near.
        pixels: ``region`` bool: the component itself.
        near: ``region`` bool: the component and the pixels near it.
    """

    frame: int
    region: tuple[slice, slice]
    pixels: NDArray[np.bool_]
    near: NDArray[np.bool_]

    def box(self, frame: FrameIdentity, shape: tuple[int, int], margin: float) -> Box:
        """The rectangle around it, enlarged on each side by a share of its size, within the picture."""
        rows, columns = (np.flatnonzero(self.pixels.any(axis=axis)) for axis in (1, 0))
        top, bottom = (self.region[0].start + int(rows[end]) for end in (0, -1))
        left, right = (self.region[1].start + int(columns[end]) for end in (0, -1))
        down, across = (max(_LEAST_MARGIN, margin * size) for size in (bottom - top, right - left))
        return Box(
            sop_instance_uid=frame.sop_instance_uid,
            frame_number=frame.frame_number,
            left=max(0.0, left - across),
            top=max(0.0, top - down),
            right=min(shape[1] - 1.0, right + across),
            bottom=min(shape[0] - 1.0, bottom + down),
        )

    def agreed(self, other: NDArray[np.bool_], measure: str, least: float) -> NDArray[np.bool_]:
        """The pixels of another mask on and near the component; none at all where the two overlap too little.

        Args:
            other: ``(rows, columns)`` bool, of the whole frame.
            measure: ``iou`` or ``share``.
            least: The overlap that is enough, 0 to 1.

        Returns:
            Bool, of the size of ``region``.
        """
        there = other[self.region] & self.near
        common = np.count_nonzero(there & self.pixels)
        whole = np.count_nonzero(self.pixels if measure == "share" else there | self.pixels)
        return there if common and common >= least * whole else np.zeros_like(there)


def components_of(mask: NDArray[np.bool_], *, near: int, least_pixels: int, most: int) -> tuple[list[Component], int]:
    """The components of each frame, the largest first.

    Args:
        mask: ``(frames, rows, columns)`` bool.
        near: Pixels around a component that count as near.
        least_pixels: Smaller ones are dropped.
        most: Of one frame; more are dropped.

    Returns:
        The components, frame by frame, and how many were dropped.
    """
    found: list[Component] = []
    dropped = 0
    for index in np.flatnonzero(mask.any(axis=(1, 2))).tolist():
        there = sorted(_on_frame(index, mask[index], near), key=lambda one: -int(one.pixels.sum()))
        large = [one for one in there if np.count_nonzero(one.pixels) >= least_pixels][:most]
        dropped += len(there) - len(large)
        found += large
    return found, dropped


def _on_frame(index: int, mask: NDArray[np.bool_], near: int) -> list[Component]:
    from scipy import ndimage

    labels, _ = ndimage.label(mask, _EIGHT)
    components = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        region = (
            slice(max(0, rows.start - near), min(mask.shape[0], rows.stop + near)),
            slice(max(0, columns.start - near), min(mask.shape[1], columns.stop + near)),
        )
        pixels = labels[region] == number
        around = ndimage.binary_dilation(pixels, _EIGHT, iterations=near) if near else pixels
        components.append(Component(index, region, pixels, around))
    return components
