"""What a segment is called in codes, where in the body it lies, and the colour that reads well on its picture.

Categories and types are SNOMED CT concepts of PS3.16 CID 7150, 7156 and 7166; regions are those of CID 4031 and 4209.
"""

from dataclasses import dataclass

from highdicom.color import CIELabColor
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from dicom_core.errors import InvalidSegmentationError
from worker.image_stack import Imaging
from worker.source_series import SourceSeries

RGB = tuple[int, int, int]

CATEGORY: Code = codes.SCT.AnatomicalStructure

_ARTERY: RGB = (216, 101, 79)
_VEIN: RGB = (0, 151, 206)
_ON_FUNDUS: RGB = (0, 220, 200)
"""Cyan: the complement of the orange that a fundus photograph is made of."""


@dataclass(frozen=True, slots=True)
class VesselType:
    """One entry of the catalogue.

    Attributes:
        code: SegmentedPropertyTypeCodeSequence.
        colour: sRGB, 0 to 255, on grey pictures.
        fundus_colour: The same on colour photographs of the retina.
    """

    code: Code
    colour: RGB
    fundus_colour: RGB


def _artery(code: Code, colour: RGB = _ARTERY) -> VesselType:
    return VesselType(code, colour, (255, 200, 60))


def _vein(code: Code, colour: RGB = _VEIN) -> VesselType:
    return VesselType(code, colour, (60, 200, 255))


VESSEL_TYPES: dict[str, VesselType] = {
    "blood_vessel": VesselType(codes.SCT.BloodVessel, _ARTERY, _ON_FUNDUS),
    "vessel_lumen": VesselType(codes.SCT.LumenOfBloodVessel, _ARTERY, _ON_FUNDUS),
    "artery": _artery(codes.SCT.Artery),
    "vein": _vein(codes.SCT.Vein),
    "capillary": VesselType(codes.SCT.Capillary, (120, 200, 120), (120, 255, 120)),
    "aorta": _artery(codes.SCT.Aorta, (224, 97, 76)),
    "carotid_artery": _artery(codes.SCT.CarotidArtery),
    "internal_carotid_artery": _artery(codes.SCT.InternalCarotidArtery),
    "cerebral_artery": _artery(codes.SCT.CerebralArtery),
    "circle_of_willis": _artery(codes.SCT.CircleOfWillis),
    "coronary_artery": _artery(codes.SCT.CoronaryArtery),
    "left_anterior_descending_coronary_artery": _artery(codes.SCT.LeftAnteriorDescendingCoronaryArtery),
    "circumflex_coronary_artery": _artery(codes.SCT.CircumflexCoronaryArtery, (235, 150, 60)),
    "right_coronary_artery": _artery(codes.SCT.RightCoronaryArtery, (205, 80, 130)),
    "pulmonary_artery": _vein(codes.SCT.PulmonaryArtery, (0, 122, 171)),
    "pulmonary_vein": _artery(codes.SCT.PulmonaryVein, (186, 77, 64)),
    "renal_artery": _artery(codes.SCT.RenalArtery),
    "hepatic_vein": _vein(codes.SCT.HepaticVein),
    "portal_vein": _vein(codes.SCT.PortalVein, (90, 120, 220)),
    "inferior_vena_cava": _vein(codes.SCT.InferiorVenaCava),
    "superior_vena_cava": _vein(codes.SCT.SuperiorVenaCava),
    # SNOMED has no "retinal artery" in CID 7156: the generic type with the region Retina says the same.
    "retinal_artery": _artery(codes.SCT.Artery),
    "retinal_vein": _vein(codes.SCT.Vein),
    "central_retinal_artery": _artery(codes.SCT.CentralRetinalArtery),
    "central_retinal_vein": _vein(codes.SCT.CentralRetinalVein),
}
"""By the key that a segmenter names in ``SegmentClass.key``."""

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


def vessel_type(key: str) -> VesselType:
    """The entry for ``SegmentClass.key``.

    Raises:
        InvalidSegmentationError: The catalogue has no such key.
    """
    try:
        return VESSEL_TYPES[key]
    except KeyError:
        known = ", ".join(sorted(VESSEL_TYPES))
        raise InvalidSegmentationError(f"The segmenter names an unknown vessel type. Known types: {known}.") from None


def colour_of(key: str, imaging: Imaging) -> RGB:
    """The sRGB colour (0 to 255) in which the segment shows up on this kind of picture."""
    entry = vessel_type(key)
    return entry.fundus_colour if imaging is Imaging.FUNDUS else entry.colour


def cielab(colour: RGB) -> list[int]:
    """An sRGB colour as RecommendedDisplayCIELabValue: three numbers, 0 to 65535 (PS3.3 C.10.7.1.1)."""
    return list(CIELabColor.from_rgb(*colour).value)


def code_item(code: Code) -> Dataset:
    """One item of a code sequence (PS3.3 table 8.8-1)."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def laterality(header: Dataset) -> str:
    """``"R"``, ``"L"``, ``"B"`` or ``""``, from the frame (PS3.3 C.7.6.16.2.8), image or series level."""
    for groups in header.get("SharedFunctionalGroupsSequence") or ():
        for anatomy in groups.get("FrameAnatomySequence") or ():
            if anatomy.get("FrameLaterality") in _SIDES:
                return str(anatomy.FrameLaterality)
    for keyword in ("ImageLaterality", "Laterality"):
        if header.get(keyword) in _SIDES:
            return str(header.get(keyword))
    return ""


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
    sides = {laterality(header) for header in source.datasets}
    side = sides.pop() if len(sides) == 1 else ""
    if examined in _PAIRED and side:
        region.AnatomicRegionModifierSequence = [code_item(_SIDES[side])]
    return region
