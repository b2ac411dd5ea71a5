"""Reads what a model is tried on: PNG or JPEG files, or one DICOM series."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_core.errors import DamagedSourceError, NotFoundError, SourceTooLargeError, UnsupportedSourceError
from worker.image_stack import Arrangement, FrameIdentity, ImageStack, Imaging
from worker.pictures.display import display_frame
from worker.pixels.decoding import decode
from worker.source_images.reading import read_series

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
_UID = "2.25.1"
"""Stands for the SOP Instance UID that pictures do not have."""
_GREY_OF_MORE_BITS = frozenset({"I", "I;16", "I;16B", "I;16L"})


def stack_of(places: Sequence[Path], imagings: frozenset[Imaging], *, video: bool) -> ImageStack:
    """Read pictures or a series.

    Args:
        places: PNG and JPEG files, all of one size; or DICOM files of one series, or one folder with either.
        imagings: What the pictures may be taken for. A DICOM series says itself what it is.
        video: Whether pictures are the frames of a run, in the order of ``places``.

    Returns:
        Colour pictures as they are, uint8 RGB. Grey ones with their own values and the whole range of the file as
        display range, so that a model that wants RGB gets exactly the grey of the file. Of a series that falls into
        several parts the first.

    Raises:
        NotFoundError: Nothing is there.
        SourceError: It cannot be read, or is of several sizes.
    """
    files = _files(places)
    pictures = [file for file in files if file.suffix.lower() in PICTURE_SUFFIXES]
    if pictures and len(pictures) == len(files):
        return _stack_of_pictures(pictures, likeliest(imagings), video=video)
    if pictures:
        raise UnsupportedSourceError("There are both pictures and other files; name those that belong together")
    return decode(read_series(files)[0])


def example_in(file: Path) -> NDArray[np.uint8]:
    """Read a picture in which boxes show what is meant, ``(rows, columns, 3)`` uint8 RGB.

    Raises:
        NotFoundError: Nothing is there.
        SourceError: It cannot be read.
    """
    stack = stack_of([file], frozenset(Imaging), video=False)
    return display_frame(stack, 0)


def mask_in(file: Path, stack: ImageStack) -> NDArray[np.bool_]:
    """Read a mask from a picture, the same for every frame of a stack: what is not black.

    Returns:
        ``(frames, rows, columns)``.

    Raises:
        NotFoundError: Nothing is there.
        SourceError: It cannot be read, or has another size than the frames.
    """
    if not file.is_file():
        raise NotFoundError(f"{file} is no file")
    pixels, _ = _pixels(file)
    mask: NDArray[np.bool_] = (pixels > 0) if pixels.ndim == 2 else np.asarray((pixels > 0).any(axis=-1))
    if mask.shape != stack.pixels.shape[1:3]:
        raise UnsupportedSourceError(f"{file} has another size than the pictures")
    return np.broadcast_to(mask, stack.pixels.shape[:3]).copy()


def likeliest(imagings: frozenset[Imaging]) -> Imaging:
    """What a picture of unknown kind is taken for: X-ray angiography if that will do."""
    order: tuple[Imaging, ...] = (Imaging.OTHER, Imaging.XRAY_ANGIOGRAPHY, *Imaging)
    return next(imaging for imaging in order if imaging in imagings)


def _files(places: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for place in places:
        if place.is_dir():
            files += sorted(file for file in place.iterdir() if file.is_file() and not file.name.startswith("."))
        elif place.is_file():
            files.append(place)
        else:
            raise NotFoundError(f"{place} is neither a folder nor a file")
    if not files:
        raise NotFoundError("There is no file in what was named")
    return files


def _stack_of_pictures(files: Sequence[Path], imaging: Imaging, *, video: bool) -> ImageStack:
    read = [_pixels(file) for file in files]
    shapes = {pixels.shape for pixels, _ in read}
    if len(shapes) > 1 or len({white for _, white in read}) > 1:
        raise UnsupportedSourceError("The pictures differ in size, or in being grey or coloured; name one at a time")
    white = read[0][1]
    pixels = np.stack([pixels for pixels, _ in read])
    return ImageStack(
        pixels=pixels.astype(np.float32) if white else pixels.astype(np.uint8),
        arrangement=Arrangement.RUN if video else Arrangement.FRAMES,
        imaging=imaging,
        frames=tuple(FrameIdentity(_UID, number) for number in range(1, len(read) + 1)),
        display_range=(0.0, white) if white else None,
    )


def _pixels(file: Path) -> tuple[NDArray[np.uint8] | NDArray[np.float32], float]:
    """Pixels of one file, and its white where it is grey, else 0."""
    from PIL import Image

    try:
        with Image.open(file) as picture:
            if picture.mode in _GREY_OF_MORE_BITS:
                return np.asarray(picture).astype(np.float32), 65535.0
            if picture.mode in ("1", "L"):
                return np.asarray(picture.convert("L")).astype(np.float32), 255.0
            return np.asarray(picture.convert("RGB")), 0.0
    except Image.DecompressionBombError:
        raise SourceTooLargeError(f"{file} is far too large for a picture") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise DamagedSourceError(f"{file} cannot be read as a picture: {error}") from None
