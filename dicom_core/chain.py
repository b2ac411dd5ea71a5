"""The word for what segments a series: the name of one segmenter, or several names joined by ``+``.

The first of a chain finds, each further one refines what the one before it found (``worker.segmenters.chain``).
"""

from collections.abc import Iterable, Mapping
from typing import Any

SIGN = "+"
LONGEST_WORD = 64
"""What the record keeps."""


def word_of(names: Iterable[str]) -> str:
    """The word for these segmenters, one after the other."""
    return SIGN.join(names)


def names_in(word: str) -> tuple[str, ...]:
    """The segmenters that a word stands for, in the order in which they work."""
    return tuple(name.strip() for name in word.split(SIGN))


def tables_of(word: str, models: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The ``[models.NAME]`` tables that the segmenters of a word are made from, that of the chain itself among them."""
    return {name: dict(models[name]) for name in dict.fromkeys((*names_in(word), word)) if name in models}
