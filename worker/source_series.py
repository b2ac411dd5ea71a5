"""The images of one series that a job works on: headers, order and identity, without pixels."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydicom.dataset import Dataset

from worker.image_stack import Arrangement, FrameIdentity, Imaging


class SourceKind(StrEnum):
    """The classes of source that differ in how their SEG object is built."""

    SLICES = "slices"
    """Single-frame instances with orientation, position and a frame of reference (CT, MR, PT)."""
    ENHANCED = "enhanced"
    """One multi-frame instance with a frame of reference and plane position for each frame (Enhanced CT/MR, OPT)."""
    RUN = "run"
    """A multi-frame instance whose frames have no place in the patient (XA, XRF, RF, US, OPT without geometry)."""
    PICTURES = "pictures"
    """One or more single-frame instances without patient geometry (OP, SC, CR, DX, XA still, OCT en face)."""


@dataclass(frozen=True, slots=True)
class SourceSeries:
    """One series, sorted and cleaned, or the part of it that belongs together.

    Attributes:
        kind: How its SEG is built.
        arrangement: How frames relate.
        imaging: The kind of picture.
        datasets: Headers (read up to the pixel data), one an instance, in frame order.
        paths: The file of each entry of ``datasets``.
        frames: One identity a frame, in the order of the mask's frame axis.
        left_out: Instances of the series that no part uses, ``(SOPInstanceUID, reason in words)``.
        warnings: For the reader, without patient data.
        part: Which part of the series this is, from 1; each part becomes a segmentation of its own.
        parts: How many there are.
        part_label: The part in words, for example ``phase 2 of 10``; "" for the only one.
    """

    kind: SourceKind
    arrangement: Arrangement
    imaging: Imaging
    datasets: tuple[Dataset, ...]
    paths: tuple[Path, ...]
    frames: tuple[FrameIdentity, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    part: int = 1
    parts: int = 1
    part_label: str = ""
