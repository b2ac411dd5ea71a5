"""The objects that are made of one part of a series: every wanted kind built, saved and checked, in the output folder.

One line of the table says who builds a kind. A builder gives one data set or several (an overlay may be a montage and a
projection); each is validated after it was written, as a stranger would read it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_core.errors import UnsupportedSourceError
from dicom_core.result import SEGMENTATIONS, ResultKind, ResultObject
from worker.result_identity import identity_of
from worker.seg_writer.identity import SegmentationIdentity
from worker.seg_writer.validation import validate_segmentation
from worker.seg_writer.writer import build_segmentation, save_segmentation
from worker.segmenters.interface import Segmentation, SegmenterInfo
from worker.series_messages import SeriesRequest, object_file
from worker.source_series import SourceSeries
from worker.stages import Stages


@dataclass(frozen=True, slots=True)
class SegmentedPart:
    """One part of a series, all of its frames segmented; its pixels need not be in memory any more.

    Attributes:
        source: Headers and frame order.
        found: The segmenter's answer for ``source.frames``.
        request: What the child was asked for.
        info: Of the segmenter.
    """

    source: SourceSeries
    found: Segmentation
    request: SeriesRequest
    info: SegmenterInfo

    def identity(self, kind: ResultKind, item: int = 1) -> SegmentationIdentity:
        """Who an object of this part is."""
        return identity_of(self.request, self.info, kind, self.source.part, item)


def make_result_set(part: SegmentedPart, stages: Stages) -> tuple[ResultObject, ...]:
    """Make every wanted object of one part, the SEG object always.

    Returns:
        The objects with their file names in the output folder, what is referred to first.

    Raises:
        SegmentationError: An object did not pass its validation.
        UnsupportedSourceError: The source cannot be expressed, or nothing makes this kind of object of it.
        SpoolError: The output folder does not take the files.
    """
    result_set: list[ResultObject] = []
    for kind in ResultKind:
        if kind is ResultKind.SEG or kind in part.request.results:
            if kind not in _BUILDERS:
                raise UnsupportedSourceError(f"nothing in this release makes the result {kind.value}")
            with stages.stage("encode"):
                datasets = enumerate(_BUILDERS[kind](part, kind), start=1)
                objects = [_save(part, kind, item, dataset) for item, dataset in datasets]
            with stages.stage("validate"):
                for made in objects:
                    _validate(part, made)
            result_set += objects
    return tuple(result_set)


def _save(part: SegmentedPart, kind: ResultKind, item: int, dataset: Dataset) -> ResultObject:
    name = object_file(kind, part.source.part, item)
    path = part.request.output_folder / name
    return ResultObject(
        kind=kind,
        part=part.source.part,
        item=item,
        path=name,
        sha256=save_segmentation(dataset, path),
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        size_bytes=path.stat().st_size,
    )


def _validate(part: SegmentedPart, made: ResultObject) -> None:
    if made.kind in SEGMENTATIONS:
        validate_segmentation(part.request.output_folder / made.path, part.source, part.found.mask)


def _segmentation(part: SegmentedPart, kind: ResultKind) -> Iterator[Dataset]:
    yield build_segmentation(
        part.source,
        part.found,
        part.identity(kind),
        kind=kind,
        omit_empty_frames=part.request.omit_empty_frames,
        viewer_hints=part.request.viewer_hints,
    )


_BUILDERS: Mapping[ResultKind, Callable[[SegmentedPart, ResultKind], Iterator[Dataset]]] = {
    **dict.fromkeys(SEGMENTATIONS, _segmentation),
}
"""Who makes an object of which kind."""
