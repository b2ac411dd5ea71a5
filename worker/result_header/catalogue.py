"""What a segment is called in codes, and the colour that reads well on its picture, also to the colour-blind.

Categories and types are SNOMED CT concepts of PS3.16 CID 7150, 7156 and 7166 and of the context groups of vessels that
they include.
"""

from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from dicom_core.errors import InvalidSegmentationError
from worker.image_stack import Imaging

RGB = tuple[int, int, int]

CATEGORY: Code = codes.SCT.AnatomicalStructure

_ARTERY: RGB = (216, 101, 79)
_VEIN: RGB = (0, 151, 206)
_YELLOW: RGB = (255, 220, 70)
_PERIWINKLE: RGB = (150, 120, 255)
_GREEN: RGB = (100, 230, 170)
_ON_FUNDUS: RGB = (0, 220, 200)
"""Cyan: the complement of the orange that a fundus photograph is made of."""
_ARTERY_ON_FUNDUS: RGB = (255, 255, 60)
_VEIN_ON_FUNDUS: RGB = (60, 200, 255)


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
    return VesselType(code, colour, _ARTERY_ON_FUNDUS)


def _vein(code: Code, colour: RGB = _VEIN) -> VesselType:
    return VesselType(code, colour, _VEIN_ON_FUNDUS)


VESSEL_TYPES: dict[str, VesselType] = {
    "blood_vessel": VesselType(codes.SCT.BloodVessel, _ARTERY, _ON_FUNDUS),
    # The Standard has no code for the main vessel of a tree and its side branches: the label tells them apart.
    "main_vessel": VesselType(codes.SCT.BloodVessel, _ARTERY, _ON_FUNDUS),
    "side_branch": VesselType(codes.SCT.BloodVessel, _YELLOW, _ARTERY_ON_FUNDUS),
    "collateral_vessel": VesselType(codes.SCT.CollateralBranchOfVessel, _GREEN, (170, 90, 255)),
    "vessel_lumen": VesselType(codes.SCT.LumenOfBloodVessel, _ARTERY, _ON_FUNDUS),
    "artery": _artery(codes.SCT.Artery),
    "vein": _vein(codes.SCT.Vein),
    "capillary": VesselType(codes.SCT.Capillary, (240, 230, 110), (170, 90, 255)),
    # Heart and great vessels
    "aorta": _artery(codes.SCT.Aorta, (224, 97, 76)),
    "ascending_aorta": _artery(codes.SCT.AscendingAorta, (224, 97, 76)),
    "aortic_arch": _artery(codes.SCT.AorticArch, (224, 97, 76)),
    "descending_aorta": _artery(codes.SCT.DescendingAorta, (224, 97, 76)),
    "thoracic_aorta": _artery(codes.SCT.ThoracicAorta, (224, 97, 76)),
    "abdominal_aorta": _artery(codes.SCT.AbdominalAorta, (224, 97, 76)),
    "coronary_artery": _artery(codes.SCT.CoronaryArtery),
    "left_main_coronary_artery": _artery(codes.SCT.LeftMainCoronaryArtery),
    "left_coronary_artery": _artery(codes.SCT.LeftCoronaryArtery),
    "left_anterior_descending_coronary_artery": _artery(codes.SCT.LeftAnteriorDescendingCoronaryArtery),
    "first_diagonal_coronary_artery": _artery(codes.SCT._1stDiagonalCoronaryArtery, _GREEN),  # noqa: SLF001
    "second_diagonal_coronary_artery": _artery(codes.SCT._2ndDiagonalCoronaryArtery, _GREEN),  # noqa: SLF001
    # pydicom writes an underscore before a name that begins with a digit; these are public codes.
    "intermediate_coronary_artery": _artery(codes.SCT.IntermediateArteryRamus, _GREEN),
    "circumflex_coronary_artery": _artery(codes.SCT.CircumflexCoronaryArtery, _YELLOW),
    "first_marginal_coronary_artery": _artery(codes.SCT._1stMarginalCoronaryArtery, _GREEN),  # noqa: SLF001
    "second_marginal_coronary_artery": _artery(codes.SCT._2ndMarginalCoronaryArtery, _GREEN),  # noqa: SLF001
    "right_coronary_artery": _artery(codes.SCT.RightCoronaryArtery, _PERIWINKLE),
    "posterior_descending_coronary_artery": _artery(codes.SCT.PosteriorDescendingCoronaryArtery, _GREEN),
    "coronary_sinus": _vein(codes.SCT.CoronarySinus),
    "pulmonary_artery": _vein(codes.SCT.PulmonaryArtery, (0, 122, 171)),
    "left_pulmonary_artery": _vein(codes.SCT.LeftPulmonaryArtery, (0, 122, 171)),
    "right_pulmonary_artery": _vein(codes.SCT.RightPulmonaryArtery, (0, 122, 171)),
    "pulmonary_vein": _artery(codes.SCT.PulmonaryVein, (186, 77, 64)),
    "inferior_vena_cava": _vein(codes.SCT.InferiorVenaCava),
    "superior_vena_cava": _vein(codes.SCT.SuperiorVenaCava),
    # Head, neck and arm
    "brachiocephalic_trunk": _artery(codes.SCT.BrachiocephalicTrunk),
    "carotid_artery": _artery(codes.SCT.CarotidArtery),
    "common_carotid_artery": _artery(codes.SCT.CommonCarotidArtery),
    "internal_carotid_artery": _artery(codes.SCT.InternalCarotidArtery),
    "external_carotid_artery": _artery(codes.SCT.ExternalCarotidArtery),
    "vertebral_artery": _artery(codes.SCT.VertebralArtery),
    "basilar_artery": _artery(codes.SCT.BasilarArtery),
    "cerebral_artery": _artery(codes.SCT.CerebralArtery),
    "anterior_cerebral_artery": _artery(codes.SCT.AnteriorCerebralArtery),
    "middle_cerebral_artery": _artery(codes.SCT.MiddleCerebralArtery),
    "posterior_cerebral_artery": _artery(codes.SCT.PosteriorCerebralArtery),
    "anterior_communicating_artery": _artery(codes.SCT.AnteriorCommunicatingArtery),
    "posterior_communicating_artery": _artery(codes.SCT.PosteriorCommunicatingArtery),
    "circle_of_willis": _artery(codes.SCT.CircleOfWillis),
    "ophthalmic_artery": _artery(codes.SCT.OphthalmicArtery),
    "internal_jugular_vein": _vein(codes.SCT.InternalJugularVein),
    "external_jugular_vein": _vein(codes.SCT.ExternalJugularVein),
    "subclavian_artery": _artery(codes.SCT.SubclavianArtery),
    "subclavian_vein": _vein(codes.SCT.SubclavianVein),
    "axillary_artery": _artery(codes.SCT.AxillaryArtery),
    "brachial_artery": _artery(codes.SCT.BrachialArtery),
    "radial_artery": _artery(codes.SCT.RadialArtery),
    "ulnar_artery": _artery(codes.SCT.UlnarArtery),
    # Abdomen
    "coeliac_artery": _artery(codes.SCT.CeliacAxis),
    "hepatic_artery": _artery(codes.SCT.HepaticArtery),
    "splenic_artery": _artery(codes.SCT.SplenicArtery),
    "superior_mesenteric_artery": _artery(codes.SCT.SuperiorMesentericArtery),
    "inferior_mesenteric_artery": _artery(codes.SCT.InferiorMesentericArtery),
    "renal_artery": _artery(codes.SCT.RenalArtery),
    "renal_vein": _vein(codes.SCT.RenalVein),
    "hepatic_vein": _vein(codes.SCT.HepaticVein),
    "portal_vein": _vein(codes.SCT.PortalVein, _GREEN),
    "splenic_vein": _vein(codes.SCT.SplenicVein, _GREEN),
    "superior_mesenteric_vein": _vein(codes.SCT.SuperiorMesentericVein, _GREEN),
    # Pelvis and leg
    "iliac_artery": _artery(codes.SCT.IliacArtery),
    "common_iliac_artery": _artery(codes.SCT.CommonIliacArtery),
    "internal_iliac_artery": _artery(codes.SCT.InternalIliacArtery),
    "external_iliac_artery": _artery(codes.SCT.ExternalIliacArtery),
    "iliac_vein": _vein(codes.SCT.IliacVein),
    "femoral_artery": _artery(codes.SCT.FemoralArtery),
    "femoral_vein": _vein(codes.SCT.FemoralVein),
    "popliteal_artery": _artery(codes.SCT.PoplitealArtery),
    "popliteal_vein": _vein(codes.SCT.PoplitealVein),
    "anterior_tibial_artery": _artery(codes.SCT.AnteriorTibialArtery),
    "posterior_tibial_artery": _artery(codes.SCT.PosteriorTibialArtery),
    "peroneal_artery": _artery(codes.SCT.PeronealArtery),
    "great_saphenous_vein": _vein(codes.SCT.GreatSaphenousVein),
    # Retina. SNOMED has no "retinal artery" in CID 7156: the generic type with the region Retina says the same.
    "retinal_artery": _artery(codes.SCT.Artery),
    "retinal_vein": _vein(codes.SCT.Vein),
    "central_retinal_artery": _artery(codes.SCT.CentralRetinalArtery),
    "central_retinal_vein": _vein(codes.SCT.CentralRetinalVein),
}
"""By the key that a segmenter names in ``SegmentClass.key``."""


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


def code_item(code: Code) -> Dataset:
    """One item of a code sequence (PS3.3 table 8.8-1)."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item
