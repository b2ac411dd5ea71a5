"""Frames of a run or slices of a volume, small, for a page that scrolls through them: JPEG pictures in one file.

One picture follows the other without anything between, as in motion JPEG: quick to write, and a page finds each of them
by the markers at its ends. The first says in a comment how long one is shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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
_QUALITIES = (80, 55, 30)
_FASTEST_MS, _SLOWEST_MS = 40, 500


@dataclass(frozen=True, slots=True)
class ShownFrames:
    """Some frames of a run or slices of a volume, small.

    Attributes:
        plain: As they are.
        overlay: The same with the vessels over them.
        step: How many frames of the source one of them stands for.
    """

    plain: tuple[Picture, ...]
    overlay: tuple[Picture, ...]
    step: int


def shown_frames(stack: ImageStack, mask: NDArray[np.bool_], colours: Sequence[RGB]) -> ShownFrames:
    """At most 40 small frames around those with a vessel.

    Args:
        stack: A run or a volume.
        mask: ``(classes, frames, rows, columns)`` bool.
        colours: One a class.
    """
    begin, end = vessel_extent(mask, _MARGIN_FRAMES)
    chosen = evenly_spaced(begin, end, MOST_FRAMES)
    rows, columns = stack.pixels.shape[1:3]
    shape = scaled_shape(rows, columns, scale_for(rows, columns, least=MOST_PIXELS // 2, most=MOST_PIXELS))
    limits = display_limits(stack)
    plain, overlay = [], []
    for index in chosen:
        small = resized_picture(display_frame(stack, index, limits), shape)
        plain.append(np.array(small))
        overlay.append(lay_over(small, [resized_mask(one[index], shape) for one in mask], colours, FILLED))
    return ShownFrames(tuple(plain), tuple(overlay), max(1, round((end - begin) / len(chosen))))


def jpeg_frames(pictures: Sequence[Picture], frame_ms: float) -> bytes:
    """The pictures one after the other in less than 2 MB, by lower quality and then smaller pictures.

    Args:
        pictures: Of one size.
        frame_ms: How long each is to be shown; kept between 40 and 500 ms, what is faster or slower cannot be watched.
    """
    duration = round(min(_SLOWEST_MS, max(_FASTEST_MS, frame_ms)))
    shape = (pictures[0].shape[0], pictures[0].shape[1])
    while True:
        small = [Image.fromarray(resized_picture(picture, shape)) for picture in pictures]
        for quality in _QUALITIES:
            content = b"".join(
                _encoded(one, quality, str(duration) if number == 0 else "") for number, one in enumerate(small)
            )
            if len(content) <= MOST_BYTES or max(shape) == 1:
                return content
        shape = (max(1, shape[0] // 2), max(1, shape[1] // 2))


def _encoded(picture: Image.Image, quality: int, comment: str) -> bytes:
    buffer = BytesIO()
    # colour as fine as brightness: vessels are thin
    picture.save(buffer, "JPEG", quality=quality, subsampling=0, **({"comment": comment} if comment else {}))
    return buffer.getvalue()
