"""Conditions and rules over DICOM keywords."""

import pytest
from pydantic import ValidationError
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from dicom_core.chain import names_in, tables_of
from dicom_core.prompt import Prompt
from dicom_core.routing import LONGEST_COMPARED_TEXT, Condition, Rule, first_match, values_of


def _dataset(**attributes: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


CT = _dataset(
    Modality="CT",
    SeriesDescription=" Thorax Arterial ",
    ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
    SliceThickness="1.25",
    Rows=512,
    SoftwareVersions="",
)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"keyword": "Modality", "equals": "ct "}, True),
        ({"keyword": "Modality", "equals": "MR"}, False),
        ({"keyword": "Rows", "equals": 512}, True),
        ({"keyword": "Rows", "equals": "512"}, True),
        ({"keyword": "SliceThickness", "equals": 1.25}, True),
        ({"keyword": "Modality", "equals": 5}, False),
        ({"keyword": "Modality", "one_of": ["MR", "CT"]}, True),
        ({"keyword": "ImageType", "one_of": ["LOCALIZER"]}, False),
        ({"keyword": "ImageType", "equals": "axial"}, True),
        ({"keyword": "SeriesDescription", "contains": "art"}, True),
        ({"keyword": "SeriesDescription", "matches": "thorax.*"}, True),
        ({"keyword": "SeriesDescription", "matches": "thorax"}, False),
        ({"keyword": "SeriesDescription", "exists": True}, True),
        ({"keyword": "SoftwareVersions", "exists": True}, False),
        ({"keyword": "SoftwareVersions", "exists": False}, True),
        ({"keyword": "PatientAge", "exists": False}, True),
        ({"keyword": "PatientAge", "equals": ""}, False),
        ({"keyword": "SliceThickness", "at_most": 1.25}, True),
        ({"keyword": "SliceThickness", "less_than": 1.25}, False),
        ({"keyword": "SliceThickness", "at_least": 1.25}, True),
        ({"keyword": "SliceThickness", "greater_than": 1.25}, False),
        ({"keyword": "Modality", "greater_than": 0}, False),
        ({"all": [{"keyword": "Modality", "equals": "CT"}, {"keyword": "Rows", "at_least": 256}]}, True),
        ({"all": [{"keyword": "Modality", "equals": "CT"}, {"keyword": "Rows", "at_least": 1024}]}, False),
        ({"any": [{"keyword": "Modality", "equals": "MR"}, {"keyword": "Rows", "at_least": 256}]}, True),
        ({"not": {"keyword": "Modality", "equals": "MR"}}, True),
        ({"all": []}, True),
        ({"any": []}, False),
    ],
)
def test_conditions(condition, holds):
    """Text without regard to case and spaces, numbers as numbers, any value of several, absent satisfies nothing."""
    assert Condition.model_validate(condition).holds(CT) is holds


@pytest.mark.parametrize(
    ("condition", "complaint"),
    [
        ({"keyword": "Modalty", "equals": "CT"}, "no DICOM keyword"),
        ({"keyword": "Modality"}, "exactly one of"),
        ({"keyword": "Modality", "equals": "CT", "contains": "C"}, "exactly one of"),
        ({"keyword": "Modality", "equals": "CT", "all": []}, "exactly one of"),
        ({"equals": "CT"}, "either 'keyword'"),
        ({"all": [], "any": []}, "either 'keyword'"),
        ({}, "either 'keyword'"),
        ({"keyword": "Modality", "matches": "("}, "no regular expression"),
        ({"keyword": "Modality", "is": "CT"}, "Extra inputs"),
        ({"not": {"keyword": "Nonsense", "exists": True}}, "no DICOM keyword"),
    ],
)
def test_a_condition_with_no_single_meaning_is_refused(condition, complaint):
    """At start, in words."""
    with pytest.raises(ValidationError, match=complaint):
        Condition.model_validate(condition)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({"keyword": "Modality", "equals": "CT"}, "Modality is CT"),
        ({"keyword": "Modality", "one_of": ["CT", "MR"]}, "Modality is one of CT, MR"),
        ({"keyword": "SeriesDescription", "contains": "x"}, "SeriesDescription contains x"),
        ({"keyword": "Rows", "at_least": 256}, "Rows ≥ 256"),
        ({"keyword": "PatientAge", "exists": False}, "PatientAge is absent"),
        (
            {"all": [{"keyword": "Rows", "less_than": 2}, {"not": {"keyword": "Modality", "exists": True}}]},
            "(Rows < 2 and not Modality is present)",
        ),
        (
            {"any": [{"keyword": "Rows", "greater_than": 2.5}, {"keyword": "Rows", "at_most": 1}]},
            "(Rows > 2.5 or Rows ≤ 1)",
        ),
    ],
)
def test_conditions_speak(condition, words):
    """Reasons are shown to people."""
    assert Condition.model_validate(condition).in_words() == words


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_an_unreadable_element_counts_as_absent():
    """Wrong lengths and impossible numbers in a header do not break routing."""
    dataset = Dataset()
    for tag, vr, value in (
        (0x00280010, "US", b"abc"),
        (0x00180050, "DS", b"one point five"),
        (0x00280008, "IS", b"1e400"),
        (0x00081140, "SQ", b"rubbish"),
    ):
        dataset[tag] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)
    rule = Condition.model_validate({"keyword": "Rows", "at_least": 1})
    assert rule.holds(dataset) is False
    for keyword in ("Rows", "SliceThickness", "NumberOfFrames", "ReferencedImageSequence"):
        assert isinstance(values_of(dataset, keyword), list)


def test_an_empty_sequence_does_not_exist():
    """A sequence counts by its items."""
    assert values_of(_dataset(ContrastBolusAgentSequence=Sequence([])), "ContrastBolusAgentSequence") == []
    one = _dataset(ContrastBolusAgentSequence=Sequence([_dataset(CodeMeaning="x")]))
    assert Condition.model_validate({"keyword": "ContrastBolusAgentSequence", "exists": True}).holds(one)


@pytest.mark.timeout(10)
@pytest.mark.filterwarnings("ignore:The value length")
def test_long_text_is_cut_before_a_pattern_looks():
    """A hostile value of a megabyte costs no time."""
    dataset = _dataset()
    dataset.add_new(0x00204000, "LT", "a" * 1_000_000 + "!")
    assert Condition.model_validate({"keyword": "ImageComments", "matches": "(.*a){3}.*"}).holds(dataset)
    assert not Condition.model_validate({"keyword": "ImageComments", "contains": "!"}).holds(dataset)
    assert LONGEST_COMPARED_TEXT < 10_000


def _rule(name: str, modality: str, **more: object) -> Rule:
    return Rule.model_validate({"name": name, "when": {"keyword": "Modality", "equals": modality}, **more})


def test_the_first_match_wins():
    """In the order of the list; none is an answer."""
    rules = [_rule("mr", "MR", segmenter="ridge"), _rule("one", "CT", skip="x"), _rule("two", "CT", segmenter="ridge")]
    assert first_match(rules, CT).name == "one"
    assert first_match(rules[:1], CT) is None


@pytest.mark.parametrize(
    "more",
    [{}, {"segmenter": "ridge", "skip": "no"}, {"segmenter": "ridge", "priority": 101}, {"segmenter": "r", "color": 1}],
)
def test_a_rule_segments_or_skips(more):
    """Exactly one of both, priority 0 to 100, nothing unknown."""
    with pytest.raises(ValidationError):
        _rule("a", "CT", **more)


@pytest.mark.parametrize("name", ["", "A", "a b", "-a", "a" * 64])
def test_rule_names_are_words(name):
    """They are stored and shown."""
    with pytest.raises(ValidationError):
        _rule(name, "CT", segmenter="ridge")


ALL = {"name": "all", "when": {"keyword": "Modality", "exists": True}, "segmenter": "sa2va"}


def test_prompt_of_a_rule_is_a_text_or_a_table():
    """Plain words are one question; a table says more; nothing asks nothing."""
    assert Rule(**ALL).prompt == Prompt()
    assert Rule(**ALL, prompt="Gefäße").prompt.questions[0].text == "Gefäße"
    table = {"questions": [{"text": "artery", "segment": "artery"}, {"text": "vein"}], "mask": "/masks/heart.png"}
    rule = Rule(**ALL, prompt=table)
    assert rule.prompt.in_words() == "artery; vein; a mask"
    assert Rule.model_validate(rule.model_dump()) == rule


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ({"questions": [{"text": "x"}], "by_hand": True}, "a rule is no person"),
        ("x" * 1001, "1000"),
        ({"question": "x"}, "question"),
        ({"boxes": [{"left": 5, "top": 1, "right": 2, "bottom": 3}]}, "right must not be left"),
    ],
)
def test_wrong_prompt_of_a_rule_is_refused(prompt, said):
    """At the start, in words, not when the first study comes."""
    with pytest.raises(ValidationError, match=said):
        Rule(**ALL, prompt=prompt)


def test_chain_is_one_word():
    """The segmenters of a rule in the order in which they work."""
    assert Rule(**ALL).segments_by == "sa2va"
    assert Rule(**ALL, chain=["medsam", "sam"]).segments_by == "sa2va+medsam+sam"
    assert Rule(**{**ALL, "segmenter": "", "skip": "not wanted"}).segments_by == ""
    assert names_in("a+b + c") == ("a", "b", "c")
    models = {"a": {"x": 1}, "c": {}, "a+b": {"near": 1}, "a+c": {}}
    assert tables_of("a+b", models) == {"a": {"x": 1}, "a+b": {"near": 1}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"segmenter": "a+b"}, "names the others in 'chain'"),
        ({"chain": ["a+b"]}, "names the others in 'chain'"),
        ({"segmenter": "", "skip": "no", "chain": ["a"]}, "has no 'chain'"),
        ({"chain": ["x" * 60]}, "more than 64 characters"),
    ],
)
def test_wrong_chain_is_refused(changes, said):
    """What no job could bear, or would mean two things."""
    with pytest.raises(ValidationError, match=said):
        Rule(**{**ALL, **changes})
