"""Which instances of a series are images to look at; why the others are left out."""

from collections import Counter
from collections.abc import Sequence

from pydicom import uid

from dicom_core.errors import DamagedSourceError, UnsupportedSourceError
from worker.source_images.headers import SourceHeader

LeftOut = list[tuple[str, str]]
"""SOPInstanceUID and the reason in words."""

_NO_SOURCE = {
    uid.SegmentationStorage: "a segmentation",
    uid.UID("1.2.840.10008.5.1.4.1.1.66.7"): "a label map segmentation",
    uid.RTDoseStorage: "a radiotherapy dose",
    uid.VLWholeSlideMicroscopyImageStorage: "a tiled microscopy image",
}


def chosen_images(headers: Sequence[SourceHeader], left_out: LeftOut) -> list[SourceHeader]:
    """Instances with pixels that may be a source, of one SOP class, each once.

    Args:
        headers: At least one.
        left_out: The others are added to it.

    Raises:
        UnsupportedSourceError: There is none.
        DamagedSourceError: An image has no Rows or Columns.
    """
    images = _without_repetitions(_images(headers, left_out), left_out)
    return _largest_class(images, left_out)


def sequence(header: SourceHeader) -> tuple[int, str]:
    """The order in which equals are preferred; the UID makes it the same for any order of files."""
    number = header.text("InstanceNumber")
    return int(number) if number.isdecimal() else 0, header.uid


def _images(headers: Sequence[SourceHeader], left_out: LeftOut) -> list[SourceHeader]:
    """Only instances with pixels that may be a source; the reasons for the others go to ``left_out``."""
    images = []
    reason = ""
    for header in headers:
        sop_class = header.sop_class
        if sop_class in _NO_SOURCE:
            reason = f"{_NO_SOURCE[sop_class]}, which is no source image"
        elif (not header.rows or not header.columns) and "Image Storage" in sop_class.name:
            raise DamagedSourceError(f"{header.name}: the image has no Rows and Columns; send it again")
        elif not header.rows or not header.columns:
            reason = "an object without pixels"
        elif sop_class.name == sop_class:
            reason = "an object of a SOP class that the DICOM Standard does not know"
        else:
            images.append(header)
            continue
        left_out.append((header.uid, reason))
    if not images:
        raise UnsupportedSourceError(f"There is nothing to segment: the series holds {reason}")
    return images


def _without_repetitions(headers: Sequence[SourceHeader], left_out: LeftOut) -> list[SourceHeader]:
    first: dict[str, SourceHeader] = {}
    for header in headers:
        if first.setdefault(header.uid, header) is not header:
            left_out.append((header.uid, "the same SOPInstanceUID as another file"))
    return list(first.values())


def _largest_class(headers: Sequence[SourceHeader], left_out: LeftOut) -> list[SourceHeader]:
    """The instances of the SOP class with most frames, without localizers unless there is nothing else."""
    images = [header for header in headers if not _is_localizer(header)] or list(headers)
    frames: Counter[str] = Counter()
    for header in images:
        frames[header.sop_class] += header.number_of_frames
    largest = frames.most_common(1)[0][0]
    for header in headers:
        if header not in images:
            left_out.append((header.uid, "a localizer"))
        elif header.sop_class != largest:
            left_out.append((header.uid, "another SOP class than most of the series"))
    return [header for header in images if header.sop_class == largest]


def _is_localizer(header: SourceHeader) -> bool:
    """Value 3 of ImageType (PS3.3 C.7.6.1.1.2, C.8.2.1.1.1)."""
    return "LOCALIZER" in {str(word).upper() for word in header.dataset.get("ImageType") or ()}
