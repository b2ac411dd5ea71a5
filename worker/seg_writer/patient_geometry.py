"""The image part of a SEG whose source has its place in the patient, built by highdicom.

highdicom is given fresh headers that hold geometry and nothing else: it needs no patient, and odd values elsewhere in a
source cannot trip it. ``add_instance_modules`` adds the rest.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np
from highdicom.content import AlgorithmIdentificationSequence
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from highdicom.seg import Segmentation as HighdicomSegmentation
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from dicom_core.errors import UnsupportedSourceError
from dicom_core.identifiers import MANUFACTURER
from dicom_core.result import ResultKind
from worker.result_header.catalogue import CATEGORY
from worker.result_header.identity import ResultIdentity
from worker.result_header.source_header import text_of
from worker.result_header.text_values import decimal_strings
from worker.seg_writer.stored_values import Values, add_pixels
from worker.source_images.functional_groups import functional_group
from worker.source_series import SourceKind, SourceSeries

_ORIENTATION_NOISE = 1e-3
"""Direction cosines that differ by less describe the same plane; writers round them differently from slice to slice."""

_UNIT_VECTOR_NOISE = 1e-4
"""Direction cosines of six digits stay below; those of two digits are no unit vectors to a validator."""


def assemble(
    source: SourceSeries,
    values: Values,
    identity: ResultIdentity,
    *,
    kind: ResultKind = ResultKind.SEG,
    omit_empty_frames: bool,
) -> Dataset:
    """Pixels, frames, geometry and dimensions of the SEG.

    Args:
        source: Of kind ``SLICES`` or ``ENHANCED``.
        values: What ``stored_values`` gives; all 0 only without ``omit_empty_frames``.
        identity: Gives the UIDs.
        kind: Which object.
        omit_empty_frames: Leave out frames in which a segment has no voxel.

    Raises:
        UnsupportedSourceError: The geometry is incomplete or contradicts itself.
    """
    try:
        if source.kind is SourceKind.ENHANCED:
            numbers = [frame.frame_number for frame in source.frames]
            headers = [_enhanced_header(source.datasets[0], sorted(numbers))]
            values = values[:, np.argsort(numbers)]
        else:
            headers = _slice_headers(source)
        built = _build(headers, values, identity, kind, omit_empty_frames=omit_empty_frames)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UnsupportedSourceError(
            "The slices of the series do not form a geometry that a DICOM Segmentation can express; "
            "look for missing or contradicting positions, orientations or pixel spacing."
        ) from error
    dataset = Dataset(built)
    if values.dtype != np.bool_:
        _store_values(dataset, values, kind, headers)
    if source.kind is SourceKind.ENHANCED:
        _name_source_frames(dataset, source)
    _identify_segments_in_every_frame(dataset)
    _fix_dimension_organization(dataset, identity.uid("dimension organization"))
    return dataset


def _build(
    headers: Sequence[Dataset],
    values: Values,
    identity: ResultIdentity,
    kind: ResultKind,
    *,
    omit_empty_frames: bool,
) -> Dataset:
    """What highdicom makes of where the values are, without compression.

    A fractional object starts as a binary one: highdicom takes probabilities as 32 bit floats only and sorts all of
    them, which a large volume has no memory for.
    """
    is_label_map = kind is ResultKind.SEG_LABELMAP
    segments = max(1, int(values.max())) if is_label_map else len(values)
    segmentation: Dataset = HighdicomSegmentation(
        source_images=headers,
        pixel_array=values[0] if is_label_map else np.moveaxis(values.astype(np.bool_, copy=False), 0, -1),
        segmentation_type=SegmentationTypeValues.LABELMAP if is_label_map else SegmentationTypeValues.BINARY,
        segment_descriptions=[_placeholder(number) for number in range(1, segments + 1)],
        series_instance_uid=identity.series_instance_uid,
        series_number=identity.series_number,
        sop_instance_uid=identity.sop_instance_uid,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions="unknown",
        device_serial_number="unknown",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_label="VESSELS",
        omit_empty_frames=omit_empty_frames,
        specific_character_set="ISO_IR 192",
    )
    return segmentation


def _placeholder(number: int) -> SegmentDescription:
    """Descriptions that highdicom wants; ``add_instance_modules`` replaces them."""
    return SegmentDescription(
        segment_number=number,
        segment_label=str(number),
        segmented_property_category=CATEGORY,
        segmented_property_type=codes.SCT.BloodVessel,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence("-", codes.DCM.ArtificialIntelligence, "-"),
    )


def _store_values(dataset: Dataset, values: Values, kind: ResultKind, headers: Sequence[Dataset]) -> None:
    """Replace highdicom's pixels by the values of the same frames, in the order in which it put the frames."""
    if kind is ResultKind.SEG_LABELMAP:
        frames = np.frombuffer(dataset.PixelData, np.uint8, int(dataset.NumberOfFrames) * values[0, 0].size)
        add_pixels(dataset, frames.reshape(-1, *values.shape[2:]), kind)
        return
    ordered = np.stack([values[place] for place in _places_of_frames(dataset, headers)])
    add_pixels(dataset, ordered, kind)


def _places_of_frames(dataset: Dataset, headers: Sequence[Dataset]) -> Iterator[tuple[int, int]]:
    """Segment and source frame of each frame, as indices."""
    index_of = {header.SOPInstanceUID: index for index, header in enumerate(headers)}
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        owner = groups if "SegmentIdentificationSequence" in groups else dataset.SharedFunctionalGroupsSequence[0]
        segment = owner.SegmentIdentificationSequence[0].ReferencedSegmentNumber - 1
        image = groups.DerivationImageSequence[0].SourceImageSequence[0]
        number = image.get("ReferencedFrameNumber")
        yield segment, index_of[image.ReferencedSOPInstanceUID] if number is None else int(number) - 1


# --- geometry of the source -------------------------------------------------------------------------------------------


def _base_header(header: Dataset) -> Dataset:
    base = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(base, keyword, str(header[keyword].value))
    base.Modality = "OT"
    base.Rows, base.Columns = int(header.Rows), int(header.Columns)
    base.PositionReferenceIndicator = ""
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
        setattr(base, keyword, "")
    base.StudyDate = base.StudyTime = None
    return base


def _slice_headers(source: SourceSeries) -> list[Dataset]:
    """One header a frame of the mask; all share the first slice's orientation, spacing and thickness."""
    by_uid = {str(header.SOPInstanceUID): header for header in source.datasets}
    slices = [by_uid[frame.sop_instance_uid] for frame in source.frames]
    orientation = _agreed_orientation([header.ImageOrientationPatient for header in slices])
    positions = [decimal_strings(header.ImagePositionPatient) for header in slices]
    spacing = decimal_strings(slices[0].PixelSpacing)
    thickness = _slice_thickness(slices[0], positions)
    headers = []
    for header, position in zip(slices, positions, strict=True):
        base = _base_header(header)
        base.ImageOrientationPatient = orientation
        base.ImagePositionPatient = position
        base.PixelSpacing = spacing
        base.SliceThickness = thickness
        headers.append(base)
    return headers


def _enhanced_header(header: Dataset, numbers: Sequence[int]) -> Dataset:
    """A multi-frame header with the three plane macros (PS3.3 C.7.6.16.2.1, .3 and .4) and nothing else.

    It has the frames with these numbers only: those of another phase or orientation would contradict them.
    """
    orientations = [_macro(header, number, "PlaneOrientationSequence").ImageOrientationPatient for number in numbers]
    positions = [
        decimal_strings(_macro(header, number, "PlanePositionSequence").ImagePositionPatient) for number in numbers
    ]
    measures = _macro(header, numbers[0], "PixelMeasuresSequence")
    base = _base_header(header)
    base.NumberOfFrames = len(numbers)
    base.SharedFunctionalGroupsSequence = [
        _groups(
            PlaneOrientationSequence={"ImageOrientationPatient": _agreed_orientation(orientations)},
            PixelMeasuresSequence={
                "PixelSpacing": decimal_strings(measures.PixelSpacing),
                "SliceThickness": _slice_thickness(measures, positions),
            },
        )
    ]
    base.PerFrameFunctionalGroupsSequence = [
        _groups(PlanePositionSequence={"ImagePositionPatient": position}) for position in positions
    ]
    return base


def _macro(header: Dataset, frame_number: int, keyword: str) -> Dataset:
    found = functional_group(header, frame_number, keyword)
    if found is None:
        raise ValueError(f"no {keyword}")
    return found


def _groups(**macros: dict[str, object]) -> Dataset:
    groups = Dataset()
    for keyword, attributes in macros.items():
        item = Dataset()
        for name, value in attributes.items():
            setattr(item, name, value)
        setattr(groups, keyword, [item])
    return groups


def _agreed_orientation(orientations: Sequence[Sequence[float]]) -> list[str]:
    """The first orientation, when all others differ from it by rounding noise only; made unit vectors if coarse."""
    cosines = np.array([[float(value) for value in orientation] for orientation in orientations])
    if cosines.shape[1:] != (6,) or np.abs(cosines - cosines[0]).max() > _ORIENTATION_NOISE:
        raise ValueError("orientations differ")
    row, column = cosines[0, :3], cosines[0, 3:]
    if max(abs(row @ row - 1), abs(column @ column - 1), abs(row @ column)) < _UNIT_VECTOR_NOISE:
        return decimal_strings(orientations[0])
    row /= np.linalg.norm(row)
    column -= (column @ row) * row
    return decimal_strings(map(float, (*row, *column / np.linalg.norm(column))))


def _slice_thickness(measures: Dataset, positions: Sequence[Sequence[str]]) -> str:
    """SliceThickness in mm; where the source has none of use, the median distance between neighbours, else 1."""
    thickness = text_of(measures, "SliceThickness")
    with suppress(ValueError):
        if float(str(thickness)) > 0:
            return decimal_strings([thickness])[0]
    points = np.array([[float(value) for value in position] for position in positions])
    distances = np.linalg.norm(np.diff(points, axis=0), axis=1)
    distance = round(float(np.median(distances)), 4) if len(distances) else 0.0
    return decimal_strings([distance if distance > 0 else 1])[0]


# --- what viewers need on top of highdicom's object -------------------------------------------------------------------


def _name_source_frames(dataset: Dataset, source: SourceSeries) -> None:
    """Number the referenced frames as the source does, not as the header that highdicom saw."""
    numbers = sorted(frame.frame_number for frame in source.frames)
    if numbers == list(range(1, len(numbers) + 1)):
        return
    images = (
        groups.DerivationImageSequence[0].SourceImageSequence[0] for groups in dataset.PerFrameFunctionalGroupsSequence
    )
    for image in {id(image): image for image in images}.values():  # highdicom gives one item to several segments
        image.ReferencedFrameNumber = numbers[int(image.ReferencedFrameNumber) - 1]


def _identify_segments_in_every_frame(dataset: Dataset) -> None:
    """Weasis reads SegmentIdentificationSequence of each frame only, so it may not be shared."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    if "SegmentIdentificationSequence" not in shared:
        return
    element: DataElement = shared["SegmentIdentificationSequence"]
    del shared["SegmentIdentificationSequence"]
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        groups.add(element)


def _fix_dimension_organization(dataset: Dataset, uid: str) -> None:
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid
