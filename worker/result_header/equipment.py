"""Series, equipment and file meta information of a result object: who made it, when, in which series."""

from datetime import datetime

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_core.identifiers import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, MANUFACTURER
from worker.result_header.catalogue import code_item
from worker.result_header.identity import RESEARCH_USE, ResultIdentity
from worker.result_header.source_header import acquisition_equipment, of_series, time_zone
from worker.result_header.text_values import LONG_STRING, long_string
from worker.source_series import SourceSeries


def moment_of(source: SourceSeries, identity: ResultIdentity) -> datetime:
    """When the object was made, in the time zone that the source's times are in."""
    zone = time_zone(source)
    return identity.created_at.astimezone(zone) if zone else identity.created_at


def set_moment(dataset: Dataset, moment: datetime, *prefixes: str) -> None:
    """Set ``PREFIXDate`` and ``PREFIXTime`` (DA and TM of PS3.5 table 6.2-1) for every prefix."""
    for prefix in prefixes:
        setattr(dataset, f"{prefix}Date", moment.strftime("%Y%m%d"))
        setattr(dataset, f"{prefix}Time", moment.strftime("%H%M%S.%f"))


def add_series(
    dataset: Dataset, source: SourceSeries, identity: ResultIdentity, *, modality: str, words: str, ending: str = ""
) -> None:
    """General Series (PS3.3 C.7.3.1).

    The description reads ``Vessels of series 3, phase 2 of 10 (ridge 1.0) v2``: at most 64 characters, with ``ending``
    and the generation always kept.
    """
    dataset.Modality = modality
    dataset.SeriesInstanceUID = identity.series_instance_uid
    dataset.SeriesNumber = identity.series_number
    ending += f" v{identity.generation}" if identity.generation > 1 else ""
    text = f"{words}{of_series(source)} ({identity.model_name} {identity.model_version})"
    dataset.SeriesDescription = long_string(text, LONG_STRING - len(ending)) + ending
    set_moment(dataset, moment_of(source, identity), "Series")


def add_equipment(dataset: Dataset, source: SourceSeries, identity: ResultIdentity, *, contribution: str) -> None:
    """General and Enhanced General Equipment, and the contributing equipment that IHE AIR asks for.

    PS3.3 C.7.5.1, C.7.5.2 and C.12.1. The manufacturer tells the listener that the object is ours.
    """
    own = Dataset()
    own.Manufacturer = MANUFACTURER
    own.ManufacturerModelName = long_string(identity.model_name) or "unnamed"
    own.DeviceSerialNumber = identity.device_uid
    own.SoftwareVersions = [
        long_string(version) or "unknown" for version in (identity.software_version, identity.model_version)
    ]
    dataset.update(own)
    # Also in the item, where IHE AIR looks for it (type 3 there, PS3.3 table C.12-1; dciodvfy of 2022 does not know).
    dataset.DeviceUID = own.DeviceUID = identity.device_uid
    own.ContributionDateTime = moment_of(source, identity).strftime("%Y%m%d%H%M%S.%f%z")
    own.ContributionDescription = f"{contribution} {RESEARCH_USE}"
    own.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.ProcessingEquipment)]
    scanner = acquisition_equipment(source)
    dataset.ContributingEquipmentSequence = [own] if scanner is None else [scanner, own]


def add_file_meta(dataset: Dataset, transfer_syntax: UID = ExplicitVRLittleEndian) -> None:
    """File meta information (PS3.10 section 7.1) and a preamble of zeros."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = UID(dataset.SOPInstanceUID)
    meta.TransferSyntaxUID = transfer_syntax
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    dataset.file_meta = meta
    dataset.preamble = b"\0" * 128
