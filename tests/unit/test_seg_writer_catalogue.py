"""Codes, regions, sides and colours that segments carry."""

import pytest
from pydicom.dataset import Dataset
from pydicom.sr._concepts_dict import concepts
from pydicom.sr.codedict import codes
from seg_cases import ARTERY_AND_VEIN, CASES, IDENTITY, mask_for, segmentation_of

from dicom_core.errors import InvalidSegmentationError
from worker.result_header import anatomy, catalogue
from worker.seg_writer.writer import build_segmentation

EXPECTED_CODES = {
    "blood_vessel": "59820001",
    "artery": "51114001",
    "vein": "29092000",
    "aorta": "15825003",
    "coronary_artery": "41801008",
    "left_anterior_descending_coronary_artery": "59438005",
    "circumflex_coronary_artery": "57396003",
    "right_coronary_artery": "13647002",
    "pulmonary_artery": "81040000",
    "pulmonary_vein": "122972007",
    "hepatic_vein": "8993003",
    "portal_vein": "32764006",
    "carotid_artery": "69105007",
    "internal_carotid_artery": "86117002",
    "cerebral_artery": "88556005",
    "circle_of_willis": "11279006",
    "central_retinal_artery": "76117006",
    "central_retinal_vein": "62869001",
    "vessel_lumen": "91747007",
}


@pytest.mark.parametrize("key", EXPECTED_CODES)
def test_types_have_their_snomed_code(key: str) -> None:
    """Each key stands for the code that the Standard's context groups give."""
    code = catalogue.vessel_type(key).code
    assert (code.scheme_designator, code.value) == ("SCT", EXPECTED_CODES[key])


def test_every_code_has_a_meaning_that_fits() -> None:
    """CodeMeaning is at most 64 characters, CodeValue at most 16."""
    used = [entry.code for entry in catalogue.VESSEL_TYPES.values()]
    for code in [*used, *anatomy._REGIONS.values(), *anatomy._SIDES.values(), catalogue.CATEGORY]:
        assert 0 < len(code.meaning) <= 64
        assert len(code.value) <= 16


def test_every_code_is_one_of_the_standard() -> None:
    """No code is invented: each is in the dictionary that pydicom made from PS3.16, with this value and meaning."""
    known = {
        (scheme, value) for scheme, codes_of in concepts.items() for values in codes_of.values() for value in values
    }
    for entry in catalogue.VESSEL_TYPES.values():
        assert (entry.code.scheme_designator, entry.code.value) in known
    for code in (*anatomy._REGIONS.values(), *anatomy._SIDES.values(), catalogue.CATEGORY):
        assert (code.scheme_designator, code.value) in known


def test_keys_say_what_their_codes_mean() -> None:
    """Key and CodeMeaning name the same vessel; the exceptions are the entries for which the Standard has no code."""
    generic = {"main_vessel", "side_branch", "retinal_artery", "retinal_vein"}
    ordinals = {"1st": "first", "2nd": "second", "celiac": "coeliac", "axis": "artery", "ramus": "coronary"}
    for key, entry in catalogue.VESSEL_TYPES.items():
        words = {ordinals.get(word, word) for word in entry.code.meaning.lower().split()} - {"branch"}
        if key not in generic:
            assert set(key.split("_")) - {"collateral", "vessel", "coronary"} <= words, (key, entry.code.meaning)


@pytest.mark.parametrize(
    ("name", "attributes", "region", "side"),
    [
        ("op_rgb", {"laterality": "R"}, codes.SCT.Retina, codes.SCT.Right),
        ("op_rgb", {"laterality": "L"}, codes.SCT.Retina, codes.SCT.Left),
        ("op_rgb", {"ImageLaterality": None}, codes.SCT.Retina, None),
        ("opt_without", {"ImageLaterality": "L"}, codes.SCT.Retina, codes.SCT.Right),
        ("opt_en_face", {"BodyPartExamined": "CHEST"}, codes.SCT.Retina, codes.SCT.Right),
        ("ct", {}, codes.SCT.Chest, None),
        ("ct", {"BodyPartExamined": "ABDOMEN", "Laterality": "L"}, codes.SCT.Abdomen, None),
        ("ct", {"BodyPartExamined": "SOMETHING"}, None, None),
        ("ct", {"BodyPartExamined": None}, None, None),
        ("mr", {}, codes.SCT.Head, None),
        ("xa_run", {}, codes.SCT.Heart, None),
        ("xa_run", {"BodyPartExamined": "CIRCLE OF_WILLIS"}, codes.SCT.CircleOfWillis, None),
        ("us_run", {"BodyPartExamined": "CAROTID", "Laterality": "L"}, codes.SCT.CarotidArtery, codes.SCT.Left),
        ("dx", {}, codes.SCT.LowerLeg, codes.SCT.Right),
    ],
)
def test_region_and_side(name: str, attributes: dict, region: object, side: object) -> None:
    """The region follows from the kind of picture or BodyPartExamined; only paired parts have a side."""
    source = CASES[name].series(**attributes)
    segment = build_segmentation(source, segmentation_of(mask_for(source)), IDENTITY).SegmentSequence[0]
    if region is None:
        assert "AnatomicRegionSequence" not in segment
        return
    item = segment.AnatomicRegionSequence[0]
    assert item.CodeValue == region.value
    modifiers = item.get("AnatomicRegionModifierSequence") or []
    assert [modifier.CodeValue for modifier in modifiers] == ([side.value] if side else [])


def test_pictures_of_both_eyes_have_no_side() -> None:
    """A series with a right and a left eye cannot say one side for all."""
    source = CASES["several_op"].series(count=2)
    source.datasets[1].ImageLaterality = "L"
    segment = build_segmentation(source, segmentation_of(mask_for(source)), IDENTITY).SegmentSequence[0]
    assert "AnatomicRegionModifierSequence" not in segment.AnatomicRegionSequence[0]


def test_each_frame_may_tell_its_side() -> None:
    """Frame Laterality of the functional groups goes before that of the image; frames that disagree have no side."""
    source = CASES["opt_with_frame_of_reference"].series(ImageLaterality="R")
    groups = source.datasets[0].PerFrameFunctionalGroupsSequence
    for group in groups:
        group.FrameAnatomySequence = [Dataset()]
        group.FrameAnatomySequence[0].FrameLaterality = "L"
    assert anatomy.laterality(source) == "L"
    groups[1].FrameAnatomySequence[0].FrameLaterality = "R"
    assert anatomy.laterality(source) == ""
    groups[1].FrameAnatomySequence[0].FrameLaterality = "U"
    for group in groups:
        group.FrameAnatomySequence[0].FrameLaterality = "U"
    assert anatomy.laterality(source) == "R"


def test_colours_are_stored_as_cielab() -> None:
    """The artery's red (216, 101, 79) becomes the CIELab value that viewers turn back into exactly that red."""
    source = CASES["ct"].series()
    segments = build_segmentation(source, segmentation_of(mask_for(source, 2), ARTERY_AND_VEIN), IDENTITY)
    stored = [list(item.RecommendedDisplayCIELabValue) for item in segments.SegmentSequence]
    assert stored[0] == [37064, 44082, 41620]
    assert stored[1] != stored[0]


def test_unknown_key() -> None:
    """An unknown key is an error that lists the known ones and does not repeat the unknown."""
    with pytest.raises(InvalidSegmentationError, match="coronary_artery") as raised:
        catalogue.vessel_type("something else")
    assert "something else" not in str(raised.value)
