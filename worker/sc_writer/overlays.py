"""Reading aids as a series of Secondary Capture objects (PS3.3 A.8.1 and A.8.5), uncompressed colour.

A single picture becomes a Secondary Capture Image, a run a Multi-frame True Color one that plays as the source does.
Both are as old as DICOM itself and open in every viewer; nothing in them is meant to be measured.
"""

from collections.abc import Sequence
from datetime import datetime

from pydicom import config
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from dicom_core.errors import InvalidSegmentationError
from dicom_core.identifiers import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, MANUFACTURER, derived_uid
from worker.pictures.reading_aids import ReadingAid
from worker.sc_writer.derivation import add_derivation, headers_of
from worker.sc_writer.frames import add_frames, pixel_spacing
from worker.sc_writer.laterality import add_laterality
from worker.seg_writer.catalogue import code_item
from worker.seg_writer.identity import SegmentationIdentity
from worker.seg_writer.segments import RESEARCH_USE
from worker.seg_writer.source_header import (
    acquisition_equipment,
    copy_patient_and_study,
    lossy_compression,
    patient_orientation,
    text_of,
    time_zone,
)
from worker.seg_writer.text_values import LONG_STRING, long_string
from worker.source_series import SourceSeries

_SUFFIX = " - research use"


def build_overlays(
    source: SourceSeries, aids: Sequence[ReadingAid], identity: SegmentationIdentity
) -> tuple[Dataset, ...]:
    """One object for each reading aid, all in one series; the same arguments give the same objects.

    Args:
        source: The series, or the part of it, that the aids were drawn from.
        aids: In the order in which a reader should meet them. Of a series of several runs: those of all runs.
        identity: Of the overlay series. The first object has its SOPInstanceUID, further ones are derived from that.

    Returns:
        Complete datasets with file meta information, in the order of ``aids``, numbered from 1.

    Raises:
        InvalidSegmentationError: There is no aid, or one was not drawn from this source.
    """
    if not aids:
        raise InvalidSegmentationError("There is no picture to make an overlay object of.")
    with config.disable_value_validation():  # odd values of the source are dealt with here, not warned of and logged
        return tuple(_build(source, aid, identity, number) for number, aid in enumerate(aids, 1))


def _build(source: SourceSeries, aid: ReadingAid, identity: SegmentationIdentity, number: int) -> Dataset:
    zone = time_zone(source)
    created_at = identity.created_at.astimezone(zone) if zone else identity.created_at
    dataset = Dataset()
    copy_patient_and_study(source, dataset)
    _add_series(dataset, source, identity, created_at)
    _add_equipment(dataset, source, identity, created_at)
    _add_instance(dataset, aid, identity, number, created_at)
    headers = headers_of(source, aid)
    _add_image(dataset, source, aid, headers)
    add_derivation(dataset, aid, headers, identity)
    add_frames(dataset, aid, headers[0])
    _add_file_meta(dataset)
    return dataset


def _add_series(dataset: Dataset, source: SourceSeries, identity: SegmentationIdentity, created_at: datetime) -> None:
    """General Series with the modality of the source, so that viewers hang the overlay beside it.

    For a Secondary Capture the attribute names the source equipment (PS3.3 C.8.6.1).
    """
    dataset.Modality = text_of(source.datasets[0], "Modality") or "OT"
    dataset.SeriesInstanceUID = identity.series_instance_uid
    dataset.SeriesNumber = identity.series_number
    dataset.SeriesDescription = _series_description(source, identity)
    dataset.SeriesDate, dataset.SeriesTime = _date_and_time(created_at)


def _series_description(source: SourceSeries, identity: SegmentationIdentity) -> str:
    """For example ``Vessel overlay of series 3 (ridge 1.0) - research use v2``, at most 64 characters."""
    number = text_of(source.datasets[0], "SeriesNumber")
    of_series = f" of series {number}" if isinstance(number, str) and number.isdigit() else ""
    of_part = f", {source.part_label}" if source.part_label else ""
    ending = _SUFFIX + (f" v{identity.generation}" if identity.generation > 1 else "")
    text = f"Vessel overlay{of_series}{of_part} ({identity.model_name} {identity.model_version})"
    return long_string(text, LONG_STRING - len(ending)) + ending


def _add_equipment(
    dataset: Dataset, source: SourceSeries, identity: SegmentationIdentity, created_at: datetime
) -> None:
    """General, SC and contributing equipment (PS3.3 C.7.5.1, C.8.6.1, C.12.1); the manufacturer stops loops."""
    own = Dataset()
    own.Manufacturer = MANUFACTURER
    own.ManufacturerModelName = long_string(identity.model_name) or "unnamed"
    own.DeviceSerialNumber = identity.device_uid
    own.SoftwareVersions = [
        long_string(version) or "unknown" for version in (identity.software_version, identity.model_version)
    ]
    dataset.update(own)
    dataset.ConversionType = "WSD"
    dataset.DeviceUID = own.DeviceUID = identity.device_uid  # in the item too: IHE AIR looks for it there
    dataset.SecondaryCaptureDeviceManufacturer = own.Manufacturer
    dataset.SecondaryCaptureDeviceManufacturerModelName = own.ManufacturerModelName
    dataset.SecondaryCaptureDeviceSoftwareVersions = own.SoftwareVersions
    own.ContributionDateTime = created_at.strftime("%Y%m%d%H%M%S.%f%z")
    own.ContributionDescription = "Automatic vessel segmentation. " + RESEARCH_USE
    own.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.ProcessingEquipment)]
    scanner = acquisition_equipment(source)
    dataset.ContributingEquipmentSequence = [own] if scanner is None else [scanner, own]


def _add_instance(
    dataset: Dataset, aid: ReadingAid, identity: SegmentationIdentity, number: int, created_at: datetime
) -> None:
    uid = identity.sop_instance_uid
    dataset.SOPInstanceUID = uid if number == 1 else derived_uid(uid, "overlay", number)
    is_run = len(aid.pixels) > 1
    dataset.SOPClassUID = MultiFrameTrueColorSecondaryCaptureImageStorage if is_run else SecondaryCaptureImageStorage
    dataset.InstanceNumber = number
    for keyword in ("InstanceCreation", "Content"):
        day, time = _date_and_time(created_at)
        setattr(dataset, f"{keyword}Date", day)
        setattr(dataset, f"{keyword}Time", time)
    dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = _date_and_time(created_at)


def _date_and_time(moment: datetime) -> tuple[str, str]:
    return moment.strftime("%Y%m%d"), moment.strftime("%H%M%S.%f")


def _add_image(dataset: Dataset, source: SourceSeries, aid: ReadingAid, headers: Sequence[Dataset]) -> None:
    """General Image: what of the source still holds for the pictures."""
    dataset.ImageType = ["DERIVED", "SECONDARY", aid.kind.value]
    dataset.BurnedInAnnotation = burned_in_annotation(headers)
    dataset.update(lossy_compression(source))
    dataset.PatientOrientation = patient_orientation(source) if aid.scale else ""
    add_laterality(dataset, headers)
    dataset.update(pixel_spacing(source, aid, headers[0]))


def burned_in_annotation(headers: Sequence[Dataset]) -> str:
    """``NO`` only where all sources say so.

    The attribute is about text that identifies the patient and the date (PS3.3 C.7.6.1); our caption does neither, but
    whatever stands in the pixels of the source still stands there, and a source that is silent promises nothing.
    """
    return "NO" if all(text_of(header, "BurnedInAnnotation") == "NO" for header in headers) else "YES"


def _add_file_meta(dataset: Dataset) -> None:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = UID(dataset.SOPInstanceUID)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    dataset.file_meta = meta
    dataset.preamble = b"\0" * 128
