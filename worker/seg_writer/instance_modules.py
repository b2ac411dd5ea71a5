"""The modules that every SEG object carries, whichever source it has: patient to SOP common (PS3.3 A.51)."""

from collections.abc import Iterable

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    RLELossless,
    SegmentationStorage,
)

from dicom_core.result import ResultKind
from worker.result_header.catalogue import code_item
from worker.result_header.equipment import add_equipment, add_file_meta, add_series, moment_of, set_moment
from worker.result_header.identity import ResultIdentity
from worker.result_header.source_header import (
    copy_patient_and_study,
    lossy_compression,
    patient_orientation,
)
from worker.result_header.text_values import long_string, short_text
from worker.seg_reader.display_colour import cielab
from worker.seg_writer.segments import segment_sequence
from worker.seg_writer.stored_values import overlaps
from worker.segmenters.interface import Segmentation
from worker.source_series import SourceSeries

CONTENT_LABEL = "VESSELS"
_HIGHEST_WINS = "Where segments overlap, the highest number is stored."


_LABEL_MAP_STORAGE = UID("1.2.840.10008.5.1.4.1.1.66.7")
"""Label Map Segmentation Storage, which pydicom 3.0 does not name."""

_WORDS = {
    ResultKind.SEG: "Vessels",
    ResultKind.SEG_STRICT: "Vessels, strict,",
    ResultKind.SEG_DEFLATED: "Vessels, deflated,",
    ResultKind.SEG_FRACTIONAL: "Vessel probability",
    ResultKind.SEG_LABELMAP: "Vessel label map",
}
"""How each kind begins its series description, so that a reader can tell them apart in a list of series."""

_TRANSFER_SYNTAXES = {
    ResultKind.SEG_DEFLATED: DeflatedExplicitVRLittleEndian,
    ResultKind.SEG_FRACTIONAL: RLELossless,
    ResultKind.SEG_LABELMAP: RLELossless,
}
"""Of the kinds that are not in Explicit VR Little Endian."""


def add_instance_modules(
    dataset: Dataset,
    source: SourceSeries,
    segmentation: Segmentation,
    identity: ResultIdentity,
    kind: ResultKind = ResultKind.SEG,
) -> None:
    """Complete a dataset that has its image, frames and dimensions; anything set before is overwritten."""
    copy_patient_and_study(source, dataset)
    add_series(dataset, source, identity, modality="SEG", words=_WORDS[kind])
    add_equipment(dataset, source, identity, contribution="Automatic vessel segmentation.")
    _add_content(dataset, source, identity)
    dataset.SOPClassUID = _LABEL_MAP_STORAGE if kind is ResultKind.SEG_LABELMAP else SegmentationStorage
    dataset.update(lossy_compression(source))
    _add_segments(dataset, source, segmentation, identity, kind)
    if "FrameOfReferenceUID" not in dataset:
        dataset.PatientOrientation = patient_orientation(source)
    _add_references(dataset, source)
    add_file_meta(dataset, _TRANSFER_SYNTAXES.get(kind, ExplicitVRLittleEndian))


def _add_segments(
    dataset: Dataset,
    source: SourceSeries,
    segmentation: Segmentation,
    identity: ResultIdentity,
    kind: ResultKind,
) -> None:
    """Segment Sequence and Segments Overlap (PS3.3 C.8.20.2)."""
    segments = segment_sequence(source, segmentation, identity)
    if kind is ResultKind.SEG_LABELMAP:
        dataset.SegmentsOverlap = "NO"
        if overlaps(segmentation.mask):
            for item in segments:
                item.SegmentDescription = short_text(f"{_HIGHEST_WINS} {item.SegmentDescription}")
        segments.insert(0, _background())
    elif kind is ResultKind.SEG_FRACTIONAL and len(segments) > 1:
        dataset.SegmentsOverlap = "UNDEFINED"  # of probabilities nobody can tell
    else:
        dataset.SegmentsOverlap = "YES" if overlaps(segmentation.mask) else "NO"
    dataset.SegmentSequence = segments


def _background() -> Dataset:
    """Every value of a label map is described, 0 too (PS3.3 C.8.20.2.3)."""
    item = Dataset()
    item.SegmentNumber = 0
    item.SegmentLabel = "Background"
    item.SegmentedPropertyCategoryCodeSequence = [code_item(codes.DCM.Background)]
    item.SegmentedPropertyTypeCodeSequence = [code_item(codes.DCM.Background)]
    item.SegmentAlgorithmType = "AUTOMATIC"
    item.SegmentAlgorithmName = "Background"
    item.RecommendedDisplayCIELabValue = cielab((0, 0, 0))
    return item


def _add_content(dataset: Dataset, source: SourceSeries, identity: ResultIdentity) -> None:
    dataset.SOPInstanceUID = identity.sop_instance_uid
    dataset.InstanceNumber = 1
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    set_moment(dataset, moment_of(source, identity), "InstanceCreation", "Content")
    dataset.ContentLabel = CONTENT_LABEL
    dataset.ContentDescription = long_string(f"Vessels found by {identity.model_name}, not reviewed")
    dataset.ContentCreatorName = ""


def _add_references(dataset: Dataset, source: SourceSeries) -> None:
    """Common Instance Reference (PS3.3 C.12.2) and General Reference: every instance that was looked at."""
    references = [instance_reference(header) for header in source.datasets]
    series = Dataset()
    series.SeriesInstanceUID = source.datasets[0].SeriesInstanceUID
    series.ReferencedInstanceSequence = references
    dataset.ReferencedSeriesSequence = [series]
    dataset.SourceImageSequence = Sequence(_copies(references))


def _copies(references: Iterable[Dataset]) -> list[Dataset]:
    return [Dataset(reference) for reference in references]


def instance_reference(header: Dataset) -> Dataset:
    """An SOP Instance Reference item (PS3.3 table 10-11)."""
    reference = Dataset()
    reference.ReferencedSOPClassUID = header.SOPClassUID
    reference.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return reference
