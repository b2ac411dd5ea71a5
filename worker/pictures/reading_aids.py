"""Pictures for readers whose viewer knows no Segmentation: the source with the vessels burnt in, montage, projections.

Runs and single pictures keep every pixel of the source where it is, with a strip for the caption below; only a run that
would become too large is shortened to the frames around the vessels, then made smaller, then thinned out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from worker.image_stack import Arrangement, FrameIdentity, ImageStack
from worker.pictures.caption import Legend, caption_strip, with_caption
from worker.pictures.choice import vessel_extent
from worker.pictures.display import Picture, display_frame, display_limits
from worker.pictures.legend import legend_of
from worker.pictures.montage import montage
from worker.pictures.overlay import OUTLINED, lay_over
from worker.pictures.patient_axes import patient_axes, views
from worker.pictures.projection import vessel_projections
from worker.pictures.scaling import resized_mask, resized_picture, scale_for, scaled_shape
from worker.segmenters.interface import Segmentation
from worker.source_series import SourceSeries

MAXIMUM_BYTES = 128 * 1024 * 1024
"""Of the pixels of one reading aid: 160 frames of 512 by 512."""
_LEAST, _MOST = 512, 4096
_SMALLEST_RUN = 512
_MARGIN_FRAMES = 5


class AidKind(StrEnum):
    """What a reading aid shows; the word is value 3 of its ImageType."""

    OVERLAY = "OVERLAY"
    """Frames of the source with the vessels drawn over them."""
    MONTAGE = "MONTAGE"
    """Slices of a volume on one picture, with the vessels drawn over them."""
    PROJECTION = "PROJECTION"
    """The vessels of a volume, seen along its axes."""


@dataclass(frozen=True, slots=True)
class ReadingAid:
    """One picture or run to be stored.

    Attributes:
        kind: What it shows.
        pixels: ``(frames, rows, columns, 3)`` uint8 sRGB, with the caption strip at the lower end.
        frames: The source frame of each frame; for montage and projection all that went into it.
        scale: Columns of an overlay for one column of the source; 0 where there is no such number.
        step: Of a run: how many frames of the source one step takes.
        spacing_mm: Between rows and columns of the source, before scaling; None where unknown.
    """

    kind: AidKind
    pixels: NDArray[np.uint8]
    frames: tuple[FrameIdentity, ...]
    scale: float = 0.0
    step: int = 1
    spacing_mm: tuple[float, float] | None = None


def draw_reading_aids(
    source: SourceSeries,
    stack: ImageStack,
    segmentation: Segmentation,
    *,
    model: str,
    maximum_bytes: int = MAXIMUM_BYTES,
) -> tuple[ReadingAid, ...]:
    """What a reader gets of one part: one aid for each run or picture, projections and montage of a volume.

    Args:
        source: The part.
        stack: Its pixels, frame by frame as in ``source``.
        segmentation: What was found; an empty mask gives the pictures with the words that nothing was found.
        model: Name and version of the segmenter, for the caption.
        maximum_bytes: The most that the pixels of one run or picture may take; no picture becomes too small to read.
    """
    legend = legend_of(stack, segmentation, model)
    if stack.arrangement is Arrangement.VOLUME and len(stack.pixels) > 1:
        return tuple(_of_volume(source, stack, segmentation.mask, legend))
    limits = display_limits(stack)
    return tuple(
        _of_instance(stack, segmentation.mask, indices, legend, limits, maximum_bytes)
        for indices in _by_instance(stack)
    )


def _of_volume(
    source: SourceSeries, stack: ImageStack, mask: NDArray[np.bool_], legend: Legend
) -> Iterator[ReadingAid]:
    projected = vessel_projections(stack, mask, legend.colours, views(patient_axes(source)))
    yield ReadingAid(AidKind.PROJECTION, _captioned(projected, legend)[np.newaxis], stack.frames)
    slices, chosen = montage(stack, mask, legend.colours, OUTLINED)
    frames = tuple(stack.frames[index] for index in chosen)
    yield ReadingAid(AidKind.MONTAGE, _captioned(slices, legend)[np.newaxis], frames)


def _captioned(picture: Picture, legend: Legend) -> Picture:
    return with_caption(picture, caption_strip(picture.shape[1], legend))


# --- runs and pictures ------------------------------------------------------------------------------------------------


def _by_instance(stack: ImageStack) -> list[list[int]]:
    """Indices of the stack that belong to the same instance, in the order of the stack."""
    groups: dict[str, list[int]] = {}
    for index, frame in enumerate(stack.frames):
        groups.setdefault(frame.sop_instance_uid, []).append(index)
    return list(groups.values())


def _of_instance(
    stack: ImageStack,
    mask: NDArray[np.bool_],
    indices: list[int],
    legend: Legend,
    limits: tuple[float, float],
    maximum_bytes: int,
) -> ReadingAid:
    """One run or one picture with the vessels over it, drawn frame by frame into the final array."""
    begin, end, step, scale = _bounded(stack, mask[:, indices], legend, maximum_bytes)
    chosen = indices[begin:end:step]
    rows, columns = stack.pixels.shape[1:3]
    shape = scaled_shape(rows, columns, scale)
    strip = caption_strip(shape[1], legend)
    pixels = np.empty((len(chosen), shape[0] + len(strip), shape[1], 3), np.uint8)
    pixels[:, shape[0] :] = strip
    for number, index in enumerate(chosen):
        picture = resized_picture(display_frame(stack, index, limits), shape)
        masks = [resized_mask(one[index], shape) for one in mask]
        pixels[number, : shape[0]] = lay_over(picture, masks, legend.colours, OUTLINED)
    return ReadingAid(
        AidKind.OVERLAY,
        pixels,
        tuple(stack.frames[index] for index in chosen),
        scale=scale,
        step=step,
        spacing_mm=None if stack.spacing_mm is None else stack.spacing_mm[1:],
    )


def _bounded(
    stack: ImageStack, mask: NDArray[np.bool_], legend: Legend, maximum_bytes: int
) -> tuple[int, int, int, float]:
    """First frame, frame behind the last, step and scale that keep the run below ``maximum_bytes``."""
    rows, columns = stack.pixels.shape[1:3]
    begin, end, step = 0, mask.shape[1], 1
    scale = scale_for(rows, columns, least=_LEAST, most=_MOST)

    def too_large() -> bool:
        height, width = scaled_shape(rows, columns, scale)
        strip = len(caption_strip(width, legend))
        frames = -(-(end - begin) // step)
        return bool(frames * (height + strip) * width * 3 > maximum_bytes)

    if too_large() and scale > 1:
        scale = 1.0
    if too_large():
        begin, end = vessel_extent(mask, _MARGIN_FRAMES)
    while too_large() and max(rows, columns) * scale / 2 >= _SMALLEST_RUN:
        scale /= 2
    while too_large() and step < end - begin:
        step += 1
    return begin, end, step, scale
