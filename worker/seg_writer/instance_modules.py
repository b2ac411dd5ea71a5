"""The modules that every SEG object carries, whichever source it has: patient to SOP common (PS3.3 A.51)."""

from collections.abc import Iterable
from datetime import datetime

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    RLELossless,
    SegmentationStorage,
)

from dicom_core.identifiers import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, MANUFACTURER
from dicom_core.result import ResultKind
from worker.seg_writer.catalogue import cielab, code_item
from worker.seg_writer.identity import SegmentationIdentity
from worker.seg_writer.segments import RESEARCH_USE, segment_sequence
from worker.seg_writer.source_header import (
    acquisition_equipment,
    copy_patient_and_study,
    lossy_compression,
    of_series,
    patient_orientation,
    time_zone,
)
from worker.seg_writer.stored_values import overlaps
from worker.seg_writer.text_values import LONG_STRING, long_string, short_text
from worker.segmenters.interface import Segmentation
from worker.source_series import SourceSeries

CONTENT_LABEL = "VESSELS"
_HIGHEST_WINS = "Where segments overlap, the highest number is stored."


_LABEL_MAP_STORAGE = UID("1.2.840.10008.5.1.4.1.1.66.7")
"""Label Map Segmentation Storage, which pydicom 3.0 does not name."""

_WORDS = {
    ResultKind.SEG: "Vessels",
    ResultKind.SEG_STRICT: "Vessels, strict,",
    ResultKind.SEG_DEFLATED: "Vessels, deflated,",
    ResultKind.SEG_FRACTIONAL: "Vessel probability",
    ResultKind.SEG_LABELMAP: "Vessel label map",
}
"""How each kind begins its series description, so that a reader can tell them apart in a list of series."""

_TRANSFER_SYNTAXES = {
    ResultKind.SEG_DEFLATED: DeflatedExplicitVRLittleEndian,
    ResultKind.SEG_FRACTIONAL: RLELossless,
    ResultKind.SEG_LABELMAP: RLELossless,
}
"""Of the kinds that are not in Explicit VR Little Endian."""


def add_instance_modules(
    dataset: Dataset,
    source: SourceSeries,
    segmentation: Segmentation,
    identity: SegmentationIdentity,
    kind: ResultKind = ResultKind.SEG,
) -> None:
    """Complete a dataset that has its image, frames and dimensions; anything set before is overwritten."""
    copy_patient_and_study(source, dataset)
    zone = time_zone(source)
    created_at = identity.created_at.astimezone(zone) if zone else identity.created_at
    _add_series(dataset, source, identity, created_at, kind)
    _add_equipment(dataset, source, identity, created_at)
    _add_content(dataset, identity, created_at)
    dataset.SOPClassUID = _LABEL_MAP_STORAGE if kind is ResultKind.SEG_LABELMAP else SegmentationStorage
    dataset.update(lossy_compression(source))
    _add_segments(dataset, source, segmentation, identity, kind)
    if "FrameOfReferenceUID" not in dataset:
        dataset.PatientOrientation = patient_orientation(source)
    _add_references(dataset, source)
    _add_file_meta(dataset, _TRANSFER_SYNTAXES.get(kind, ExplicitVRLittleEndian))


def _add_segments(
    dataset: Dataset,
    source: SourceSeries,
    segmentation: Segmentation,
    identity: SegmentationIdentity,
    kind: ResultKind,
) -> None:
    """Segment Sequence and Segments Overlap (PS3.3 C.8.20.2)."""
    segments = segment_sequence(source, segmentation, identity)
    if kind is ResultKind.SEG_LABELMAP:
        dataset.SegmentsOverlap = "NO"
        if overlaps(segmentation.mask):
            for item in segments:
                item.SegmentDescription = short_text(f"{_HIGHEST_WINS} {item.SegmentDescription}")
        segments.insert(0, _background())
    elif kind is ResultKind.SEG_FRACTIONAL and len(segments) > 1:
        dataset.SegmentsOverlap = "UNDEFINED"  # of probabilities nobody can tell
    else:
        dataset.SegmentsOverlap = "YES" if overlaps(segmentation.mask) else "NO"
    dataset.SegmentSequence = segments


def _background() -> Dataset:
    """Every value of a label map is described, 0 too (PS3.3 C.8.20.2.3)."""
    item = Dataset()
    item.SegmentNumber = 0
    item.SegmentLabel = "Background"
    item.SegmentedPropertyCategoryCodeSequence = [code_item(codes.DCM.Background)]
    item.SegmentedPropertyTypeCodeSequence = [code_item(codes.DCM.Background)]
    item.SegmentAlgorithmType = "AUTOMATIC"
    item.SegmentAlgorithmName = "Background"
    item.RecommendedDisplayCIELabValue = cielab((0, 0, 0))
    return item


def _add_series(
    dataset: Dataset, source: SourceSeries, identity: SegmentationIdentity, created_at: datetime, kind: ResultKind
) -> None:
    dataset.Modality = "SEG"
    dataset.SeriesInstanceUID = identity.series_instance_uid
    dataset.SeriesNumber = identity.series_number
    dataset.SeriesDescription = _series_description(source, identity, kind)
    dataset.SeriesDate, dataset.SeriesTime = _date_and_time(created_at)


def _series_description(source: SourceSeries, identity: SegmentationIdentity, kind: ResultKind) -> str:
    """For example ``Vessels of series 3, phase 2 of 10 (ridge 1.0) v2``: 64 characters with the generation kept."""
    generation = f" v{identity.generation}" if identity.generation > 1 else ""
    text = f"{_WORDS[kind]}{of_series(source)} ({identity.model_name} {identity.model_version})"
    return long_string(text, LONG_STRING - len(generation)) + generation


def _add_equipment(
    dataset: Dataset, source: SourceSeries, identity: SegmentationIdentity, created_at: datetime
) -> None:
    """General and Enhanced General Equipment, and the contributing equipment that IHE AIR asks for."""
    own = Dataset()
    own.Manufacturer = MANUFACTURER
    own.ManufacturerModelName = long_string(identity.model_name) or "unnamed"
    own.DeviceSerialNumber = identity.device_uid
    own.SoftwareVersions = [
        long_string(identity.software_version) or "unknown",
        long_string(identity.model_version) or "unknown",
    ]
    dataset.update(own)
    # Also in the item, where IHE AIR looks for it (type 3 there, PS3.3 table C.12-1; dciodvfy of 2022 does not know).
    dataset.DeviceUID = own.DeviceUID = identity.device_uid
    own.ContributionDateTime = created_at.strftime("%Y%m%d%H%M%S.%f%z")
    own.ContributionDescription = "Automatic vessel segmentation. " + RESEARCH_USE
    own.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.ProcessingEquipment)]
    scanner = acquisition_equipment(source)
    dataset.ContributingEquipmentSequence = [own] if scanner is None else [scanner, own]


def _add_content(dataset: Dataset, identity: SegmentationIdentity, created_at: datetime) -> None:
    dataset.SOPInstanceUID = identity.sop_instance_uid
    dataset.InstanceNumber = 1
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = _date_and_time(created_at)
    dataset.ContentDate, dataset.ContentTime = _date_and_time(created_at)
    dataset.ContentLabel = CONTENT_LABEL
    dataset.ContentDescription = long_string(f"Vessels found by {identity.model_name}, not reviewed")
    dataset.ContentCreatorName = ""


def _date_and_time(moment: datetime) -> tuple[str, str]:
    return moment.strftime("%Y%m%d"), moment.strftime("%H%M%S.%f")


def _add_references(dataset: Dataset, source: SourceSeries) -> None:
    """Common Instance Reference (PS3.3 C.12.2) and General Reference: every instance that was looked at."""
    references = [instance_reference(header) for header in source.datasets]
    series = Dataset()
    series.SeriesInstanceUID = source.datasets[0].SeriesInstanceUID
    series.ReferencedInstanceSequence = references
    dataset.ReferencedSeriesSequence = [series]
    dataset.SourceImageSequence = Sequence(_copies(references))


def _copies(references: Iterable[Dataset]) -> list[Dataset]:
    return [Dataset(reference) for reference in references]


def instance_reference(header: Dataset) -> Dataset:
    """An SOP Instance Reference item (PS3.3 table 10-11)."""
    reference = Dataset()
    reference.ReferencedSOPClassUID = header.SOPClassUID
    reference.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return reference


def _add_file_meta(dataset: Dataset, transfer_syntax: UID) -> None:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = UID(dataset.SOPInstanceUID)
    meta.TransferSyntaxUID = transfer_syntax
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    dataset.file_meta = meta
    dataset.preamble = b"\0" * 128
