"""Generated source images of every class that vesselq takes, with pixel data that holds tube-like structures.

Each builder returns a list of datasets with valid file meta information and fresh UIDs, one an instance, in acquisition
order; ``save`` writes them. Any DICOM keyword may be given as a keyword argument: it is set on every instance last, and
``None`` removes the attribute. ``StudyInstanceUID`` or ``PatientName`` are given in that way::

    run = xa_run(frames=10, rows=128, columns=120, PatientName="Doe^Jane")[0]
    files = save(ct_series(frames=8, missing=(3,)), tmp_path)

Nothing here is taken from a patient. All objects pass dciodvfy without a message, but for the ophthalmic tomography
classes, where Debian's 2022 version follows an older edition of the Standard and contradicts itself.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

SOP_CLASSES = {
    "ct": "1.2.840.10008.5.1.4.1.1.2",
    "enhanced_ct": "1.2.840.10008.5.1.4.1.1.2.1",
    "mr": "1.2.840.10008.5.1.4.1.1.4",
    "enhanced_mr": "1.2.840.10008.5.1.4.1.1.4.1",
    "xa": "1.2.840.10008.5.1.4.1.1.12.1",
    "xrf": "1.2.840.10008.5.1.4.1.1.12.2",
    "op_8bit": "1.2.840.10008.5.1.4.1.1.77.1.5.1",
    "op_16bit": "1.2.840.10008.5.1.4.1.1.77.1.5.2",
    "opt": "1.2.840.10008.5.1.4.1.1.77.1.5.4",
    "opt_en_face": "1.2.840.10008.5.1.4.1.1.77.1.5.7",
    "sc": "1.2.840.10008.5.1.4.1.1.7",
    "sc_multiframe_grey": "1.2.840.10008.5.1.4.1.1.7.2",
    "us_multiframe": "1.2.840.10008.5.1.4.1.1.3.1",
    "dx": "1.2.840.10008.5.1.4.1.1.1.1",
    "cr": "1.2.840.10008.5.1.4.1.1.1",
}


# --- pixels -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=32)
def vessel_profile(frames: int, rows: int, columns: int) -> NDArray[np.float32]:
    """How much vessel each pixel holds: ``(frames, rows, columns)`` float32 in [0, 1].

    Three smooth tubes of different width cross the picture and wander slowly from frame to frame, so that the same
    array serves as a volume and as a run.
    """
    z, y, x = np.meshgrid(np.arange(frames), np.arange(rows), np.arange(columns), indexing="ij", sparse=True)
    phase = 2 * math.pi * z / max(24, frames)
    size = min(rows, columns)
    tubes = (
        (y - rows * (0.35 + 0.12 * np.sin(2 * math.pi * x / columns + phase)), 0.045),
        (y - rows * (0.70 + 0.10 * np.cos(3 * math.pi * x / columns + phase)), 0.025),
        (x - columns * (0.50 + 0.15 * np.sin(2 * math.pi * y / rows + phase)), 0.035),
    )
    profiles = [np.exp(-0.5 * (distance / max(1.0, width * size)) ** 2) for distance, width in tubes]
    profile = np.maximum.reduce([np.broadcast_to(one, (frames, rows, columns)) for one in profiles]).astype(np.float32)
    profile.flags.writeable = False  # many share it
    return profile


def vessel_mask(frames: int, rows: int, columns: int) -> NDArray[np.bool_]:
    """What a perfect segmenter finds in ``vessel_profile``: ``(frames, rows, columns)`` bool."""
    return vessel_profile(frames, rows, columns) > 0.5


def _grey(
    frames: int, rows: int, columns: int, *, background: float, vessel: float, noise: float
) -> NDArray[np.float32]:
    """A grey picture ``(frames, rows, columns)`` whose vessels are ``vessel - background`` away from the background."""
    generator = np.random.default_rng(20240229)
    profile = vessel_profile(frames, rows, columns)
    return background + (vessel - background) * profile + generator.normal(0, noise, profile.shape).astype(np.float32)


def _set_pixels(dataset: Dataset, pixels: NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.int16]) -> None:
    """Write PixelData and the attributes of PS3.3 C.7.6.3 that describe it; a trailing axis of 3 means RGB."""
    colour = pixels.ndim == 4
    bits = pixels.dtype.itemsize * 8
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = pixels.shape[1:3]
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    raw = np.ascontiguousarray(pixels).astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = raw + b"\0" * (len(raw) % 2)
    dataset["PixelData"].VR = "OW" if bits > 8 else "OB"


# --- headers ----------------------------------------------------------------------------------------------------------


def item(**attributes: object) -> Dataset:
    """A sequence item with these DICOM keywords; a list of datasets becomes a sequence."""
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def code(value: str, scheme: str, meaning: str) -> DicomSequence:
    """A code sequence with one item (PS3.3 table 8.8-1)."""
    return DicomSequence([item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)])


def _header(sop_class: str, modality: str, **attributes: object) -> Dataset:
    """Patient, study, series, equipment and SOP common modules of one instance."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = UID(SOP_CLASSES[sop_class])
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.preamble = b"\0" * 128
    common = {
        "SpecificCharacterSet": "ISO_IR 100",
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "SOPClassUID": SOP_CLASSES[sop_class],
        "StudyDate": "20240229",
        "SeriesDate": "20240229",
        "AcquisitionDate": "20240229",
        "ContentDate": "20240229",
        "StudyTime": "101500",
        "SeriesTime": "101700",
        "AcquisitionTime": "101701",
        "ContentTime": "101702",
        "AccessionNumber": "A0001",
        "Modality": modality,
        "Manufacturer": "Generated",
        "ManufacturerModelName": "Phantom",
        "DeviceSerialNumber": "1",
        "SoftwareVersions": "1",
        "ReferringPhysicianName": "",
        "StudyDescription": "Generated",
        "SeriesDescription": "Generated tubes",
        "PatientName": "Test^Generated",
        "PatientID": "T0001",
        "PatientBirthDate": "19600101",
        "PatientSex": "O",
        "StudyInstanceUID": generate_uid(),
        "SeriesInstanceUID": generate_uid(),
        "StudyID": "1",
        "SeriesNumber": 1,
        "InstanceNumber": 1,
        "PatientOrientation": "",
    }
    for keyword, value in {**common, **attributes}.items():
        setattr(dataset, keyword, value)
    return dataset


def _delete(dataset: Dataset, *keywords: str) -> None:
    for keyword in keywords:
        delattr(dataset, keyword)


def _finish(datasets: Sequence[Dataset], attributes: Mapping[str, object]) -> list[Dataset]:
    """Apply the caller's attributes, give every instance its own UID and one study and series to all."""
    first = datasets[0]
    for number, dataset in enumerate(datasets, 1):
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = first.StudyInstanceUID, first.SeriesInstanceUID
        dataset.SOPInstanceUID = generate_uid()
        dataset.InstanceNumber = number
        for keyword, value in attributes.items():
            if value is not None:
                setattr(dataset, keyword, value)
            elif keyword in dataset:
                delattr(dataset, keyword)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return list(datasets)


def save(datasets: Sequence[Dataset], folder: Path) -> list[Path]:
    """Write every dataset as ``FOLDER/0001.dcm``, ``0002.dcm``, ... and return the paths in the same order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04d}.dcm" for number in range(1, len(datasets) + 1)]
    for dataset, path in zip(datasets, paths, strict=True):
        dataset.save_as(path, enforce_file_format=True)
    return paths


# --- slices with geometry ---------------------------------------------------------------------------------------------


def _slice_geometry(index: int, spacing: float, *, tilt_degrees: float = 0.0) -> dict[str, object]:
    """Image Plane module of slice ``index``; with a tilt the stack axis leaves the slice normal (sheared volume)."""
    angle = math.radians(tilt_degrees)
    return {
        "ImageOrientationPatient": [1, 0, 0, 0, round(math.cos(angle), 6), round(math.sin(angle), 6)],
        "ImagePositionPatient": [-20.0, -30.0, 5.0 + spacing * index],
        "PixelSpacing": [0.7, 0.7],
        "SliceThickness": spacing,
    }


def ct_series(
    frames: int = 8,
    rows: int = 64,
    columns: int = 72,
    *,
    spacing: float = 1.25,
    tilt_degrees: float = 0.0,
    missing: Sequence[int] = (),
    **attributes: object,
) -> list[Dataset]:
    """Contrast CT, one instance a slice, from feet to head; vessels near 350 HU in 40 HU.

    Args:
        frames: Slices of the complete volume.
        rows: Rows.
        columns: Columns.
        spacing: Millimetres between slices.
        tilt_degrees: Gantry tilt.
        missing: Slices (0-based) that are left out of the series.
        attributes: DICOM keywords set on every instance, ``None`` removes.
    """
    pixels = np.rint(_grey(frames, rows, columns, background=40, vessel=350, noise=8) + 1024).astype(np.uint16)
    frame_of_reference = generate_uid()
    datasets = []
    for index in (index for index in range(frames) if index not in missing):
        dataset = _header(
            "ct",
            "CT",
            ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
            FrameOfReferenceUID=frame_of_reference,
            PositionReferenceIndicator="",
            AcquisitionNumber=1,
            PatientPosition="HFS",
            BodyPartExamined="CHEST",
            KVP=120,
            ContrastBolusAgent="IODINE",
            GantryDetectorTilt=tilt_degrees,
            RescaleIntercept=-1024,
            RescaleSlope=1,
            RescaleType="HU",
            WindowCenter=200,
            WindowWidth=700,
            **_slice_geometry(index, spacing, tilt_degrees=tilt_degrees),
        )
        _set_pixels(dataset, pixels[index : index + 1])
        dataset.BitsStored, dataset.HighBit = 12, 11
        datasets.append(dataset)
    return _finish(datasets, attributes)


def mr_series(
    frames: int = 8, rows: int = 64, columns: int = 72, *, spacing: float = 1.0, **attributes: object
) -> list[Dataset]:
    """Time-of-flight MR angiography of the head, one instance a slice; vessels bright."""
    pixels = np.rint(_grey(frames, rows, columns, background=120, vessel=700, noise=12)).clip(0, 4095).astype(np.uint16)
    frame_of_reference = generate_uid()
    datasets = []
    for index in range(frames):
        dataset = _header(
            "mr",
            "MR",
            ImageType=["ORIGINAL", "PRIMARY", "OTHER"],
            FrameOfReferenceUID=frame_of_reference,
            PositionReferenceIndicator="",
            AcquisitionNumber=1,
            PatientPosition="HFS",
            BodyPartExamined="HEAD",
            ScanningSequence="GR",
            SequenceVariant="SP",
            ScanOptions="",
            MRAcquisitionType="3D",
            AngioFlag="Y",
            RepetitionTime=22,
            EchoTime=3.6,
            EchoTrainLength=1,
            WindowCenter=400,
            WindowWidth=800,
            **_slice_geometry(index, spacing),
        )
        _set_pixels(dataset, pixels[index : index + 1])
        dataset.BitsStored, dataset.HighBit = 12, 11
        datasets.append(dataset)
    return _finish(datasets, attributes)


# --- enhanced multi-frame with geometry -------------------------------------------------------------------------------


def _dimensions(dataset: Dataset, frames: int) -> None:
    """Multi-frame Dimension module: stack and position in the stack (PS3.3 C.7.6.17)."""
    organization = generate_uid()
    dataset.NumberOfFrames = frames
    dataset.DimensionOrganizationSequence = [item(DimensionOrganizationUID=organization)]
    dataset.DimensionIndexSequence = [
        item(
            DimensionOrganizationUID=organization,
            DimensionIndexPointer=pointer,
            FunctionalGroupPointer=0x00209111,
            DimensionDescriptionLabel=label,
        )
        for pointer, label in ((0x00209056, "Stack"), (0x00209057, "In-Stack Position"))
    ]


def _shared_plane(spacing: float, spacing_between_rows: float = 0.7) -> dict[str, object]:
    return {
        "PlaneOrientationSequence": [item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        "PixelMeasuresSequence": [
            item(PixelSpacing=[spacing_between_rows, 0.7], SliceThickness=spacing, SpacingBetweenSlices=spacing)
        ],
    }


def _frame_groups(index: int, spacing: float, **content: object) -> Dataset:
    return item(
        FrameContentSequence=[
            item(
                FrameAcquisitionNumber=1,
                StackID="1",
                InStackPositionNumber=index + 1,
                DimensionIndexValues=[1, index + 1],
                **content,
            )
        ],
        PlanePositionSequence=[item(ImagePositionPatient=[-20.0, -30.0, 5.0 + spacing * index])],
    )


def _enhanced_header(sop_class: str, modality: str, **attributes: object) -> Dataset:
    header = _header(
        sop_class,
        modality,
        ImageType=["DERIVED", "PRIMARY", "ANGIO", "NONE"],
        FrameOfReferenceUID=generate_uid(),
        PositionReferenceIndicator="",
        AcquisitionDateTime="20240229101701",
        AcquisitionNumber=1,
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
        PresentationLUTShape="IDENTITY",
        LossyImageCompression="00",
        BurnedInAnnotation="NO",
        PatientPosition="HFS",
        ContentQualification="PRODUCT",
        AcquisitionContextSequence=[],
        **attributes,
    )
    _delete(header, "AcquisitionDate", "AcquisitionTime", "PatientOrientation")
    return header


def _frame_type(**more: object) -> Dataset:
    return item(
        FrameType=["DERIVED", "PRIMARY", "ANGIO", "NONE"],
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
        **more,
    )


def enhanced_ct(
    frames: int = 8, rows: int = 64, columns: int = 72, *, spacing: float = 1.25, **attributes: object
) -> list[Dataset]:
    """Enhanced CT: the volume of ``ct_series`` in one multi-frame instance."""
    dataset = _enhanced_header("enhanced_ct", "CT", MultienergyCTAcquisition="NO")
    _dimensions(dataset, frames)
    dataset.SharedFunctionalGroupsSequence = [
        item(
            CTImageFrameTypeSequence=[_frame_type()],
            PixelValueTransformationSequence=[item(RescaleIntercept=-1024, RescaleSlope=1, RescaleType="HU")],
            FrameVOILUTSequence=[item(WindowCenter=200, WindowWidth=700)],
            FrameAnatomySequence=[item(FrameLaterality="U", AnatomicRegionSequence=code("816094009", "SCT", "Chest"))],
            IrradiationEventIdentificationSequence=[item(IrradiationEventUID=generate_uid())],
            **_shared_plane(spacing),
        )
    ]
    dataset.PerFrameFunctionalGroupsSequence = [_frame_groups(index, spacing) for index in range(frames)]
    pixels = _grey(frames, rows, columns, background=40, vessel=350, noise=8) + 1024
    _set_pixels(dataset, np.rint(pixels).astype(np.uint16))
    dataset.BitsStored, dataset.HighBit = 12, 11
    return _finish([dataset], attributes)


def enhanced_mr(
    frames: int = 8, rows: int = 64, columns: int = 72, *, spacing: float = 1.0, **attributes: object
) -> list[Dataset]:
    """Enhanced MR angiography: the volume of ``mr_series`` in one multi-frame instance."""
    components = {"ComplexImageComponent": "MAGNITUDE", "AcquisitionContrast": "FLOW_ENCODED"}
    dataset = _enhanced_header("enhanced_mr", "MR", ApplicableSafetyStandardAgency="IEC", **components)
    _dimensions(dataset, frames)
    dataset.SharedFunctionalGroupsSequence = [
        item(
            MRImageFrameTypeSequence=[_frame_type(**components)],
            PixelValueTransformationSequence=[item(RescaleIntercept=0, RescaleSlope=1, RescaleType="US")],
            FrameVOILUTSequence=[item(WindowCenter=400, WindowWidth=800)],
            FrameAnatomySequence=[item(FrameLaterality="U", AnatomicRegionSequence=code("69536005", "SCT", "Head"))],
            **_shared_plane(spacing),
        )
    ]
    dataset.PerFrameFunctionalGroupsSequence = [_frame_groups(index, spacing) for index in range(frames)]
    pixels = np.rint(_grey(frames, rows, columns, background=120, vessel=700, noise=12)).clip(0, 4095)
    _set_pixels(dataset, pixels.astype(np.uint16))
    dataset.BitsStored, dataset.HighBit = 12, 11
    return _finish([dataset], attributes)


# --- X-ray ------------------------------------------------------------------------------------------------------------


_POSITIONER = {"PositionerPrimaryAngle": -30, "PositionerSecondaryAngle": 20}


def _projection(
    sop_class: str, modality: str, frames: int, rows: int, columns: int, *, multi_frame: bool, **more: object
) -> Dataset:
    """An X-ray projection with dark vessels (contrast absorbs); a run carries a cine module (PS3.3 C.7.6.5)."""
    dataset = _header(
        sop_class,
        modality,
        ImageType=["ORIGINAL", "PRIMARY", "SINGLE PLANE"],
        BodyPartExamined="HEART",
        KVP=75,
        RadiationSetting="GR",
        ExposureTime=8,
        XRayTubeCurrent=400,
        Exposure=3,
        PixelIntensityRelationship="LOG",
        ContrastBolusAgent="IODINE",
        LossyImageCompression="00",
        RescaleIntercept=0,
        RescaleSlope=1,
        RescaleType="US",
        WindowCenter=128,
        WindowWidth=256,
        **more,
    )
    if multi_frame:
        dataset.NumberOfFrames = frames
        dataset.FrameIncrementPointer = 0x00181063
        dataset.FrameTime = 66.7
    pixels = _grey(frames, rows, columns, background=170, vessel=60, noise=4).clip(0, 255)
    _set_pixels(dataset, np.rint(pixels).astype(np.uint8))
    return dataset


def xa_run(frames: int = 10, rows: int = 64, columns: int = 72, **attributes: object) -> list[Dataset]:
    """Coronary X-ray angiography, one multi-frame instance without frame of reference or pixel spacing."""
    run = _projection("xa", "XA", frames, rows, columns, multi_frame=True, PositionerMotion="STATIC", **_POSITIONER)
    return _finish([run], attributes)


def xa_still(rows: int = 64, columns: int = 72, **attributes: object) -> list[Dataset]:
    """One angiographic exposure: a single-frame XA instance without NumberOfFrames."""
    return _finish([_projection("xa", "XA", 1, rows, columns, multi_frame=False, **_POSITIONER)], attributes)


def xa_runs(
    lengths: Sequence[int] = (4, 6, 1), rows: int = 64, columns: int = 72, **attributes: object
) -> list[Dataset]:
    """Several runs of angiography in one series, as many systems store them; a length of 1 is a still."""
    instances = [(xa_run(length, rows, columns) if length > 1 else xa_still(rows, columns))[0] for length in lengths]
    return _finish(instances, attributes)


def xrf_run(frames: int = 6, rows: int = 64, columns: int = 72, **attributes: object) -> list[Dataset]:
    """Radiofluoroscopy, one multi-frame instance."""
    return _finish([_projection("xrf", "RF", frames, rows, columns, multi_frame=True)], attributes)


def dx(rows: int = 64, columns: int = 72, **attributes: object) -> list[Dataset]:
    """Digital radiograph of the leg, for presentation."""
    dataset = _header(
        "dx",
        "DX",
        ImageType=["ORIGINAL", "PRIMARY", ""],
        PresentationIntentType="FOR PRESENTATION",
        BodyPartExamined="LEG",
        ImageLaterality="R",
        AnatomicRegionSequence=code("30021000", "SCT", "Leg"),
        PatientOrientation=["L", "F"],
        ImagerPixelSpacing=[0.2, 0.2],
        DetectorType="DIRECT",
        PositionerType="",
        PixelIntensityRelationship="LOG",
        PixelIntensityRelationshipSign=1,
        RescaleIntercept=0,
        RescaleSlope=1,
        RescaleType="US",
        PresentationLUTShape="IDENTITY",
        LossyImageCompression="00",
        BurnedInAnnotation="NO",
        WindowCenter=2048,
        WindowWidth=4096,
        AcquisitionContextSequence=[],
        ViewCodeSequence=code("399348003", "SCT", "antero-posterior"),
    )
    dataset.ViewCodeSequence[0].ViewModifierCodeSequence = []
    pixels = _grey(1, rows, columns, background=2600, vessel=900, noise=40).clip(0, 4095)
    _set_pixels(dataset, np.rint(pixels).astype(np.uint16))
    dataset.BitsStored, dataset.HighBit = 12, 11
    return _finish([dataset], attributes)


def cr(rows: int = 64, columns: int = 72, **attributes: object) -> list[Dataset]:
    """Computed radiograph of the abdomen."""
    dataset = _header(
        "cr",
        "CR",
        BodyPartExamined="ABDOMEN",
        ViewPosition="AP",
        ImagerPixelSpacing=[0.2, 0.2],
        PatientOrientation=["L", "F"],
        WindowCenter=2048,
        WindowWidth=4096,
    )
    pixels = _grey(1, rows, columns, background=2600, vessel=900, noise=40).clip(0, 4095)
    _set_pixels(dataset, np.rint(pixels).astype(np.uint16))
    dataset.BitsStored, dataset.HighBit = 12, 11
    return _finish([dataset], attributes)


# --- eye --------------------------------------------------------------------------------------------------------------


def _retina(rows: int, columns: int) -> NDArray[np.uint8]:
    """A fundus photograph ``(1, rows, columns, 3)``: orange disc on black, vessels darker, most so in green."""
    y, x = np.mgrid[0:rows, 0:columns]
    inside = np.hypot((y - rows / 2) / rows, (x - columns / 2) / columns) < 0.48
    grey = _grey(1, rows, columns, background=1.0, vessel=0.45, noise=0.02)[0]
    colour = np.stack([0.6 + 0.4 * grey, grey, 0.5 + 0.5 * grey], axis=-1) * np.array([190, 110, 60], np.float32)
    return np.rint(colour * inside[..., None]).clip(0, 255).astype(np.uint8)[None]


def _op_header(sop_class: str, laterality: str) -> Dataset:
    """A fundus camera's header without pixels (PS3.3 A.41)."""
    return _header(
        sop_class,
        "OP",
        ImageType=["ORIGINAL", "PRIMARY", "", "COLOR"],
        AcquisitionDateTime="20240229101701",
        ImageLaterality=laterality,
        AnatomicRegionSequence=code("5665001", "SCT", "Retina"),
        PatientOrientation=["L", "F"],
        PatientEyeMovementCommanded="NO",
        RefractiveStateSequence=[],
        EmmetropicMagnification=None,
        IntraOcularPressure=None,
        HorizontalFieldOfView=45,
        PupilDilated="NO",
        PixelSpacing=[0.01, 0.01],
        NumberOfFrames=1,
        FrameIncrementPointer=0x00181063,
        FrameTime=0,
        SynchronizationFrameOfReferenceUID=generate_uid(),
        SynchronizationTrigger="NO TRIGGER",
        AcquisitionTimeSynchronized="N",
        BurnedInAnnotation="NO",
        LossyImageCompression="00",
        PresentationLUTShape="IDENTITY",
        AcquisitionContextSequence=[],
        DetectorType=None,
        AcquisitionDeviceTypeCodeSequence=code("409898007", "SCT", "Fundus Camera"),
        IlluminationTypeCodeSequence=[],
        LightPathFilterTypeStackCodeSequence=[],
        ImagePathFilterTypeStackCodeSequence=[],
        LensesCodeSequence=[],
    )


def op_rgb(rows: int = 64, columns: int = 72, *, laterality: str = "R", **attributes: object) -> list[Dataset]:
    """Colour fundus photograph, Ophthalmic Photography 8 Bit, RGB."""
    dataset = _op_header("op_8bit", laterality)
    del dataset.PresentationLUTShape
    _set_pixels(dataset, _retina(rows, columns))
    return _finish([dataset], attributes)


def op_grey(
    rows: int = 64, columns: int = 72, *, bits: int = 8, laterality: str = "L", **attributes: object
) -> list[Dataset]:
    """Red-free fundus photograph, Ophthalmic Photography 8 Bit or 16 Bit, MONOCHROME2."""
    dataset = _op_header("op_8bit" if bits == 8 else "op_16bit", laterality)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "", "REDFREE"]
    green = _retina(rows, columns)[..., 1]
    _set_pixels(dataset, green if bits == 8 else green.astype(np.uint16) * 257)
    return _finish([dataset], attributes)


def several_op(count: int = 3, rows: int = 64, columns: int = 72, **attributes: object) -> list[Dataset]:
    """Several colour fundus photographs of the right eye in one series."""
    return _finish([op_rgb(rows, columns)[0] for _ in range(count)], attributes)


def _opt_header(frames: int, **attributes: object) -> Dataset:
    """Ophthalmic Tomography without geometry (PS3.3 A.42)."""
    dataset = _header(
        "opt",
        "OPT",
        ImageType=["ORIGINAL", "PRIMARY"],
        AcquisitionDateTime="20240229101701",
        AcquisitionNumber=1,
        AcquisitionDuration=2.0,
        ImageLaterality="R",
        PresentationLUTShape="IDENTITY",
        BurnedInAnnotation="NO",
        LossyImageCompression="00",
        AcquisitionContextSequence=[],
        AxialLengthOfTheEye=None,
        HorizontalFieldOfView=None,
        RefractiveStateSequence=[],
        EmmetropicMagnification=None,
        IntraOcularPressure=None,
        PupilDilated=None,
        DetectorType="CCD",
        IlluminationWaveLength=840,
        IlluminationPower=600,
        IlluminationBandwidth=50,
        DepthSpatialResolution=5,
        MaximumDepthDistortion=1,
        AlongScanSpatialResolution=10,
        MaximumAlongScanDistortion=1,
        AcrossScanSpatialResolution=10,
        MaximumAcrossScanDistortion=1,
        AcquisitionDeviceTypeCodeSequence=code("392012008", "SCT", "Optical Coherence Tomography Scanner"),
        LightPathFilterTypeStackCodeSequence=[],
        AnatomicRegionSequence=code("5665001", "SCT", "Retina"),
        **attributes,
    )
    _delete(dataset, "AcquisitionDate", "AcquisitionTime", "PatientOrientation")
    _dimensions(dataset, frames)
    return dataset


def _opt_groups(dataset: Dataset, frames: int, *, with_geometry: bool) -> None:
    anatomy = [item(FrameLaterality="R", AnatomicRegionSequence=code("5665001", "SCT", "Retina"))]
    shared = item(FrameAnatomySequence=anatomy)
    shared.PixelMeasuresSequence = [item(PixelSpacing=[0.004, 0.012], SliceThickness=0.05)]
    per_frame = []
    for index in range(frames):
        groups = _frame_groups(
            index, 0.05, FrameAcquisitionDateTime="20240229101701", FrameReferenceDateTime="20240229101701"
        )
        groups.FrameContentSequence[0].FrameAcquisitionDuration = 10.0
        # B-scans follow each other along y, the normal of their plane
        groups.PlanePositionSequence[0].ImagePositionPatient = [-0.4, 0.05 * index, 0.2]
        if not with_geometry:
            del groups.PlanePositionSequence
        per_frame.append(groups)
    if with_geometry:
        shared.PlaneOrientationSequence = [item(ImageOrientationPatient=[1, 0, 0, 0, 0, -1])]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = per_frame


def _opt(frames: int, rows: int, columns: int, *, with_geometry: bool) -> Dataset:
    geometry = {"FrameOfReferenceUID": generate_uid(), "PositionReferenceIndicator": ""} if with_geometry else {}
    dataset = _opt_header(frames, **geometry)
    _opt_groups(dataset, frames, with_geometry=with_geometry)
    pixels = _grey(frames, rows, columns, background=60, vessel=190, noise=6).clip(0, 255)
    _set_pixels(dataset, np.rint(pixels).astype(np.uint8))
    return dataset


def opt_with_frame_of_reference(
    frames: int = 6, rows: int = 64, columns: int = 72, **attributes: object
) -> list[Dataset]:
    """OCT B-scans with frame of reference and plane position of every frame."""
    return _finish([_opt(frames, rows, columns, with_geometry=True)], attributes)


def opt_without(frames: int = 6, rows: int = 64, columns: int = 72, **attributes: object) -> list[Dataset]:
    """OCT B-scans without frame of reference."""
    return _finish([_opt(frames, rows, columns, with_geometry=False)], attributes)


def _reference_to_volume(*, purpose: DicomSequence | None = None, coordinates: Sequence[float] = ()) -> Dataset:
    """The structural OCT volume that an en face image was made from (which nobody has)."""
    reference = item(ReferencedSOPClassUID=SOP_CLASSES["opt"], ReferencedSOPInstanceUID=generate_uid())
    if purpose is not None:
        reference.PurposeOfReferenceCodeSequence = purpose
    if coordinates:
        reference.ReferenceCoordinates = list(coordinates)
    return reference


def opt_en_face(rows: int = 64, columns: int = 72, **attributes: object) -> list[Dataset]:
    """En face OCT angiography: a single frame with a frame of reference but no plane position; vessels bright."""
    dataset = _header(
        "opt_en_face",
        "OPTENF",
        ImageType=["DERIVED", "PRIMARY"],
        ImageOrientationPatient=[1, 0, 0, 0, 0, -1],
        SourceImageSequence=[
            _reference_to_volume(purpose=code("121322", "DCM", "Source image for image processing operation"))
        ],
        OphthalmicFrameLocationSequence=[_reference_to_volume(coordinates=[1.0, 1.0, 1.0, float(columns)])],
        DerivationAlgorithmSequence=[
            item(
                AlgorithmFamilyCodeSequence=code("123101", "DCM", "Neighborhood Analysis"),
                AlgorithmVersion="1",
                AlgorithmName="Generated",
            )
        ],
        OphthalmicImageTypeCodeSequence=code("128265", "DCM", "Vasculature flow"),
        AnatomicRegionSequence=code("5665001", "SCT", "Retina"),
        ImageLaterality="R",
        FrameOfReferenceUID=generate_uid(),
        PositionReferenceIndicator="",
        PatientOrientation=["L", "F"],
        PixelSpacing=[0.01, 0.01],
        PresentationLUTShape="IDENTITY",
        BurnedInAnnotation="NO",
        LossyImageCompression="00",
        RecognizableVisualFeatures="NO",
        WindowCenter=128,
        WindowWidth=256,
    )
    pixels = _grey(1, rows, columns, background=50, vessel=200, noise=8).clip(0, 255)
    _set_pixels(dataset, np.rint(pixels).astype(np.uint8))
    return _finish([dataset], attributes)


# --- the rest ---------------------------------------------------------------------------------------------------------


def sc(rows: int = 64, columns: int = 72, *, colour: bool = False, **attributes: object) -> list[Dataset]:
    """Secondary Capture, single-frame, grey or RGB; dark vessels."""
    dataset = _header("sc", "OT", ImageType=["DERIVED", "SECONDARY"], ConversionType="WSD", BodyPartExamined="ABDOMEN")
    if colour:
        _set_pixels(dataset, _retina(rows, columns))
    else:
        pixels = _grey(1, rows, columns, background=170, vessel=60, noise=4).clip(0, 255)
        _set_pixels(dataset, np.rint(pixels).astype(np.uint8))
    return _finish([dataset], attributes)


def sc_multiframe(frames: int = 5, rows: int = 64, columns: int = 72, **attributes: object) -> list[Dataset]:
    """Multi-frame Grayscale Byte Secondary Capture; dark vessels."""
    dataset = _header(
        "sc_multiframe_grey",
        "OT",
        ImageType=["DERIVED", "SECONDARY"],
        ConversionType="WSD",
        BodyPartExamined="ABDOMEN",
        BurnedInAnnotation="NO",
        RecognizableVisualFeatures="NO",
        NumberOfFrames=frames,
        FrameIncrementPointer=0x00181063,
        FrameTime=40,
        PresentationLUTShape="IDENTITY",
        RescaleIntercept=0,
        RescaleSlope=1,
        RescaleType="US",
    )
    pixels = _grey(frames, rows, columns, background=170, vessel=60, noise=4).clip(0, 255)
    _set_pixels(dataset, np.rint(pixels).astype(np.uint8))
    return _finish([dataset], attributes)


def us_run(frames: int = 6, rows: int = 64, columns: int = 72, **attributes: object) -> list[Dataset]:
    """Ultrasound cine loop, multi-frame; vessels dark."""
    dataset = _header(
        "us_multiframe",
        "US",
        ImageType=["ORIGINAL", "PRIMARY", "VASCULAR", "0001"],
        BodyPartExamined="NECK",
        LossyImageCompression="00",
        UltrasoundColorDataPresent=0,
        NumberOfFrames=frames,
        FrameIncrementPointer=0x00181063,
        FrameTime=40,
    )
    pixels = _grey(frames, rows, columns, background=140, vessel=30, noise=10).clip(0, 255)
    _set_pixels(dataset, np.rint(pixels).astype(np.uint8))
    return _finish([dataset], attributes)
