"""The one door to the generator: ``sample(kind, seed)`` and ``sample_negative(seed)``; same seed, same picture."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from training.synthetic.fundus import fundus_photograph
from training.synthetic.negatives import negative
from training.synthetic.octa import oct_angiogram, oct_projection
from training.synthetic.picture import KINDS, Kind, SyntheticPicture
from training.synthetic.visibility import hidden
from training.synthetic.xray import xray_angiogram

_MAKERS: dict[Kind, Callable[[np.random.Generator, int], SyntheticPicture]] = {
    "xa": xray_angiogram,
    "fundus": fundus_photograph,
    "octa": oct_angiogram,
    "oct": oct_projection,
}


def sample(kind: Kind, seed: int, size: int = 512) -> SyntheticPicture:
    """Generate one picture of vessels.

    Args:
        kind: What it shows.
        seed: Not negative; the same kind, seed and size give the same bytes.
        size: Rows and columns, at least 64. Vessels are as thick in relation to the picture at any size.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    made = _MAKERS[kind](rng, size)
    return replace(made, unsure=made.unsure | hidden(made.image, made.mask, made.field))


def sample_negative(seed: int, size: int = 512) -> SyntheticPicture:
    """Generate one picture that is none of the known kinds; its masks are empty.

    Args:
        seed: Not negative; the same seed and size give the same bytes.
        size: Rows and columns, at least 64.
    """
    rng = np.random.default_rng([seed, len(KINDS)])
    nothing = np.zeros((size, size), bool)
    return SyntheticPicture(negative(rng, size), nothing, nothing, nothing, ~nothing, "negative")
