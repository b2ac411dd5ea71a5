"""The content tree of a report: TID 1500 with one measurement group a measured region (PS3.16 TID 1410 and 1411)."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

from highdicom.sr import (
    AlgorithmIdentification,
    CodeContentItem,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    ImageContentItem,
    Measurement,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    ReferencedSegment,
    ReferencedSegmentationFrame,
    RelationshipTypeValues,
    SourceImageForSegmentation,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from dicom_core.identifiers import MANUFACTURER
from worker.image_stack import FrameIdentity
from worker.measurements.vessel_measurements import SIGNIFICANT_DIGITS, RegionMeasurements, VesselMeasurements
from worker.measurements.vessel_measurements import Measurement as VesselMeasurement
from worker.result_header.identity import RESEARCH_USE, ResultIdentity
from worker.result_header.source_header import text_of
from worker.result_header.text_values import long_string
from worker.source_series import SourceKind, SourceSeries
from worker.sr_writer.concepts import CONCEPTS, UNITS, procedure_of
from worker.sr_writer.segmentation_frames import ReferencedSegmentation

_MODALITY_SCHEME = "DCM"
_SOURCE = Code("260753009", "SCT", "Source")


def report_content(
    source: SourceSeries,
    segmentation: ReferencedSegmentation,
    measurements: VesselMeasurements,
    identity: ResultIdentity,
) -> Dataset:
    """The root container of the report, as highdicom builds it.

    Args:
        source: What was measured.
        segmentation: The object whose segments were measured; labels, codes, tracking and algorithm are taken from it,
            so that report and segmentation cannot disagree.
        measurements: At least one region.
        identity: The device that observes.

    Raises:
        InvalidSegmentationError: A measured frame is not in the segmentation.
    """
    report = MeasurementReport(
        observation_context=_observation_context(identity),
        procedure_reported=procedure_of(source.imaging),
        imaging_measurements=[
            _group(source, segmentation, region, measurements.spacing.statement) for region in measurements.regions
        ],
    )
    root: Dataset = report[0]
    # Row 6 of TID 1500: the library stands before the measurements
    items = list(root.ContentSequence)
    root.ContentSequence = ContentSequence([*items[:-1], _image_library(source), items[-1]])
    return root


def _observation_context(identity: ResultIdentity) -> ObservationContext:
    """TID 1001 with a device as the observer (TID 1004)."""
    device = DeviceObserverIdentifyingAttributes(
        uid=identity.device_uid,
        name=long_string(f"{identity.model_name} {identity.model_version}"),
        manufacturer_name=MANUFACTURER,
        model_name=long_string(identity.model_name) or "unnamed",
    )
    return ObservationContext(
        observer_device_context=ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    )


def _image_library(source: SourceSeries) -> ContainerContentItem:
    """TID 1600: every instance that was looked at, in one group with its modality."""
    group = ContainerContentItem(name=codes.DCM.ImageLibraryGroup, relationship_type=RelationshipTypeValues.CONTAINS)
    modality = text_of(source.datasets[0], "Modality")
    known = _modality(modality if isinstance(modality, str) else "")
    items: list[ContentItem] = []
    if known is not None:
        items.append(
            CodeContentItem(
                name=codes.DCM.Modality, value=known, relationship_type=RelationshipTypeValues.HAS_ACQ_CONTEXT
            )
        )
    items += (
        ImageContentItem(
            name=_SOURCE,
            referenced_sop_class_uid=str(header.SOPClassUID),
            referenced_sop_instance_uid=str(header.SOPInstanceUID),
            relationship_type=RelationshipTypeValues.CONTAINS,
        )
        for header in source.datasets
    )
    group.ContentSequence = ContentSequence(items)
    library = ContainerContentItem(
        name=codes.DCM.ImageLibrary, relationship_type=RelationshipTypeValues.CONTAINS, template_id="1600"
    )
    library.ContentSequence = ContentSequence([group])
    return library


@lru_cache
def _modality(term: str) -> Code | None:
    """The code of a Modality term (PS3.16 CID 29)."""
    for name in dir(codes.cid29):
        code = getattr(codes.cid29, name)
        if isinstance(code, Code) and (code.value, code.scheme_designator) == (term, _MODALITY_SCHEME):
            return code
    return None


# --- one measurement group --------------------------------------------------------------------------------------------


def _group(
    source: SourceSeries, segmentation: ReferencedSegmentation, region: RegionMeasurements, statement: str
) -> PlanarROIMeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations:
    segment = segmentation.segments[region.segment_number]
    shared = {
        "tracking_identifier": TrackingIdentifier(uid=segment.TrackingUID, identifier=segment.TrackingID),
        "finding_category": _code(segment.SegmentedPropertyCategoryCodeSequence),
        "finding_type": _code(segment.SegmentedPropertyTypeCodeSequence),
        "finding_sites": list(_finding_sites(segment)),
        "algorithm_id": _algorithm(segment),
        "measurements": [_number(found) for found in region.measurements],
    }
    if region.frame is None:
        group = VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=_referenced_segment(source, segmentation, region.segment_number), **shared
        )
    else:
        group = PlanarROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=_referenced_frame(source, segmentation, region.segment_number, region.frame), **shared
        )
    place = [] if region.frame is None or region.frame_count == 1 else [f"Measured in {region.place}."]
    group[0].ContentSequence.extend(_comments([RESEARCH_USE, statement, *place, *region.warnings]))
    return group


def _number(found: VesselMeasurement) -> Measurement:
    """TID 300: one NUM content item, with its derivation."""
    concept = CONCEPTS[found.quantity]
    number = Measurement(name=concept.name, value=found.value, unit=UNITS[found.unit], derivation=concept.derivation)
    # Counts without a decimal point; the value as a float stands beside it
    number[0].MeasuredValueSequence[0].NumericValue = f"{found.value:.{SIGNIFICANT_DIGITS}g}"
    return number


def _comments(sentences: Sequence[str]) -> Iterator[TextContentItem]:
    """Text rows of TID 1501, each a sentence."""
    for sentence in sentences:
        yield TextContentItem(name=codes.DCM.Comment, value=sentence, relationship_type=RelationshipTypeValues.CONTAINS)


def _code(sequence: Sequence[Dataset]) -> Code:
    item = sequence[0]
    return Code(str(item.CodeValue), str(item.CodingSchemeDesignator), str(item.CodeMeaning))


def _finding_sites(segment: Dataset) -> Iterator[FindingSite]:
    for region in segment.get("AnatomicRegionSequence") or ():
        sides = region.get("AnatomicRegionModifierSequence")
        yield FindingSite(anatomic_location=_code([region]), laterality=_code(sides) if sides else None)


def _algorithm(segment: Dataset) -> AlgorithmIdentification:
    """TID 4019: what the segment was found with."""
    found = segment.SegmentationAlgorithmIdentificationSequence[0]
    parameters = str(found.get("AlgorithmParameters") or "").splitlines()
    return AlgorithmIdentification(
        name=str(found.AlgorithmName),
        version=str(found.AlgorithmVersion),
        parameters=[line for line in parameters if line] or None,
        family=_code(found.AlgorithmFamilyCodeSequence),
        manufacturer=MANUFACTURER,
    )


def _referenced_segment(
    source: SourceSeries, segmentation: ReferencedSegmentation, segment_number: int
) -> ReferencedSegment:
    """The segment and its source: the series where all of it was used, else the instances."""
    whole = source.kind is SourceKind.SLICES and source.parts == 1 and not source.left_out
    images = None if whole else [_source_image(header) for header in source.datasets]
    series = SourceSeriesForSegmentation(str(source.datasets[0].SeriesInstanceUID)) if whole else None
    return ReferencedSegment(
        sop_class_uid=segmentation.sop_class_uid,
        sop_instance_uid=segmentation.sop_instance_uid,
        segment_number=segment_number,
        source_images=images,
        source_series=series,
    )


def _referenced_frame(
    source: SourceSeries, segmentation: ReferencedSegmentation, segment_number: int, frame: FrameIdentity
) -> ReferencedSegmentationFrame:
    header = next(header for header in source.datasets if str(header.SOPInstanceUID) == frame.sop_instance_uid)
    reference = ReferencedSegmentationFrame(
        sop_class_uid=segmentation.sop_class_uid,
        sop_instance_uid=segmentation.sop_instance_uid,
        frame_number=segmentation.frame_number(segment_number, frame),
        segment_number=segment_number,
        source_image=_source_image(header, frame.frame_number),
    )
    # A reference names frames or segments, never both (PS3.3 table 10-3); highdicom writes both
    del reference[0].ReferencedSOPSequence[0].ReferencedSegmentNumber
    return reference


def _source_image(header: Dataset, frame_number: int | None = None) -> SourceImageForSegmentation:
    multi_frame = int(header.get("NumberOfFrames") or 1) > 1
    return SourceImageForSegmentation(
        referenced_sop_class_uid=str(header.SOPClassUID),
        referenced_sop_instance_uid=str(header.SOPInstanceUID),
        referenced_frame_numbers=[frame_number] if frame_number and multi_frame else None,
    )
