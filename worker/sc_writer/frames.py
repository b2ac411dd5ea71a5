"""Pixels, size and time of a Secondary Capture: Image Pixel, Multi-frame and Cine modules (PS3.3 C.7.6.3, .5, .6)."""

from itertools import pairwise

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from worker.image_stack import Imaging
from worker.pictures.reading_aids import ReadingAid
from worker.pictures.run_time import frame_time, frame_times
from worker.result_header.source_header import text_of
from worker.result_header.text_values import decimal_strings, long_string
from worker.source_series import SourceSeries

_SPACING_IN_PATIENT = frozenset({Imaging.CT, Imaging.MR, Imaging.OCT, Imaging.OCT_ANGIOGRAPHY, Imaging.FUNDUS})
"""Where PixelSpacing is a distance in the body without saying how it was calibrated."""
_RATES = ("CineRate", "RecommendedDisplayFrameRate")
_SEQUENCINGS = frozenset({"0", "1"})


def add_frames(dataset: Dataset, aid: ReadingAid, header: Dataset) -> None:
    """Add pixels, 8-bit RGB by pixel, and for a run the time between frames.

    Args:
        dataset: Gets the modules.
        aid: The pictures.
        header: Of the source instance, for the time; read for a run only.
    """
    frames, dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = aid.pixels.shape
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    if frames > 1:
        dataset.NumberOfFrames = frames
        _add_time(dataset, aid, header)
    content = aid.pixels.tobytes()
    dataset.add_new("PixelData", "OB", content + b"\0" * (len(content) % 2))


def _add_time(dataset: Dataset, aid: ReadingAid, header: Dataset) -> None:
    """Play as fast as the source; without any time in it, frames are pages with the numbers of the source frames."""
    numbers = [frame.frame_number for frame in aid.frames]
    vector, step = frame_times(header), frame_time(header)
    if vector is not None and max(numbers) <= len(vector):
        gaps = [sum(vector[before:after]) for before, after in pairwise(numbers)]
        dataset.FrameIncrementPointer = Tag("FrameTimeVector")
        dataset.FrameTimeVector = decimal_strings([0, *gaps])
    elif step is not None:
        dataset.FrameIncrementPointer = Tag("FrameTime")
        dataset.FrameTime = decimal_strings([step * aid.step])[0]
    else:
        dataset.FrameIncrementPointer = Tag("PageNumberVector")
        dataset.PageNumberVector = numbers
        return
    if text_of(header, "PreferredPlaybackSequencing") in _SEQUENCINGS:
        dataset.PreferredPlaybackSequencing = int(header.PreferredPlaybackSequencing)
    for keyword in _RATES:
        rate = text_of(header, keyword)
        if isinstance(rate, str) and rate.isdigit() and int(rate) >= aid.step:
            setattr(dataset, keyword, round(int(rate) / aid.step))


def pixel_spacing(source: SourceSeries, aid: ReadingAid, header: Dataset) -> Dataset:
    """PixelSpacing of an overlay, with how it was calibrated; nothing where it would be no distance in the patient.

    A projection shows neither: without calibration its spacing is that of the detector (PS3.3 10.7.1.3).
    """
    found = Dataset()
    calibration = text_of(header, "PixelSpacingCalibrationType")
    calibrated = calibration in ("GEOMETRY", "FIDUCIAL")
    if not aid.scale or aid.spacing_mm is None or not (calibrated or source.imaging in _SPACING_IN_PATIENT):
        return found
    found.PixelSpacing = decimal_strings(value / aid.scale for value in aid.spacing_mm)
    if calibrated:
        found.PixelSpacingCalibrationType = calibration
        description = text_of(header, "PixelSpacingCalibrationDescription")
        told = long_string(description) if isinstance(description, str) else ""
        found.PixelSpacingCalibrationDescription = told or "As in the source image"  # type 1C
    return found


def pixel_aspect_ratio(aid: ReadingAid, header: Dataset) -> Dataset:
    """PixelAspectRatio of the source, for drawn frames; nothing where its pixels are square (PS3.3 C.7.6.3.1.7)."""
    found = Dataset()
    ratio = text_of(header, "PixelAspectRatio")
    if aid.scale and isinstance(ratio, list) and len(ratio) == 2 and all(part.strip().isdigit() for part in ratio):
        down, across = map(int, ratio)
        if min(down, across) > 0 and down != across:
            found.PixelAspectRatio = [down, across]
    return found
