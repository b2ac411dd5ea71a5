"""What the child process does with one series: read, decode, segment, draw, make the result set.

A series may hold several parts (runs, phases of a beating heart, several enhanced instances). They are worked on one
after the other, so that only the pixels of one are in memory at a time.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from dicom_core.errors import InvalidSegmentationError
from dicom_core.prompt import Prompt
from worker.image_stack import ImageStack
from worker.pictures.previews import PreviewBuilder
from worker.pixels.decoding import decode
from worker.prompt_reading import SeriesPrompt
from worker.result_set import MadeSet, ResultSet
from worker.segmenters.interface import ProgressCallback, Segmentation, Segmenter, Status
from worker.series_messages import SeriesRequest, SeriesResult, StageCallback
from worker.series_summary import PartSummary, series_summary
from worker.source_images.reading import read_series
from worker.source_series import SourceSeries
from worker.stages import Stages

_WHY_NOTHING = {Status.NO_MASK: "no vessel found", Status.OUT_OF_DOMAIN: "not a kind of image that the model knows"}


def work_on_series(request: SeriesRequest, segmenter: Segmenter, progress: StageCallback) -> SeriesResult:
    """Segment one series and leave its result set and previews in the output folder.

    Raises:
        SourceError: The series cannot be segmented.
        SegmentationError: The segmenter failed, or its result did not pass validation.
    """
    asked = Prompt.from_stored(request.prompt)
    segmenter.info.check_prompt(asked)  # before anything is read
    stages = Stages(progress)
    with stages.stage("read"):
        sources = read_series(request.paths)
        work = _SeriesWork(request, segmenter, stages, SeriesPrompt(asked, sources), steps=len(sources))
    parts = [work.part(source) for source in sources]
    objects = tuple(made for part in parts for made in part.objects)
    previews: tuple[str, ...] = ()
    if objects:
        with stages.stage("preview"):
            previews = work.previews.write(request.output_folder)
    statuses = {part.found.status for part in parts}
    return SeriesResult(
        status=next(status for status in Status if status in statuses),
        objects=objects,
        previews=previews,
        summary=series_summary(parts, segmenter.info, asked, stages.seconds),
    )


@dataclass(slots=True)
class _SeriesWork:
    """What goes from part to part.

    Attributes:
        prompt: What is asked of each part.
        step: How many parts have been segmented.
        steps: How many there are.
        previews: Sees every part, keeps the best.
    """

    request: SeriesRequest
    segmenter: Segmenter
    stages: Stages
    prompt: SeriesPrompt
    step: int = 0
    steps: int = 1
    previews: PreviewBuilder = field(default_factory=PreviewBuilder)

    def part(self, source: SourceSeries) -> PartSummary:
        """Segment one part, make its objects and let go of everything large."""
        result_set = ResultSet(source, self.request, self.segmenter.info)
        warnings = list(source.warnings)
        found = self._segment(source, result_set, warnings)
        if found.status is Status.OK and not found.mask.any():
            found = replace(found, status=Status.NO_MASK)
        made = MadeSet((), {})
        if found.status is Status.OK or (found.status is Status.NO_MASK and self.request.send_empty):
            made = result_set.make(found, self.stages)
            if found.status is Status.NO_MASK:
                warnings.append(_of_part(source, "no vessel was found: the object is empty"))
        elif source.parts > 1:
            warnings.append(_of_part(source, _WHY_NOTHING[found.status]))
        return PartSummary.of(source, found, made, warnings)

    def _segment(self, source: SourceSeries, result_set: ResultSet, warnings: list[str]) -> Segmentation:
        with self.stages.stage("decode", self.step, self.steps):
            stack = decode(source, maximum_bytes=self.request.decoded_limit_bytes, threads=self.request.threads or 2)
        with self.stages.stage("segment", self.step, self.steps) as share:
            found = self._ask(source, stack, share)
        _check(found, stack, segmenter=self.segmenter.info.name)
        with self.stages.stage("draw", self.step, self.steps):
            self.previews.add(source, stack, found)
            result_set.look_at(stack, found)
        self.step += 1
        warnings += [*stack.warnings, *found.warnings]
        return found

    def _ask(self, source: SourceSeries, stack: ImageStack, share: ProgressCallback) -> Segmentation:
        """What the segmenter says; a part that nothing is asked of it does not see."""
        if not self.prompt.concerns(source):
            return _nothing_asked(stack, self.segmenter)
        return self.segmenter.segment(stack, self.prompt.of(stack), share)


def _check(found: Segmentation, stack: ImageStack, *, segmenter: str) -> None:
    """Refuse an answer that is none: numbers that are none lie below any threshold, and would look like "no vessel"."""
    if found.mask.ndim != 4 or found.mask.shape[1:] != stack.pixels.shape[:3]:
        raise InvalidSegmentationError("The segmenter's mask has other frames, rows or columns than the images.")
    if not all(np.isfinite(frame).all() for layer in found.probability for frame in layer):
        raise InvalidSegmentationError(
            f"The answer of {segmenter} holds what is no number; choose another dtype, or check its weights"
        )


def _nothing_asked(stack: ImageStack, segmenter: Segmenter) -> Segmentation:
    shape = (len(segmenter.info.classes), *stack.pixels.shape[:3])
    return Segmentation(
        status=Status.NO_MASK,
        mask=np.zeros(shape, np.bool_),
        probability=np.zeros(shape, np.float16),
        classes=segmenter.info.classes,
        warnings=("the prompt shows nothing on these images",),
    )


def _of_part(source: SourceSeries, words: str) -> str:
    return f"{source.part_label}: {words}" if source.part_label else words
