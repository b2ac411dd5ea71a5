"""The objects that are made of one part of a series: every wanted kind built, saved and checked, in the output folder.

One line of a table says who builds a kind. A builder gives one data set or several (an overlay may be a montage and a
projection). Each file is read back and checked before it counts.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_core.errors import InvalidSegmentationError
from dicom_core.result import SEGMENTATIONS, ResultKind, ResultObject
from worker.image_stack import ImageStack
from worker.pictures.reading_aids import MAXIMUM_BYTES, ReadingAid, draw_reading_aids
from worker.result_header.identity import ResultIdentity
from worker.result_identity import identity_of
from worker.sc_writer.overlays import build_overlays
from worker.seg_writer.standard_tables import missing_attributes
from worker.seg_writer.validation import validate_segmentation
from worker.seg_writer.writer import build_segmentation, save_segmentation
from worker.segmenters.interface import Segmentation, SegmenterInfo, Status
from worker.series_messages import SeriesRequest, object_file
from worker.source_series import SourceSeries
from worker.stages import Stages

if TYPE_CHECKING:
    # measuring needs scipy, which takes a third of the start of the child: it is imported for the first report
    from worker.measurements.measuring import FieldsOfView
    from worker.measurements.vessel_measurements import VesselMeasurements

_NAMED = 12
"""Missing attributes that an error names."""
_DRAWN_BYTES = 4 * MAXIMUM_BYTES
"""The most that the pictures of a part take together until they are written."""


class ResultSet:
    """The result set of one part of a series.

    First it looks at the part while its pixels are in memory, and takes of them what builders need later; when the
    pixels are gone, the objects are made.

    Args:
        source: The part: headers and frame order.
        request: What the child was asked for.
        info: Of the segmenter.
    """

    def __init__(self, source: SourceSeries, request: SeriesRequest, info: SegmenterInfo) -> None:
        self._source = source
        self._request = request
        self._info = info
        # the SEG object is the truth of the job, whether or not a destination gets it
        self._kinds = tuple(kind for kind in ResultKind if kind is ResultKind.SEG or kind in request.results)
        # each instance becomes an overlay of its own, those of a volume excepted, which have another limit
        self._bytes_per_instance = min(MAXIMUM_BYTES, _DRAWN_BYTES // len(source.datasets))
        self._aids: tuple[ReadingAid, ...] = ()
        self._fields: FieldsOfView = {}

    def look_at(self, stack: ImageStack, found: Segmentation) -> None:
        """Take what is needed of the pixels."""
        if ResultKind.OVERLAY in self._kinds and found.status is not Status.OUT_OF_DOMAIN:
            model = f"{self._info.name} {self._info.version}"
            self._aids = draw_reading_aids(
                self._source, stack, found, model=model, maximum_bytes=self._bytes_per_instance
            )
        if ResultKind.REPORT in self._kinds:
            from worker.measurements.measuring import fields_of_view

            self._fields = fields_of_view(stack)

    def make(self, found: Segmentation, stages: Stages) -> "MadeSet":
        """Make every wanted object, what is referred to first.

        Args:
            found: The segmenter's answer for the whole part.
            stages: Told what is being done.

        Raises:
            SegmentationError: An object cannot be built or did not pass its validation.
            UnsupportedSourceError: The source cannot be expressed.
            SpoolError: The output folder does not take the files.
        """
        part = _Part(self._source, found, self._request, self._info, self._aids, self._fields)
        made: list[ResultObject] = []
        for kind in self._kinds:
            with stages.stage("encode"):
                datasets = enumerate(_BUILDERS[kind](part, kind), start=1)
                objects = [_save(part, kind, item, dataset) for item, dataset in datasets]
            with stages.stage("validate"):
                for one in objects:
                    _validate(part, one)
            made += objects
        return MadeSet(tuple(made), part.measurements.as_json() if ResultKind.REPORT in self._kinds else {})


@dataclass(frozen=True, slots=True)
class MadeSet:
    """What was made of one part.

    Attributes:
        objects: With their file names in the output folder.
        measurements: What the report says, JSON-ready; empty without a report.
    """

    objects: tuple[ResultObject, ...]
    measurements: Mapping[str, Any]


@dataclass(frozen=True)
class _Part:
    """Everything that builders work from."""

    source: SourceSeries
    found: Segmentation
    request: SeriesRequest
    info: SegmenterInfo
    aids: tuple[ReadingAid, ...]
    fields: "FieldsOfView"

    def identity(self, kind: ResultKind) -> ResultIdentity:
        return identity_of(self.request, self.info, kind, self.source.part)

    def segmentation(self, kind: ResultKind) -> Dataset:
        return build_segmentation(
            self.source,
            self.found,
            self.identity(kind),
            kind=kind,
            omit_empty_frames=self.request.omit_empty_frames,
            viewer_hints=self.request.viewer_hints,
        )

    @cached_property
    def seg(self) -> Dataset:
        """The SEG object, which the report refers to."""
        return self.segmentation(ResultKind.SEG)

    @cached_property
    def measurements(self) -> "VesselMeasurements":
        from worker.measurements.measuring import measure_vessels

        return measure_vessels(self.source, self.found, self.fields)


def _seg(part: _Part, _: ResultKind) -> Iterable[Dataset]:
    return (part.seg,)


def _other_segmentation(part: _Part, kind: ResultKind) -> Iterable[Dataset]:
    return (part.segmentation(kind),)


def _overlays(part: _Part, kind: ResultKind) -> Iterable[Dataset]:
    return build_overlays(part.source, part.aids, part.identity(kind))


def _report(part: _Part, kind: ResultKind) -> Iterable[Dataset]:
    from worker.sr_writer.report import build_report

    return (build_report(part.source, part.seg, part.measurements, part.identity(kind)),)


_BUILDERS: Mapping[ResultKind, Callable[[_Part, ResultKind], Iterable[Dataset]]] = {
    **dict.fromkeys(SEGMENTATIONS, _other_segmentation),
    ResultKind.SEG: _seg,
    ResultKind.OVERLAY: _overlays,
    ResultKind.REPORT: _report,
}
"""Who makes the objects of a kind."""


def _save(part: _Part, kind: ResultKind, item: int, dataset: Dataset) -> ResultObject:
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


def _validate(part: _Part, made: ResultObject) -> None:
    path = part.request.output_folder / made.path
    if made.kind in SEGMENTATIONS:
        validate_segmentation(path, part.source, part.found.mask, kind=made.kind, probability=part.found.probability)
        return
    missing = missing_attributes(dcmread(path))
    if missing:
        raise InvalidSegmentationError(f"The {made.kind} object lacks {', '.join(missing[:_NAMED])}.")
