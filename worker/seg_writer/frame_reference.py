"""The image part of a SEG whose source has no place in the patient: runs and pictures.

Without a frame of reference every pixel must correspond to the same pixel of the referenced frame (PS3.3 A.51.5.1), so
rows and columns equal the source and the Derivation Image macro carries the whole relation. highdicom refuses most of
these sources.
"""

from collections.abc import Iterable

import numpy as np
from pydicom.charset import convert_encodings
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_core.result import ResultKind
from worker.result_header.identity import ResultIdentity
from worker.result_header.text_values import decimal_strings
from worker.seg_writer.frame_items import per_frame_element, position_dimensions
from worker.seg_writer.stored_values import Values, add_pixels
from worker.source_series import SourceSeries

_SEGMENT_IDENTIFICATION = Tag("SegmentIdentificationSequence")
_FRAME_CONTENT = Tag("FrameContentSequence")
_UPRIGHT = ["1", "0", "0", "0", "1", "0"]


def assemble(
    source: SourceSeries,
    values: Values,
    identity: ResultIdentity,
    *,
    kind: ResultKind = ResultKind.SEG,
    omit_empty_frames: bool,
    viewer_hints: bool,
) -> Dataset:
    """Pixels, frames and dimensions of the SEG; ``add_instance_modules`` does the rest.

    Args:
        source: Of kind ``RUN`` or ``PICTURES``.
        values: What ``stored_values`` gives; all 0 only without ``omit_empty_frames``.
        identity: Gives the DimensionOrganizationUID.
        kind: Which object.
        omit_empty_frames: Leave out frames in which a segment has no pixel.
        viewer_hints: Add the shared plane orientation and pixel measures that OHIF and dcmqi expect; the strict object
            has neither, since there is no frame of reference (PS3.3 C.8.20.3.1).
    """
    by_segment = kind is not ResultKind.SEG_LABELMAP
    wanted = np.ones(values.shape[:2], np.bool_)
    if omit_empty_frames:
        values.any(axis=(2, 3), out=wanted)
    dataset = Dataset()
    add_pixels(dataset, values[wanted], kind)
    _add_dimensions(dataset, position_dimensions(source), identity.uid("dimension organization"), by_segment=by_segment)
    shared = _viewer_hints(source.datasets) if viewer_hints else Dataset()
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = per_frame_element(source, wanted, by_segment=by_segment)
    dataset[frames.tag] = frames
    # pydicom writes encoded sequences as they are when told that the dataset is in their encoding already
    dataset.set_original_encoding(False, True, convert_encodings("ISO_IR 192"))
    return dataset


def _add_dimensions(dataset: Dataset, positions: tuple[str, ...], organization_uid: str, *, by_segment: bool) -> None:
    """Multi-frame Dimension module (PS3.3 C.7.6.17): the segment where frames have one, then the position."""
    pointers = [(Tag("ReferencedSegmentNumber"), _SEGMENT_IDENTIFICATION)] if by_segment else []
    pointers += [(Tag(keyword), _FRAME_CONTENT) for keyword in positions]
    items = []
    for pointer, group in pointers:
        item = Dataset()
        item.DimensionOrganizationUID = organization_uid
        item.DimensionIndexPointer = pointer
        item.FunctionalGroupPointer = group
        items.append(item)
    dataset.DimensionIndexSequence = items
    organization = Dataset()
    organization.DimensionOrganizationUID = organization_uid
    dataset.DimensionOrganizationSequence = [organization]


def _viewer_hints(headers: Iterable[Dataset]) -> Dataset:
    shared = Dataset()
    orientation, measures = Dataset(), Dataset()
    headers = tuple(headers)
    turns = {tuple(_orientation(header)) for header in headers}
    orientation.ImageOrientationPatient = list(turns.pop()) if len(turns) == 1 else _UPRIGHT
    spacings = {tuple(_pixel_spacing(header)) for header in headers}
    measures.PixelSpacing = list(spacings.pop()) if len(spacings) == 1 else ["1", "1"]
    measures.SliceThickness = 1
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelMeasuresSequence = [measures]
    return shared


def _orientation(header: Dataset) -> list[str]:
    """Direction of rows and columns where the source tells it without a position, as OCT en face images do.

    OHIF refuses a segmentation that is turned against the orientation of its source.
    """
    cosines = header.get("ImageOrientationPatient")
    for groups in header.get("SharedFunctionalGroupsSequence") or ():
        for plane in groups.get("PlaneOrientationSequence") or ():
            cosines = cosines or plane.get("ImageOrientationPatient")
    try:
        numbers = decimal_strings(cosines or ())
    except (ValueError, TypeError):
        return _UPRIGHT
    return numbers if len(numbers) == 6 else _UPRIGHT


def _pixel_spacing(header: Dataset) -> list[str]:
    """PixelSpacing of the source as two positive numbers in mm, 1 where it has none."""
    spacing = header.get("PixelSpacing")
    for groups in header.get("SharedFunctionalGroupsSequence") or ():
        for measures in groups.get("PixelMeasuresSequence") or ():
            spacing = spacing or measures.get("PixelSpacing")
    try:
        numbers = decimal_strings(spacing or ())
    except (ValueError, TypeError):
        return ["1", "1"]
    return numbers if len(numbers) == 2 and all(float(number) > 0 for number in numbers) else ["1", "1"]
