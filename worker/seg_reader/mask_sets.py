"""The masks of one result on their way into a comparison, from a Segmentation object or a PNG."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_core.errors import InvalidSegmentationError
from worker.image_stack import FrameIdentity
from worker.seg_reader.described_segments import Coded
from worker.seg_reader.reading import MaskKey
from worker.seg_reader.segmentation_object import SegmentationObject, read_segmentation

_STEP_TOLERANCE = 0.1
"""Slices further than this share of a step from the regular grid are not on it."""


@dataclass(frozen=True, slots=True)
class NamedSegment:
    """What a segment is called; ``code`` has three empty strings where there is none."""

    number: int
    label: str
    code: Coded


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the slices of a volume lie.

    Attributes:
        spacing_mm: ``(between slices, between rows, between columns)``.
        index_of: Slice of the grid for each source frame, from 0.
        slices: How many there are.
    """

    spacing_mm: tuple[float, float, float]
    index_of: Mapping[FrameIdentity, int]
    slices: int


@dataclass(frozen=True, slots=True)
class MaskSet:
    """All masks of one file.

    Attributes:
        segments: In the order of the file.
        masks: By segment, instance and frame; what is absent is empty.
        shape: Rows and columns.
        instances: SOPInstanceUIDs of the images that it is about; empty for a PNG.
        positions: Of each source frame in mm along the slice normal; empty without geometry.
        spacing_mm: ``(between rows, between columns)``, None without geometry.
    """

    segments: tuple[NamedSegment, ...]
    masks: Mapping[MaskKey, NDArray[np.bool_]]
    shape: tuple[int, int]
    instances: frozenset[str]
    positions: Mapping[FrameIdentity, float]
    spacing_mm: tuple[float, float] | None

    def frames(self) -> list[FrameIdentity]:
        """Source frames that have a mask, each once."""
        return list(dict.fromkeys(FrameIdentity(uid, number) for _, uid, number in self.masks))

    def mask(self, segment: int, frame: FrameIdentity) -> NDArray[np.bool_]:
        """``(rows, columns)`` bool; empty where the file has no frame."""
        found = self.masks.get((segment, frame.sop_instance_uid, frame.frame_number))
        return np.zeros(self.shape, np.bool_) if found is None else found


def read_masks_of(path: Path) -> MaskSet:
    """Read a Segmentation object, or a PNG whose pixels are a mask wherever they are not black.

    Raises:
        NotFoundError: There is no such file.
        InvalidSegmentationError: It is neither of the two, or two of its frames contradict each other.
    """
    if path.suffix.lower() == ".png" and path.is_file():
        return _of_picture(path)
    return _of_segmentation(read_segmentation(path))


def _of_segmentation(found: SegmentationObject) -> MaskSet:
    positions: dict[FrameIdentity, float] = {}
    if found.geometry is not None:
        across, down = np.array(found.geometry.orientation[:3]), np.array(found.geometry.orientation[3:])
        normal = np.cross(across, down)
        for frame in found.frames:
            if frame.sources and frame.position is not None:
                positions[frame.sources[0]] = float(normal @ np.array(frame.position))
    return MaskSet(
        segments=tuple(NamedSegment(one.number, one.label, one.type) for one in found.segments),
        masks=found.masks,
        shape=(found.rows, found.columns),
        instances=found.source_instances,
        positions=positions,
        spacing_mm=None if found.geometry is None else found.geometry.spacing_mm,
    )


def _of_picture(path: Path) -> MaskSet:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=["PNG"]) as image:
            mask: NDArray[np.bool_] = np.any(np.asarray(image.convert("RGB")), axis=-1, keepdims=False)
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InvalidSegmentationError(f"{path} is no PNG picture that can be read.") from error
    rows, columns = mask.shape
    segment = NamedSegment(1, path.stem, ("", "", ""))
    return MaskSet((segment,), {(1, "", 1): mask}, (rows, columns), frozenset(), {}, None)


def grid_of(sets: Iterable[MaskSet], frames: Sequence[FrameIdentity]) -> Grid | None:
    """The regular grid on which all these frames lie; None without geometry or where slices are unevenly spaced.

    Slices without any vessel are mostly not in an object, so gaps of whole steps are filled.
    """
    positions = {frame: position for one in sets for frame, position in one.positions.items()}
    spacing = next((one.spacing_mm for one in sets if one.spacing_mm), None)
    if spacing is None or any(frame not in positions for frame in frames) or not frames:
        return None
    places = np.array([positions[frame] for frame in frames])
    differences = np.diff(np.unique(places.round(3)))
    if not differences.size:
        return Grid((1.0, *spacing), dict.fromkeys(frames, 0), 1)
    step = float(differences.min())
    steps = (places - places.min()) / step
    indices = np.rint(steps).astype(int)
    if np.abs(steps - indices).max() > _STEP_TOLERANCE:
        return None
    return Grid((step, *spacing), dict(zip(frames, indices.tolist(), strict=True)), int(indices.max()) + 1)
