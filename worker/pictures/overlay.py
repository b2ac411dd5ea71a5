"""Segments over a picture: a thin line around each, and a tint that lets the picture through.

The line runs outside the segment. So a vessel two pixels wide stays visible between its lines, which a filled mask
would hide, and the reader can judge whether it is there at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.pictures.display import Picture

RGB = tuple[int, int, int]
_PIXELS_PER_LINE = 900
"""A picture of this many pixels gets a line one pixel wide, a larger one a wider line."""


@dataclass(frozen=True, slots=True)
class Style:
    """How strongly segments are drawn.

    Attributes:
        tint: Opacity of the inside, 0 to 1; 0 leaves it as it is.
        line: Opacity of the line around it, 0 to 1.
    """

    tint: float
    line: float


FILLED = Style(tint=0.5, line=0.95)
"""For a quick look: the segment catches the eye."""
OUTLINED = Style(tint=0.12, line=0.95)
"""For reading: what lies below stays as it is but for a breath of colour."""


def lay_over(
    picture: Picture, masks: Sequence[NDArray[np.bool_]], colours: Sequence[RGB], style: Style = FILLED
) -> Picture:
    """A copy of ``picture`` with the segments drawn over it, lines above tints.

    Args:
        picture: ``(rows, columns, 3)``.
        masks: One ``(rows, columns)`` bool a segment.
        colours: One a segment.
        style: How strongly.
    """
    drawn = np.array(picture, order="C")
    width = max(1, round(max(picture.shape[:2]) / _PIXELS_PER_LINE))
    for mask, colour in zip(masks, colours, strict=True):
        _blend(drawn, mask, colour, style.tint)
    for mask, colour in zip(masks, colours, strict=True):
        _blend(drawn, border(mask, width), colour, style.line)
    return drawn


def _blend(picture: Picture, mask: NDArray[np.bool_], colour: RGB, opacity: float) -> None:
    """Mix the colour into the pixels of the mask, in place; by table, since there are only 256 values."""
    below = np.arange(256, dtype=np.float32)[:, None]
    blended = np.rint(below + opacity * (np.array(colour, np.float32) - below)).astype(np.uint8)
    pixels = picture.reshape(-1, 3)
    places = np.flatnonzero(mask)
    for channel in range(3):
        pixels[places, channel] = blended[pixels[places, channel], channel]


def border(mask: NDArray[np.bool_], width: int = 1) -> NDArray[np.bool_]:
    """Pixels outside the mask, at most ``width`` steps along rows or columns from it."""
    grown = mask
    for _ in range(width):
        wider = grown.copy()
        wider[1:] |= grown[:-1]
        wider[:-1] |= grown[1:]
        wider[:, 1:] |= grown[:, :-1]
        wider[:, :-1] |= grown[:, 1:]
        grown = wider
    return grown & ~mask
