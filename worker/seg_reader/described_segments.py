"""What a Segmentation object says of its segments (PS3.3 C.8.20.2), read leniently."""

from dataclasses import dataclass

from pydicom.dataset import Dataset

from worker.result_header.catalogue import RGB
from worker.seg_reader.display_colour import rgb

Coded = tuple[str, str, str]
"""``(code value, coding scheme, meaning)``; empty strings where there is none."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment.

    Attributes:
        number: SegmentNumber.
        label: SegmentLabel.
        description: SegmentDescription, ``""`` where there is none.
        category: Of the segmented property.
        type: Of the segmented property, the modifiers' meanings in the third part too.
        region: Where in the body, with its side, in words.
        colour: RecommendedDisplayCIELabValue as sRGB, 0 to 255; None where there is none.
        algorithm: Name and version of what found it.
        tracking_uid: TrackingUID, ``""`` where there is none.
    """

    number: int
    label: str
    description: str
    category: Coded
    type: Coded
    region: str
    colour: RGB | None
    algorithm: str
    tracking_uid: str

    @property
    def says_not_reviewed(self) -> bool:
        """Whether the description says that nobody has looked at the segment."""
        return "not reviewed" in self.description.lower()


def segments_of(dataset: Dataset) -> tuple[Segment, ...]:
    """All segments; the background of a label map (number 0) is none.

    Raises:
        AttributeError: An item has no number.
    """
    items = dataset.get("SegmentSequence") or ()
    return tuple(_segment(item) for item in items if int(item.SegmentNumber) != 0)


def _segment(item: Dataset) -> Segment:
    return Segment(
        number=int(item.SegmentNumber),
        label=_text(item, "SegmentLabel"),
        description=_text(item, "SegmentDescription"),
        category=_coded(item, "SegmentedPropertyCategoryCodeSequence"),
        type=_coded(item, "SegmentedPropertyTypeCodeSequence"),
        region=_region(item),
        colour=_colour(item),
        algorithm=_algorithm(item),
        tracking_uid=_text(item, "TrackingUID"),
    )


def _text(item: Dataset, keyword: str) -> str:
    value = item.get(keyword)
    return "" if value is None else str(value)


def _coded(item: Dataset, keyword: str) -> Coded:
    codes = item.get(keyword)
    if not codes:
        return "", "", ""
    value = next((text for name in _VALUES if (text := _text(codes[0], name))), "")
    return value, _text(codes[0], "CodingSchemeDesignator"), _text(codes[0], "CodeMeaning")


_VALUES = ("CodeValue", "LongCodeValue", "URNCodeValue")
"""Where a code may stand (PS3.3 table 8.8-1)."""


def _region(item: Dataset) -> str:
    regions = item.get("AnatomicRegionSequence") or ()
    if not regions:
        return ""
    sides = regions[0].get("AnatomicRegionModifierSequence") or ()
    return ", ".join(filter(None, (_text(code, "CodeMeaning") for code in (regions[0], *sides))))


def _colour(item: Dataset) -> RGB | None:
    value = item.get("RecommendedDisplayCIELabValue")
    if value is None or isinstance(value, int) or len(value) != 3:
        return None
    return rgb(value)


def _algorithm(item: Dataset) -> str:
    for algorithm in item.get("SegmentationAlgorithmIdentificationSequence") or ():
        return " ".join(filter(None, (_text(algorithm, "AlgorithmName"), _text(algorithm, "AlgorithmVersion"))))
    return _text(item, "SegmentAlgorithmName")
