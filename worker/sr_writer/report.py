"""The public face of this room: measurements in, a Comprehensive 3D SR object out (PS3.3 A.35.13)."""

from collections.abc import Iterator, Mapping, Sequence

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from dicom_core.errors import InvalidSegmentationError
from worker.measurements.vessel_measurements import VesselMeasurements
from worker.result_header.equipment import add_equipment, add_file_meta, add_series, moment_of, set_moment
from worker.result_header.identity import ResultIdentity
from worker.result_header.source_header import copy_patient_and_study
from worker.source_series import SourceSeries
from worker.sr_writer.concepts import private_scheme
from worker.sr_writer.content import report_content
from worker.sr_writer.segmentation_frames import ReferencedSegmentation, referenced_segmentation

_CONTENT = ("ValueType", "ConceptNameCodeSequence", "ContinuityOfContent", "ContentTemplateSequence", "ContentSequence")
"""What makes the root content item of a document (PS3.3 C.17.3)."""


def build_report(
    source: SourceSeries,
    segmentation_object: Dataset,
    measurements: VesselMeasurements,
    identity: ResultIdentity,
) -> Dataset:
    """Build the report of the vessels of one Segmentation object, in memory.

    The same arguments give the same bytes. None of them is changed.

    Args:
        source: What was segmented and measured.
        segmentation_object: The Segmentation that the numbers are about, from ``build_segmentation`` or read from its
            file; any kind of it. Its pixels are not looked at.
        measurements: From ``measure_vessels`` with the same source.
        identity: UIDs of the report's own series and instance, time and model. ``uid_seed`` plays no part: the UIDs
            that the report shares with the segmentation are taken from there.

    Returns:
        A dataset with file meta information, for ``encode_segmentation`` and ``save_segmentation``.

    Raises:
        InvalidSegmentationError: Nothing was measured, or the segmentation lacks what was measured.
    """
    if not measurements.regions:
        raise InvalidSegmentationError("Nothing was measured, so there is no report to write.")
    with config.disable_value_validation():  # odd values of the source are dealt with here, not warned of and logged
        segmentation = referenced_segmentation(segmentation_object)
        dataset = Dataset()
        copy_patient_and_study(source, dataset)
        dataset.pop("BodyPartExamined", None)  # of images; the finding sites tell it
        add_series(dataset, source, identity, modality="SR", words="Vessel measurements")
        add_equipment(dataset, source, identity, contribution="Automatic vessel measurement.")
        _add_document(dataset, source, segmentation, identity)
        content = report_content(source, segmentation, measurements, identity)
        dataset.update({content[keyword].tag: content[keyword] for keyword in _CONTENT if keyword in content})
        add_file_meta(dataset)
    return dataset


def _add_document(
    dataset: Dataset,
    source: SourceSeries,
    segmentation: ReferencedSegmentation,
    identity: ResultIdentity,
) -> None:
    """SR Document Series, SR Document General and SOP Common modules (PS3.3 C.17.1, C.17.2, C.12.1)."""
    dataset.SOPClassUID = Comprehensive3DSRStorage
    dataset.SOPInstanceUID = identity.sop_instance_uid
    dataset.CodingSchemeIdentificationSequence = [private_scheme()]
    dataset.InstanceNumber = 1
    set_moment(dataset, moment_of(source, identity), "InstanceCreation", "Content")
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PreliminaryFlag = "PRELIMINARY"
    dataset.CompletionFlag = "COMPLETE"
    dataset.CompletionFlagDescription = "All that was measured automatically"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.PerformedProcedureCodeSequence = []
    dataset.CurrentRequestedProcedureEvidenceSequence = [_evidence(source, segmentation)]


def _evidence(source: SourceSeries, segmentation: ReferencedSegmentation) -> Dataset:
    """Hierarchical SOP Instance Reference macro (PS3.3 C.17.2.1): every instance that the content refers to."""
    header = source.datasets[0]
    images = [(str(header.SOPClassUID), str(header.SOPInstanceUID)) for header in source.datasets]
    by_series: Mapping[str, Sequence[tuple[str, str]]] = {
        str(header.SeriesInstanceUID): images,
        segmentation.series_instance_uid: [(segmentation.sop_class_uid, segmentation.sop_instance_uid)],
    }
    study = Dataset()
    study.StudyInstanceUID = header.StudyInstanceUID
    study.ReferencedSeriesSequence = [_series_of(uid, instances) for uid, instances in by_series.items()]
    return study


def _series_of(series_instance_uid: str, instances: Sequence[tuple[str, str]]) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = series_instance_uid
    series.ReferencedSOPSequence = list(_references(instances))
    return series


def _references(instances: Sequence[tuple[str, str]]) -> Iterator[Dataset]:
    for sop_class_uid, sop_instance_uid in instances:
        reference = Dataset()
        reference.ReferencedSOPClassUID = sop_class_uid
        reference.ReferencedSOPInstanceUID = sop_instance_uid
        yield reference
