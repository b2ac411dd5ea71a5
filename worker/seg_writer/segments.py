"""The Segment Sequence: what each segment is, how it was found, and that nobody has reviewed it (PS3.3 C.8.20.2)."""

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes

from worker.result_header.anatomy import anatomic_region
from worker.result_header.catalogue import CATEGORY, code_item, colour_of, vessel_type
from worker.result_header.identity import RESEARCH_USE, ResultIdentity
from worker.result_header.text_values import long_string, long_text, short_text
from worker.seg_reader.display_colour import cielab
from worker.segmenters.interface import Segmentation, SegmentClass
from worker.source_series import SourceSeries


def segment_sequence(source: SourceSeries, segmentation: Segmentation, identity: ResultIdentity) -> Sequence:
    """One item a class, numbered from 1 in the order of the mask's first axis.

    Raises:
        InvalidSegmentationError: A class names a vessel type that the catalogue does not know.
    """
    parameters = {**identity.parameters, **segmentation.parameters}
    algorithm = _algorithm(identity, parameters)
    description = _description(identity, parameters)
    items = []
    for number, segment_class in enumerate(segmentation.classes, 1):
        item = _segment(source, segment_class, number)
        item.SegmentDescription = description
        item.SegmentAlgorithmType = "SEMIAUTOMATIC" if identity.semiautomatic else "AUTOMATIC"
        item.SegmentAlgorithmName = algorithm.AlgorithmName
        item.SegmentationAlgorithmIdentificationSequence = [algorithm]
        item.TrackingUID = identity.uid("segment", number, "tracking")
        items.append(item)
    return Sequence(items)


def _segment(source: SourceSeries, segment_class: SegmentClass, number: int) -> Dataset:
    item = Dataset()
    item.SegmentNumber = number
    item.SegmentLabel = long_string(segment_class.label) or f"Segment {number}"
    item.SegmentedPropertyCategoryCodeSequence = [code_item(CATEGORY)]
    item.SegmentedPropertyTypeCodeSequence = [code_item(vessel_type(segment_class.key).code)]
    region = anatomic_region(source)
    if region is not None:
        item.AnatomicRegionSequence = [region]
    item.TrackingID = f"{item.SegmentLabel} {number}"
    item.RecommendedDisplayCIELabValue = cielab(colour_of(segment_class.key, source.imaging))
    return item


def _algorithm(identity: ResultIdentity, parameters: dict[str, str]) -> Dataset:
    """Algorithm Identification Macro (PS3.3 10.16) with the family of CID 7162."""
    family = codes.DCM.ArtificialIntelligence if identity.weights_sha256 else codes.DCM.MultiScaleResolutionFiltering
    told = dict(sorted(parameters.items()))
    if identity.weights_sha256:
        told["weights_sha256"] = identity.weights_sha256
    if identity.prompt:
        told["prompt"] = identity.prompt
    item = Dataset()
    item.AlgorithmFamilyCodeSequence = [code_item(family)]
    item.AlgorithmName = long_string(identity.model_name) or "unnamed"
    item.AlgorithmVersion = long_string(identity.model_version) or "unknown"
    item.AlgorithmSource = "vesselq"
    if told:
        item.AlgorithmParameters = long_text("\n".join(f"{name}={value}" for name, value in told.items()))
    return item


def _description(identity: ResultIdentity, parameters: dict[str, str]) -> str:
    """SegmentDescription: the warning first, so that a long prompt cannot push it out of the 1024 characters."""
    parts = [RESEARCH_USE, f"Model {identity.model_name} {identity.model_version}."]
    if "threshold" in parameters:
        parts.append(f"Threshold {parameters['threshold']}.")
    if identity.weights_sha256:
        parts.append(f"Weights {identity.weights_sha256[:16]}.")
    if identity.prompt:
        parts.append(f"Prompt: {identity.prompt}")
    return short_text(" ".join(parts))
