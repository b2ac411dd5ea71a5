"""Which attributes the Standard requires in an object, from the module tables that highdicom carries.

Every SOP class that we write is known: Segmentation, Label Map Segmentation, Secondary Capture, Comprehensive 3D SR.
Checked are types 1 and 2; of conditional types nobody but the writer knows the condition.

The tables live in a private module of highdicom; this file is the only place that knows, and a test fails when a new
release moves them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from highdicom import _standard_utils as tables
from pydicom.dataset import Dataset

_SEGMENTATION_IOD = "segmentation"
_CONDITIONAL_MODULES = ("common-instance-reference",)
"""Modules that every segmentation of ours must have, though the IOD makes them conditional."""

_CONTENT_IDENTIFICATION = frozenset({"ContentCreatorName"})
"""Type 2 in the Content Identification macro (PS3.3 table 10-12), which the tables list as optional."""

_VALUES_BY_TYPE = {
    "TEXT": frozenset({"TextValue"}),
    "NUM": frozenset({"MeasuredValueSequence"}),
    "CODE": frozenset({"ConceptCodeSequence"}),
    "DATETIME": frozenset({"DateTime"}),
    "DATE": frozenset({"Date"}),
    "TIME": frozenset({"Time"}),
    "UIDREF": frozenset({"UID"}),
    "PNAME": frozenset({"PersonName"}),
    "COMPOSITE": frozenset({"ReferencedSOPSequence"}),
    "IMAGE": frozenset({"ReferencedSOPSequence"}),
    "WAVEFORM": frozenset({"ReferencedSOPSequence"}),
    "SCOORD": frozenset({"GraphicType", "GraphicData"}),
    "SCOORD3D": frozenset({"GraphicType", "GraphicData", "ReferencedFrameOfReferenceUID"}),
    "TCOORD": frozenset({"TemporalRangeType"}),
    "CONTAINER": frozenset({"ContinuityOfContent"}),
    "TABLE": frozenset({"TabulatedValuesSequence"}),
}
"""What a content item of a report holds, by its value type (PS3.3 C.18)."""
_VALUES = frozenset[str]().union(*_VALUES_BY_TYPE.values())

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


@dataclass(frozen=True, slots=True)
class Module:
    """One module of an IOD.

    Attributes:
        name: Its name in the tables.
        is_mandatory: Whether every object has it; another is checked where the object has one of ``own``.
        own: Keywords of the data set that no mandatory module of the IOD has.
        requirement: What it demands.
    """

    name: str
    is_mandatory: bool
    own: frozenset[str]
    requirement: Requirement


@lru_cache
def modules_of(sop_class_uid: str) -> tuple[Module, ...]:
    """The modules of the IOD of an SOP class (PS3.3 annex A); empty for a class that the tables do not know."""
    iod = tables.get_sop_class_iod_map().get(sop_class_uid)
    if iod is None:
        return ()
    trees = {entry["key"]: tables.construct_module_tree(entry["key"]) for entry in tables.get_iod_module_map()[iod]}
    mandatory = {entry["key"] for entry in tables.get_iod_module_map()[iod] if entry["usage"] == "M"}
    if iod == _SEGMENTATION_IOD:
        mandatory.update(_CONDITIONAL_MODULES)
    common = frozenset(keyword for key in mandatory for keyword in trees[key].get("attributes", {}))
    found = [
        Module(key, key in mandatory, frozenset(tree.get("attributes", {})) - common, _requirement(tree))
        for key, tree in trees.items()
    ]
    if iod == _SEGMENTATION_IOD:
        found.append(Module("content-identification", True, frozenset(), Requirement(type_2=_CONTENT_IDENTIFICATION)))
    return tuple(found)


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
    """Paths of required attributes that are absent or, for type 1, empty; each path once.

    Modules that the IOD does not make mandatory count where the object has an attribute of them. Of an SOP class that
    the tables do not know, ``SOPClassUID`` itself is named.
    """
    modules = modules_of(str(dataset.get("SOPClassUID", "")))
    if not modules:
        return ["SOPClassUID"]
    present = frozenset(dataset.dir())
    found: set[str] = set()
    for module in modules:
        if module.is_mandatory or module.own & present:
            found.update(_missing(dataset, module.requirement, ""))
    if "SegmentSequence" in dataset:
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
    type_1, type_2 = _demanded(dataset, requirement)
    for keyword in type_1:
        if keyword not in dataset or dataset[keyword].is_empty:
            yield path + keyword
    for keyword in type_2:
        if keyword not in dataset:
            yield path + keyword
    sequences = dict(requirement.sequences)
    if path.endswith("ContentSequence/"):
        sequences["ContentSequence"] = requirement  # the tree of a report has no end, that of the tables has
    for keyword, below in sequences.items():
        if keyword in dataset:
            for item in dataset[keyword].value or ():
                yield from _missing(item, below, f"{path}{keyword}/")


def _demanded(item: Dataset, requirement: Requirement) -> tuple[frozenset[str], frozenset[str]]:
    """Types 1 and 2; of a content item of a report the macro of its own value type alone (PS3.3 C.17.3)."""
    if "ValueType" not in requirement.type_1:
        return requirement.type_1, requirement.type_2
    if "ReferencedContentItemIdentifier" in item:
        return frozenset({"RelationshipType"}), frozenset()
    own = _VALUES_BY_TYPE.get(str(item.get("ValueType")), frozenset())
    may_be_empty = requirement.type_2 & own
    return (requirement.type_1 - _VALUES) | (own - may_be_empty), (requirement.type_2 - _VALUES) | may_be_empty
