"""Which attributes the Standard requires in a Segmentation, from the tables that highdicom carries.

The tables live in a private module of highdicom; this file is the only place that knows, and a test fails when a new
release moves them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from highdicom import _standard_utils as tables
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

_CONDITIONAL_MODULES = ("common-instance-reference",)
"""Modules that every object of ours must have, though the IOD makes them conditional."""

_CONTENT_IDENTIFICATION = frozenset({"ContentCreatorName"})
"""Type 2 in the Content Identification macro (PS3.3 table 10-12), which the tables list as optional."""

_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_MACROS = ("FrameContentSequence", "DerivationImageSequence", "SegmentIdentificationSequence")
"""Functional groups that every frame has (PS3.3 table A.51-2), by its own item so that every viewer finds them."""
_GEOMETRY_MACROS = ("PixelMeasuresSequence", "PlanePositionSequence", "PlaneOrientationSequence")
"""Functional groups that every frame needs, by its own item or the shared one, when there is a frame of reference."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a dataset or an item must hold.

    Attributes:
        type_1: Keywords that must be present with a value.
        type_2: Keywords that must be present and may be empty.
        sequences: What the items of a sequence must hold, if it is there.
    """

    type_1: frozenset[str] = frozenset()
    type_2: frozenset[str] = frozenset()
    sequences: Mapping[str, "Requirement"] = field(default_factory=dict)


@lru_cache(maxsize=1)
def segmentation_requirements() -> tuple[Requirement, ...]:
    """One requirement for each mandatory module of the Segmentation IOD (PS3.3 A.51.3)."""
    iod = tables.get_sop_class_iod_map()[SegmentationStorage]
    modules = [module["key"] for module in tables.get_iod_module_map()[iod] if module["usage"] == "M"]
    found = [_requirement(tables.construct_module_tree(key)) for key in (*modules, *_CONDITIONAL_MODULES)]
    return (*found, Requirement(type_2=_CONTENT_IDENTIFICATION))


def _requirement(tree: Mapping[str, Any], *, of_groups: bool = False) -> Requirement:
    """The tree without what is optional; ``of_groups``: the macros of an item are each optional, their content not."""
    attributes = tree.get("attributes", {})
    sequences = {
        keyword: _requirement(entry, of_groups=keyword in (_SHARED, _PER_FRAME))
        for keyword, entry in attributes.items()
        if "attributes" in entry
    }
    required = {} if of_groups else attributes
    return Requirement(
        type_1=frozenset(keyword for keyword, entry in required.items() if entry["type"].value == "1"),
        type_2=frozenset(keyword for keyword, entry in required.items() if entry["type"].value == "2"),
        sequences={keyword: below for keyword, below in sequences.items() if below != Requirement()},
    )


def missing_attributes(dataset: Dataset) -> list[str]:
    """Paths of required attributes that are absent or, for type 1, empty; each path once."""
    found = {path for requirement in segmentation_requirements() for path in _missing(dataset, requirement, "")}
    found.update(_missing_macros(dataset))
    return sorted(found)


def _missing_macros(dataset: Dataset) -> Iterator[str]:
    shared = (dataset.get(_SHARED) or [Dataset()])[0]
    geometry = _GEOMETRY_MACROS if "FrameOfReferenceUID" in dataset else ()
    is_label_map = dataset.get("SegmentationType") == "LABELMAP"
    macros = [keyword for keyword in _MACROS if not (is_label_map and keyword == "SegmentIdentificationSequence")]
    for groups in dataset.get(_PER_FRAME) or ():
        for keyword in (*macros, *geometry):
            if not groups.get(keyword) and not (keyword in geometry and shared.get(keyword)):
                yield f"{_PER_FRAME}/{keyword}"


def _missing(dataset: Dataset, requirement: Requirement, path: str) -> Iterator[str]:
    for keyword in requirement.type_1:
        if keyword not in dataset or dataset[keyword].is_empty:
            yield path + keyword
    for keyword in requirement.type_2:
        if keyword not in dataset:
            yield path + keyword
    for keyword, below in requirement.sequences.items():
        if keyword in dataset:
            for item in dataset[keyword].value or ():
                yield from _missing(item, below, f"{path}{keyword}/")
