"""The report says what was measured, of what and by whom, whatever the source looks like."""

from dataclasses import replace
from functools import cached_property, lru_cache
from io import BytesIO

import highdicom
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from seg_cases import ARTERY_AND_VEIN, CASES, IDENTITY, IDENTITY_WITH_WEIGHTS, mask_for, segmentation_of

from dicom_core.errors import InvalidSegmentationError
from dicom_core.result import ResultKind
from worker.image_stack import Imaging
from worker.measurements.measuring import measure_vessels
from worker.measurements.vessel_measurements import Quantity, VesselMeasurements
from worker.result_header.identity import RESEARCH_USE, ResultIdentity
from worker.seg_writer.standard_tables import missing_attributes
from worker.seg_writer.writer import build_segmentation, encode_segmentation
from worker.segmenters.interface import Segmentation, Status
from worker.source_series import SourceSeries
from worker.sr_writer.concepts import CONCEPTS, PRIVATE_SCHEME, UNITS, procedure_of
from worker.sr_writer.report import build_report

REPORT = {"sop_instance_uid": "2.25.2002", "series_instance_uid": "2.25.2001", "series_number": 902}
VOLUMES = {
    "ct",
    "ct_tilted_with_gap",
    "ct_odd_columns",
    "mr",
    "enhanced_ct",
    "enhanced_mr",
    "opt_with_frame_of_reference",
}


class Made:
    """A segmentation and its report, from generated tubes."""

    def __init__(
        self,
        source: SourceSeries,
        mask: NDArray[np.bool_] | None = None,
        identity: ResultIdentity = IDENTITY,
        kind: ResultKind = ResultKind.SEG,
    ) -> None:
        mask = mask_for(source, 2) if mask is None else mask
        status = Status.OK if mask.any() else Status.NO_MASK
        self.source = source
        self.found: Segmentation = segmentation_of(mask, ARTERY_AND_VEIN if len(mask) == 2 else None, status)
        self.segmentation = build_segmentation(source, self.found, identity, kind=kind)
        self.measurements: VesselMeasurements = measure_vessels(source, self.found)
        self.report = build_report(source, self.segmentation, self.measurements, replace(identity, **REPORT))

    @cached_property
    def read(self) -> highdicom.sr.Comprehensive3DSR:
        """The report as highdicom reads it from its file."""
        return highdicom.sr.srread(BytesIO(encode_segmentation(self.report)))

    def groups(self) -> list:
        """Its measurement groups in order."""
        content = self.read.content
        return [*content.get_planar_roi_measurement_groups(), *content.get_volumetric_roi_measurement_groups()]


@lru_cache
def standard(name: str) -> Made:
    """Two segments of this class of source; shared by tests that only look."""
    return Made(CASES[name].series())


def texts(item: Dataset, meaning: str) -> list[str]:
    """All TEXT values of this concept name below an item."""
    below = [text for child in item.get("ContentSequence") or () for text in texts(child, meaning)]
    named = item.get("ConceptNameCodeSequence") and item.ConceptNameCodeSequence[0].CodeMeaning == meaning
    return [str(item.TextValue), *below] if named and "TextValue" in item else below


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_read_back_equal(name):
    """By tracking UID of each segment: every measurement with its value, unit and code, for every class of source."""
    made = standard(name)
    content = made.read.content
    for number, segment in enumerate(made.segmentation.SegmentSequence, 1):
        assert segment.TrackingUID == IDENTITY.uid("segment", number, "tracking")
        groups = [
            *content.get_planar_roi_measurement_groups(tracking_uid=segment.TrackingUID),
            *content.get_volumetric_roi_measurement_groups(tracking_uid=segment.TrackingUID),
        ]
        regions = [region for region in made.measurements.regions if region.segment_number == number]
        assert len(groups) == len(regions) > 0
        for group, region in zip(groups, regions, strict=True):
            read = [(one.name, one.value, one.unit, one.derivation) for one in group.get_measurements()]
            assert read == [
                (CONCEPTS[one.quantity].name, one.value, UNITS[one.unit], CONCEPTS[one.quantity].derivation)
                for one in region.measurements
            ]


@pytest.mark.parametrize("name", CASES)
def test_groups_are_of_the_right_template(name):
    """TID 1411 for volumes and TID 1410 for everything else, in a document of TID 1500."""
    report = standard(name).report
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    groups = report.ContentSequence[-1].ContentSequence
    assert {group.ContentTemplateSequence[0].TemplateIdentifier for group in groups} == {
        "1411" if name in VOLUMES else "1410"
    }


@pytest.mark.parametrize("name", CASES)
def test_regions_refer_to_the_segmentation(name):
    """To the segment in a volume; elsewhere to the very frame that shows the measured source frame."""
    made = standard(name)
    for group, region in zip(made.groups(), made.measurements.regions, strict=True):
        if region.frame is None:
            reference = group.referenced_segment[0].ReferencedSOPSequence[0]
            assert reference.ReferencedSegmentNumber == region.segment_number
            assert "ReferencedFrameNumber" not in reference
        else:
            reference = group.referenced_segmentation_frame[0].ReferencedSOPSequence[0]
            assert "ReferencedSegmentNumber" not in reference
            groups = made.segmentation.PerFrameFunctionalGroupsSequence[int(reference.ReferencedFrameNumber) - 1]
            assert groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber == region.segment_number
            image = groups.DerivationImageSequence[0].SourceImageSequence[0]
            assert image.ReferencedSOPInstanceUID == region.frame.sop_instance_uid
            assert int(image.get("ReferencedFrameNumber") or 1) == region.frame.frame_number
        assert reference.ReferencedSOPInstanceUID == made.segmentation.SOPInstanceUID
        assert reference.ReferencedSOPClassUID == made.segmentation.SOPClassUID


@pytest.mark.parametrize("name", CASES)
def test_required_attributes_stand(name):
    """Every type 1 and type 2 attribute of the modules of the Comprehensive 3D SR."""
    assert missing_attributes(standard(name).report) == []


@pytest.mark.parametrize("name", CASES)
def test_all_that_is_referred_to_is_evidence(name):
    """Source instances and segmentation stand in the evidence, with their series (PS3.3 C.17.2.3)."""
    made = standard(name)
    evidence = {(series, instance, sop_class) for _, series, instance, sop_class in made.read.get_evidence()}
    series = str(made.source.datasets[0].SeriesInstanceUID)
    expected = {(series, str(h.SOPInstanceUID), str(h.SOPClassUID)) for h in made.source.datasets}
    own = made.segmentation
    assert evidence == expected | {(own.SeriesInstanceUID, own.SOPInstanceUID, own.SOPClassUID)}
    library = made.report.ContentSequence[-2]
    assert library.ConceptNameCodeSequence[0].CodeValue == codes.DCM.ImageLibrary.value
    listed = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in library.ContentSequence[0].ContentSequence
        if item.ValueType == "IMAGE"
    ]
    assert listed == [header.SOPInstanceUID for header in made.source.datasets]


def test_the_finding_is_that_of_the_segment():
    """Type, category, site with side, tracking identifier and algorithm are taken from the segmentation."""
    made = Made(CASES["op_rgb"].series(), identity=IDENTITY_WITH_WEIGHTS)
    first, second = made.groups()
    assert (first.finding_type, second.finding_type) == (codes.SCT.Artery, codes.SCT.Vein)
    assert first.finding_category == codes.SCT.AnatomicalStructure
    assert first.tracking_identifier == made.segmentation.SegmentSequence[0].TrackingID
    (site,) = first.finding_sites
    assert site.value == codes.SCT.Retina
    assert site.laterality == codes.SCT.Right
    assert texts(made.report, "Algorithm Name") == ["vesselnet"] * 2
    assert texts(made.report, "Algorithm Version") == ["1.0"] * 2
    assert f"weights_sha256={IDENTITY_WITH_WEIGHTS.weights_sha256}" in texts(made.report, "Algorithm Parameters")
    assert "prompt=coronary arteries" in texts(made.report, "Algorithm Parameters")


def test_the_observer_is_the_device():
    """TID 1004 with the device UID of model and weights, which the equipment carries too (IHE AIR)."""
    report = Made(CASES["ct"].series())
    (observer,) = report.read.content.get_observer_contexts(codes.DCM.Device)
    device = observer.observer_identifying_attributes
    assert (device.uid, device.name, device.manufacturer_name, device.model_name) == (
        IDENTITY.device_uid,
        "ridge 1.0",
        "vesselq",
        "ridge",
    )
    assert report.report.DeviceUID == IDENTITY.device_uid
    own = report.report.ContributingEquipmentSequence[-1]
    assert own.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert (own.DeviceUID, own.Manufacturer, own.ManufacturerModelName) == (IDENTITY.device_uid, "vesselq", "ridge")


@pytest.mark.parametrize(
    ("name", "words"),
    [("ct", "Measured in millimetres"), ("xa_run", "Measured in pixels"), ("opt_en_face", "nominal")],
)
def test_the_reader_is_told(name, words):
    """That nobody has reviewed it, what the unit rests on, and which frame it was."""
    made = Made(CASES[name].series())
    comments = texts(made.report, "Comment")
    assert comments.count(RESEARCH_USE) == 2
    assert sum(words in comment for comment in comments) == 2
    assert ("frame" in " ".join(comments)) == (name == "xa_run")
    assert made.report.VerificationFlag == "UNVERIFIED"
    assert made.report.CompletionFlag == "COMPLETE"
    assert made.report.PreliminaryFlag == "PRELIMINARY"


@pytest.mark.parametrize("name", CASES)
def test_the_same_arguments_give_the_same_bytes(name):
    """And none of them is changed."""
    made = standard(name)
    source = made.source
    before = [header.to_json() for header in source.datasets]
    segmentation = encode_segmentation(made.segmentation)
    again = build_report(source, made.segmentation, made.measurements, replace(IDENTITY, **REPORT))
    assert encode_segmentation(again) == encode_segmentation(made.report)
    assert [header.to_json() for header in source.datasets] == before
    assert encode_segmentation(made.segmentation) == segmentation


def test_dates_are_those_of_the_job():
    """In the time zone of the source, where it tells one."""
    report = Made(CASES["ct"].series(TimezoneOffsetFromUTC="+0100")).report
    assert (report.ContentDate, report.ContentTime) == ("20240229", "050000.123456")
    assert report.TimezoneOffsetFromUTC == "+0100"


def test_the_report_is_an_instance_of_its_own():
    """In a series of its own, in the study of the source."""
    made = Made(CASES["ct"].series(), identity=IDENTITY_WITH_WEIGHTS)
    report = made.report
    assert (report.Modality, report.SOPInstanceUID, report.SeriesInstanceUID) == ("SR", "2.25.2002", "2.25.2001")
    assert report.file_meta.MediaStorageSOPInstanceUID == "2.25.2002"
    assert report.StudyInstanceUID == made.source.datasets[0].StudyInstanceUID
    assert report.SeriesDescription == "Vessel measurements of series 1 (vesselnet 1.0) v2"


def test_the_private_scheme_is_declared():
    """Every designator of a private scheme in the content is in the Coding Scheme Identification Sequence."""
    report = Made(CASES["op_rgb"].series()).report
    assert [item.CodingSchemeDesignator for item in report.CodingSchemeIdentificationSequence] == [PRIVATE_SCHEME]
    private = [concept.name for concept in CONCEPTS.values() if concept.name.scheme_designator.startswith("99")]
    assert {code.scheme_designator for code in private} == {PRIVATE_SCHEME}
    assert all(len(code.value) <= 16 and len(code.meaning) <= 64 for code in private)
    assert len({code.value for code in private}) == len(private)


def test_every_quantity_has_a_concept():
    """And every kind of picture a procedure."""
    assert CONCEPTS.keys() == set(Quantity)
    assert all(procedure_of(imaging).meaning for imaging in Imaging)


@pytest.mark.parametrize("kind", [kind for kind in ResultKind if kind.value.startswith("seg")])
@pytest.mark.parametrize("name", ["ct", "xa_run"])
def test_every_kind_of_segmentation_may_be_reported_on(name, kind):
    """Label maps too, where one frame shows all segments."""
    made = Made(CASES[name].series(), kind=kind)
    assert [group.tracking_uid for group in made.groups()] == [
        IDENTITY.uid("segment", number, "tracking") for number in (1, 2)
    ]


@pytest.mark.parametrize("name", ["ct", "enhanced_mr", "xa_run_of_several", "op_rgb"])
def test_nothing_found_is_a_report_too(name):
    """Areas and volumes of 0, with the reference to the empty segmentation."""
    source = CASES[name].series()
    made = Made(source, np.zeros_like(mask_for(source)))
    values = [one.value for group in made.groups() for one in group.get_measurements()]
    assert values
    assert set(values) == {0}


def test_nothing_measured_is_refused():
    """A report without a measurement group is none."""
    made = Made(CASES["ct"].series())
    nothing = replace(made.measurements, regions=())
    with pytest.raises(InvalidSegmentationError, match="no report"):
        build_report(made.source, made.segmentation, nothing, replace(IDENTITY, **REPORT))


def test_a_segmentation_of_something_else_is_refused():
    """Measured frames must be in the segmentation."""
    made, other = Made(CASES["xa_run"].series()), Made(CASES["xa_run"].series())
    with pytest.raises(InvalidSegmentationError, match="not in the segmentation"):
        build_report(made.source, other.segmentation, made.measurements, replace(IDENTITY, **REPORT))
    del other.segmentation.SegmentSequence
    with pytest.raises(InvalidSegmentationError, match="incomplete"):
        build_report(other.source, other.segmentation, other.measurements, replace(IDENTITY, **REPORT))


@pytest.mark.parametrize(
    "attributes",
    [
        {"PatientSex": "divers"},
        {"PatientName": None, "PatientID": None, "StudyID": None, "AccessionNumber": None, "PatientBirthDate": None},
        {"PatientBirthDate": "1960", "StudyTime": "noon", "StudyDate": "yesterday"},
        {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎"},
        {"Manufacturer": None, "SeriesNumber": None, "Modality": None},
        {"Modality": "strange"},
        {"PatientName": "Müller^Jürgen", "SpecificCharacterSet": "ISO_IR 100"},
    ],
    ids=["sex", "missing", "dates", "charsets", "equipment", "modality", "umlaut"],
)
@pytest.mark.parametrize("name", ["ct", "xa_run"])
def test_odd_sources_are_reported_on(name, attributes):
    """Patient and study equal those of the segmentation, in Unicode; the object stays complete."""
    with config.disable_value_validation():  # of the attributes that this test sets
        source = CASES[name].series(**attributes)
    made = Made(source)
    report = dcmread(BytesIO(encode_segmentation(made.report)))
    segmentation = dcmread(BytesIO(encode_segmentation(made.segmentation)))
    assert report.SpecificCharacterSet == "ISO_IR 192"
    for keyword in ("PatientName", "PatientID", "PatientSex", "StudyInstanceUID", "AccessionNumber", "StudyDate"):
        assert str(report[keyword].value) == str(segmentation[keyword].value)
    assert missing_attributes(report) == []
