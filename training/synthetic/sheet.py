"""Contact sheets: each picture beside itself with the truth drawn on it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from training.synthetic.picture import SyntheticPicture
from training.synthetic.shards import rgb

_SURE, _UNSURE = (0, 255, 0), (255, 255, 0)


def outlined(picture: SyntheticPicture) -> NDArray[np.uint8]:
    """The picture with the walls of its vessels in green, and in yellow where observers would differ."""
    drawn = rgb(picture.image).copy()
    wall = picture.mask & ~ndimage.binary_erosion(picture.mask)
    drawn[wall] = _SURE
    drawn[wall & picture.unsure] = _UNSURE
    return drawn


def contact_sheet(pictures: Sequence[SyntheticPicture], columns: int = 3) -> Image.Image:
    """All pictures of one size on a sheet, ``columns`` beside each other, each followed by its outlined twin."""
    tiles = [np.hstack([rgb(picture.image), outlined(picture)]) for picture in pictures]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    lines = [np.hstack(tiles[first : first + columns]) for first in range(0, len(tiles), columns)]
    return Image.fromarray(np.vstack(lines))
