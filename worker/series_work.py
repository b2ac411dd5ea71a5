"""What the child process does with one series: read, decode, segment, encode, check, draw."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dicom_core.errors import InvalidSegmentationError
from dicom_core.identifiers import derived_uid
from worker.image_stack import ImageStack
from worker.pixels.decoding import decode
from worker.seg_writer.identity import SegmentationIdentity
from worker.seg_writer.preview import most_vessel, write_preview
from worker.seg_writer.validation import validate_segmentation
from worker.seg_writer.writer import build_segmentation, save_segmentation
from worker.segmenters.interface import Prompt, Segmentation, Segmenter, SegmenterInfo, Status
from worker.series_messages import PREVIEW_FILE, SEGMENTATION_FILE, SeriesRequest, SeriesResult, StageCallback
from worker.single_runs import joined, single_runs
from worker.source_images.reading import read_series
from worker.source_series import SourceSeries


class _Stages:
    """Seconds by stage, of all parts of the series together."""

    def __init__(self, progress: StageCallback) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress

    @contextmanager
    def stage(self, name: str, part: int = 0, parts: int = 1) -> Iterator[Callable[[float], None]]:
        self._progress(name, part / parts)
        begin = time.perf_counter()
        yield lambda share: self._progress(name, (part + share) / parts)
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - begin, 4)


@dataclass(frozen=True, slots=True)
class _Part:
    """What is kept of one run, or of a whole series that is no series of runs, while the others are looked at.

    Attributes:
        found: The segmenter's answer.
        stack: The one frame that shows most vessel.
        shown: The answer for that frame.
        warnings: Of decoding.
    """

    found: Segmentation
    stack: ImageStack
    shown: Segmentation
    warnings: tuple[str, ...]


def work_on_series(request: SeriesRequest, segmenter: Segmenter, progress: StageCallback) -> SeriesResult:
    """Segment one series and leave the SEG object and a preview in the output folder.

    Raises:
        SourceError: The series cannot be segmented.
        SegmentationError: The segmenter failed, or its result did not pass validation.
    """
    stages = _Stages(progress)
    with stages.stage("read"):
        source = _largest(read_series(request.paths))
        runs = single_runs(source, maximum_bytes=request.decoded_limit_bytes)
    parts = [_segment(run, request, segmenter, stages, number, len(runs)) for number, run in enumerate(runs)]
    found = joined([part.found for part in parts])
    if found.status is Status.OK and not found.mask.any():
        found = replace(found, status=Status.NO_MASK)
    warnings = list(dict.fromkeys(word for part in parts for word in (*part.warnings, *part.found.warnings)))
    warnings = [*source.warnings, *(word for word in warnings if word not in source.warnings)]
    wanted = found.status is Status.OK or (found.status is Status.NO_MASK and request.send_empty)
    if not wanted:
        return SeriesResult(
            status=found.status, summary=_summary(source, found, segmenter.info, stages.seconds, warnings)
        )
    if found.status is Status.NO_MASK:
        warnings.append("no vessel was found: the object is empty")
    identity = identity_of(request, segmenter.info)
    sha256 = _write(source, found, identity, request, stages)
    with stages.stage("preview"):
        best = max(parts, key=lambda part: np.count_nonzero(part.shown.mask))
        write_preview(best.stack, best.shown, request.output_folder / PREVIEW_FILE)
    return SeriesResult(
        status=found.status,
        sha256=sha256,
        sop_instance_uid=identity.sop_instance_uid,
        series_instance_uid=identity.series_instance_uid,
        summary=_summary(source, found, segmenter.info, stages.seconds, warnings),
    )


def _largest(parts: Sequence[SourceSeries]) -> SourceSeries:
    """The part with most frames, the first of equals; the reader is told of the others."""
    source = max(parts, key=lambda part: len(part.frames))
    if len(parts) == 1:
        return source
    told = f"only {source.part_label} is segmented"
    return replace(source, warnings=(told, *source.warnings))


def _segment(
    run: SourceSeries, request: SeriesRequest, segmenter: Segmenter, stages: _Stages, number: int, count: int
) -> _Part:
    with stages.stage("decode", number, count):
        stack = decode(run, maximum_bytes=request.decoded_limit_bytes, threads=request.threads or 2)
    with stages.stage("segment", number, count) as share:
        found = segmenter.segment(stack, Prompt(text=request.prompt), share)
    if found.mask.ndim != 4 or found.mask.shape[1:] != stack.pixels.shape[:3]:
        raise InvalidSegmentationError("The segmenter's mask has other frames, rows or columns than the images.")
    index = most_vessel(found.mask)
    only = slice(index, index + 1)
    return _Part(
        found=found,
        stack=replace(stack, pixels=stack.pixels[only].copy(), frames=stack.frames[only]),
        shown=replace(found, mask=found.mask[:, only].copy(), probability=found.probability[:, only].copy()),
        warnings=stack.warnings,
    )


def _write(
    source: SourceSeries,
    found: Segmentation,
    identity: SegmentationIdentity,
    request: SeriesRequest,
    stages: _Stages,
) -> str:
    """Build, save and check the object; returns its SHA-256."""
    with stages.stage("encode"):
        dataset = build_segmentation(
            source, found, identity,
            omit_empty_frames=request.omit_empty_frames, viewer_hints=request.viewer_hints,
        )  # fmt: skip
        path = request.output_folder / SEGMENTATION_FILE
        sha256 = save_segmentation(dataset, path)
    with stages.stage("validate"):
        validate_segmentation(path, source, found.mask)
    return sha256


def identity_of(request: SeriesRequest, info: SegmenterInfo) -> SegmentationIdentity:
    """The UIDs and names of the result: the same request and model give the same, another model gives others."""
    scope = (*request.uid_scope, info.name, info.version, info.weights_sha256, request.prompt)
    return SegmentationIdentity(
        series_instance_uid=derived_uid(*scope, "series"),
        sop_instance_uid=derived_uid(*scope, "sop"),
        created_at=request.created_at,
        generation=request.generation,
        series_number=request.series_number,
        device_uid=derived_uid("device", info.name, info.version, info.weights_sha256),
        model_name=info.name,
        model_version=info.version,
        weights_sha256=info.weights_sha256,
        parameters={name: str(value) for name, value in sorted(request.segmenter_settings.items())},
        prompt=request.prompt,
        software_version=request.software_version,
        uid_seed=derived_uid(*scope, "seed"),
    )


def _summary(
    source: SourceSeries, found: Segmentation, info: SegmenterInfo, seconds: dict[str, float], warnings: Sequence[str]
) -> dict[str, Any]:
    with_vessel = found.mask.any(axis=(0, 2, 3))
    return {
        "model": info.name,
        "model_version": info.version,
        "weights_sha256": info.weights_sha256,
        "source_kind": source.kind.value,
        "imaging": source.imaging.value,
        "frames": len(source.frames),
        "rows": int(found.mask.shape[2]),
        "columns": int(found.mask.shape[3]),
        "frames_with_vessel": int(with_vessel.sum()),
        "voxels": int(found.mask.sum()),
        "instances_used": len(source.datasets),
        "left_out": [{"sop_instance_uid": uid, "reason": reason} for uid, reason in source.left_out],
        "warnings": list(warnings),
        "parameters": dict(found.parameters),
        "answer": found.answer,
        "seconds": dict(seconds),
    }
