"""Reads a list of images with their true masks: a JSON file with one object an image.

Of each object these keys are read: ``dataset``, ``modality`` (words that tell the kind of picture), ``image``,
``mask``, ``mask_rule`` (``">127"``, ``">127, resize 1216->304"``), ``fov_mask`` (may be null) and ``split``. Files are
PNG, JPEG, TIFF or GIF; entries of another kind or without a mask are not for scoring.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_core.errors import ConfigurationError
from worker.image_stack import Arrangement, FrameIdentity, ImageStack, Imaging

_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".bmp", ".ppm"})
_KINDS: tuple[tuple[str, Imaging], ...] = (
    # The first that matches: OCTA is not OCT, and "XA coronary angiogram" is not OCT angiography.
    (r"\bocta\b|oct.?angiograph", Imaging.OCT_ANGIOGRAPHY),
    (r"fundus|retina|scanning laser|\bslo\b|\bop\b", Imaging.FUNDUS),
    (r"\bxa\b|\bxrf\b|\brf\b|x-?ray|angiogram|fluoroscop", Imaging.XRAY_ANGIOGRAPHY),
    (r"\boct\b", Imaging.OCT),
    (r"\bct\b|\bcta\b", Imaging.CT),
    (r"\bmr[ia]?\b", Imaging.MR),
    (r"\bus\b|ultrasound", Imaging.ULTRASOUND),
)
_RULE = re.compile(r"^\s*>\s*(\d+)\s*(?:,\s*resize\b.*)?$")


@dataclass(frozen=True, slots=True)
class Case:
    """One image and the truth about it.

    Attributes:
        dataset: The set it belongs to.
        imaging: Kind of picture, from the words of ``modality`` alone.
        image: The file.
        mask: The file of the true mask.
        above: A pixel of the mask is vessel above this grey level.
        fov_mask: The file of the field of view, None where everything counts.
    """

    dataset: str
    imaging: Imaging
    image: Path
    mask: Path
    above: int
    fov_mask: Path | None

    def stack(self) -> ImageStack:
        """Decode the image as a stack of one frame: colour for a fundus photograph, grey for all others."""
        with Image.open(self.image) as picture:
            if self.imaging is Imaging.FUNDUS and picture.mode not in ("L", "I;16", "I", "F"):
                pixels: NDArray[np.float32] | NDArray[np.uint8] = np.asarray(picture.convert("RGB"), np.uint8)
            else:
                grey = picture if picture.mode in ("I;16", "I", "F") else picture.convert("L")
                pixels = np.asarray(grey, np.float32)
        return ImageStack(pixels[None], Arrangement.FRAMES, self.imaging, (FrameIdentity("2.25.1", 1),))

    def truth(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Decode the true mask, resized to ``shape`` by averaging where it is of another size."""
        return _binary(self.mask, shape, self.above)

    @property
    def fold(self) -> int:
        """Return the part of its set that the image is held out with: two subjects of CHASE_DB1, a fifth of others."""
        number = int((re.findall(r"\d+", self.image.stem) or ["0"])[0])
        return (number - 1) // 2 if self.dataset == "CHASE_DB1" else number % 5

    def inside(self, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        """Decode the field of view, None where everything counts."""
        return None if self.fov_mask is None else _binary(self.fov_mask, shape, 127)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The cases of a manifest that can be scored, and how many entries were left out."""

    cases: tuple[Case, ...]
    skipped: int


def read_manifest(path: Path, root: Path, *, dataset: str | None = None, split: str | None = None) -> Manifest:
    """Read a manifest.

    Args:
        path: The JSON file.
        root: The folder that its paths start from.
        dataset: Only entries of this set; None takes all.
        split: Only entries of this split; None takes all.

    Raises:
        ConfigurationError: The file is no manifest, or an entry's rule or kind of picture cannot be understood.
    """
    try:
        entries = json.loads(path.read_text())
        if not isinstance(entries, list):
            raise ConfigurationError(f"{path} is no manifest: it holds no list of images")
        chosen = [
            entry for entry in entries if dataset in (None, entry["dataset"]) and split in (None, entry.get("split"))
        ]
        scored = [entry for entry in chosen if _can_be_scored(entry)]
        cases = tuple(_case(entry, root) for entry in scored)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(f"{path} is no manifest of images and masks: {error!r}") from error
    return Manifest(cases, len(chosen) - len(scored))


def imaging_of(modality: str) -> Imaging:
    """Return the kind of picture that the words of a modality mean.

    Raises:
        ConfigurationError: None of the words is known.
    """
    for pattern, imaging in _KINDS:
        if re.search(pattern, modality, re.IGNORECASE):
            return imaging
    raise ConfigurationError(
        f"The modality {modality!r} names no known kind of picture; write for example 'XA' or 'fundus'"
    )


def _can_be_scored(entry: dict[str, str | None]) -> bool:
    files = (str(entry.get("image")), str(entry.get("mask")))
    return bool(entry.get("mask")) and all(Path(file).suffix.lower() in _PICTURES for file in files)


def _case(entry: dict[str, str], root: Path) -> Case:
    rule = _RULE.match(entry.get("mask_rule") or ">127")
    if rule is None:
        raise ConfigurationError(f"The mask rule {entry['mask_rule']!r} of {entry['image']} is not like '>127'")
    fov_mask = entry.get("fov_mask")
    return Case(
        dataset=entry["dataset"],
        imaging=imaging_of(entry["modality"]),
        image=root / entry["image"],
        mask=root / entry["mask"],
        above=int(rule[1]),
        fov_mask=root / fov_mask if fov_mask else None,
    )


def _binary(path: Path, shape: tuple[int, int], above: int) -> NDArray[np.bool_]:
    with Image.open(path) as picture:
        grey = picture if picture.mode in ("I;16", "I") else picture.convert("L")
        if picture.mode == "1":
            grey = picture.convert("L")
        if grey.size != shape[::-1]:
            grey = grey.resize(shape[::-1], Image.Resampling.BOX)
        return np.asarray(grey) > above
