"""What a segmenter looks at: decoded images of one series, in the order in which they belong together."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class Arrangement(StrEnum):
    """How the frames of a stack relate to each other."""

    FRAMES = "frames"
    """Independent pictures: fundus photographs, single radiographs."""
    RUN = "run"
    """One view over time: a cine run of X-ray angiography or ultrasound."""
    VOLUME = "volume"
    """Parallel slices through space, ordered along the slice normal."""


class Imaging(StrEnum):
    """The kind of picture, as far as a segmenter cares. Chosen from SOP class, Modality and photometry."""

    XRAY_ANGIOGRAPHY = "xray_angiography"
    """XA, XRF, RF: vessels filled with contrast are dark (bright after subtraction or inversion)."""
    FUNDUS = "fundus"
    """Colour or grey photograph of the retina (OP, scanning laser ophthalmoscopy): vessels are dark."""
    OCT_ANGIOGRAPHY = "oct_angiography"
    """En face OCT angiography: vessels are bright."""
    OCT = "oct"
    """B-scans of optical coherence tomography."""
    CT = "ct"
    """Computed tomography in Hounsfield units: contrast-filled vessels are bright."""
    MR = "mr"
    """Magnetic resonance; angiography shows vessels bright."""
    ULTRASOUND = "ultrasound"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class FrameIdentity:
    """Where one frame of a stack comes from.

    Attributes:
        sop_instance_uid: The instance.
        frame_number: 1-based number of the frame in it (PS3.3 C.7.6.6); 1 for a single-frame image.
    """

    sop_instance_uid: str
    frame_number: int


@dataclass(frozen=True, slots=True)
class ImageStack:
    """Decoded images of one series.

    Attributes:
        pixels: ``(frames, rows, columns)`` float32 in modality units (after the Modality LUT; Hounsfield units for CT;
            MONOCHROME1 already turned so that larger is brighter), or ``(frames, rows, columns, 3)`` uint8 RGB.
        arrangement: How frames relate.
        imaging: The kind of picture.
        frames: One identity a frame, in the order of axis 0.
        display_range: ``(low, high)`` in the units of ``pixels`` that the source's VOI window shows, or None.
        spacing_mm: ``(between frames, rows, columns)`` in millimetres; None where the object does not tell. For
            arrangements other than volume the first number is meaningless and 1.0.
        laterality: ``"R"``, ``"L"`` or None.
        body_part_examined: The DICOM keyword's value, "" if absent.
        warnings: What had to be assumed or left out, in words for the reader, without patient data.
    """

    pixels: NDArray[np.float32] | NDArray[np.uint8]
    arrangement: Arrangement
    imaging: Imaging
    frames: tuple[FrameIdentity, ...]
    display_range: tuple[float, float] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    laterality: str | None = None
    body_part_examined: str = ""
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a stack whose parts contradict each other."""
        if self.pixels.ndim not in (3, 4) or len(self.frames) != len(self.pixels):
            raise ValueError(f"{len(self.frames)} frame identities for pixels of shape {self.pixels.shape}")

    @property
    def is_colour(self) -> bool:
        """Whether the last axis of ``pixels`` holds red, green and blue."""
        return self.pixels.ndim == 4
