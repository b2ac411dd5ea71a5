"""What the child process does with one series: read, decode, segment, encode, check, draw."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dicom_core.identifiers import derived_uid
from worker.image_stack import ImageStack
from worker.pixels import decode
from worker.seg_writer.identity import SegmentationIdentity
from worker.seg_writer.preview import write_preview
from worker.seg_writer.validation import validate_segmentation
from worker.seg_writer.writer import build_segmentation, save_segmentation
from worker.segmenters.interface import Prompt, Segmentation, Segmenter, SegmenterInfo, Status
from worker.series_messages import PREVIEW_FILE, SEGMENTATION_FILE, SeriesRequest, SeriesResult, StageCallback
from worker.source_images import read_series
from worker.source_series import SourceSeries


class _Stages:
    """Seconds by stage."""

    def __init__(self, progress: StageCallback) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[float], None]]:
        self._progress(name, 0.0)
        begin = time.perf_counter()
        yield lambda share: self._progress(name, share)
        self.seconds[name] = round(time.perf_counter() - begin, 4)


def work_on_series(request: SeriesRequest, segmenter: Segmenter, progress: StageCallback) -> SeriesResult:
    """Segment one series and leave the SEG object and a preview in the output folder.

    Raises:
        SourceError: The series cannot be segmented.
        SegmentationError: The segmenter failed, or its result did not pass validation.
    """
    stages = _Stages(progress)
    with stages.stage("read"):
        source = read_series(request.paths)
    with stages.stage("decode"):
        stack = decode(source, maximum_bytes=request.decoded_limit_bytes, threads=request.threads or 2)
    with stages.stage("segment") as share:
        found = segmenter.segment(stack, Prompt(text=request.prompt), share)
    if found.status is not Status.OK or not found.mask.any():
        status = Status.NO_MASK if found.status is Status.OK else found.status
        return SeriesResult(status=status, summary=_summary(source, stack, found, segmenter.info, stages.seconds))
    identity = identity_of(request, segmenter.info)
    with stages.stage("encode"):
        dataset = build_segmentation(
            source, found, identity,
            omit_empty_frames=request.omit_empty_frames, viewer_hints=request.viewer_hints,
        )  # fmt: skip
        path = request.output_folder / SEGMENTATION_FILE
        sha256 = save_segmentation(dataset, path)
    with stages.stage("validate"):
        validate_segmentation(path, source, found.mask)
    with stages.stage("preview"):
        write_preview(stack, found, request.output_folder / PREVIEW_FILE)
    return SeriesResult(
        status=Status.OK,
        sha256=sha256,
        sop_instance_uid=identity.sop_instance_uid,
        series_instance_uid=identity.series_instance_uid,
        summary=_summary(source, stack, found, segmenter.info, stages.seconds),
    )


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
    source: SourceSeries, stack: ImageStack, found: Segmentation, info: SegmenterInfo, seconds: dict[str, float]
) -> dict[str, Any]:
    with_vessel = found.mask.any(axis=(0, 2, 3))
    return {
        "model": info.name,
        "model_version": info.version,
        "weights_sha256": info.weights_sha256,
        "source_kind": source.kind.value,
        "imaging": stack.imaging.value,
        "frames": len(stack.frames),
        "rows": int(stack.pixels.shape[1]),
        "columns": int(stack.pixels.shape[2]),
        "frames_with_vessel": int(with_vessel.sum()),
        "voxels": int(found.mask.sum()),
        "instances_used": len(source.datasets),
        "left_out": [{"sop_instance_uid": uid, "reason": reason} for uid, reason in source.left_out],
        "warnings": list(dict.fromkeys([*source.warnings, *stack.warnings, *found.warnings])),
        "parameters": dict(found.parameters),
        "answer": found.answer,
        "seconds": dict(seconds),
    }
