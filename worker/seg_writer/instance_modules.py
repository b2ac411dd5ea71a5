"""The modules that every SEG object carries, whichever source it has: patient to SOP common (PS3.3 A.51)."""

from collections.abc import Iterable
from datetime import datetime

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import UID, ExplicitVRLittleEndian, SegmentationStorage

from dicom_core.identifiers import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, MANUFACTURER
from worker.seg_writer.catalogue import code_item
from worker.seg_writer.identity import SegmentationIdentity
from worker.seg_writer.segments import RESEARCH_USE, segment_sequence
from worker.seg_writer.source_header import (
    acquisition_equipment,
    copy_patient_and_study,
    lossy_compression,
    patient_orientation,
    text_of,
    time_zone,
)
from worker.seg_writer.text_values import LONG_STRING, long_string
from worker.segmenters.interface import Segmentation
from worker.source_series import SourceSeries

CONTENT_LABEL = "VESSELS"


def add_instance_modules(
    dataset: Dataset, source: SourceSeries, segmentation: Segmentation, identity: SegmentationIdentity
) -> None:
    """Complete a dataset that has its image, frames and dimensions; anything set before is overwritten."""
    copy_patient_and_study(source, dataset)
    zone = time_zone(source)
    created_at = identity.created_at.astimezone(zone) if zone else identity.created_at
    _add_series(dataset, source, identity, created_at)
    _add_equipment(dataset, source, identity, created_at)
    _add_content(dataset, identity, created_at)
    dataset.update(lossy_compression(source))
    dataset.SegmentSequence = segment_sequence(source, segmentation, identity)
    dataset.SegmentsOverlap = "YES" if bool((segmentation.mask.sum(axis=0, dtype="u1") > 1).any()) else "NO"
    if "FrameOfReferenceUID" not in dataset:
        dataset.PatientOrientation = patient_orientation(source)
    _add_references(dataset, source)
    _add_file_meta(dataset)


def _add_series(dataset: Dataset, source: SourceSeries, identity: SegmentationIdentity, created_at: datetime) -> None:
    dataset.Modality = "SEG"
    dataset.SeriesInstanceUID = identity.series_instance_uid
    dataset.SeriesNumber = identity.series_number
    dataset.SeriesDescription = _series_description(source, identity)
    dataset.SeriesDate, dataset.SeriesTime = _date_and_time(created_at)


def _series_description(source: SourceSeries, identity: SegmentationIdentity) -> str:
    """For example ``Vessels of series 3 (ridge 1.0) v2``, at most 64 characters with the generation kept."""
    number = text_of(source.datasets[0], "SeriesNumber")
    of_series = f" of series {number}" if isinstance(number, str) and number.isdigit() else ""
    generation = f" v{identity.generation}" if identity.generation > 1 else ""
    text = f"Vessels{of_series} ({identity.model_name} {identity.model_version})"
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
    # IHE AIR wants Device UID in the contributing equipment too, but dciodvfy of 2022 does not know it there yet; the
    # item carries the same UID as its serial number.
    dataset.DeviceUID = identity.device_uid
    own.ContributionDateTime = created_at.strftime("%Y%m%d%H%M%S.%f%z")
    own.ContributionDescription = "Automatic vessel segmentation. " + RESEARCH_USE
    own.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.ProcessingEquipment)]
    scanner = acquisition_equipment(source)
    dataset.ContributingEquipmentSequence = [own] if scanner is None else [scanner, own]


def _add_content(dataset: Dataset, identity: SegmentationIdentity, created_at: datetime) -> None:
    dataset.SOPClassUID = SegmentationStorage
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


def _add_file_meta(dataset: Dataset) -> None:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = SegmentationStorage
    meta.MediaStorageSOPInstanceUID = UID(dataset.SOPInstanceUID)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    dataset.file_meta = meta
    dataset.preamble = b"\0" * 128
