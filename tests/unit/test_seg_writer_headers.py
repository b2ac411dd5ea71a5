"""Patient and study of the source survive in the result, however odd the source header is."""

from copy import deepcopy
from dataclasses import replace
from io import BytesIO

import pytest
from pydicom import config, dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from seg_cases import ARTERY_AND_VEIN, CASES, IDENTITY, IDENTITY_WITH_WEIGHTS, mask_for, segmentation_of

from worker.result_header.identity import RESEARCH_USE
from worker.result_header.text_values import decimal_strings, long_string, long_text, short_text
from worker.seg_writer.validation import validate_segmentation
from worker.seg_writer.writer import build_segmentation, encode_segmentation
from worker.segmenters.interface import SegmentClass
from worker.source_series import SourceSeries

BOTH_PATHS = pytest.mark.parametrize("name", ["ct", "xa_run"])


def small(name: str, **attributes: object) -> SourceSeries:
    """A series of three frames."""
    return CASES[name].series(frames=3, rows=16, columns=18, **attributes)


def build(source: SourceSeries, **identity: object) -> Dataset:
    """The SEG of a source as a reader sees it, validated first."""
    mask = mask_for(source)
    dataset = build_segmentation(source, segmentation_of(mask), replace(IDENTITY, **identity))
    validate_segmentation(dataset, source, mask)
    return dcmread(BytesIO(encode_segmentation(dataset)))


def with_raw_text(source: SourceSeries, keyword: str, vr: str, value: bytes, charset: object) -> None:
    """Give every header a text value as bytes off the wire, in a character set, decoded by pydicom when first read."""
    for header in source.datasets:
        if charset is None:
            del header.SpecificCharacterSet
        else:
            header.SpecificCharacterSet = charset
        header[Tag(keyword)] = RawDataElement(Tag(keyword), vr, len(value), value, 0, False, True)


@BOTH_PATHS
@pytest.mark.parametrize(
    "keyword",
    [
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "AccessionNumber",
        "StudyID",
        "StudyDate",
        "StudyTime",
        "ReferringPhysicianName",
        "Manufacturer",
        "SeriesNumber",
        "BodyPartExamined",
        "PatientOrientation",
        "SpecificCharacterSet",
    ],
)
def test_absent_attributes(name: str, keyword: str) -> None:
    """Without the attribute the object is built all the same; type 2 attributes become empty."""
    dataset = build(small(name, **{keyword: None}))
    if keyword in ("PatientID", "PatientName", "AccessionNumber", "StudyDate", "PatientSex"):
        assert dataset[keyword].is_empty


@BOTH_PATHS
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientSex", "X"),
        ("PatientSex", "male"),
        ("PatientBirthDate", "1960"),
        ("PatientBirthDate", "01.01.1960"),
        ("StudyDate", "2024-02-29"),
        ("StudyTime", "10h15"),
        ("PatientWeight", "0.0"),
        ("BodyPartExamined", "PARTIALBODY"),
        ("BodyPartExamined", "left leg, below knee"),
        ("TimezoneOffsetFromUTC", "CET"),
    ],
)
def test_invalid_values_do_not_pass_through(name: str, keyword: str, value: str) -> None:
    """A value outside its value representation or enumeration becomes empty or absent, never an error."""
    source = small(name)
    for header in source.datasets:
        element = DataElement(Tag(keyword), "LO", value, validation_mode=config.IGNORE)
        header.add(element)
    assert not build(source).get(keyword)


@BOTH_PATHS
@pytest.mark.parametrize(
    ("charset", "raw", "text"),
    [
        ("ISO_IR 100", "Müller^Jürgen".encode("latin-1"), "Müller^Jürgen"),
        ("ISO_IR 144", "Люкceмбypг".encode("iso8859-5"), "Люкceмбypг"),
        ("ISO_IR 192", "王^小东".encode(), "王^小东"),
        ("GB18030", "王^小东".encode("gb18030"), "王^小东"),
        (
            ["", "ISO 2022 IR 87"],
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
        ),
        (
            ["", "ISO 2022 IR 149"],
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
            "Hong^Gildong=洪^吉洞=홍^길동",
        ),
        (None, b"Plain^Name", "Plain^Name"),
    ],
)
def test_names_survive_in_unicode(name: str, charset: object, raw: bytes, text: str) -> None:
    """Names in any character set, several at once too, are the same characters in the result's UTF-8."""
    source = small(name)
    with_raw_text(source, "PatientName", "PN", raw, charset)
    dataset = build(source)
    assert str(dataset.PatientName) == text
    assert text.rpartition("=")[2].encode() in encode_segmentation(dataset)


@BOTH_PATHS
@pytest.mark.parametrize("charset", [None, "ISO_IR 6", "ISO_IR 192", "NO SUCH SET", ["", "ISO 2022 IR 999"]])
def test_undecodable_names_do_not_stop_the_job(name: str, charset: object) -> None:
    """Bytes that the stated character set does not allow give some name, and a valid object."""
    source = small(name)
    with config.disable_value_validation():
        with_raw_text(source, "PatientName", "PN", b"M\xfcller^J\xfcrgen", charset)
        mask = mask_for(source)
        dataset = build_segmentation(source, segmentation_of(mask), IDENTITY)
    assert dcmread(BytesIO(encode_segmentation(dataset))).PatientName != ""


@BOTH_PATHS
@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "=cmd|' /C calc'!A0",
        "Robert'); DROP TABLE studies;--",
        "../../etc/passwd",
        "A" * 64,
    ],
)
def test_hostile_text_is_only_text(name: str, text: str) -> None:
    """Markup, formulas and paths in identifying attributes pass unchanged and change nothing else."""
    dataset = build(small(name, PatientID=text, PatientName=text, StudyDescription=text))
    assert (dataset.PatientID, str(dataset.PatientName), dataset.StudyDescription) == (text, text, text)


@BOTH_PATHS
def test_identifying_attributes_stay_to_the_letter(name: str) -> None:
    """An overlong PatientID is kept: the archive compares it, and that dciodvfy complains is the source's fault."""
    source = small(name)
    overlong = "P" * 80
    for header in source.datasets:
        header.add(DataElement(Tag("PatientID"), "LO", overlong, validation_mode=config.IGNORE))
    mask = mask_for(source)
    dataset = build_segmentation(source, segmentation_of(mask), IDENTITY)
    validate_segmentation(dataset, source, mask)
    assert dataset.PatientID == overlong


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([["L", "F"], ["L", "F"]], ["L", "F"]),
        ([["L", "F"], ["R", "F"]], ""),
        ([["L", "F"], ""], ""),
        ([["x", "F"], ["x", "F"]], ""),
        (["L", "L"], ""),
    ],
)
def test_patient_orientation(values: list, expected: object) -> None:
    """PatientOrientation is copied when all images agree on a valid one, else it is empty."""
    source = CASES["several_op"].series(count=2)
    for header, value in zip(source.datasets, values, strict=True):
        del header.PatientOrientation
        with config.disable_value_validation():
            header.PatientOrientation = value
    assert build(source).PatientOrientation == expected


def test_lossy_compression_is_passed_on() -> None:
    """Once lossy, always said: with ratio and method where the source tells them."""
    lossy = {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": 12.5,
        "LossyImageCompressionMethod": "ISO_10918_1",
    }
    dataset = build(CASES["xa_run"].series(**lossy))
    assert {keyword: dataset[keyword].value for keyword in lossy} == lossy
    assert build(CASES["xa_run"].series()).LossyImageCompression == "00"


def test_removed_identity_needs_its_method() -> None:
    """PatientIdentityRemoved passes with the method beside it, and not alone, where it would be invalid."""
    told = build(small("xa_run", PatientIdentityRemoved="YES", DeidentificationMethod="By hand"))
    assert (told.PatientIdentityRemoved, told.DeidentificationMethod) == ("YES", "By hand")
    assert "PatientIdentityRemoved" not in build(small("xa_run", PatientIdentityRemoved="YES"))


def test_contributing_equipment() -> None:
    """The scanner and the segmenter are named, the latter with the UID that stands for model and weights."""
    scanner, own = build(CASES["ct"].series()).ContributingEquipmentSequence
    assert scanner.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
    assert (scanner.Manufacturer, scanner.ManufacturerModelName) == ("Generated", "Phantom")
    assert own.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert (own.Manufacturer, own.ManufacturerModelName) == ("vesselq", "ridge")
    assert own.DeviceSerialNumber == IDENTITY.device_uid
    assert own.ContributionDateTime == "20240229120000.123456+0800"
    assert len(build(CASES["ct"].series(Manufacturer="")).ContributingEquipmentSequence) == 1


def test_algorithm_identification() -> None:
    """A model with weights is artificial intelligence, a filter is multi-scale filtering; parameters are all told."""
    source = CASES["xa_run"].series()
    segmentation = replace(segmentation_of(mask_for(source)), parameters={"threshold": "0.35"})
    network = build_segmentation(source, segmentation, replace(IDENTITY_WITH_WEIGHTS, parameters={"tiles": "4"}))
    item = network.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert item.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"
    assert (item.AlgorithmName, item.AlgorithmVersion) == ("vesselnet", "1.0")
    assert item.AlgorithmParameters.split("\n") == [
        "threshold=0.35",
        "tiles=4",
        "weights_sha256=" + IDENTITY_WITH_WEIGHTS.weights_sha256,
        "prompt=coronary arteries",
    ]
    filtered = build_segmentation(source, segmentation, IDENTITY)
    item = filtered.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert item.AlgorithmFamilyCodeSequence[0].CodeValue == "123106"
    assert "weights" not in item.AlgorithmParameters


def test_description_warns_before_the_prompt() -> None:
    """A long prompt is cut at 1024 characters and can neither push out the warning nor break the object."""
    source = CASES["xa_run"].series()
    dataset = build(source, prompt="vessels\\of\x1b the\x00 heart 血管 " * 200, model_name="model\\with\nodd name" * 9)
    description = dataset.SegmentSequence[0].SegmentDescription
    assert description.startswith(RESEARCH_USE)
    assert "血管" in description
    assert len(description) <= 1024
    assert len(dataset.ManufacturerModelName) <= 64
    assert "\\" not in dataset.ManufacturerModelName


@pytest.mark.parametrize("letter", ["血", "ü", "🩸", "e\u0301"])
def test_texts_are_cut_between_characters(letter: str) -> None:
    """A text of several bytes a character is cut by bytes, and never in the middle of a character."""
    source = CASES["xa_run"].series()
    mask = mask_for(source)
    segmentation = segmentation_of(mask, [SegmentClass("artery", letter * 60)])
    identity = replace(IDENTITY_WITH_WEIGHTS, prompt=letter * 6000)
    dataset = dcmread(BytesIO(encode_segmentation(build_segmentation(source, segmentation, identity))))
    validate_segmentation(dataset, source, mask)
    item = dataset.SegmentSequence[0]
    parameters = item.SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters
    for text, most in ((item.SegmentLabel, 64), (item.SegmentDescription, 1024), (parameters, 10240)):
        assert most - 4 < len(text.encode()) <= most
        assert set(letter) >= set(text[-2:]), "neither cut through a character nor replaced by a question mark"


@pytest.mark.parametrize(("semiautomatic", "word"), [(False, "AUTOMATIC"), (True, "SEMIAUTOMATIC")])
def test_points_of_a_person_make_it_semiautomatic(semiautomatic: bool, word: str) -> None:
    """A segmentation is automatic unless a person pointed at what to find in this series."""
    source = CASES["xa_run"].series()
    mask = mask_for(source, 2)
    identity = replace(IDENTITY, semiautomatic=semiautomatic)
    dataset = build_segmentation(source, segmentation_of(mask, ARTERY_AND_VEIN), identity)
    validate_segmentation(dataset, source, mask)
    assert [item.SegmentAlgorithmType for item in dataset.SegmentSequence] == [word, word]


def test_segment_labels_fit() -> None:
    """Labels longer than 64 characters or with separators are made to fit; an empty one gets a number."""
    source = CASES["xa_run"].series()
    classes = (SegmentClass("artery", "a\\b" * 50), SegmentClass("vein", "  "))
    mask = mask_for(source, 2)
    dataset = build_segmentation(source, segmentation_of(mask, classes), IDENTITY)
    validate_segmentation(dataset, source, mask)
    labels = [item.SegmentLabel for item in dataset.SegmentSequence]
    assert labels[0].startswith("a b")
    assert len(labels[0]) <= 64
    assert labels[1] == "Segment 2"


def test_tracking_identifiers() -> None:
    """Each segment has its own tracking UID, derived from the seed, beside a readable one."""
    source = CASES["xa_run"].series()
    segments = build_segmentation(source, segmentation_of(mask_for(source, 2)), IDENTITY).SegmentSequence
    uids = [item.TrackingUID for item in segments]
    assert len(set(uids)) == 2
    assert [item.TrackingID for item in segments] == ["Vessel 1", "Artery 2"]
    other = build_segmentation(source, segmentation_of(mask_for(source, 2)), replace(IDENTITY, uid_seed="x"))
    assert other.SegmentSequence[0].TrackingUID not in uids


def test_private_and_unlisted_attributes_stay_behind() -> None:
    """Nothing of the source passes but what is listed: no private tag, comment or operator's name."""
    source = CASES["xa_run"].series(OperatorsName="Operator^One", PatientComments="told in confidence")
    header = source.datasets[0]
    header.private_block(0x0011, "SOMEBODY", create=True).add_new(0x01, "LO", "secret")
    before = deepcopy(header)
    content = encode_segmentation(build(source))
    for secret in (b"Operator^One", b"confidence", b"SOMEBODY", b"secret"):
        assert secret not in content
    assert header == before


@pytest.mark.parametrize(
    ("function", "text", "expected"),
    [
        (long_string, " a\\b\nc\x1b ", "a b c"),
        (long_string, "x" * 70, "x" * 64),
        (long_string, "\ud800", ""),
        (short_text, "a\\b\r\nc\x00d  ", "a\\b\r\nc d"),
        (short_text, "é" * 2000, "é" * 512),
        (long_text, "y" * 20000, "y" * 10240),
    ],
)
def test_text_fits_its_value_representation(function: object, text: str, expected: str) -> None:
    """Control characters go, lengths hold, and backslashes stay only where they separate nothing."""
    assert function(text) == expected  # type: ignore[operator]


def test_decimal_strings() -> None:
    """Numbers that fit keep their digits; longer ones are rounded to 16 characters; infinities are refused."""
    assert decimal_strings(["1.50", 2, 0.25]) == ["1.50", "2", "0.25"]
    assert float(decimal_strings(["-123.45678901234567"])[0]) == pytest.approx(-123.4567890123, abs=1e-9)
    with pytest.raises(ValueError, match="finite"):
        decimal_strings(["nan"])
