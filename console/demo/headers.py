"""The DICOM headers of the generated studies, module by module, without pixels."""

from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    OphthalmicPhotography8BitImageStorage,
    XRayAngiographicImageStorage,
)

from dicom_core.errors import ConfigurationError
from dicom_core.identifiers import derived_uid

_DATE, _TIME = "20260105", "101500"
"""Fixed, so that the same seed gives the same bytes."""


def plain_header(subject: str, seed: int, study: str, series: str, instance: str, instance_number: int) -> Dataset:
    """Patient, General Study, General Series, General Equipment, General Image and SOP Common (PS3.3 C.7, C.12.1).

    Args:
        subject: Makes the patient's name, for example ``"coronary"``.
        seed: Makes the PatientID.
        study: StudyInstanceUID.
        series: SeriesInstanceUID.
        instance: SOPInstanceUID.
        instance_number: InstanceNumber.
    """
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    header.PatientName = f"Phantom^{subject.capitalize()}"
    header.PatientID = f"PHANTOM-{subject.upper()}-{seed}"
    header.PatientBirthDate = "19600101"
    header.PatientSex = "O"
    header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID = study, series, instance
    header.StudyDate = header.SeriesDate = header.AcquisitionDate = header.ContentDate = _DATE
    header.StudyTime = header.SeriesTime = header.AcquisitionTime = header.ContentTime = _TIME
    header.StudyID, header.AccessionNumber, header.ReferringPhysicianName = "1", f"DEMO{seed}", ""
    header.StudyDescription = f"Generated {subject} phantom"
    header.SeriesNumber, header.InstanceNumber, header.AcquisitionNumber = 1, instance_number, 1
    # not "vesselq" itself: that marks results, which the loop guard leaves out
    header.Manufacturer, header.ManufacturerModelName = "vesselq phantoms", "Phantom generator"
    header.DeviceSerialNumber, header.SoftwareVersions = "1", "1"
    return header


def xray_header(header: Dataset, frames: int) -> Dataset:
    """Add what makes an X-Ray Angiographic Image, multi-frame with cine timing (PS3.3 A.14, C.8.7)."""
    header.SOPClassUID, header.Modality = XRayAngiographicImageStorage, "XA"
    header.ImageType = ["ORIGINAL", "PRIMARY", "SINGLE PLANE"]
    header.SeriesDescription = "Left coronary artery"
    header.BodyPartExamined, header.PatientOrientation = "HEART", ["L", "F"]
    header.NumberOfFrames, header.FrameTime = frames, 133.33
    header.FrameIncrementPointer = 0x00181063  # FrameTime
    header.CineRate = header.RecommendedDisplayFrameRate = 8
    header.PixelIntensityRelationship, header.LossyImageCompression = "DISP", "00"
    header.KVP, header.RadiationSetting = 80, "GR"
    header.XRayTubeCurrent, header.ExposureTime, header.AveragePulseWidth = 500, 120, 6.0
    header.PositionerMotion, header.TableMotion = "STATIC", "STATIC"
    header.PositionerPrimaryAngle, header.PositionerSecondaryAngle = -30.0, 20.0
    header.DistanceSourceToDetector, header.DistanceSourceToPatient = 1000, 750
    header.ImagerPixelSpacing, header.FieldOfViewShape = [0.3, 0.3], "RECTANGLE"
    header.ContrastBolusAgent, header.ContrastBolusRoute = "Iodinated contrast", "Intra-arterial"
    header.WindowCenter, header.WindowWidth = 128, 256
    return header


def fundus_header(header: Dataset) -> Dataset:
    """Add what makes an Ophthalmic Photography 8 Bit Image of a right eye (PS3.3 A.41, C.8.17)."""
    header.SOPClassUID, header.Modality = OphthalmicPhotography8BitImageStorage, "OP"
    header.ImageType = ["ORIGINAL", "PRIMARY", "", "COLOR"]
    header.SeriesDescription, header.PatientOrientation = "Fundus photograph, right eye", ["L", "F"]
    header.SynchronizationFrameOfReferenceUID = derived_uid(header.StudyInstanceUID, "synchronization")
    header.SynchronizationTrigger, header.AcquisitionTimeSynchronized = "NO TRIGGER", "N"
    header.AcquisitionDateTime = _DATE + _TIME
    header.NumberOfFrames, header.FrameTime = 1, 0
    header.FrameIncrementPointer = 0x00181063  # FrameTime
    header.BurnedInAnnotation, header.LossyImageCompression = "NO", "00"
    header.ImageLaterality, header.PupilDilated, header.DetectorType = "R", "NO", "CMOS"
    header.HorizontalFieldOfView = 45.0
    header.RefractiveStateSequence, header.EmmetropicMagnification, header.IntraOcularPressure = [], None, None
    header.PatientEyeMovementCommanded = "NO"
    header.IlluminationTypeCodeSequence, header.LightPathFilterTypeStackCodeSequence = [], []
    header.ImagePathFilterTypeStackCodeSequence, header.LensesCodeSequence = [], []
    header.AcquisitionDeviceTypeCodeSequence = [_code(codes.SCT.FundusCamera)]
    header.AnatomicRegionSequence = [_code(Code("5665001", "SCT", "Retina"))]
    header.AcquisitionContextSequence = []
    return header


def slice_header(
    header: Dataset, shape: tuple[int, ...], index: int, spacing_mm: tuple[float, float, float]
) -> Dataset:
    """Add what makes one axial slice of a contrast CT (PS3.3 A.3, C.7.6.2, C.8.2).

    Args:
        header: Of ``plain_header``.
        shape: ``(rows, columns)``.
        index: From the feet up, 0 first.
        spacing_mm: Between slices, rows and columns.
    """
    between, *in_plane = spacing_mm
    header.SOPClassUID, header.Modality = CTImageStorage, "CT"
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.SeriesDescription, header.ProtocolName = "Abdomen arterial phase", "Abdomen arterial"
    header.BodyPartExamined, header.PatientPosition = "ABDOMEN", "HFS"
    header.FrameOfReferenceUID = derived_uid(header.SeriesInstanceUID, "frame of reference")
    header.PositionReferenceIndicator = ""
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    corner = [-(size - 1) * step / 2 for size, step in zip(shape[::-1], in_plane[::-1], strict=True)]
    header.ImagePositionPatient = [*(round(value, 4) for value in corner), round(index * between, 4)]
    header.SliceLocation, header.SliceThickness = header.ImagePositionPatient[2], between
    header.PixelSpacing = in_plane
    header.RescaleIntercept, header.RescaleSlope, header.RescaleType = -1024, 1, "HU"
    header.WindowCenter, header.WindowWidth = 120, 560
    header.KVP, header.XRayTubeCurrent, header.ExposureTime = 100, 250, 500
    header.ConvolutionKernel = "STANDARD"
    header.ContrastBolusAgent, header.ContrastBolusRoute = "Iodinated contrast", "Intravenous"
    return header


def write_instance(header: Dataset, path: Path) -> Path:
    """Write a complete data set as a DICOM file in Explicit VR Little Endian (PS3.10).

    Raises:
        ConfigurationError: The file cannot be written.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta = meta
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        header.save_as(path, enforce_file_format=True)
    except OSError as error:
        raise ConfigurationError(f"The folder {path.parent} cannot be written: {error}. Choose another one.") from error
    return path


def _code(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item
