"""The public face of this room: measurements in, a Comprehensive 3D SR object out (PS3.3 A.35.13)."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from pydicom import config
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, Comprehensive3DSRStorage, ExplicitVRLittleEndian

from dicom_core.errors import InvalidSegmentationError
from dicom_core.identifiers import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, MANUFACTURER
from worker.measurements.vessel_measurements import VesselMeasurements
from worker.seg_writer.catalogue import code_item
from worker.seg_writer.identity import SegmentationIdentity
from worker.seg_writer.segments import RESEARCH_USE
from worker.seg_writer.source_header import acquisition_equipment, copy_patient_and_study, of_series, time_zone
from worker.seg_writer.text_values import LONG_STRING, long_string
from worker.source_series import SourceSeries
from worker.sr_writer.concepts import private_scheme
from worker.sr_writer.content import report_content
from worker.sr_writer.segmentation_frames import ReferencedSegmentation, referenced_segmentation

_CONTENT = ("ValueType", "ConceptNameCodeSequence", "ContinuityOfContent", "ContentTemplateSequence", "ContentSequence")
"""What makes the root content item of a document (PS3.3 C.17.3)."""


def build_report(
    source: SourceSeries,
    segmentation_object: Dataset,
    measurements: VesselMeasurements,
    identity: SegmentationIdentity,
) -> Dataset:
    """Build the report of the vessels of one Segmentation object, in memory.

    The same arguments give the same bytes. None of them is changed.

    Args:
        source: What was segmented and measured.
        segmentation_object: The Segmentation that the numbers are about, from ``build_segmentation`` or read from its
            file; any kind of it. Its pixels are not looked at.
        measurements: From ``measure_vessels`` with the same source.
        identity: UIDs of the report's own series and instance, time and model. ``uid_seed`` plays no part: the UIDs
            that the report shares with the segmentation are taken from there.

    Returns:
        A dataset with file meta information, for ``encode_segmentation`` and ``save_segmentation``.

    Raises:
        InvalidSegmentationError: Nothing was measured, or the segmentation lacks what was measured.
    """
    if not measurements.regions:
        raise InvalidSegmentationError("Nothing was measured, so there is no report to write.")
    with config.disable_value_validation():  # odd values of the source are dealt with here, not warned of and logged
        segmentation = referenced_segmentation(segmentation_object)
        dataset = Dataset()
        copy_patient_and_study(source, dataset)
        dataset.pop("BodyPartExamined", None)  # of images; the finding sites tell it
        zone = time_zone(source)
        created_at = identity.created_at.astimezone(zone) if zone else identity.created_at
        _add_series(dataset, source, identity)
        _add_equipment(dataset, source, identity, created_at)
        _add_document(dataset, source, segmentation, identity, created_at)
        content = report_content(source, segmentation, measurements, identity)
        dataset.update({content[keyword].tag: content[keyword] for keyword in _CONTENT if keyword in content})
        _add_file_meta(dataset)
    return dataset


def _add_series(dataset: Dataset, source: SourceSeries, identity: SegmentationIdentity) -> None:
    """SR Document Series module (PS3.3 C.17.1)."""
    dataset.Modality = "SR"
    dataset.SeriesInstanceUID = identity.series_instance_uid
    dataset.SeriesNumber = identity.series_number
    generation = f" v{identity.generation}" if identity.generation > 1 else ""
    text = f"Vessel measurements{of_series(source)} ({identity.model_name} {identity.model_version})"
    dataset.SeriesDescription = long_string(text, LONG_STRING - len(generation)) + generation
    dataset.ReferencedPerformedProcedureStepSequence = []


def _add_equipment(
    dataset: Dataset, source: SourceSeries, identity: SegmentationIdentity, created_at: datetime
) -> None:
    """General Equipment, and the contributing equipment that IHE AIR asks for."""
    own = Dataset()
    own.Manufacturer = MANUFACTURER
    own.ManufacturerModelName = long_string(identity.model_name) or "unnamed"
    own.DeviceSerialNumber = identity.device_uid
    own.SoftwareVersions = [
        long_string(identity.software_version) or "unknown",
        long_string(identity.model_version) or "unknown",
    ]
    dataset.update(own)
    dataset.DeviceUID = identity.device_uid
    own.DeviceUID = identity.device_uid  # IHE AIR looks for it here; dciodvfy of 2022 does not know it here yet
    own.ContributionDateTime = created_at.strftime("%Y%m%d%H%M%S.%f%z")
    own.ContributionDescription = "Automatic vessel measurement. " + RESEARCH_USE
    own.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.ProcessingEquipment)]
    scanner = acquisition_equipment(source)
    dataset.ContributingEquipmentSequence = [own] if scanner is None else [scanner, own]


def _add_document(
    dataset: Dataset,
    source: SourceSeries,
    segmentation: ReferencedSegmentation,
    identity: SegmentationIdentity,
    created_at: datetime,
) -> None:
    """SR Document General and SOP Common modules (PS3.3 C.17.2, C.12.1)."""
    dataset.SOPClassUID = Comprehensive3DSRStorage
    dataset.SOPInstanceUID = identity.sop_instance_uid
    dataset.CodingSchemeIdentificationSequence = [private_scheme()]
    dataset.InstanceNumber = 1
    date, time = created_at.strftime("%Y%m%d"), created_at.strftime("%H%M%S.%f")
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = date, time
    dataset.SeriesDate, dataset.SeriesTime = date, time
    dataset.ContentDate, dataset.ContentTime = date, time
    dataset.PreliminaryFlag = "PRELIMINARY"
    dataset.CompletionFlag = "COMPLETE"
    dataset.CompletionFlagDescription = "All that was measured automatically"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.PerformedProcedureCodeSequence = []
    dataset.CurrentRequestedProcedureEvidenceSequence = [_evidence(source, segmentation)]


def _evidence(source: SourceSeries, segmentation: ReferencedSegmentation) -> Dataset:
    """Hierarchical SOP Instance Reference macro (PS3.3 C.17.2.1): every instance that the content refers to."""
    header = source.datasets[0]
    images = [(str(header.SOPClassUID), str(header.SOPInstanceUID)) for header in source.datasets]
    by_series: Mapping[str, Sequence[tuple[str, str]]] = {
        str(header.SeriesInstanceUID): images,
        segmentation.series_instance_uid: [(segmentation.sop_class_uid, segmentation.sop_instance_uid)],
    }
    study = Dataset()
    study.StudyInstanceUID = header.StudyInstanceUID
    study.ReferencedSeriesSequence = [_series_of(uid, instances) for uid, instances in by_series.items()]
    return study


def _series_of(series_instance_uid: str, instances: Sequence[tuple[str, str]]) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = series_instance_uid
    series.ReferencedSOPSequence = list(_references(instances))
    return series


def _references(instances: Sequence[tuple[str, str]]) -> Iterator[Dataset]:
    for sop_class_uid, sop_instance_uid in instances:
        reference = Dataset()
        reference.ReferencedSOPClassUID = sop_class_uid
        reference.ReferencedSOPInstanceUID = sop_instance_uid
        yield reference


def _add_file_meta(dataset: Dataset) -> None:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = Comprehensive3DSRStorage
    meta.MediaStorageSOPInstanceUID = UID(dataset.SOPInstanceUID)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    dataset.file_meta = meta
    dataset.preamble = b"\0" * 128
