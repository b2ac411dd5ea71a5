"""Where one slice or one frame lies in the patient, and what tells it from others at its place."""

from dicom_core.errors import DamagedSourceError
from worker.source_images.functional_groups import functional_group
from worker.source_images.headers import SourceHeader, numbers, spacing, text
from worker.source_images.phases import NUMBER
from worker.source_images.slice_geometry import Plane

_SLICE_MARKS = (
    "TemporalPositionIdentifier",
    "NominalPercentageOfCardiacPhase",
    "TriggerTime",
    "EchoTime",
    "DiffusionBValue",
    "ImageType",
    "KVP",
    "AcquisitionNumber",
    "FrameReferenceTime",
    "AcquisitionTime",
    "ContentTime",
)
"""What may tell apart the volumes of one series of slices, tried in this order."""
_FRAME_MARKS = (
    ("FrameContentSequence", "TemporalPositionIndex"),
    ("TemporalPositionSequence", "TemporalPositionTimeOffset"),
    ("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase"),
    ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    ("MREchoSequence", "EffectiveEchoTime"),
    ("MRDiffusionSequence", "DiffusionBValue"),
    ("FrameContentSequence", "StackID"),
    ("FrameContentSequence", "FrameAcquisitionNumber"),
    ("FrameContentSequence", "FrameReferenceDateTime"),
    ("FrameContentSequence", "FrameAcquisitionDateTime"),
)
"""The same for the frames of one enhanced object: functional group and attribute in it (PS3.3 C.7.6.16.2)."""


def slice_plane(header: SourceHeader) -> Plane:
    """The plane of a single-frame instance (PS3.3 C.7.6.2).

    Raises:
        DamagedSourceError: It has no position, orientation or frame of reference, or they are no numbers.
    """
    orientation, position = header.numbers("ImageOrientationPatient", 6), header.numbers("ImagePositionPatient", 3)
    if not orientation or not position or not header.text("FrameOfReferenceUID"):
        raise DamagedSourceError("this slice has no place among the others (position, orientation, frame of reference)")
    family = (header.rows, header.columns, header.text("FrameOfReferenceUID"), header.text("PhotometricInterpretation"))
    marks = {keyword: header.text(keyword) for keyword in _SLICE_MARKS}
    marks[NUMBER] = header.text("InstanceNumber")
    return Plane(orientation, position, spacing(header.dataset), family, marks)


def frame_plane(header: SourceHeader, frame_number: int) -> Plane:
    """The plane of one frame of an enhanced object (PS3.3 C.7.6.16.2.3 and .4), counted from 1.

    Raises:
        DamagedSourceError: It has no position or orientation, or they are no numbers.
    """
    position = functional_group(header.dataset, frame_number, "PlanePositionSequence")
    orientation = functional_group(header.dataset, frame_number, "PlaneOrientationSequence")
    place = numbers(position, "ImagePositionPatient", 3) if position else None
    cosines = numbers(orientation, "ImageOrientationPatient", 6) if orientation else None
    if not place or not cosines:
        raise DamagedSourceError(f"frame {frame_number} has no position or orientation")
    measures = functional_group(header.dataset, frame_number, "PixelMeasuresSequence")
    return Plane(cosines, place, spacing(measures) if measures else (), marks=_frame_marks(header, frame_number))


def _frame_marks(header: SourceHeader, frame_number: int) -> dict[str, str]:
    marks = {}
    for group, keyword in _FRAME_MARKS:
        macro = functional_group(header.dataset, frame_number, group)
        marks[keyword] = "" if macro is None else text(macro, keyword)
    return {**marks, NUMBER: str(frame_number)}
