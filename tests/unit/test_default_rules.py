"""Where each kind of series goes at a site that has written no rules."""

import dicom_sources as sources
import pytest
from pydicom.dataset import Dataset

from dicom_core.default_rules import DEFAULT_RULES
from dicom_core.identifiers import MANUFACTURER
from dicom_core.routing import first_match
from worker.segmenters import registry

CONTRAST = {"ContrastBolusAgent": "Iohexol"}


def _name(dataset: Dataset) -> str:
    rule = first_match(DEFAULT_RULES, dataset)
    return rule.name if rule else ""


def _header(**attributes: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    ("made", "rule"),
    [
        (lambda: sources.xa_run(frames=2), "xray-angiography"),
        (sources.xa_still, "xray-angiography"),
        (lambda: sources.xrf_run(frames=2), "xray-angiography"),
        (sources.op_rgb, "eye"),
        (sources.op_grey, "eye"),
        (sources.opt_en_face, "eye"),
        (lambda: sources.opt_without(frames=2), "oct"),
        (lambda: sources.opt_with_frame_of_reference(frames=2), "oct"),
        (lambda: sources.ct_series(2, **CONTRAST), "contrast-ct-mr"),
        (lambda: sources.mr_series(2, **CONTRAST), "contrast-ct-mr"),
        (lambda: sources.enhanced_ct(2, SeriesDescription="CTA head"), "contrast-ct-mr"),
        (lambda: sources.enhanced_mr(2, SeriesDescription="TOF 3D"), "contrast-ct-mr"),
    ],
)
def test_what_vesselq_is_made_for_is_segmented(made, rule):
    """Angiograms and eyes reach the shipped network; OCT and contrast CT and MR the filter that knows volumes."""
    dataset = made()[0]
    assert _name(dataset) == rule
    segmenter = "vesselnet" if rule in ("xray-angiography", "eye") else "ridge"
    assert first_match(DEFAULT_RULES, dataset).segmenter == segmenter


@pytest.mark.parametrize(
    "description",
    ["TOF_3D", "3D_TOF", "tof_fl3d_tra_p2", "FL_TOF_4slab", "3DTOF", "TOF3D", "2d tof", "MRA_HEAD", "CE_MRA",
     "CE-MRA neck", "CTA_CHEST", "HEAD_CTA", "CTA", "ABD_KM", "Abdomen k.m.", "LIVER_ARTERIAL", "portal venous",
     "THORAX C+", "T1 +GD", "CT CHEST W/WO CONTRAST", "Abdomen with/without contrast", "with and without contrast",
     "Angio-CT"],
)  # fmt: skip
def test_names_that_tell_of_contrast(description):
    """However a department joins its words: series that show vessels are segmented."""
    assert _name(_header(Modality="CT", SeriesDescription=description)) == "contrast-ct-mr"


@pytest.mark.parametrize(
    "description",
    ["W/O CONTRAST", "without contrast", "non-contrast", "NONCONTRAST", "no IV contrast", "ohne KM",
     "CHEST_WO_CONTRAST", "Contrast: none", "T1 axial", "mrad", "tofu", "routine"],
)  # fmt: skip
def test_names_that_tell_of_no_contrast(description):
    """A plain series, or one that says it has none, matches no rule."""
    assert _name(_header(Modality="CT", SeriesDescription=description)) == ""


def test_slices_of_a_rotational_angiogram_go_where_volumes_are_known():
    """An X-Ray 3D Angiographic Image says Modality XA, but the network for angiograms would refuse it."""
    dataset = _header(Modality="XA", SOPClassUID="1.2.840.10008.5.1.4.1.1.13.1.1")
    assert _name(dataset) == "xray-3d"
    assert first_match(DEFAULT_RULES, dataset).segmenter == "ridge"


def test_segmenters_of_the_default_rules_come_with_vesselq():
    """Whatever a default rule names is installed."""
    assert {rule.segmenter for rule in DEFAULT_RULES if rule.segmenter} <= set(registry.names())


@pytest.mark.parametrize("made", [sources.dx, sources.cr, sources.sc])
def test_other_images_match_no_rule(made):
    """A chest radiograph or a screenshot is SKIPPED for want of a rule."""
    assert _name(made()[0]) == ""


@pytest.mark.parametrize("modality", ["SEG", "SR", "PR", "KO", "RTSTRUCT", "REG", "ECG", "DOC"])
def test_what_is_no_image_is_skipped_in_words(modality):
    """A reason that a person understands."""
    rule = first_match(DEFAULT_RULES, _header(Modality=modality))
    assert (rule.name, rule.segmenter) == ("not-images", "")
    assert "not an image" in rule.skip


def test_own_results_are_never_segmented_again():
    """The loop guard comes before everything else, whatever the modality says."""
    for modality in ("SEG", "XA", "CT"):
        rule = first_match(DEFAULT_RULES, _header(Modality=modality, Manufacturer=MANUFACTURER, **CONTRAST))
        assert rule.name == "own-results"
    assert DEFAULT_RULES[0].name == "own-results"


@pytest.mark.parametrize(
    "attributes",
    [
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        {"SeriesDescription": "Topogram 0.6"},
        {"SeriesDescription": "SCOUT"},
        {"SeriesDescription": "3-plane Localizer"},
    ],
)
def test_localizers_are_skipped(attributes):
    """Even with contrast in the study."""
    assert _name(_header(Modality="CT", **attributes, **CONTRAST)) == "localizers"


@pytest.mark.parametrize(
    "description",
    [
        "CT Angio Thorax",
        "CTA",
        "MRA Carotids",
        "Abdomen portal venous",
        "Leber arteriell KM",
        "Thorax K.M.",
        "Artériel",
        "C+ 70s",
    ],
)
def test_words_for_contrast_are_known(description):
    """English, German, French, in any of the three descriptions."""
    for keyword in ("SeriesDescription", "ProtocolName", "StudyDescription"):
        assert _name(_header(Modality="CT", **{keyword: description})) == "contrast-ct-mr"


@pytest.mark.parametrize(
    "description",
    [
        "Thorax nativ",
        "Head 5.0",
        "Blickmotorik",
        "CT without contrast",
        "non-contrast head",
        "w/o contrast",
        "ohne KM",
        "No IV contrast",
        "",
    ],
)
def test_series_without_contrast_match_no_rule(description):
    """Words that say the opposite, and syllables within other words."""
    assert _name(_header(Modality="CT", SeriesDescription=description)) == ""


def test_an_agent_counts_whatever_the_description_says():
    """(0018,0010) is the better witness."""
    assert _name(_header(Modality="CT", SeriesDescription="with and without contrast", **CONTRAST)) == "contrast-ct-mr"


def test_names_are_unique_and_every_skip_has_words():
    """The record shows them."""
    assert len({rule.name for rule in DEFAULT_RULES}) == len(DEFAULT_RULES)
    assert all(rule.segmenter or len(rule.skip.split()) > 2 for rule in DEFAULT_RULES)
