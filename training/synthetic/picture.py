"""What the generator hands out."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["xa", "fundus", "octa", "oct"]
"""X-ray angiogram, fundus photograph or scanning laser picture, OCT angiogram en face, OCT en face."""
KINDS: tuple[Kind, ...] = ("xa", "fundus", "octa", "oct")

Plane = NDArray[np.float32]
"""``(rows, columns)``."""
Bits = NDArray[np.bool_]
"""``(rows, columns)``."""


@dataclass(frozen=True, slots=True)
class SyntheticPicture:
    """A picture and the truth about it; all arrays have the same rows and columns.

    Attributes:
        image: uint8, ``(rows, columns)`` grey or ``(rows, columns, 3)`` RGB.
        mask: The vessels, inside the field of view.
        centre_line: One pixel wide lines along the vessels, within the mask.
        unsure: Vessels so thin beside the others that human observers differ about them, or that cannot be seen in
            this picture; part of the mask. A loss that leaves them out does not contradict observers who drew the
            larger vessels only.
        field: Where the camera saw anything.
        kind: What it shows; "negative" for a picture that shows no vessels of these kinds.
    """

    image: NDArray[np.uint8]
    mask: Bits
    centre_line: Bits
    unsure: Bits
    field: Bits
    kind: str
