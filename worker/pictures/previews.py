"""Pictures for the pages of the console: small, without patient data, under fixed names in the folder of the job."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from worker.image_stack import Arrangement, ImageStack
from worker.pictures import preview_files
from worker.pictures.choice import most_vessel, vessel_counts
from worker.pictures.display import Picture, display_frame, display_limits
from worker.pictures.frame_strip import ShownFrames, jpeg_frames, shown_frames
from worker.pictures.legend import legend_of
from worker.pictures.montage import montage
from worker.pictures.overlay import FILLED, lay_over
from worker.pictures.patient_axes import patient_axes, views
from worker.pictures.projection import vessel_projections
from worker.pictures.run_time import display_time
from worker.pictures.scaling import resized_mask, resized_picture, scale_for, scaled_shape
from worker.segmenters.interface import Segmentation
from worker.source_series import SourceSeries

_LEAST, _MOST = 512, 1280
_COMPRESSION = 3
"""Of PNG: twice the speed of the usual 6 for a tenth more bytes."""
_SLICE_MS = 100.0
"""How long a slice is shown when the pages play a volume."""
_NOTHING = ShownFrames((), (), 1)


@dataclass(frozen=True, slots=True)
class _Best:
    """What is kept of the part that shows most vessel; none of it is larger than a screen.

    Attributes:
        voxels: Of its richest frame.
        plain: That frame.
        overlay: The same with the vessels over it.
        frames: To scroll through: frames of a run or slices of a volume, none of anything else.
        frame_ms: How long each of them is shown.
    """

    voxels: int
    plain: Picture
    overlay: Picture
    frames: ShownFrames = _NOTHING
    frame_ms: float = 0.0


class PreviewBuilder:
    """Draws the parts of one job while each is in memory; of several parts the one with most vessel is shown.

    ::

        previews = PreviewBuilder()
        previews.add(source, stack, segmentation)      # for each part
        names = previews.write(output_folder)
    """

    def __init__(self) -> None:
        self._best: _Best | None = None
        self._volume: tuple[Picture, Picture] | None = None

    def add(self, source: SourceSeries, stack: ImageStack, segmentation: Segmentation) -> None:
        """Draw one part: a run, a set of pictures or a volume.

        Args:
            source: Tells how fast a run plays and which way a volume lies.
            stack: What the segmenter looked at.
            segmentation: Its answer; with an empty mask the middle frame is shown as it is.
        """
        mask = segmentation.mask
        index = most_vessel(mask)
        voxels = int(vessel_counts(mask)[index])
        if self._best is not None and voxels <= self._best.voxels:
            return
        plain, overlay = _two_sides(stack, segmentation, index)
        colours = legend_of(stack, segmentation).colours
        self._volume = None
        self._best = _Best(voxels, plain, overlay)
        if len(stack.pixels) > 1 and stack.arrangement is Arrangement.RUN:
            frames = shown_frames(stack, mask, colours)
            frame_ms = display_time(source.datasets[0]) * frames.step
            self._best = replace(self._best, frames=frames, frame_ms=frame_ms)
        elif len(stack.pixels) > 1 and stack.arrangement is Arrangement.VOLUME:
            projected = vessel_projections(stack, mask, colours, views(patient_axes(source)))
            self._volume = montage(stack, mask, colours)[0], projected
            frames = shown_frames(stack, mask, colours)
            self._best = replace(self._best, frames=frames, frame_ms=_SLICE_MS)

    def write(self, folder: Path) -> tuple[str, ...]:
        """Write the files into an existing folder.

        Returns:
            The names of ``preview_files`` that were written; none before ``add``.
        """
        if self._best is None:
            return ()
        pictures = {preview_files.OVERLAY: self._best.overlay, preview_files.PLAIN: self._best.plain}
        if self._volume is not None:
            pictures[preview_files.MONTAGE], pictures[preview_files.PROJECTIONS] = self._volume
        for name, picture in pictures.items():
            Image.fromarray(picture).save(folder / name, format="PNG", compress_level=_COMPRESSION)
        names = set(pictures)
        shown = self._best.frames
        for name, frames in ((preview_files.FRAMES_PLAIN, shown.plain), (preview_files.FRAMES, shown.overlay)):
            if frames:
                (folder / name).write_bytes(jpeg_frames(frames, self._best.frame_ms))
                names.add(name)
        return tuple(name for name in preview_files.MEDIA_TYPES if name in names)


def write_previews(
    source: SourceSeries, stack: ImageStack, segmentation: Segmentation, folder: Path
) -> tuple[str, ...]:
    """All previews of a series that is one part; see ``PreviewBuilder``."""
    previews = PreviewBuilder()
    previews.add(source, stack, segmentation)
    return previews.write(folder)


def _two_sides(stack: ImageStack, segmentation: Segmentation, index: int) -> tuple[Picture, Picture]:
    """The frame without and with the vessels, at a size for the screen."""
    rows, columns = stack.pixels.shape[1:3]
    shape = scaled_shape(rows, columns, scale_for(rows, columns, least=_LEAST, most=_MOST))
    plain = resized_picture(display_frame(stack, index, display_limits(stack)), shape)
    masks = [resized_mask(one[index], shape) for one in segmentation.mask]
    return np.array(plain), lay_over(plain, masks, legend_of(stack, segmentation).colours, FILLED)
