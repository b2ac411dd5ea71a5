"""The strip below a picture: what is drawn in which colour, by which model, and that nobody reviewed it.

No patient data: the words are the labels of the segmenter, its name and fixed sentences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from worker.pictures.display import Picture
from worker.pictures.overlay import RGB

RESEARCH_USE = "Research use, not reviewed"
NOTHING_FOUND = "No vessel found"
BACKGROUND: RGB = (14, 16, 20)
_TEXT: RGB = (205, 210, 216)
_COLUMNS_PER_SIZE, _SMALLEST, _LARGEST, _LARGEST_ON_PICTURE = 42, 13, 30, 24
_LAST_CHARACTER = "\u017f"
"""Pillow's font ends with Latin Extended-A."""


@dataclass(frozen=True, slots=True)
class Legend:
    """What the strip says.

    Attributes:
        segments: ``(label, colour)`` of each segment.
        model: Name and version of the segmenter.
        found: False where no segment has a pixel.
    """

    segments: tuple[tuple[str, RGB], ...]
    model: str
    found: bool = True

    @property
    def colours(self) -> tuple[RGB, ...]:
        """The colours of the segments in their order."""
        return tuple(colour for _, colour in self.segments)


@lru_cache(maxsize=8)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, ``size`` pixels high: no file of the machine decides how a picture looks."""
    return ImageFont.load_default(size)


def font_size(columns: int) -> int:
    """Height in pixels of text that can be read on a picture of this width."""
    return min(_LARGEST, max(_SMALLEST, round(columns / _COLUMNS_PER_SIZE)))


def drawable(text: str) -> str:
    """The text with ``?`` for characters that the font does not have."""
    return "".join(letter if " " <= letter <= _LAST_CHARACTER else "?" for letter in text)


def caption_strip(columns: int, legend: Legend) -> Picture:
    """The strip for a picture of ``columns`` columns, as high as the words need; words that do not fit wrap."""
    size = font_size(columns)
    entries: list[tuple[str, RGB, bool]] = [(drawable(label), colour, True) for label, colour in legend.segments]
    if not legend.found:
        entries = [(NOTHING_FOUND, _TEXT, False)]
    entries += [(word, _TEXT, False) for word in (drawable(legend.model), RESEARCH_USE) if word]
    places, rows = _placed(entries, columns, size)
    image = Image.new("RGB", (columns, rows), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for (text, colour, has_swatch), (left, top) in zip(entries, places, strict=True):
        if has_swatch:
            draw.rounded_rectangle((left, top + size // 6, left + size - 1, top + size), size // 4, fill=colour)
        draw.text((left + (size * 3 // 2 if has_swatch else 0), top), text, fill=colour, font=font(size))
    return np.asarray(image)


def _placed(entries: Sequence[tuple[str, RGB, bool]], columns: int, size: int) -> tuple[list[tuple[int, int]], int]:
    """Left top corners of the entries, one after the other, and the height that they take."""
    gap, line = size, round(size * 1.5)
    left, top = gap // 2, gap // 3
    places = []
    for text, _, has_swatch in entries:
        width = round(font(size).getlength(text)) + (size * 3 // 2 if has_swatch else 0)
        if left > gap // 2 and left + width > columns - gap // 2:
            left, top = gap // 2, top + line
        places.append((left, top))
        left += width + gap
    return places, top + line


def with_caption(picture: Picture, strip: Picture) -> Picture:
    """The picture with the strip below it, nothing of it hidden."""
    return np.concatenate([picture, strip])


def write_words(picture: Picture, text: str, place: tuple[float, float], anchor: str = "la") -> Picture:
    """The picture with words on it that stand out from light and dark.

    Args:
        picture: Not changed.
        text: A few characters.
        place: Column and row as a share of the width and height.
        anchor: Which point of the text is there (Pillow's text anchors).
    """
    image = Image.fromarray(picture)
    size = min(_LARGEST_ON_PICTURE, max(_SMALLEST, font_size(picture.shape[1] * 2)))
    point = (place[0] * picture.shape[1], place[1] * picture.shape[0])
    ImageDraw.Draw(image).text(
        point, drawable(text), fill=_TEXT, font=font(size), anchor=anchor, stroke_width=2, stroke_fill=BACKGROUND
    )
    written: NDArray[np.uint8] = np.asarray(image)
    return written
