"""One picture of a Segmentation object: a montage of its frames in its own colours, over the source where given."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from dicom_core.errors import NotFoundError, SourceTooLargeError, SpoolError
from worker.image_stack import Arrangement, FrameIdentity, ImageStack, Imaging
from worker.pictures.montage import montage
from worker.pictures.overlay import FILLED, Style
from worker.pixels.decoding import decode
from worker.result_header.catalogue import RGB
from worker.seg_reader.segmentation_object import SegmentationObject
from worker.source_images.damage import pydicom_silenced
from worker.source_images.reading import read_series
from worker.source_series import SourceSeries

_MOST_BYTES = 2 << 30
_PALETTE: tuple[RGB, ...] = ((0, 220, 200), (255, 200, 60), (216, 101, 79), (0, 151, 206), (120, 200, 120))
"""For segments that recommend no colour."""
_SOLID = Style(tint=1.0, line=0.0)


def write_picture(found: SegmentationObject, path: Path, source_folder: Path | None = None) -> int:
    """Write a PNG with at most 20 frames that show a segment, numbered by their place among all frames.

    Args:
        found: What to show.
        path: The PNG.
        source_folder: DICOM files of the source images, at any depth, others among them; None shows masks on black.

    Returns:
        How many frames the picture shows.

    Raises:
        NotFoundError: None of the source images is in the folder.
        SourceError: The source images cannot be decoded.
        InvalidSegmentationError: The frames of the object do not name their source images.
        SourceTooLargeError: The masks do not fit into memory.
        SpoolError: The picture cannot be written.
    """
    stack = _black(found) if source_folder is None else _source_of(found, source_folder)
    colours = [one.colour or _PALETTE[index % len(_PALETTE)] for index, one in enumerate(found.segments)]
    picture, chosen = montage(stack, _mask(found, stack.frames), colours, _SOLID if source_folder is None else FILLED)
    try:
        Image.fromarray(picture).save(path, format="PNG")
    except OSError as error:
        raise SpoolError(f"{path} cannot be written: {error.strerror}") from error
    return len(chosen)


def _black(found: SegmentationObject) -> ImageStack:
    frames = _frames_of(found)
    nothing = np.broadcast_to(np.zeros((), np.float32), (len(frames), found.rows, found.columns))
    spacing = None if found.geometry is None else (1.0, *found.geometry.spacing_mm)
    return ImageStack(nothing, Arrangement.FRAMES, Imaging.OTHER, frames, (0.0, 1.0), spacing)


def _frames_of(found: SegmentationObject) -> tuple[FrameIdentity, ...]:
    return tuple(dict.fromkeys(FrameIdentity(uid, number) for _, uid, number in found.masks))


def _mask(found: SegmentationObject, frames: tuple[FrameIdentity, ...]) -> NDArray[np.bool_]:
    """``(segments, frames, rows, columns)`` bool."""
    shape = (len(found.segments), len(frames), found.rows, found.columns)
    if np.prod(shape, dtype=np.int64) > _MOST_BYTES:
        raise SourceTooLargeError("The segmentation has too many frames and segments for one picture.")
    mask = np.zeros(shape, np.bool_)
    masks = found.masks
    for layer, segment in enumerate(found.segments):
        for index, frame in enumerate(frames):
            key = (segment.number, frame.sop_instance_uid, frame.frame_number)
            if key in masks:
                mask[layer, index] = masks[key]
    return mask


def _source_of(found: SegmentationObject, folder: Path) -> ImageStack:
    """The part of the source series that the object is about, decoded."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and _uid_of(path) in found.source_instances]
    if not paths:
        raise NotFoundError(f"none of the source images of the segmentation is in {folder}")
    wanted = set(_frames_of(found))
    return decode(max(read_series(paths), key=lambda part: _common(part, wanted)))


def _common(part: SourceSeries, wanted: set[FrameIdentity]) -> int:
    return len(wanted.intersection(part.frames))


def _uid_of(path: Path) -> str:
    try:
        with pydicom_silenced():
            return str(dcmread(path, specific_tags=["SOPInstanceUID"]).get("SOPInstanceUID", ""))
    except (InvalidDicomError, OSError, ValueError, TypeError, KeyError, RecursionError):
        return ""
