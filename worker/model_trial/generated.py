"""A generated picture with two dark vessels, the same on every machine: for self-tests and for timing."""

import numpy as np
from numpy.typing import NDArray

from worker.image_stack import Arrangement, FrameIdentity, ImageStack
from worker.model_trial.pictures import likeliest
from worker.segmenters.interface import SegmenterInfo

_UID = "2.25.1"
_ARRANGEMENTS = (Arrangement.FRAMES, Arrangement.RUN, Arrangement.VOLUME)


def generated_picture(rows: int, columns: int) -> NDArray[np.uint8]:
    """Draw ``(rows, columns, 3)`` uint8 RGB."""
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    y, x = y / rows, x / columns
    vessels = (np.abs(y - 0.35 - 0.08 * np.sin(7 * x)) < 0.012) | (np.abs(x - 0.6 - 0.1 * np.sin(6 * y)) < 0.02)
    texture = 6 * np.sin(40 * x + 3 * np.sin(11 * y)) + 20 * (x - 0.5)
    grey = np.clip(150 + texture - 60 * vessels, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def generated_stack(info: SegmenterInfo, frames: int, rows: int, columns: int) -> ImageStack:
    """Make a stack of a kind and arrangement that a segmenter takes; every frame is the same picture.

    Grey float32 in 0 to 255; a volume has voxels of 1 mm.
    """
    arrangement = next(one for one in _ARRANGEMENTS if one in info.arrangements)
    grey = generated_picture(rows, columns)[..., 0].astype(np.float32)
    return ImageStack(
        pixels=np.repeat(grey[None], frames, axis=0),
        arrangement=arrangement,
        imaging=likeliest(info.imagings),
        frames=tuple(FrameIdentity(_UID, number) for number in range(1, frames + 1)),
        display_range=(0.0, 255.0),
        spacing_mm=(1.0, 1.0, 1.0),
    )
