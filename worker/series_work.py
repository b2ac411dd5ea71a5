"""What the child process does with one series: read, decode, segment, make the result set, draw.

A series may hold several parts (phases of a beating heart, several enhanced instances). They are worked on one after
the other, and within a part one run after the other, so that only the pixels of one run are in memory at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dicom_core.errors import InvalidSegmentationError
from dicom_core.result import ResultObject
from worker.image_stack import ImageStack
from worker.pixels.decoding import decode
from worker.result_set import SegmentedPart, make_result_set
from worker.seg_writer.preview import most_vessel, write_preview
from worker.segmenters.interface import Prompt, Segmentation, Segmenter, SegmenterInfo, Status
from worker.series_messages import PREVIEW_FILE, SeriesRequest, SeriesResult, StageCallback
from worker.single_runs import joined, joined_parameters, single_runs
from worker.source_images.reading import read_series
from worker.source_series import SourceSeries
from worker.stages import Stages

_WHY_NOTHING = {Status.NO_MASK: "no vessel found", Status.OUT_OF_DOMAIN: "not a kind of image that the model knows"}


@dataclass(frozen=True, slots=True)
class _Run:
    """What is kept of one run, or of a whole part that is no series of runs, while the others are looked at.

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


@dataclass(frozen=True, slots=True)
class _Part:
    """What is kept of one part when its objects are written.

    Attributes:
        found: The segmenter's answer, without its arrays.
        objects: What was made, nothing where nothing was found.
        best: The run with the frame that shows most vessel, its own arrays cut down to that frame.
        with_vessel: Frames that show a vessel.
        voxels: Of all classes.
    """

    source: SourceSeries
    found: Segmentation
    objects: tuple[ResultObject, ...]
    best: _Run
    with_vessel: int
    voxels: int
    warnings: tuple[str, ...]


def work_on_series(request: SeriesRequest, segmenter: Segmenter, progress: StageCallback) -> SeriesResult:
    """Segment one series and leave its result set and a preview in the output folder.

    Raises:
        SourceError: The series cannot be segmented.
        SegmentationError: The segmenter failed, or its result did not pass validation.
    """
    stages = Stages(progress)
    with stages.stage("read"):
        sources = read_series(request.paths)
        runs = [single_runs(source, maximum_bytes=request.decoded_limit_bytes) for source in sources]
    steps, parts = sum(map(len, runs)), list[_Part]()
    for source, own_runs in zip(sources, runs, strict=True):
        step = sum(map(len, runs[: len(parts)]))
        found = [_segment(run, request, segmenter, stages, step + n, steps) for n, run in enumerate(own_runs)]
        parts.append(_finish(source, found, request, segmenter.info, stages))
    objects = tuple(made for part in parts for made in part.objects)
    if objects:
        with stages.stage("preview"):
            best = max((part.best for part in parts), key=lambda run: np.count_nonzero(run.shown.mask))
            write_preview(best.stack, best.shown, request.output_folder / PREVIEW_FILE)
    statuses = {part.found.status for part in parts}
    return SeriesResult(
        status=next(status for status in Status if status in statuses),
        objects=objects,
        summary=_summary(parts, segmenter.info, stages.seconds),
    )


def _segment(
    run: SourceSeries, request: SeriesRequest, segmenter: Segmenter, stages: Stages, step: int, steps: int
) -> _Run:
    with stages.stage("decode", step, steps):
        stack = decode(run, maximum_bytes=request.decoded_limit_bytes, threads=request.threads or 2)
    with stages.stage("segment", step, steps) as share:
        found = segmenter.segment(stack, Prompt(text=request.prompt), share)
    if found.mask.ndim != 4 or found.mask.shape[1:] != stack.pixels.shape[:3]:
        raise InvalidSegmentationError("The segmenter's mask has other frames, rows or columns than the images.")
    index = most_vessel(found.mask)
    only = slice(index, index + 1)
    return _Run(
        found=found,
        stack=replace(stack, pixels=stack.pixels[only].copy(), frames=stack.frames[only]),
        shown=replace(found, mask=found.mask[:, only].copy(), probability=found.probability[:, only].copy()),
        warnings=stack.warnings,
    )


def _finish(
    source: SourceSeries, runs: Sequence[_Run], request: SeriesRequest, info: SegmenterInfo, stages: Stages
) -> _Part:
    """Make the objects of one part and let go of everything large."""
    found = joined([run.found for run in runs])
    if found.status is Status.OK and not found.mask.any():
        found = replace(found, status=Status.NO_MASK)
    warnings = [*source.warnings, *(word for run in runs for word in (*run.warnings, *run.found.warnings))]
    objects: tuple[ResultObject, ...] = ()
    if found.status is Status.OK or (found.status is Status.NO_MASK and request.send_empty):
        objects = make_result_set(SegmentedPart(source, found, request, info), stages)
        if found.status is Status.NO_MASK:
            warnings.append(_of_part(source, "no vessel was found: the object is empty"))
    elif source.parts > 1:
        warnings.append(_of_part(source, _WHY_NOTHING[found.status]))
    best = max(runs, key=lambda run: np.count_nonzero(run.shown.mask))
    return _Part(
        source=source,
        found=_without_arrays(found),
        objects=objects,
        best=replace(best, found=best.shown),
        with_vessel=int(found.mask.any(axis=(0, 2, 3)).sum()),
        voxels=int(found.mask.sum()),
        warnings=tuple(warnings),
    )


def _of_part(source: SourceSeries, words: str) -> str:
    return f"{source.part_label}: {words}" if source.part_label else words


def _without_arrays(found: Segmentation) -> Segmentation:
    return replace(found, mask=found.mask[:, :0].copy(), probability=found.probability[:, :0].copy())


def _summary(parts: Sequence[_Part], info: SegmenterInfo, seconds: dict[str, float]) -> dict[str, Any]:
    first = parts[0]
    rows, columns = first.found.mask.shape[2:]
    left_out = dict.fromkeys(entry for part in parts for entry in part.source.left_out)
    return {
        "model": info.name,
        "model_version": info.version,
        "weights_sha256": info.weights_sha256,
        "source_kind": first.source.kind.value,
        "imaging": first.source.imaging.value,
        "frames": sum(len(part.source.frames) for part in parts),
        "rows": int(rows),
        "columns": int(columns),
        "frames_with_vessel": sum(part.with_vessel for part in parts),
        "voxels": sum(part.voxels for part in parts),
        "instances_used": sum(len(part.source.datasets) for part in parts),
        "left_out": [{"sop_instance_uid": uid, "reason": reason} for uid, reason in left_out],
        "warnings": list(dict.fromkeys(warning for part in parts for warning in part.warnings)),
        "parameters": joined_parameters([part.found.parameters for part in parts]),
        "answer": "\n".join(dict.fromkeys(part.found.answer for part in parts if part.found.answer)),
        "parts": [
            {"label": part.source.part_label, "status": part.found.status.value, "frames_with_vessel": part.with_vessel}
            for part in parts
            if len(parts) > 1
        ],
        "seconds": dict(seconds),
    }
