"""What was measured, with units: frozen, ready for JSON, tables and the structured report."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from worker.image_stack import FrameIdentity
from worker.measurements.spacing import TrustedSpacing

PIXELS = "{pixels}"
VOXELS = "{voxels}"
PERCENT = "%"
NO_UNIT = "1"

SIGNIFICANT_DIGITS = 6
"""Of every value: more than any mask holds, and few enough for every encoding."""


class Quantity(StrEnum):
    """One number about the vessels of a region; docs/reference/measurements.md defines each."""

    AREA = "area"
    AREA_PERCENT = "area_percent"
    """Share of the field of view."""
    VOLUME = "volume"
    LENGTH = "length"
    """Of the centre line."""
    LENGTH_DENSITY = "length_density"
    """Length of the centre line over the area of the field of view."""
    DIAMETER_MEAN = "diameter_mean"
    DIAMETER_MEDIAN = "diameter_median"
    DIAMETER_MAXIMUM = "diameter_maximum"
    TORTUOSITY = "tortuosity"
    BRANCH_POINTS = "branch_points"


LABELS: Mapping[Quantity, str] = {
    Quantity.AREA: "Area",
    Quantity.AREA_PERCENT: "Share of the field of view",
    Quantity.VOLUME: "Volume",
    Quantity.LENGTH: "Length of the centre line",
    Quantity.LENGTH_DENSITY: "Length density",
    Quantity.DIAMETER_MEAN: "Mean calibre",
    Quantity.DIAMETER_MEDIAN: "Median calibre",
    Quantity.DIAMETER_MAXIMUM: "Largest calibre",
    Quantity.TORTUOSITY: "Tortuosity",
    Quantity.BRANCH_POINTS: "Branch points",
}
"""What tables call the quantities."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number.

    Attributes:
        quantity: What was measured.
        value: Rounded to ``SIGNIFICANT_DIGITS``.
        unit: UCUM.
    """

    quantity: Quantity
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class RegionMeasurements:
    """The numbers of one segment in one picture, in one frame of a run, or in a volume.

    Attributes:
        segment_number: 1-based, as in the Segmentation object.
        segment_label: SegmentLabel.
        frame: The frame that was measured, None for a volume.
        frame_count: Of how many frames of that instance it was chosen, 1 for a picture.
        measurements: In the order of ``Quantity``; what cannot be told is missing.
        warnings: For the reader, without patient data.
    """

    segment_number: int
    segment_label: str
    frame: FrameIdentity | None
    frame_count: int
    measurements: tuple[Measurement, ...]
    warnings: tuple[str, ...] = ()

    def value(self, quantity: Quantity) -> float | None:
        """The number, None where it was not measured."""
        return next((found.value for found in self.measurements if found.quantity is quantity), None)

    @property
    def place(self) -> str:
        """Where it was measured, in words."""
        if self.frame is None:
            return "volume"
        if self.frame_count == 1:
            return "picture"
        return f"frame {self.frame.frame_number} of {self.frame_count}, the one with most vessel"


@dataclass(frozen=True, slots=True)
class VesselMeasurements:
    """All numbers of one segmentation.

    Attributes:
        regions: By segment, then by picture.
        spacing: Millimetres, or why not.
        area_percent_by_frame: For a run: one tuple a segment, the share of the field of view in each frame in percent;
            empty for other sources.
        warnings: For the reader, without patient data.
    """

    regions: tuple[RegionMeasurements, ...]
    spacing: TrustedSpacing
    area_percent_by_frame: tuple[tuple[float, ...], ...] = ()
    warnings: tuple[str, ...] = ()

    def as_rows(self) -> list[tuple[str, str, str, str, str]]:
        """``(segment, place, quantity, value, unit)`` for people, one row a number."""
        return [
            (region.segment_label, region.place, LABELS[found.quantity], f"{found.value:g}", _unit_in_words(found.unit))
            for region in self.regions
            for found in region.measurements
        ]

    def as_json(self) -> dict[str, Any]:
        """For the summary of a job: plain lists, numbers and strings, UIDs but no patient data."""
        return {
            "spacing": {"trusted": self.spacing.trusted, "statement": self.spacing.statement},
            "regions": [_region_as_json(region) for region in self.regions],
            "area_percent_by_frame": [list(shares) for shares in self.area_percent_by_frame],
            "warnings": list(self.warnings),
        }


def _region_as_json(region: RegionMeasurements) -> dict[str, Any]:
    return {
        "segment_number": region.segment_number,
        "segment_label": region.segment_label,
        "sop_instance_uid": region.frame.sop_instance_uid if region.frame else "",
        "frame_number": region.frame.frame_number if region.frame else 0,
        "place": region.place,
        "measurements": [
            {"quantity": found.quantity.value, "value": found.value, "unit": found.unit}
            for found in region.measurements
        ],
        "warnings": list(region.warnings),
    }


def _unit_in_words(unit: str) -> str:
    return "" if unit == NO_UNIT else unit.replace("{", "").replace("}", "").replace("2", "²").replace("3", "³")
