"""A picture for the operator: one source frame with the found vessels over it, and no text."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.image_stack import ImageStack
from worker.seg_writer.catalogue import RGB, colour_of
from worker.segmenters.interface import Segmentation

_OPACITY = 0.45
_PERCENTILES = (0.5, 99.5)


def write_preview(stack: ImageStack, segmentation: Segmentation, path: Path) -> int:
    """Write a PNG of the frame that shows most vessel, at the size of the source.

    Nothing but pixels goes into the file: no text, no metadata. Burned-in annotation of the source stays visible, as in
    the source.

    Args:
        stack: What the segmenter looked at.
        segmentation: Its answer; with an empty mask the middle frame is shown as it is.
        path: The PNG.

    Returns:
        Index of the frame in ``stack``.
    """
    index = most_vessel(segmentation.mask)
    picture = display_frame(stack, index)
    for number, segment_class in enumerate(segmentation.classes):
        _lay_over(picture, segmentation.mask[number, index], colour_of(segment_class.key, stack.imaging))
    Image.fromarray(np.rint(picture).astype(np.uint8), "RGB").save(path, format="PNG")
    return index


def most_vessel(mask: NDArray[np.bool_]) -> int:
    """Index of the frame with most voxels over all classes, the middle one when there are none.

    Args:
        mask: ``(classes, frames, rows, columns)`` bool.
    """
    counts = np.count_nonzero(mask, axis=(0, 2, 3))
    return int(counts.argmax()) if counts.any() else len(counts) // 2


def display_frame(stack: ImageStack, index: int) -> NDArray[np.float32]:
    """One frame as RGB ``(rows, columns, 3)`` float32, 0 to 255, through the source's window or robust percentiles."""
    frame: NDArray[np.float32] = stack.pixels[index].astype(np.float32)
    if stack.is_colour:
        return frame
    finite = frame[np.isfinite(frame)]
    low, high = stack.display_range or (np.percentile(finite, _PERCENTILES) if finite.size else (0.0, 1.0))
    width = max(float(high) - float(low), 1e-6)
    grey = np.clip((np.nan_to_num(frame, nan=low) - low) / width, 0, 1) * 255
    return np.repeat(grey[..., None], 3, axis=-1).astype(np.float32)


def _lay_over(picture: NDArray[np.float32], mask: NDArray[np.bool_], colour: RGB) -> None:
    """Tint the inside and draw the border in full colour, in place."""
    picture[mask] = (1 - _OPACITY) * picture[mask] + _OPACITY * np.array(colour, np.float32)
    picture[mask & ~_inside(mask)] = colour


def _inside(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels whose four neighbours belong to the mask too; the edge of the picture counts as inside."""
    padded = np.pad(mask, 1, mode="edge")
    inner: NDArray[np.bool_] = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inner
