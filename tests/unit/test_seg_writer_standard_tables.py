"""The module tables of the Standard are at hand for every class of object that we write, and find what is missing."""

from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from seg_cases import CASES, IDENTITY, mask_for, segmentation_of

from dicom_core.result import SEGMENTATIONS, ResultKind
from worker.result_header.catalogue import code_item
from worker.seg_writer.standard_tables import missing_attributes, modules_of
from worker.seg_writer.writer import build_segmentation, encode_segmentation

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
SECONDARY_CAPTURES = ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.2", "1.2.840.10008.5.1.4.1.1.7.4")
REPORT = "1.2.840.10008.5.1.4.1.1.88.34"


def made(name: str = "ct", kind: ResultKind = ResultKind.SEG) -> Dataset:
    source = CASES[name].series()
    dataset = build_segmentation(source, segmentation_of(mask_for(source, 2)), IDENTITY, kind=kind)
    return dcmread(BytesIO(encode_segmentation(dataset)))


@pytest.mark.parametrize("kind", sorted(SEGMENTATIONS))
@pytest.mark.parametrize("name", CASES)
def test_nothing_is_missing_in_what_is_written(name: str, kind: ResultKind) -> None:
    """Every kind of segmentation of every class of source has its attributes of types 1 and 2."""
    assert missing_attributes(made(name, kind)) == []


@pytest.mark.parametrize("sop_class", [SEGMENTATION, LABEL_MAP])
def test_tables_of_segmentations_are_where_they_were(sop_class: str) -> None:
    """The private tables of highdicom still list what a Segmentation needs; a release that moves them fails here."""
    modules = {module.name: module for module in modules_of(sop_class)}
    type_1 = frozenset().union(*(module.requirement.type_1 for module in modules.values() if module.is_mandatory))
    type_2 = frozenset().union(*(module.requirement.type_2 for module in modules.values() if module.is_mandatory))
    assert {"SOPInstanceUID", "SegmentationType", "SegmentSequence", "DeviceSerialNumber"} <= type_1
    assert {"PatientName", "StudyDate", "ContentCreatorName"} <= type_2
    assert "SegmentLabel" in modules["segmentation-image"].requirement.sequences["SegmentSequence"].type_1
    assert not modules["frame-of-reference"].is_mandatory
    assert "FrameOfReferenceUID" in modules["frame-of-reference"].own


@pytest.mark.parametrize(
    ("sop_class", "name"),
    [*((sop_class, "sc-equipment") for sop_class in SECONDARY_CAPTURES), (REPORT, "sr-document-content")],
)
def test_tables_of_the_other_results_are_where_they_were(sop_class: str, name: str) -> None:
    """Secondary Captures and reports are known too, with the module that is their own."""
    mandatory = {module.name for module in modules_of(sop_class) if module.is_mandatory}
    assert {"patient", "general-study", "sop-common", name} <= mandatory


def test_module_that_is_not_mandatory_counts_when_used() -> None:
    """With a frame of reference its module must be whole; without one nothing of it is asked."""
    dataset = made("ct")
    del dataset.PositionReferenceIndicator
    assert missing_attributes(dataset) == ["PositionReferenceIndicator"]
    assert "PositionReferenceIndicator" not in made("xa_run")


@pytest.mark.parametrize(
    ("path", "keyword"),
    [
        ((), "PatientSex"),
        ((), "SegmentationType"),
        ((), "ContentLabel"),
        (("SegmentSequence",), "SegmentAlgorithmType"),
        (("SegmentSequence", "SegmentedPropertyTypeCodeSequence"), "CodeMeaning"),
        (("ReferencedSeriesSequence", "ReferencedInstanceSequence"), "ReferencedSOPInstanceUID"),
        (("PerFrameFunctionalGroupsSequence", "DerivationImageSequence"), "SourceImageSequence"),
        (("PerFrameFunctionalGroupsSequence",), "FrameContentSequence"),
        (("DimensionIndexSequence",), "DimensionIndexPointer"),
    ],
)
def test_planted_gaps_are_found(path: tuple[str, ...], keyword: str) -> None:
    """A lost attribute is named with the sequences that lead to it."""
    dataset = item = made()
    for sequence in path:
        item = item[sequence].value[-1]
    del item[keyword]
    assert "/".join((*path, keyword)) in missing_attributes(dataset)


@pytest.mark.parametrize(("keyword", "found"), [("PatientSex", []), ("SOPInstanceUID", ["SOPInstanceUID"])])
def test_type_2_may_be_empty_type_1_may_not(keyword: str, found: list[str]) -> None:
    """An empty value satisfies type 2 only."""
    dataset = made()
    dataset[keyword].value = ""
    assert missing_attributes(dataset) == found


def test_label_map_frames_belong_to_no_segment() -> None:
    """Segment Identification is asked of the frames of every segmentation but a label map."""
    dataset = made(kind=ResultKind.SEG_LABELMAP)
    assert all("SegmentIdentificationSequence" not in item for item in dataset.PerFrameFunctionalGroupsSequence)
    dataset.SegmentationType = "BINARY"
    assert missing_attributes(dataset) == ["PerFrameFunctionalGroupsSequence/SegmentIdentificationSequence"]


def test_unknown_class_is_named() -> None:
    """Of a class without tables nothing can be said, which is not the same as that nothing is missing."""
    dataset = made()
    dataset.SOPClassUID = "1.2.3"
    assert missing_attributes(dataset) == ["SOPClassUID"]
    del dataset.SOPClassUID
    assert missing_attributes(dataset) == ["SOPClassUID"]


def content_item(value_type: str, **attributes: object) -> Dataset:
    item = Dataset()
    item.RelationshipType = "CONTAINS"
    item.ValueType = value_type
    item.ConceptNameCodeSequence = [code_item(codes.DCM.Finding)]
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def missing_in(item: Dataset) -> list[str]:
    """What is missing below the root of a report that holds nothing but a container with this item."""
    report = Dataset()
    report.SOPClassUID = REPORT
    report.ValueType = "CONTAINER"
    report.ContentSequence = [content_item("CONTAINER", ContinuityOfContent="SEPARATE", ContentSequence=[item])]
    prefix = "ContentSequence/ContentSequence/"
    return [path.removeprefix(prefix) for path in missing_attributes(report) if path.startswith(prefix)]


@pytest.mark.parametrize(
    ("value_type", "keyword", "value"),
    [
        ("TEXT", "TextValue", "words"),
        ("CODE", "ConceptCodeSequence", [code_item(codes.SCT.Artery)]),
        ("UIDREF", "UID", "1.2.3"),
        ("CONTAINER", "ContinuityOfContent", "SEPARATE"),
    ],
)
def test_content_item_needs_its_own_value_at_any_depth(value_type: str, keyword: str, value: object) -> None:
    """Deep in a report a content item must hold the value of its type, and is asked for no other."""
    assert missing_in(content_item(value_type, **{keyword: value})) == []
    assert missing_in(content_item(value_type)) == [keyword]


def test_measurement_may_be_empty() -> None:
    """The measured value is type 2: a measurement that failed is said with an empty one."""
    assert missing_in(content_item("NUM", MeasuredValueSequence=[])) == []
    assert missing_in(content_item("NUM")) == ["MeasuredValueSequence"]


def test_reference_to_another_content_item() -> None:
    """An item by reference has a relationship and nothing else."""
    item = Dataset()
    item.RelationshipType = "INFERRED FROM"
    item.ReferencedContentItemIdentifier = [1, 2]
    assert missing_in(item) == []
    del item.RelationshipType
    assert missing_in(item) == ["RelationshipType"]
