"""Decoding: from a SourceSeries to the ImageStack that a segmenter looks at."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_core.errors import SourceTooLargeError, UnsupportedSourceError
from worker.image_stack import Arrangement, FrameIdentity, ImageStack
from worker.pixels.codecs import encoded_frame
from worker.pixels.colour import Palette, palette_of, rgb_of_samples
from worker.pixels.frame_bytes import StoredFrame, stored_frames
from worker.pixels.grey_levels import GreyScale, grey_scale
from worker.pixels.layout import PixelLayout, pixel_layout
from worker.pixels.native import native_frame
from worker.source_images.damage import damage_named, pydicom_silenced
from worker.source_images.functional_groups import functional_group
from worker.source_images.headers import numbers
from worker.source_images.slice_geometry import slice_normal, spacing_between_slices
from worker.source_series import SourceSeries

MAXIMUM_BYTES = 4 << 30
"""More decoded pixels than this are refused; a whole-body CT of 2000 slices takes half of it."""

Pixels = NDArray[Any]
"""``(..., rows, columns)`` float32 or ``(..., rows, columns, 3)`` uint8."""


@dataclass(frozen=True, slots=True)
class _Instance:
    """One instance and what is read from its header once for all its frames."""

    dataset: Dataset
    path: Path
    layout: PixelLayout
    palette: Palette | None

    @property
    def name(self) -> str:
        return f"Instance {self.dataset.SOPInstanceUID}"


@dataclass(frozen=True, slots=True)
class _FrameTask:
    """Everything a thread needs to decode one frame: plain values, no pydicom."""

    name: str
    stored: StoredFrame
    keyword: str
    layout: PixelLayout
    palette: Palette | None
    grey_scale: GreyScale | None
    out: Pixels

    def run(self) -> None:
        """Decode the frame into its place in the stack."""
        with damage_named(self.name):
            if isinstance(self.stored, bytes):
                values, is_ybr = encoded_frame(self.stored, self.layout)
            else:
                values = native_frame(self.stored, self.layout, self.keyword)
                is_ybr = self.layout.is_ybr
            if self.grey_scale is not None:
                self.grey_scale.apply(values, self.out)
            elif self.palette is not None:
                self.out[...] = self.palette.rgb(values)
            else:
                self.out[...] = rgb_of_samples(values, self.layout, is_ybr=is_ybr)


def decode(source: SourceSeries, *, maximum_bytes: int = MAXIMUM_BYTES, threads: int = 2) -> ImageStack:
    """Decode all frames of a series.

    Sizes are checked against ``maximum_bytes``, and every encoded stream's own size against the header, before memory
    is taken. Grey values pass the Modality LUT (PS3.3 C.11.1), per frame in enhanced objects, and MONOCHROME1 is
    turned so that larger is brighter. Colour becomes RGB of eight bits.

    Args:
        source: What ``read_series`` returned.
        maximum_bytes: The most that the decoded pixels may take.
        threads: Frames that are decoded at the same time.

    Returns:
        The stack, its frames in the order of ``source.frames``. ``display_range`` is the median over the frames'
        windows. ``spacing_mm`` comes from Pixel Spacing; Imager Pixel Spacing is no distance in the patient and is
        not used.

    Raises:
        SourceTooLargeError: The pixels would not fit ``maximum_bytes``, or memory ran out.
        UnsupportedSourceError: An encoding or a kind of pixel that is not taken.
        DamagedSourceError: Pixel data cannot be read; the text names the instance and the frame.
    """
    with pydicom_silenced():
        instances = [_instance(dataset, path) for dataset, path in zip(source.datasets, source.paths, strict=True)]
        pixels = _room_for(source, instances, maximum_bytes)
        scales: dict[FrameIdentity, GreyScale] = {}
        with ThreadPoolExecutor(max(1, threads), thread_name_prefix="decode") as pool:
            _run_all(_tasks(source, instances, pixels, scales), pool, waiting=2 * max(1, threads))
        with damage_named(instances[0].name):
            return ImageStack(
                pixels=pixels,
                arrangement=source.arrangement,
                imaging=source.imaging,
                frames=source.frames,
                display_range=_display_range(scales),
                spacing_mm=_spacing(source),
                laterality=_laterality(source),
                body_part_examined=str(source.datasets[0].get("BodyPartExamined") or ""),
                warnings=(*source.warnings, *_warnings(scales)),
            )


def _instance(dataset: Dataset, path: Path) -> _Instance:
    with damage_named(f"Instance {dataset.SOPInstanceUID}"):
        layout = pixel_layout(dataset)
        palette = palette_of(dataset) if layout.photometric_interpretation == "PALETTE COLOR" else None
        return _Instance(dataset, path, layout, palette)


def _room_for(source: SourceSeries, instances: list[_Instance], maximum_bytes: int) -> Pixels:
    """The empty stack, after the check that it may be made."""
    whole = sum(instance.layout.decoded_bytes for instance in instances)
    needed = whole * len(source.frames) // sum(instance.layout.number_of_frames for instance in instances)
    if needed > maximum_bytes:
        raise SourceTooLargeError(
            f"The series needs {needed >> 20} MiB decoded, the limit is {maximum_bytes >> 20} MiB; "
            "send a shorter series or raise the limit"
        )
    kinds = {(instance.layout.rows, instance.layout.columns, instance.layout.is_colour) for instance in instances}
    if len(kinds) != 1:
        raise UnsupportedSourceError("The pictures differ in size or kind of colour")
    rows, columns, is_colour = kinds.pop()
    with damage_named("The series"):
        if is_colour:
            return np.empty((len(source.frames), rows, columns, 3), np.uint8)
        return np.empty((len(source.frames), rows, columns), np.float32)


def _tasks(
    source: SourceSeries, instances: list[_Instance], pixels: Pixels, scales: dict[FrameIdentity, GreyScale]
) -> Iterator[Callable[[], None]]:
    """One task a frame, made when it is asked for; the grey scale of each frame is noted in ``scales``."""
    place = {frame: index for index, frame in enumerate(source.frames)}
    for instance in instances:
        uid = str(instance.dataset.SOPInstanceUID)
        with damage_named(instance.name):
            for number, (keyword, stored) in enumerate(
                stored_frames(instance.dataset, instance.path, instance.layout), 1
            ):
                frame = FrameIdentity(uid, number)
                if frame not in place:
                    continue
                if not instance.layout.is_colour:
                    scales[frame] = grey_scale(instance.dataset, number, instance.layout)
                yield _FrameTask(
                    name=f"{instance.name}, frame {number}",
                    stored=stored,
                    keyword=keyword,
                    layout=instance.layout,
                    palette=instance.palette,
                    grey_scale=scales.get(frame),
                    out=pixels[place[frame]],
                ).run


def _run_all(tasks: Iterator[Callable[[], None]], pool: ThreadPoolExecutor, *, waiting: int) -> None:
    """Run the tasks with at most ``waiting`` of them in memory; the first error ends it."""
    running: deque[Future[None]] = deque()
    try:
        for task in tasks:
            running.append(pool.submit(task))
            if len(running) >= waiting:
                running.popleft().result()
        while running:
            running.popleft().result()
    finally:
        for future in running:
            future.cancel()


# --- what surrounds the pixels ----------------------------------------------------------------------------------------


def _display_range(scales: dict[FrameIdentity, GreyScale]) -> tuple[float, float] | None:
    ranges = [scale.display_range for scale in scales.values() if scale.display_range is not None]
    if not ranges:
        return None
    low, high = np.median(np.array(ranges), axis=0)
    return float(low), float(high)


def _warnings(scales: dict[FrameIdentity, GreyScale]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(warning for scale in scales.values() for warning in scale.warnings))


def _spacing(source: SourceSeries) -> tuple[float, float, float] | None:
    """Distances between slices, rows and columns (PS3.3 10.7.1.1, C.7.6.2)."""
    measures = _measures(source.datasets[0], source.frames[0].frame_number)
    in_plane = numbers(measures, "PixelSpacing", 2)
    if in_plane is None or min(in_plane) <= 0:
        return None
    if source.arrangement is not Arrangement.VOLUME:
        agreed = all(numbers(_measures(dataset, 1), "PixelSpacing", 2) == in_plane for dataset in source.datasets[1:])
        return (1.0, in_plane[0], in_plane[1]) if agreed else None
    between = spacing_between_slices(_positions(source))
    if between is None:
        between = (numbers(measures, "SliceThickness", 1) or (1.0,))[0]
    return (between, in_plane[0], in_plane[1]) if between > 0 else None


def _measures(dataset: Dataset, frame_number: int) -> Dataset:
    return functional_group(dataset, frame_number, "PixelMeasuresSequence") or dataset


def _positions(source: SourceSeries) -> NDArray[np.float64]:
    """Place of each frame along the slice normal in millimetres."""
    datasets = {str(dataset.SOPInstanceUID): dataset for dataset in source.datasets}
    planes = []
    for frame in source.frames:
        dataset = datasets[frame.sop_instance_uid]
        place = functional_group(dataset, frame.frame_number, "PlanePositionSequence") or dataset
        planes.append(numbers(place, "ImagePositionPatient", 3))
    first = source.datasets[0]
    orientation = functional_group(first, source.frames[0].frame_number, "PlaneOrientationSequence") or first
    normal = slice_normal(numbers(orientation, "ImageOrientationPatient", 6) or ())
    positions: NDArray[np.float64] = np.array(planes, np.float64) @ normal
    return positions


def _laterality(source: SourceSeries) -> str | None:
    """The side that all instances agree on: ImageLaterality, FrameLaterality, else Laterality of the series."""
    sides = set()
    for dataset in source.datasets:
        anatomy = functional_group(dataset, 1, "FrameAnatomySequence") or Dataset()
        values = (dataset.get("ImageLaterality"), anatomy.get("FrameLaterality"), dataset.get("Laterality"))
        sides.add(next((str(value) for value in values if value), ""))
    side = sides.pop() if len(sides) == 1 else ""
    return side if side in ("R", "L") else None
