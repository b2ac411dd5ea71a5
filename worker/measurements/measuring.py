"""From a segmentation to numbers: which frames are measured, and what is told of each."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from worker.image_stack import Arrangement, FrameIdentity, ImageStack, Imaging
from worker.measurements.spacing import TrustedSpacing, trusted_spacing
from worker.measurements.tubes import Tubes, measure_tubes
from worker.measurements.vessel_measurements import (
    NO_UNIT,
    PERCENT,
    PIXELS,
    SIGNIFICANT_DIGITS,
    VOXELS,
    Measurement,
    Quantity,
    RegionMeasurements,
    VesselMeasurements,
)
from worker.segmenters.field_of_view import between_leaves, field_of_view
from worker.segmenters.interface import Segmentation
from worker.source_series import SourceSeries

_MOST_PICTURES = 24
"""Of a longer series of pictures those with most vessel are measured: a centre line takes up to a second each."""
_LEAST_CALIBRE = 3.0
"""Pixels: thinner tubes are measured with errors that are large against them."""
_LARGEST_ANISOTROPY = 2.5
"""Slices farther apart than this many pixels cut vessels into pieces."""
_COLLIMATED = frozenset({Imaging.XRAY_ANGIOGRAPHY})
_WITH_SURROUND = frozenset({Imaging.XRAY_ANGIOGRAPHY, Imaging.FUNDUS})

FieldsOfView = Mapping[str, NDArray[np.bool_]]
"""By SOPInstanceUID: ``(rows, columns)`` bool, where the pictures of the instance show the patient."""


def fields_of_view(stack: ImageStack) -> dict[str, NDArray[np.bool_]]:
    """Where each instance of a stack shows the patient, and not the surround of the camera or a collimator's leaf.

    Args:
        stack: Fundus photographs and X-ray angiography; other kinds of picture have no surround, and volumes no field.

    Returns:
        By SOPInstanceUID ``(rows, columns)`` bool; empty where the whole picture counts. Those of the parts of a series
        may be joined with ``|``.
    """
    if stack.imaging not in _WITH_SURROUND or stack.arrangement is Arrangement.VOLUME:
        return {}
    fields = {}
    for uid, indices in _frames_by_instance(stack.frames).items():
        frames = stack.pixels[indices]
        # Green: haemoglobin absorbs it most, and it shows the edge of the disc best
        grey = frames[..., 1] if stack.is_colour else frames
        brightest = grey.max(axis=0).astype(np.float32)
        shown = field_of_view(brightest)
        fields[uid] = between_leaves(brightest, shown) if stack.imaging in _COLLIMATED else shown
    return fields


def measure_vessels(
    source: SourceSeries, segmentation: Segmentation, fields: FieldsOfView | None = None
) -> VesselMeasurements:
    """Measure the vessels of a segmentation.

    A volume is measured as a whole. Of everything else each instance is measured in one frame for each segment: that
    with most vessel, which for a picture is the only one. A segment that is empty in all of an instance has no numbers
    there, unless the whole segmentation is empty; then each has an area of 0.

    Args:
        source: What was segmented.
        segmentation: ``mask`` is ``(classes, frames, rows, columns)`` bool, one frame for each of ``source.frames``.
        fields: From :func:`fields_of_view`; an instance that is missing counts as a whole.

    Returns:
        Millimetres only where :func:`trusted_spacing` allows them.
    """
    spacing = trusted_spacing(source)
    if _is_volume(source):
        regions = [_volume(segmentation, number, spacing) for number in range(1, len(segmentation.mask) + 1)]
        return VesselMeasurements(tuple(regions), spacing)
    fields = fields or {}
    shares = _area_percent_by_frame(source, segmentation.mask, fields)
    pictures: list[RegionMeasurements] = []
    warnings: list[str] = []
    for number in range(1, len(segmentation.mask) + 1):
        chosen = list(_chosen_frames(source, segmentation.mask, number))
        if len(chosen) > _MOST_PICTURES:
            warnings.append(f"Of {len(chosen)} images the {_MOST_PICTURES} with most vessel are measured.")
            areas = segmentation.mask[number - 1].sum(axis=(1, 2))
            chosen = sorted(sorted(chosen, key=lambda pair: -int(areas[pair[0]]))[:_MOST_PICTURES])
        pictures += [_picture(source, segmentation, number, pair, spacing, fields) for pair in chosen]
    is_run = source.arrangement is Arrangement.RUN or len(source.frames) > len(source.datasets)
    return VesselMeasurements(tuple(pictures), spacing, shares if is_run else (), tuple(dict.fromkeys(warnings)))


def _is_volume(source: SourceSeries) -> bool:
    return source.arrangement is Arrangement.VOLUME and len(source.frames) > 1


def _frames_by_instance(frames: tuple[FrameIdentity, ...]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for index, frame in enumerate(frames):
        found.setdefault(frame.sop_instance_uid, []).append(index)
    return found


def _chosen_frames(source: SourceSeries, mask: NDArray[np.bool_], number: int) -> Iterator[tuple[int, int]]:
    """Index of the frame with most vessel, the first of equals, and the number of frames, for each instance."""
    areas = mask[number - 1].sum(axis=(1, 2))
    nothing_anywhere = not mask.any()
    for indices in _frames_by_instance(source.frames).values():
        best = max(indices, key=lambda index: int(areas[index]))
        if areas[best] or nothing_anywhere:
            yield best, len(indices)


def _area_percent_by_frame(
    source: SourceSeries, mask: NDArray[np.bool_], fields: FieldsOfView
) -> tuple[tuple[float, ...], ...]:
    shares = np.zeros(mask.shape[:2])
    for uid, indices in _frames_by_instance(source.frames).items():
        field = fields.get(uid, np.ones(mask.shape[2:], np.bool_))
        inside = (mask[:, indices] & field).sum(axis=(2, 3))
        shares[:, indices] = 100.0 * inside / field.sum()
    return tuple(tuple(_rounded(float(share)) for share in segment) for segment in shares)


# --- one region -------------------------------------------------------------------------------------------------------


def _volume(segmentation: Segmentation, number: int, spacing: TrustedSpacing) -> RegionMeasurements:
    mask = segmentation.mask[number - 1]
    axes = spacing.axes(3)
    size = int(np.count_nonzero(mask)) * float(abs(np.linalg.det(axes)))
    found = {Quantity.VOLUME: (size, "mm3" if spacing.trusted else VOXELS)}
    tubes = measure_tubes(mask, axes)
    warnings = _tube_warnings(tubes, axes, mask)
    found |= _tube_numbers(tubes, "mm" if spacing.trusted else PIXELS)
    return RegionMeasurements(
        number, segmentation.classes[number - 1].label, None, len(mask), _measurements(found), warnings
    )


def _picture(
    source: SourceSeries,
    segmentation: Segmentation,
    number: int,
    chosen: tuple[int, int],
    spacing: TrustedSpacing,
    fields: FieldsOfView,
) -> RegionMeasurements:
    index, frame_count = chosen
    frame = source.frames[index]
    mask = segmentation.mask[number - 1, index]
    field = fields.get(frame.sop_instance_uid, np.ones(mask.shape, np.bool_))
    axes = spacing.axes(2)
    one_pixel = float(abs(np.linalg.det(axes)))
    found: dict[Quantity, tuple[float, str]] = {
        Quantity.AREA: (np.count_nonzero(mask) * one_pixel, "mm2" if spacing.trusted else PIXELS),
        Quantity.AREA_PERCENT: (100.0 * np.count_nonzero(mask & field) / np.count_nonzero(field), PERCENT),
    }
    tubes = measure_tubes(mask, axes)
    unit = "mm" if spacing.trusted else PIXELS
    found |= _tube_numbers(tubes, unit)
    if tubes is not None:
        found[Quantity.LENGTH_DENSITY] = (tubes.length / (np.count_nonzero(field) * one_pixel), f"/{unit}")
    label = segmentation.classes[number - 1].label
    return RegionMeasurements(
        number, label, frame, frame_count, _measurements(found), _tube_warnings(tubes, axes, mask)
    )


def _tube_numbers(tubes: Tubes | None, unit: str) -> dict[Quantity, tuple[float, str]]:
    if tubes is None:
        return {}
    found = {
        Quantity.LENGTH: (tubes.length, unit),
        Quantity.DIAMETER_MEAN: (tubes.diameter_mean, unit),
        Quantity.DIAMETER_MEDIAN: (tubes.diameter_median, unit),
        Quantity.DIAMETER_MAXIMUM: (tubes.diameter_maximum, unit),
        Quantity.BRANCH_POINTS: (float(tubes.branch_points), NO_UNIT),
    }
    if tubes.tortuosity is not None:
        found[Quantity.TORTUOSITY] = (tubes.tortuosity, NO_UNIT)
    return found


def _tube_warnings(tubes: Tubes | None, axes: NDArray[np.float64], mask: NDArray[np.bool_]) -> tuple[str, ...]:
    if tubes is None:
        return ("The mask is too intricate for a centre line: only its size is told.",) if mask.any() else ()
    steps = np.linalg.norm(axes, axis=1)
    warnings = []
    if tubes.diameter_median < _LEAST_CALIBRE * steps.max():
        warnings.append(f"Half of the vessels are thinner than {_LEAST_CALIBRE:g} pixels: calibres are rough.")
    if steps.max() > _LARGEST_ANISOTROPY * steps.min():
        warnings.append("The slices are far apart: lengths and branch points are rough.")
    return tuple(warnings)


def _measurements(found: Mapping[Quantity, tuple[float, str]]) -> tuple[Measurement, ...]:
    return tuple(
        Measurement(quantity, _rounded(found[quantity][0]), found[quantity][1])
        for quantity in Quantity
        if quantity in found
    )


def _rounded(value: float) -> float:
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
