"""Several volumes at the same places of one series: cardiac phases, time points, echoes, repetitions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

Marks = Mapping[str, str]
"""What may tell an image from another one at its place: keyword -> value as text, best first; "" where it is absent."""

NUMBER = "number"
"""Key of a mark that every image of the series may have another value of: it orders the images at one place only."""

_PHASE = "phase"
_WORDS = {
    "EchoTime": "echo",
    "EffectiveEchoTime": "echo",
    "DiffusionBValue": "b-value",
    "ImageType": "image type",
    "KVP": "tube voltage",
    "StackID": "stack",
    "AcquisitionNumber": "acquisition",
    "FrameAcquisitionNumber": "acquisition",
}
"""How a label calls what a keyword tells apart; all others are moments in time or in the heart beat."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One of the volumes.

    Attributes:
        members: Indices of its images.
        label: In words, for example ``phase 2 of 10``.
    """

    members: tuple[int, ...]
    label: str


def split(places: Sequence[Sequence[int]], marks: Sequence[Marks]) -> tuple[Phase, ...]:
    """Tell apart the volumes of a series that holds several images at a place.

    By value first: one keyword, or two together, whose values are few and do not repeat at any place. Else by rank,
    where every place has the same number of images: a trigger time may differ from slice to slice and still order the
    images at each place.

    Args:
        places: Indices of the images at each place in space.
        marks: Of every image of the series, by its index; all with the same keys.

    Returns:
        The volumes in the order of their values; none where the marks do not tell the images apart. A single image
        whose value no other one shares is in no volume, unless all volumes are as small.
    """
    return _by_value(places, marks) or _by_rank(places, marks)


def over_time(label: str) -> bool:
    """Whether the volumes with such labels follow each other in time."""
    return label.startswith(_PHASE)


def _by_value(places: Sequence[Sequence[int]], marks: Sequence[Marks]) -> tuple[Phase, ...]:
    place_of = {index: place for place, indices in enumerate(places) for index in indices}
    at_one_place = max(len(place) for place in places)
    keys = [key for key in marks[0] if key != NUMBER and len({marks[index][key] for index in place_of}) > 1]
    for chosen in (*combinations(keys, 1), *combinations(keys, 2)):
        volumes: dict[tuple[str, ...], list[int]] = {}
        for index in place_of:
            volumes.setdefault(tuple(marks[index][key] for key in chosen), []).append(index)
        # Values of which each slice has its own (a time to the microsecond) make many more volumes than there are
        # images at a place; acquisitions that overlap in part make a few more.
        few = len(volumes) < 2 * at_one_place
        if few and all(len({place_of[index] for index in members}) == len(members) for members in volumes.values()):
            return _labelled(volumes, chosen)
    return ()


def _by_rank(places: Sequence[Sequence[int]], marks: Sequence[Marks]) -> tuple[Phase, ...]:
    at_one_place = len(places[0])
    if any(len(place) != at_one_place for place in places):
        return ()
    for key in marks[0]:
        if all(len({marks[index][key] for index in place}) == at_one_place for place in places):
            ordered = [sorted(place, key=lambda index: _in_order(marks[index][key])) for place in places]
            volumes = zip(*ordered, strict=True)
            return tuple(
                Phase(members, f"{_PHASE} {number} of {at_one_place}") for number, members in enumerate(volumes, 1)
            )
    return ()


def _labelled(volumes: Mapping[tuple[str, ...], list[int]], keys: Sequence[str]) -> tuple[Phase, ...]:
    largest = max(len(members) for members in volumes.values())
    kept = {values: members for values, members in volumes.items() if len(members) > 1 or largest <= 2}
    words = [_WORDS.get(key, _PHASE) for key in keys]
    phases = []
    for number, values in enumerate(sorted(kept, key=lambda values: [_in_order(value) for value in values]), 1):
        label = f"{_PHASE} {number} of {len(kept)}" if len(kept) > 1 else ""
        if len(kept) > 1 and len(set(words)) == len(words) and set(words) != {_PHASE}:
            label = ", ".join(_place_among(word, values, kept, column) for column, word in enumerate(words))
        phases.append(Phase(tuple(kept[values]), label))
    return tuple(phases)


def _place_among(word: str, values: tuple[str, ...], all_values: Iterable[tuple[str, ...]], column: int) -> str:
    distinct = sorted({other[column] for other in all_values}, key=_in_order)
    return f"{word} {distinct.index(values[column]) + 1} of {len(distinct)}"


def _in_order(value: str) -> tuple[bool, float, str]:
    """Sorts numbers by size and before words; nothing comes first."""
    try:
        return False, float(value or "-inf"), ""
    except ValueError:
        return True, 0.0, value
