"""From the prompt of a request to what a segmenter is asked: files read, places checked against the pictures."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_core.errors import InvalidPromptError, VesselqError
from dicom_core.prompt import Box, Point
from dicom_core.prompt import Prompt as AskedPrompt
from worker.image_stack import Arrangement, FrameIdentity, ImageStack
from worker.pictures.display import display_frame
from worker.pixels.decoding import decode
from worker.seg_reader.mask_sets import MaskSet, read_masks_of
from worker.segmenters.interface import ExamplePicture, Prompt
from worker.source_images.reading import read_series
from worker.source_series import SourceSeries

_EXAMPLE_BYTES = 1 << 30
"""The most that the file of an example may decode to."""


class SeriesPrompt:
    """What is asked of one series, its files read once for all parts.

    Args:
        asked: As it came.
        sources: All parts of the series.

    Raises:
        InvalidPromptError: It names images that are not in the series.
    """

    def __init__(self, asked: AskedPrompt, sources: Sequence[SourceSeries]) -> None:
        self._asked = asked
        frames = frozenset(frame for source in sources for frame in source.frames)
        for place in self._places:
            if not any(_lies_on(place, frame) for frame in frames):
                raise InvalidPromptError(
                    f"The prompt shows a place on instance {place.sop_instance_uid or 'any'}, frame "
                    f"{place.frame_number or 'any'}, which is not among the images of the series"
                )
        if (
            asked.mask is not None
            and self._masks.instances
            and not self._masks.instances & {frame.sop_instance_uid for frame in frames}
        ):
            raise InvalidPromptError("The mask of the prompt is about other images than those of the series")

    @property
    def _places(self) -> tuple[Point | Box, ...]:
        return (*self._asked.points, *self._asked.boxes)

    def concerns(self, source: SourceSeries) -> bool:
        """Whether anything is asked of a part: not where all that is shown lies on other parts."""
        asked = self._asked
        if asked.questions or asked.example or not (self._places or asked.mask):
            return True
        shown = any(_lies_on(place, frame) for place in self._places for frame in source.frames)
        return shown or (asked.mask is not None and self._masks_concern(source.frames))

    def _masks_concern(self, frames: Iterable[FrameIdentity]) -> bool:
        return not self._masks.instances or any(frame.sop_instance_uid in self._masks.instances for frame in frames)

    def of(self, stack: ImageStack) -> Prompt:
        """What is asked of one part.

        Args:
            stack: Its images.

        Raises:
            InvalidPromptError: A place lies outside of the pictures, or the mask does not fit them.
        """
        asked = self._asked
        rows, columns = stack.pixels.shape[1:3]
        here = [place for place in self._places if any(_lies_on(place, frame) for frame in stack.frames)]
        for place in here:
            _check_within(place, rows, columns, "the pictures")
        return Prompt(
            questions=asked.questions,
            points=tuple(place for place in here if isinstance(place, Point)),
            boxes=tuple(place for place in here if isinstance(place, Box)),
            mask=self._mask(stack) if asked.mask is not None and self._masks_concern(stack.frames) else None,
            example=self._example if asked.example else None,
        )

    @cached_property
    def _masks(self) -> MaskSet:
        if self._asked.mask is None:
            raise InvalidPromptError("The prompt has no mask")
        try:
            return read_masks_of(self._asked.mask)
        except VesselqError as error:
            raise InvalidPromptError(f"The mask of the prompt cannot be used: {error}") from error

    def _mask(self, stack: ImageStack) -> NDArray[np.bool_]:
        """``(frames, rows, columns)``: all segments of the file together; a picture counts for every frame."""
        masks, shape = self._masks, stack.pixels.shape[1:3]
        if masks.shape != shape:
            raise InvalidPromptError(
                f"The mask of the prompt has {masks.shape[0]} rows and {masks.shape[1]} columns, the images have "
                f"{shape[0]} and {shape[1]}"
            )
        if not masks.instances and stack.arrangement is Arrangement.VOLUME:
            raise InvalidPromptError("One picture is no mask of a volume; give a Segmentation object")
        mask = np.zeros((len(stack.frames), *shape), np.bool_)
        index_of = {frame: index for index, frame in enumerate(stack.frames)}
        for (_, uid, number), one in masks.masks.items():
            if not masks.instances:
                mask |= one
            elif (index := index_of.get(FrameIdentity(uid, number))) is not None:
                mask[index] |= one
        return mask

    @cached_property
    def _example(self) -> ExamplePicture:
        example = self._asked.example
        if example is None:
            raise InvalidPromptError("The prompt has no example")
        try:
            picture = _read_picture(example.picture)
        except VesselqError as error:
            raise InvalidPromptError(f"The example of the prompt cannot be used: {error}") from error
        for box in example.boxes:
            _check_within(box, picture.shape[0], picture.shape[1], "the example")
        return ExamplePicture(picture, example.boxes)


def _lies_on(place: Point | Box, frame: FrameIdentity) -> bool:
    return place.sop_instance_uid in ("", frame.sop_instance_uid) and place.frame_number in (0, frame.frame_number)


def _check_within(place: Point | Box, rows: int, columns: int, what: str) -> None:
    x, y = (place.x, place.y) if isinstance(place, Point) else (place.right, place.bottom)
    if x > columns or y > rows:
        raise InvalidPromptError(
            f"The prompt shows column {x:g}, row {y:g}, outside of {what} of {columns} columns and {rows} rows"
        )


def _read_picture(path: Path) -> NDArray[np.uint8]:
    """``(rows, columns, 3)`` RGB: a PNG, or the first frame of a DICOM file as a reader sees it."""
    from PIL import Image, UnidentifiedImageError

    if path.suffix.lower() != ".png":
        return display_frame(decode(read_series([path])[0], maximum_bytes=_EXAMPLE_BYTES), 0)
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InvalidPromptError(f"{path} is no PNG picture that can be read") from error
