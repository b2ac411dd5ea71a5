"""Where in the body a segment lies: regions of PS3.16 CID 4031 and 4209, with their side."""

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from worker.image_stack import Imaging
from worker.result_header.catalogue import code_item
from worker.source_images.functional_groups import functional_group
from worker.source_series import SourceSeries

_REGIONS: dict[str, Code] = {
    "ABDOMEN": codes.SCT.Abdomen,
    "ABDOMENPELVIS": codes.SCT.AbdomenAndPelvis,
    "AORTA": codes.SCT.Aorta,
    "BRAIN": codes.SCT.Brain,
    "BREAST": codes.SCT.Breast,
    "CAROTID": codes.SCT.CarotidArtery,
    "CHEST": codes.SCT.Chest,
    "THORAX": codes.SCT.Chest,
    "CHESTABDOMEN": codes.SCT.ChestAndAbdomen,
    "CORONARYARTERY": codes.SCT.CoronaryArtery,
    "CIRCLEOFWILLIS": codes.SCT.CircleOfWillis,
    "EYE": codes.SCT.Eye,
    "RETINA": codes.SCT.Retina,
    "FOOT": codes.SCT.Foot,
    "HAND": codes.SCT.Hand,
    "HEAD": codes.SCT.Head,
    "SKULL": codes.SCT.Head,
    "HEADNECK": codes.SCT.HeadAndNeck,
    "HEART": codes.SCT.Heart,
    "KIDNEY": codes.SCT.Kidney,
    "KNEE": codes.SCT.Knee,
    "LEG": codes.SCT.LowerLeg,
    "EXTREMITY": codes.SCT.Extremity,
    "LIVER": codes.SCT.Liver,
    "LUNG": codes.SCT.Lung,
    "NECK": codes.SCT.Neck,
    "PELVIS": codes.SCT.Pelvis,
    "THIGH": codes.SCT.Thigh,
}
"""By BodyPartExamined (PS3.16 table L-1) without blanks and punctuation."""

_SIDES: dict[str, Code] = {"R": codes.SCT.Right, "L": codes.SCT.Left, "B": codes.SCT.RightAndLeft}
_PAIRED = frozenset(
    {"EYE", "RETINA", "BREAST", "CAROTID", "FOOT", "HAND", "KIDNEY", "KNEE", "LEG", "EXTREMITY", "THIGH"}
)
_EYE = frozenset({Imaging.FUNDUS, Imaging.OCT, Imaging.OCT_ANGIOGRAPHY})


def laterality(source: SourceSeries) -> str:
    """``"R"``, ``"L"`` or ``"B"`` where all frames agree, else ``""``.

    Frame Laterality (PS3.3 C.7.6.16.2.8) goes before Image Laterality, and this before Laterality of the series.
    """
    headers = {str(header.SOPInstanceUID): header for header in source.datasets}
    sides = {_side(headers[frame.sop_instance_uid], frame.frame_number) for frame in source.frames}
    return sides.pop() if len(sides) == 1 else ""


def _side(header: Dataset, frame_number: int) -> str:
    anatomy = functional_group(header, frame_number, "FrameAnatomySequence") or Dataset()
    values = (anatomy.get("FrameLaterality"), header.get("ImageLaterality"), header.get("Laterality"))
    return next((str(value) for value in values if value in _SIDES), "")


def anatomic_region(source: SourceSeries) -> Dataset | None:
    """The AnatomicRegionSequence item of a source: region and, for a paired one, its side as a modifier.

    The eye is known from the kind of picture; elsewhere BodyPartExamined decides. None where neither tells: the
    attribute is optional (PS3.3 table 10-8).
    """
    header = source.datasets[0]
    examined = "".join(letter for letter in str(header.get("BodyPartExamined") or "").upper() if letter.isalpha())
    if source.imaging in _EYE:
        examined = "RETINA"
    if examined not in _REGIONS:
        return None
    region = code_item(_REGIONS[examined])
    side = laterality(source)
    if examined in _PAIRED and side:
        region.AnatomicRegionModifierSequence = [code_item(_SIDES[side])]
    return region
