"""Reading aids as a series of Secondary Capture objects (PS3.3 A.8.1 and A.8.5), uncompressed colour.

A single picture becomes a Secondary Capture Image, a run a Multi-frame True Color one that plays as the source does.
Both are as old as DICOM itself and open in every viewer; nothing in them is meant to be measured.
"""

from collections.abc import Sequence

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.uid import (
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from dicom_core.errors import InvalidSegmentationError
from dicom_core.identifiers import derived_uid
from worker.pictures.reading_aids import ReadingAid
from worker.result_header.equipment import add_equipment, add_file_meta, add_series, moment_of, set_moment
from worker.result_header.identity import ResultIdentity
from worker.result_header.source_header import (
    copy_patient_and_study,
    lossy_compression,
    patient_orientation,
    text_of,
)
from worker.sc_writer.derivation import add_derivation, headers_of
from worker.sc_writer.frames import add_frames, pixel_aspect_ratio, pixel_spacing
from worker.sc_writer.laterality import add_laterality
from worker.source_series import SourceSeries

_SUFFIX = " - research use"


def build_overlays(source: SourceSeries, aids: Sequence[ReadingAid], identity: ResultIdentity) -> tuple[Dataset, ...]:
    """One object for each reading aid, all in one series; the same arguments give the same objects.

    Args:
        source: The series, or the part of it, that the aids were drawn from.
        aids: In the order in which a reader should meet them.
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


def _build(source: SourceSeries, aid: ReadingAid, identity: ResultIdentity, number: int) -> Dataset:
    dataset = Dataset()
    copy_patient_and_study(source, dataset)
    # the modality of the source, so that viewers hang the overlay beside it; of a Secondary Capture it names the source
    # equipment (PS3.3 C.8.6.1)
    modality = text_of(source.datasets[0], "Modality") or "OT"
    add_series(dataset, source, identity, modality=str(modality), words="Vessel overlay", ending=_SUFFIX)
    _add_equipment(dataset, source, identity)
    _add_instance(dataset, source, aid, identity, number)
    headers = headers_of(source, aid)
    _add_image(dataset, source, aid, headers)
    add_derivation(dataset, aid, headers, identity)
    add_frames(dataset, aid, headers[0])
    add_file_meta(dataset)
    return dataset


def _add_equipment(dataset: Dataset, source: SourceSeries, identity: ResultIdentity) -> None:
    """General, SC and contributing equipment (PS3.3 C.7.5.1, C.8.6.1, C.12.1)."""
    add_equipment(dataset, source, identity, contribution="Automatic vessel segmentation.")
    dataset.ConversionType = "WSD"
    dataset.SecondaryCaptureDeviceManufacturer = dataset.Manufacturer
    dataset.SecondaryCaptureDeviceManufacturerModelName = dataset.ManufacturerModelName
    dataset.SecondaryCaptureDeviceSoftwareVersions = dataset.SoftwareVersions


def _add_instance(
    dataset: Dataset, source: SourceSeries, aid: ReadingAid, identity: ResultIdentity, number: int
) -> None:
    uid = identity.sop_instance_uid
    dataset.SOPInstanceUID = uid if number == 1 else derived_uid(uid, "overlay", number)
    is_run = len(aid.pixels) > 1
    dataset.SOPClassUID = MultiFrameTrueColorSecondaryCaptureImageStorage if is_run else SecondaryCaptureImageStorage
    dataset.InstanceNumber = number
    set_moment(dataset, moment_of(source, identity), "InstanceCreation", "Content")
    dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = dataset.ContentDate, dataset.ContentTime


def _add_image(dataset: Dataset, source: SourceSeries, aid: ReadingAid, headers: Sequence[Dataset]) -> None:
    """General Image: what of the source still holds for the pictures."""
    dataset.ImageType = ["DERIVED", "SECONDARY", aid.kind.value]
    dataset.BurnedInAnnotation = burned_in_annotation(headers)
    dataset.update(lossy_compression(source))
    dataset.PatientOrientation = patient_orientation(source) if aid.scale else ""
    add_laterality(dataset, headers)
    dataset.update(pixel_spacing(source, aid, headers[0]) or pixel_aspect_ratio(aid, headers[0]))


def burned_in_annotation(headers: Sequence[Dataset]) -> str:
    """``NO`` only where all sources say so.

    The attribute is about text that identifies the patient and the date (PS3.3 C.7.6.1); our caption does neither, but
    whatever stands in the pixels of the source still stands there, and a source that is silent promises nothing.
    """
    return "NO" if all(text_of(header, "BurnedInAnnotation") == "NO" for header in headers) else "YES"
