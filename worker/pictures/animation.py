"""A run as a small animated WebP that a browser plays by itself."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.image_stack import ImageStack
from worker.pictures.choice import evenly_spaced, vessel_extent
from worker.pictures.display import Picture, display_frame, display_limits
from worker.pictures.overlay import FILLED, RGB, lay_over
from worker.pictures.scaling import resized_mask, resized_picture, scale_for, scaled_shape

MOST_FRAMES = 40
MOST_PIXELS = 512
MOST_BYTES = 2_000_000
_MARGIN_FRAMES = 3
_QUALITIES = (70, 45, 25)
_TRIAL_STEP, _TRIAL_MARGIN = 8, 1.3
_FASTEST_MS, _SLOWEST_MS = 40, 500


def run_frames(stack: ImageStack, mask: NDArray[np.bool_], colours: Sequence[RGB]) -> tuple[list[Picture], int]:
    """At most 40 small frames around those with a vessel, and how many frames of the run one step takes.

    Args:
        stack: A run.
        mask: ``(classes, frames, rows, columns)`` bool.
        colours: One a class.
    """
    begin, end = vessel_extent(mask, _MARGIN_FRAMES)
    chosen = evenly_spaced(begin, end, MOST_FRAMES)
    rows, columns = stack.pixels.shape[1:3]
    shape = scaled_shape(rows, columns, scale_for(rows, columns, least=MOST_PIXELS // 2, most=MOST_PIXELS))
    limits = display_limits(stack)
    pictures = []
    for index in chosen:
        small = resized_picture(display_frame(stack, index, limits), shape)
        pictures.append(lay_over(small, [resized_mask(one[index], shape) for one in mask], colours, FILLED))
    return pictures, max(1, round((end - begin) / len(chosen)))


def animated_webp(pictures: Sequence[Picture], frame_ms: float) -> bytes:
    """The pictures as an endless animation of less than 2 MB, by lower quality and then smaller pictures.

    Args:
        pictures: Of one size.
        frame_ms: How long each is shown; kept between 40 and 500 ms, what is faster or slower cannot be watched.
    """
    duration = round(min(_SLOWEST_MS, max(_FASTEST_MS, frame_ms)))
    shape = (pictures[0].shape[0], pictures[0].shape[1])
    while True:
        small = [resized_picture(picture, shape) for picture in pictures]
        for quality in _QUALITIES:
            # a few frames tell whether it is worth to encode all of them
            if _TRIAL_STEP * len(_encoded(small[::_TRIAL_STEP], duration, quality)) > _TRIAL_MARGIN * MOST_BYTES:
                continue
            content = _encoded(small, duration, quality)
            if len(content) <= MOST_BYTES or max(shape) == 1:
                return content
        shape = (max(1, shape[0] // 2), max(1, shape[1] // 2))


def _encoded(pictures: Sequence[Picture], duration: int, quality: int) -> bytes:
    first, *others = [Image.fromarray(picture) for picture in pictures]
    buffer = BytesIO()
    first.save(
        buffer, "WEBP", save_all=True, append_images=others, duration=duration, loop=0, quality=quality, method=0
    )
    return buffer.getvalue()
