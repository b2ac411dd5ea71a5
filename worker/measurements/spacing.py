"""Whether a source says how large its pixels are in the patient, and not somewhere else.

Millimetres in a report look like a fact. They are written only where the Standard ties the spacing to the patient;
everything else is measured in pixels, with the reason in words.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset

from dicom_core.errors import DamagedSourceError
from worker.image_stack import Arrangement
from worker.source_images.functional_groups import functional_group
from worker.source_images.headers import numbers
from worker.source_series import SourceKind, SourceSeries

_SLICE_STEP_TOLERANCE = 0.1
"""Steps between slices that differ by more than this share of their median make no regular grid."""
_SAME = 1e-3
"""Spacings of several instances that differ by less than this share are the same; DS values are rounded."""
_CENTIMETRES = 3
"""PhysicalUnitsXDirection and PhysicalUnitsYDirection (PS3.3 C.8.5.5.1.15)."""
_TISSUE = 1
"""RegionSpatialFormat: two-dimensional picture of tissue (PS3.3 C.8.5.5.1.1)."""

_CROSS_SECTIONAL = frozenset(
    {
        uid.CTImageStorage,
        uid.EnhancedCTImageStorage,
        uid.LegacyConvertedEnhancedCTImageStorage,
        uid.MRImageStorage,
        uid.EnhancedMRImageStorage,
        uid.EnhancedMRColorImageStorage,
        uid.LegacyConvertedEnhancedMRImageStorage,
        uid.PositronEmissionTomographyImageStorage,
        uid.EnhancedPETImageStorage,
        uid.LegacyConvertedEnhancedPETImageStorage,
        uid.XRay3DAngiographicImageStorage,
    }
)
_EYE_SCANS = frozenset(
    {
        uid.OphthalmicTomographyImageStorage,
        uid.OphthalmicOpticalCoherenceTomographyEnFaceImageStorage,
        uid.OphthalmicOpticalCoherenceTomographyBscanVolumeAnalysisStorage,
    }
)
_PHOTOGRAPHS = frozenset(
    {
        uid.OphthalmicPhotography8BitImageStorage,
        uid.OphthalmicPhotography16BitImageStorage,
        uid.WideFieldOphthalmicPhotographyStereographicProjectionImageStorage,
        uid.WideFieldOphthalmicPhotography3DCoordinatesImageStorage,
    }
)
_ULTRASOUND = frozenset({uid.UltrasoundImageStorage, uid.UltrasoundMultiFrameImageStorage})
_PROJECTIONS = frozenset(
    {
        uid.XRayAngiographicImageStorage,
        uid.XRayRadiofluoroscopicImageStorage,
        uid.ComputedRadiographyImageStorage,
        uid.DigitalXRayImageStorageForPresentation,
        uid.DigitalXRayImageStorageForProcessing,
        uid.DigitalMammographyXRayImageStorageForPresentation,
        uid.DigitalMammographyXRayImageStorageForProcessing,
    }
)

_NOMINAL_EYE = (
    "nominal: the lateral scale assumes an eye of usual length; with long or short eyes it is off by up to 10 %"
)


class _Untrusted(Exception):  # noqa: N818 - control flow inside this module, no error
    """Carries the reason why there is no spacing in the patient."""


@dataclass(frozen=True, slots=True)
class TrustedSpacing:
    """The size of pixels in the patient, or why it is not known.

    Attributes:
        axes_mm: ``(axes, 3)`` or ``(axes, 2)`` rows: the step in millimetres from one array index to the next, for
            slices (volumes only), rows and columns; a sheared volume keeps its shear. None where nothing can be
            trusted.
        basis: What the trust rests on, or the reason why there is none, in words.
    """

    axes_mm: tuple[tuple[float, ...], ...] | None
    basis: str

    @property
    def trusted(self) -> bool:
        """Whether lengths may be given in millimetres."""
        return self.axes_mm is not None

    @property
    def statement(self) -> str:
        """The unit of lengths and why, as a sentence for the reader."""
        return f"Measured in {'millimetres' if self.trusted else 'pixels'}: {self.basis}."

    def axes(self, dimensions: int) -> NDArray[np.float64]:
        """``(dimensions, dimensions)``: the steps in millimetres, or in pixels where nothing can be trusted."""
        if self.axes_mm is None:
            return np.eye(dimensions)
        steps: NDArray[np.float64] = np.array(self.axes_mm)
        return steps[-dimensions:, -dimensions:]


def trusted_spacing(source: SourceSeries) -> TrustedSpacing:
    """The spacing of a source as far as it holds in the patient.

    CT, MR, PET and reconstructions: PixelSpacing and positions, or the functional groups. Projections: PixelSpacing
    that says how it was calibrated, or ImagerPixelSpacing with the magnification (PS3.3 10.7). Ultrasound: a single
    region in centimetres (C.8.5.5). Scans of the eye: nominal, and said so. Photographs of the eye and everything else:
    none.
    """
    try:
        if source.arrangement is Arrangement.VOLUME and len(source.frames) > 1:
            return _of_volume(source)
        return _of_pictures(source)
    except _Untrusted as reason:
        return TrustedSpacing(None, str(reason))
    except (DamagedSourceError, TypeError, ValueError):
        return TrustedSpacing(None, "the spacing of the source cannot be read")


# --- volumes ----------------------------------------------------------------------------------------------------------


def _of_volume(source: SourceSeries) -> TrustedSpacing:
    planes = [_plane(source, index) for index in range(len(source.frames))]
    positions = np.array([position for position, _, _ in planes])
    steps = np.diff(positions, axis=0)
    usual = np.median(steps, axis=0)
    if np.linalg.norm(steps - usual, axis=1).max() > _SLICE_STEP_TOLERANCE * np.linalg.norm(usual):
        raise _Untrusted("the slices are not evenly spaced")
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    (_, orientation, spacing) = planes[0]
    along_row, along_column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(along_row, along_column)
    # In the axes of the picture: the shear of a tilted gantry becomes a shift of each slice, lengths stay what they are
    slices = (abs(float(step @ normal)), float(step @ along_column), float(step @ along_row))
    if slices[0] <= 0:
        raise _Untrusted("the slices lie at one place")
    axes = (slices, (0.0, spacing[0], 0.0), (0.0, 0.0, spacing[1]))
    scan_of_eye = uid.UID(source.datasets[0].SOPClassUID) in _EYE_SCANS
    return TrustedSpacing(axes, _NOMINAL_EYE if scan_of_eye else "positions and pixel spacing of the slices")


def _plane(source: SourceSeries, index: int) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, float]]:
    """Position, orientation and pixel spacing of one frame."""
    frame = source.frames[index]
    if source.kind is SourceKind.ENHANCED:
        header, number = source.datasets[0], frame.frame_number
        position = functional_group(header, number, "PlanePositionSequence")
        orientation = functional_group(header, number, "PlaneOrientationSequence")
        measures = functional_group(header, number, "PixelMeasuresSequence")
    else:
        position = orientation = measures = source.datasets[index]
    place = numbers(position, "ImagePositionPatient", 3) if position else None
    cosines = numbers(orientation, "ImageOrientationPatient", 6) if orientation else None
    if place is None or cosines is None:
        raise _Untrusted("a slice has no position")
    return place, cosines, _pair(measures, "PixelSpacing", "the slices have no pixel spacing")


# --- pictures and runs ------------------------------------------------------------------------------------------------


def _of_pictures(source: SourceSeries) -> TrustedSpacing:
    found = [_of_header(header) for header in source.datasets]
    spacing, basis = found[0]
    for other, _ in found[1:]:
        if not all(math.isclose(a, b, rel_tol=_SAME) for a, b in zip(spacing, other, strict=True)):
            raise _Untrusted("the images of the series have different pixel spacings")
    return TrustedSpacing(((spacing[0], 0.0), (0.0, spacing[1])), basis)


def _of_header(header: Dataset) -> tuple[tuple[float, float], str]:
    sop_class = uid.UID(str(header.SOPClassUID))
    for classes, rule in _RULES:
        if sop_class in classes:
            return rule(header)
    raise _Untrusted("images of this class do not say how large their pixels are in the patient")


def _cross_sectional(header: Dataset) -> tuple[tuple[float, float], str]:
    measures = functional_group(header, 1, "PixelMeasuresSequence") or header
    return _pair(measures, "PixelSpacing", "the image has no pixel spacing"), "pixel spacing of the slice"


def _scan_of_eye(header: Dataset) -> tuple[tuple[float, float], str]:
    measures = functional_group(header, 1, "PixelMeasuresSequence") or header
    return _pair(measures, "PixelSpacing", "the scan has no pixel spacing"), _NOMINAL_EYE


def _photograph(_: Dataset) -> tuple[tuple[float, float], str]:
    """PixelSpacing of a photograph is nominal and varies across the picture (PS3.3 C.8.17.2)."""
    raise _Untrusted("the scale of a photograph of the retina depends on the eye and is not calibrated")


def _projection(header: Dataset) -> tuple[tuple[float, float], str]:
    """Basic Pixel Spacing Calibration Macro (PS3.3 10.7.1): spacing at the detector is not spacing in the patient."""
    calibration = str(header.get("PixelSpacingCalibrationType") or "").upper()
    if calibration in ("GEOMETRY", "FIDUCIAL"):
        reason = "the image is said to be calibrated but has no pixel spacing"
        words = "known geometry" if calibration == "GEOMETRY" else "an object of known size"
        return _pair(
            header, "PixelSpacing", reason
        ), f"pixel spacing calibrated by {words}, at one depth of the patient"
    magnification = numbers(header, "EstimatedRadiographicMagnificationFactor", 1)
    if magnification is None or magnification[0] < 1:
        raise _Untrusted("a projection is magnified by an unknown factor: its pixel spacing is that of the detector")
    reason = "the magnification is known but not the pixel spacing of the detector"
    rows, columns = _pair(header, "ImagerPixelSpacing", reason)
    factor = magnification[0]
    words = "pixel spacing of the detector and estimated magnification, at one depth of the patient"
    return (rows / factor, columns / factor), words


def _ultrasound(header: Dataset) -> tuple[tuple[float, float], str]:
    regions = list(header.get("SequenceOfUltrasoundRegions") or ())
    if len(regions) != 1:
        count = "no" if not regions else "more than one"
        raise _Untrusted(f"the ultrasound image has {count} calibrated region")
    region = regions[0]
    units = (region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection"))
    if region.get("RegionSpatialFormat") != _TISSUE or units != (_CENTIMETRES, _CENTIMETRES):
        raise _Untrusted("the calibrated region of the ultrasound image is no picture of tissue in centimetres")
    deltas = [numbers(region, f"PhysicalDelta{axis}", 1) for axis in "YX"]
    if any(delta is None or delta[0] == 0 for delta in deltas):
        raise _Untrusted("the region of the ultrasound image has no scale")
    rows, columns = (10 * abs(delta[0]) for delta in deltas if delta)
    return (rows, columns), "calibrated region of the ultrasound image"


def _pair(dataset: Dataset | None, keyword: str, reason: str) -> tuple[float, float]:
    values = numbers(dataset, keyword, 2) if dataset is not None else None
    if values is None or min(values) <= 0:
        raise _Untrusted(reason)
    return values[0], values[1]


_RULES: Sequence[tuple[frozenset[uid.UID], Callable[[Dataset], tuple[tuple[float, float], str]]]] = (
    (_CROSS_SECTIONAL, _cross_sectional),
    (_EYE_SCANS, _scan_of_eye),
    (_PHOTOGRAPHS, _photograph),
    (_PROJECTIONS, _projection),
    (_ULTRASOUND, _ultrasound),
)
