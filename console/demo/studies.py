"""The generated studies as DICOM files: what ``vesselq demo`` sends and what its result is measured against."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from console.demo.headers import fundus_header, plain_header, slice_header, write_instance, xray_header
from console.demo.phantoms import angiography_run, contrast_ct, fundus_photograph
from dicom_core.identifiers import derived_uid
from worker.image_stack import FrameIdentity

_CT_SPACING_MM = (1.5, 1.2, 1.2)


@dataclass(frozen=True, slots=True)
class DemoStudy:
    """One generated study with one series.

    Attributes:
        study_instance_uid: StudyInstanceUID.
        source: What it is, in words for the reader.
        modality: Modality (0008,0060).
        paths: The files, in the order of the frames.
        truth: ``(frames, rows, columns)`` bool, where vessels are.
        frames: One identity a frame, in the order of axis 0 of ``truth``.
    """

    study_instance_uid: str
    source: str
    modality: str
    paths: tuple[Path, ...]
    truth: NDArray[np.bool_]
    frames: tuple[FrameIdentity, ...]


def demo_studies(folder: Path, seed: int = 0) -> list[DemoStudy]:
    """Generate a coronary angiography run, a fundus photograph and a contrast CT series.

    Args:
        folder: Where the files go, one folder a study; made if missing.
        seed: The same seed gives the same bytes and UIDs, another seed gives other patients.

    Returns:
        One entry a study.
    """
    makers: tuple[Callable[[Path, int], DemoStudy], ...] = (coronary_study, fundus_study, ct_study)
    return [make(folder, seed) for make in makers]


def coronary_study(folder: Path, seed: int) -> DemoStudy:
    """One multi-frame X-Ray Angiographic Image of 20 frames (PS3.3 A.14)."""
    pixels, truth = angiography_run(seed=seed)
    header = xray_header(_study_header("coronary", seed), len(pixels))
    _set_pixels(header, pixels, "MONOCHROME2")
    path = write_instance(header, folder / "coronary" / "run.dcm")
    frames = tuple(FrameIdentity(header.SOPInstanceUID, number + 1) for number in range(len(pixels)))
    return DemoStudy(header.StudyInstanceUID, "coronary angiography (XA run)", "XA", (path,), truth, frames)


def fundus_study(folder: Path, seed: int) -> DemoStudy:
    """One Ophthalmic Photography 8 Bit Image in colour (PS3.3 A.41)."""
    pixels, truth = fundus_photograph(seed=seed)
    header = fundus_header(_study_header("retina", seed))
    _set_pixels(header, pixels[np.newaxis], "RGB")
    path = write_instance(header, folder / "fundus" / "photograph.dcm")
    frames = (FrameIdentity(header.SOPInstanceUID, 1),)
    return DemoStudy(header.StudyInstanceUID, "fundus photograph (OP, RGB)", "OP", (path,), truth[np.newaxis], frames)


def ct_study(folder: Path, seed: int) -> DemoStudy:
    """A series of 60 CT Images (PS3.3 A.3), from the feet up."""
    pixels, truth = contrast_ct(spacing_mm=_CT_SPACING_MM, seed=seed)
    paths, frames = [], []
    for index, picture in enumerate(pixels):
        header = slice_header(_study_header("abdomen", seed, index + 1), picture.shape, index, _CT_SPACING_MM)
        stored = (picture + np.int16(1024)).astype(np.uint16)  # RescaleIntercept is -1024: no sign is needed
        _set_pixels(header, stored[np.newaxis], "MONOCHROME2")
        paths.append(write_instance(header, folder / "ct" / f"slice_{index + 1:03d}.dcm"))
        frames.append(FrameIdentity(header.SOPInstanceUID, 1))
    uid = str(header.StudyInstanceUID)
    return DemoStudy(uid, "contrast CT of the abdomen (60 slices)", "CT", tuple(paths), truth, tuple(frames))


def _study_header(subject: str, seed: int, instance_number: int = 1) -> Dataset:
    """Patient, study and series of one phantom, with UIDs that follow from subject and seed."""
    study, series, instance = (
        derived_uid("vesselq demo", seed, subject, *level)
        for level in (("study",), ("series",), ("sop", instance_number))
    )
    return plain_header(subject, seed, study, series, instance, instance_number)


def _set_pixels(header: Dataset, pixels: NDArray[np.uint8] | NDArray[np.uint16], photometric: str) -> None:
    """Add the Image Pixel module (PS3.3 C.7.6.3) for ``(frames, rows, columns)`` or ``(..., 3)``, uncompressed."""
    header.SamplesPerPixel = 3 if photometric == "RGB" else 1
    header.PhotometricInterpretation = photometric
    if photometric == "RGB":
        header.PlanarConfiguration = 0
    header.Rows, header.Columns = pixels.shape[1:3]
    bits = 8 if pixels.dtype == np.uint8 else 16
    header.BitsAllocated = bits
    header.BitsStored = bits if bits == 8 else 12
    header.HighBit = header.BitsStored - 1
    header.PixelRepresentation = 0
    header.PixelData = pixels.tobytes()
    header["PixelData"].VR = "OB" if bits == 8 else "OW"
