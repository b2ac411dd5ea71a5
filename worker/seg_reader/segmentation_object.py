"""Read a Segmentation object, ours or anybody's, in one call.

::

    found = read_segmentation(Path("result.dcm"))
    for (segment, sop_instance_uid, frame_number), mask in found.masks.items():
        ...
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicom_core.errors import InvalidSegmentationError, NotFoundError
from worker.seg_reader.described_segments import Segment, segments_of
from worker.seg_reader.reading import FrameDescription, MaskKey, check_class, describe_frames
from worker.seg_reader.stored_pixels import Frame, StoredPixels
from worker.source_images.damage import pydicom_silenced

Mask = TypeVar("Mask", bound=Frame)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where the frames lie in the patient (PS3.3 C.7.6.16.2.1 and .4).

    Attributes:
        frame_of_reference_uid: FrameOfReferenceUID.
        orientation: ImageOrientationPatient: direction of a row, then of a column.
        spacing_mm: ``(between rows, between columns)``.
        slice_thickness_mm: SliceThickness, None where it is not told.
    """

    frame_of_reference_uid: str
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, float]
    slice_thickness_mm: float | None


@dataclass(frozen=True, slots=True)
class SegmentationObject:
    """One Segmentation object. Pixels are decoded when a mask or a fraction is looked up, and not kept.

    Attributes:
        sop_instance_uid: SOPInstanceUID.
        study_instance_uid: StudyInstanceUID.
        series_instance_uid: SeriesInstanceUID.
        series_description: SeriesDescription.
        segmentation_type: ``"BINARY"``, ``"FRACTIONAL"`` or ``"LABELMAP"``.
        fractional_type: ``"PROBABILITY"``, ``"OCCUPANCY"`` or ``""``.
        transfer_syntax: Its name.
        equipment: Who made it: manufacturer, model and versions.
        created: ContentDate and ContentTime, for example ``2024-02-29 12:00:00``; ``""`` where they are not told.
        rows: Rows.
        columns: Columns.
        segments: In the order of the object, without the background of a label map.
        frames: What each stored frame is about.
        geometry: None for an object without frame of reference.
        source_instances: SOPInstanceUIDs of all images that frames or the list of references name.
        warnings: What a reader should know, in words.
    """

    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    series_description: str
    segmentation_type: str
    fractional_type: str
    transfer_syntax: str
    equipment: str
    created: str
    rows: int
    columns: int
    segments: tuple[Segment, ...]
    frames: tuple[FrameDescription, ...]
    geometry: Geometry | None
    source_instances: frozenset[str]
    warnings: tuple[str, ...]
    _pixels: StoredPixels = field(repr=False, compare=False)
    _maximum: int = field(default=1, repr=False, compare=False)

    def stored(self, index: int) -> Frame:
        """The ``(rows, columns)`` pixels of one stored frame (0-based) as they are in the object."""
        return self._pixels[index]

    @property
    def masks(self) -> Mapping[MaskKey, NDArray[np.bool_]]:
        """By ``(segment, SOPInstanceUID, frame number)``, each ``(rows, columns)`` bool; a fraction counts from half.

        A frame that covers several source images is found under the first. Of a label map every segment has a mask on
        every frame. Segments of which an image has no frame have no mask there: nothing was found.

        Raises:
            InvalidSegmentationError: A frame names no source image, or two frames show the same segment of one image.
        """
        if self.segmentation_type == "LABELMAP":
            return _LazyFrames(self._label_keys(), lambda key, index: self.stored(index) == key[0])
        return _LazyFrames(self._keys(), lambda _, index: self._decided(self.stored(index)))

    @property
    def fractions(self) -> Mapping[MaskKey, NDArray[np.float32]]:
        """By the same keys, each ``(rows, columns)`` float32 in [0, 1]: stored value over MaximumFractionalValue.

        Raises:
            InvalidSegmentationError: The object is not FRACTIONAL, or as for ``masks``.
        """
        if self.segmentation_type != "FRACTIONAL":
            raise InvalidSegmentationError("Only a FRACTIONAL segmentation holds fractions.")
        return _LazyFrames(self._keys(), self._fraction)

    def counted(self) -> dict[int, tuple[int, int]]:
        """Frames that show a segment and its voxels, by segment number; a fraction counts from half."""
        counts = {segment.number: (0, 0) for segment in self.segments}
        for index, frame in enumerate(self.frames):
            for number, voxels in self._voxels(frame, self.stored(index)):
                frames, total = counts.get(number, (0, 0))
                counts[number] = (frames + 1, total + voxels)
        return counts

    def _voxels(self, frame: FrameDescription, stored: Frame) -> Iterator[tuple[int, int]]:
        if self.segmentation_type == "LABELMAP":
            found = enumerate(np.bincount(stored.reshape(-1)).tolist())
            yield from ((label, voxels) for label, voxels in found if label and voxels)
        elif voxels := int(np.count_nonzero(self._decided(stored))):
            yield frame.segment_number, voxels

    def _decided(self, stored: Frame) -> NDArray[np.bool_]:
        if self.segmentation_type == "FRACTIONAL":
            return 2 * stored.astype(np.int32) >= self._maximum
        return stored

    def _fraction(self, _: MaskKey, index: int) -> NDArray[np.float32]:
        return np.divide(self.stored(index), self._maximum, dtype=np.float32)

    def _keys(self) -> Iterator[tuple[MaskKey, int]]:
        for index, frame in enumerate(self.frames):
            if not frame.sources:
                raise InvalidSegmentationError("A frame of the segmentation does not name its source image.")
            source = frame.sources[0]
            yield (frame.segment_number, source.sop_instance_uid, source.frame_number), index

    def _label_keys(self) -> Iterator[tuple[MaskKey, int]]:
        for (_, sop_instance_uid, frame_number), index in self._keys():
            for segment in self.segments:
                yield (segment.number, sop_instance_uid, frame_number), index


class _LazyFrames(Mapping[MaskKey, Mask]):
    """Frames by key, decoded on every access."""

    def __init__(self, keys: Iterator[tuple[MaskKey, int]], decode: Callable[[MaskKey, int], Mask]) -> None:
        self._index_of: dict[MaskKey, int] = {}
        for key, index in keys:
            if key in self._index_of:
                raise InvalidSegmentationError(
                    "Two frames of the segmentation show the same segment of the same image."
                )
            self._index_of[key] = index
        self._decode = decode

    def __getitem__(self, key: MaskKey) -> Mask:
        return self._decode(key, self._index_of[key])

    def __iter__(self) -> Iterator[MaskKey]:
        return iter(self._index_of)

    def __len__(self) -> int:
        return len(self._index_of)


def read_segmentation(path: Path) -> SegmentationObject:
    """Read one Segmentation object: BINARY, FRACTIONAL or LABELMAP, in any transfer syntax that we can decode.

    Raises:
        NotFoundError: There is no such file.
        InvalidSegmentationError: It is no DICOM file, no Segmentation, a tiled one of a whole slide, or damaged.
    """
    if not path.is_file():
        raise NotFoundError(f"{path} is no file")
    try:
        with pydicom_silenced():
            dataset = dcmread(path)
            check_class(dataset)
            return _object(dataset)
    except InvalidDicomError as error:
        raise InvalidSegmentationError(f"{path} is no DICOM file.") from error
    except InvalidSegmentationError:
        raise
    except Exception as error:
        # The edge: bytes from outside make pydicom raise nearly anything, and its texts may quote patient data.
        raise InvalidSegmentationError(f"{path} cannot be read ({type(error).__name__}).") from error


def _object(dataset: Dataset) -> SegmentationObject:
    if dataset.get("DimensionOrganizationType") == "TILED_FULL":
        raise InvalidSegmentationError("Tiled segmentations of whole slides are not read.")
    segments, frames = segments_of(dataset), tuple(describe_frames(dataset))
    return SegmentationObject(
        sop_instance_uid=_text(dataset, "SOPInstanceUID"),
        study_instance_uid=_text(dataset, "StudyInstanceUID"),
        series_instance_uid=_text(dataset, "SeriesInstanceUID"),
        series_description=_text(dataset, "SeriesDescription"),
        segmentation_type=str(dataset.SegmentationType),
        fractional_type=_text(dataset, "SegmentationFractionalType"),
        transfer_syntax=dataset.file_meta.TransferSyntaxUID.name,
        equipment=_equipment(dataset),
        created=_created(_text(dataset, "ContentDate"), _text(dataset, "ContentTime")),
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        segments=segments,
        frames=frames,
        geometry=_geometry(dataset, frames),
        source_instances=_source_instances(dataset, frames),
        warnings=tuple(_warnings(segments, frames)),
        _pixels=StoredPixels(dataset),
        _maximum=int(dataset.get("MaximumFractionalValue") or 1),
    )


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value)


def _created(date: str, time: str) -> str:
    day = f"{date[:4]}-{date[4:6]}-{date[6:8]}" if len(date) == 8 else date
    hour = ":".join(filter(None, (time[:2], time[2:4], time[4:6])))
    return " ".join(filter(None, (day, hour)))


def _equipment(dataset: Dataset) -> str:
    versions = dataset.get("SoftwareVersions") or ()
    versions = [versions] if isinstance(versions, str) else versions
    names = [_text(dataset, "Manufacturer"), _text(dataset, "ManufacturerModelName")]
    return " ".join(filter(None, (*names, *map(str, versions))))


def _source_instances(dataset: Dataset, frames: tuple[FrameDescription, ...]) -> frozenset[str]:
    listed = (
        _text(reference, "ReferencedSOPInstanceUID")
        for series in dataset.get("ReferencedSeriesSequence") or ()
        for reference in series.get("ReferencedInstanceSequence") or ()
    )
    return frozenset(listed) | {source.sop_instance_uid for frame in frames for source in frame.sources}


def _geometry(dataset: Dataset, frames: tuple[FrameDescription, ...]) -> Geometry | None:
    """Orientation and spacing without a frame of reference are hints for viewers, not a place in the patient."""
    if not dataset.get("FrameOfReferenceUID") or not all(frame.position for frame in frames):
        return None
    measures = _first_macro(dataset, "PixelMeasuresSequence")
    plane = _first_macro(dataset, "PlaneOrientationSequence")
    if measures is None or plane is None:
        return None
    rows, columns = (float(value) for value in measures.PixelSpacing)
    thickness = measures.get("SliceThickness")
    return Geometry(
        frame_of_reference_uid=str(dataset.FrameOfReferenceUID),
        orientation=tuple(float(value) for value in plane.ImageOrientationPatient),
        spacing_mm=(rows, columns),
        slice_thickness_mm=None if thickness is None else float(thickness),
    )


def _first_macro(dataset: Dataset, keyword: str) -> Dataset | None:
    places = (*dataset.get("SharedFunctionalGroupsSequence", ()), *dataset.PerFrameFunctionalGroupsSequence[:1])
    found: list[Dataset] = [item for groups in places for item in groups.get(keyword) or ()]
    return found[0] if found else None


def _warnings(segments: tuple[Segment, ...], frames: tuple[FrameDescription, ...]) -> Iterator[str]:
    if any(segment.says_not_reviewed for segment in segments):
        yield "not reviewed by a physician"
    unnamed = sum(not frame.sources for frame in frames)
    if unnamed:
        yield f"{unnamed} of {len(frames)} frames do not name their source image"
    if any(len(frame.sources) > 1 for frame in frames):
        yield "frames cover several source images each"
    unknown = {frame.segment_number for frame in frames} - {0} - {segment.number for segment in segments}
    if unknown:
        yield "some frames belong to segments that are not described"
