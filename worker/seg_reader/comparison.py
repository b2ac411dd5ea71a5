"""How alike two results of the same images are: overlap, overlap of the centre lines, distance of the surfaces."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicom_core.errors import ConfigurationError, SourceTooLargeError
from worker.image_stack import FrameIdentity
from worker.measurements.centre_line import bounding_box, skeleton
from worker.seg_reader.mask_sets import Grid, MaskSet, NamedSegment, grid_of, read_masks_of

Mask = NDArray[np.bool_]

_PERCENTILE = 95
_MOST_VOXELS = 1 << 30
"""Distances of a larger volume would not fit a workstation's memory."""


@dataclass(frozen=True, slots=True)
class SegmentComparison:
    """One segment that both files have.

    Attributes:
        label: In the first file.
        numbers: SegmentNumber in the first and in the second file.
        matched_by: ``code``, ``label`` or ``number``.
        voxels: In the first and in the second file.
        dice: Twice the common voxels over all voxels; None when both are empty.
        cl_dice: Harmonic mean of the shares of each centre line that lie in the other mask (Shit et al., 2021).
        distance_95: Larger of both directions' 95th percentile distance from surface to surface, in ``unit``; None
            when one is empty.
        unit: ``mm``, or ``pixels`` where there is no geometry.
        one_sided_frames: Frames where only one has the segment; where ``unit`` is pixels they have no distance.
    """

    label: str
    numbers: tuple[int, int]
    matched_by: str
    voxels: tuple[int, int]
    dice: float | None
    cl_dice: float | None
    distance_95: float | None
    unit: str
    one_sided_frames: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two files side by side.

    Attributes:
        segments: What both have.
        only_first: Labels of what only the first has.
        only_second: Labels of what only the second has.
        frames: Source frames that at least one of them shows.
        unit: Of the distances.
        remarks: How it was measured, where a reader could take it for something else.
    """

    segments: tuple[SegmentComparison, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    frames: int
    unit: str
    remarks: tuple[str, ...]


def compare_files(first: Path, second: Path) -> Comparison:
    """Compare two Segmentation objects of the same images, or a PNG with either.

    A volume with evenly spaced slices is compared as a whole, everything else frame by frame and summed up.

    Raises:
        NotFoundError: A file is missing.
        InvalidSegmentationError: A file cannot be read.
        ConfigurationError: They are about different images or of different size.
        SourceTooLargeError: The volume does not fit into memory.
    """
    pair = _same_images(read_masks_of(first), read_masks_of(second))
    frames = list(dict.fromkeys(frame for one in pair for frame in one.frames()))
    grid = grid_of(pair, frames)
    if grid is not None and grid.slices * pair[0].shape[0] * pair[0].shape[1] > _MOST_VOXELS:
        raise SourceTooLargeError("The volume is too large to be compared on this machine.")
    matches = list(_matches(pair[0].segments, pair[1].segments))
    return Comparison(
        segments=tuple(_compare(pair, frames, grid, *match) for match in matches),
        only_first=_others(pair[0], [match[0] for match in matches]),
        only_second=_others(pair[1], [match[1] for match in matches]),
        frames=len(frames),
        unit="pixels" if grid is None else "mm",
        remarks=tuple(_remarks(pair, grid)),
    )


def _same_images(first: MaskSet, second: MaskSet) -> tuple[MaskSet, MaskSet]:
    """The pair, a PNG moved to the one frame of its partner."""
    if first.shape != second.shape:
        raise ConfigurationError("The two have different rows and columns, so they are not about the same images.")
    if first.instances and second.instances:
        if not first.instances & second.instances:
            raise ConfigurationError(
                "The two segmentations are about different images: no image is named by both. Compare results of one "
                "series."
            )
        return first, second
    return _moved(first, second), _moved(second, first)


def _moved(picture: MaskSet, other: MaskSet) -> MaskSet:
    if picture.instances or not other.instances:
        return picture
    frames = other.frames()
    if len(frames) != 1:
        raise ConfigurationError(
            f"A PNG shows one frame, the segmentation {len(frames)}; compare it with a segmentation of one picture."
        )
    ((mask,), (frame,)) = picture.masks.values(), frames
    return replace(picture, masks={(1, frame.sop_instance_uid, frame.frame_number): mask})


# --- which segment is which -------------------------------------------------------------------------------------------


def _matches(
    first: Sequence[NamedSegment], second: Sequence[NamedSegment]
) -> Iterator[tuple[NamedSegment, NamedSegment, str]]:
    """Pairs by code and label, then by a code or a label that only one segment of each side has, then by number."""
    keys: tuple[tuple[str, Callable[[NamedSegment], object]], ...] = (
        ("code", lambda one: (one.code[:2], one.label.casefold()) if one.code[0] else None),
        ("code", lambda one: one.code[:2] if one.code[0] else None),
        ("label", lambda one: one.label.casefold() or None),
        ("number", lambda one: one.number),
    )
    left, right = list(first), list(second)
    for word, key in keys:
        for one in tuple(left):
            candidates = [other for other in right if key(other) == key(one) is not None]
            rivals = [other for other in left if key(other) == key(one)]
            if len(candidates) == 1 and len(rivals) == 1:
                left.remove(one)
                right.remove(candidates[0])
                yield one, candidates[0], word


def _others(one: MaskSet, matched: Sequence[NamedSegment]) -> tuple[str, ...]:
    return tuple(segment.label for segment in one.segments if segment not in matched)


# --- measures ---------------------------------------------------------------------------------------------------------


def _compare(
    pair: tuple[MaskSet, MaskSet],
    frames: Sequence[FrameIdentity],
    grid: Grid | None,
    first: NamedSegment,
    second: NamedSegment,
    matched_by: str,
) -> SegmentComparison:
    spacing = grid.spacing_mm if grid else (1.0, 1.0)
    sums = _Sums()
    for one, other in _pieces(pair, frames, grid, (first.number, second.number)):
        sums.add(one, other, spacing[-one.ndim :])
    return SegmentComparison(
        label=first.label,
        numbers=(first.number, second.number),
        matched_by=matched_by,
        voxels=(sums.voxels[0], sums.voxels[1]),
        dice=sums.dice(),
        cl_dice=sums.cl_dice(),
        distance_95=sums.distance_95(),
        unit="mm" if grid else "pixels",
        one_sided_frames=sums.one_sided,
    )


def _pieces(
    pair: tuple[MaskSet, MaskSet], frames: Sequence[FrameIdentity], grid: Grid | None, numbers: tuple[int, int]
) -> Iterator[tuple[Mask, Mask]]:
    """The whole volume, or frame after frame."""
    if grid is None:
        for frame in frames:
            yield pair[0].mask(numbers[0], frame), pair[1].mask(numbers[1], frame)
        return
    volumes = np.zeros((2, grid.slices, *pair[0].shape), np.bool_)
    for side in (0, 1):
        for frame in frames:
            volumes[side, grid.index_of[frame]] |= pair[side].mask(numbers[side], frame)
    if grid.slices == 1:
        volumes = volumes[:, 0]
    yield volumes[0], volumes[1]


class _Sums:
    """Counts over pieces of which each is compared alone."""

    def __init__(self) -> None:
        self.voxels = [0, 0]
        self.one_sided = 0
        self._common = 0
        self._lines = [0, 0]
        self._covered = [0, 0]
        self._distances: tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]] = ([], [])

    def add(self, first: Mask, second: Mask, spacing: tuple[float, ...]) -> None:
        box = bounding_box(first | second)
        if box is None:
            return
        pair = (np.pad(first[box], 1), np.pad(second[box], 1))
        self._common += int(np.count_nonzero(pair[0] & pair[1]))
        for side, (own, other) in enumerate((pair, pair[::-1])):
            line = _centre_line(own)
            self.voxels[side] += int(np.count_nonzero(own))
            self._lines[side] += int(np.count_nonzero(line))
            self._covered[side] += int(np.count_nonzero(line & other))
        if pair[0].any() and pair[1].any():
            surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in pair]
            for side in (0, 1):
                away = ndimage.distance_transform_edt(~surfaces[1 - side], sampling=spacing)
                self._distances[side].append(away[surfaces[side]])
        self.one_sided += _one_sided(*pair)

    def dice(self) -> float | None:
        total = sum(self.voxels)
        return 2 * self._common / total if total else None

    def cl_dice(self) -> float | None:
        if not any(self._lines):
            return None
        if not all(self._lines):
            return 0.0
        shares = [covered / line for covered, line in zip(self._covered, self._lines, strict=True)]
        return 2 * shares[0] * shares[1] / sum(shares) if any(shares) else 0.0

    def distance_95(self) -> float | None:
        if not self._distances[0]:
            return None
        return max(float(np.percentile(np.concatenate(found), _PERCENTILE)) for found in self._distances)


def _centre_line(mask: Mask) -> Mask:
    """The centre line; a piece that thinning erases altogether, as it does with some blocks, stands for itself."""
    line = skeleton(mask)
    pieces, count = ndimage.label(mask, ndimage.generate_binary_structure(mask.ndim, mask.ndim))
    erased = np.ones(count + 1, np.bool_)
    erased[0] = False
    erased[np.unique(pieces[line])] = False
    whole: Mask = line | erased[pieces]
    return whole


def _one_sided(first: Mask, second: Mask) -> int:
    axes = (-2, -1)
    return int(np.count_nonzero(first.any(axis=axes) != second.any(axis=axes)))


def _remarks(pair: tuple[MaskSet, MaskSet], grid: Grid | None) -> Iterator[str]:
    if grid is None and any(one.positions for one in pair):
        yield "the slices are unevenly spaced: compared slice by slice, distances in pixels"
    elif grid is None:
        yield "no geometry: compared frame by frame, distances in pixels"
    if all(one.instances for one in pair) and pair[0].instances != pair[1].instances:
        yield "the two were not made from the same set of images; what one has not is taken as empty"
