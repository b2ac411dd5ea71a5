"""Millimetres only where the Standard ties the spacing of a source to the patient, else pixels and the reason."""

import dicom_sources
import numpy as np
import pytest
from seg_cases import CASES, as_series

from worker.image_stack import Imaging
from worker.measurements.spacing import TrustedSpacing, trusted_spacing
from worker.source_series import SourceKind

TRUSTED = {
    "ct": ((1.25, 0, 0), (0, 0.7, 0), (0, 0, 0.7)),
    "ct_odd_columns": ((1.25, 0, 0), (0, 0.7, 0), (0, 0, 0.7)),
    "mr": ((1.0, 0, 0), (0, 0.7, 0), (0, 0, 0.7)),
    "enhanced_ct": ((1.25, 0, 0), (0, 0.7, 0), (0, 0, 0.7)),
    "enhanced_mr": ((1.0, 0, 0), (0, 0.7, 0), (0, 0, 0.7)),
    "opt_with_frame_of_reference": ((0.05, 0, 0), (0, 0.004, 0), (0, 0, 0.012)),
    "opt_without": ((0.004, 0), (0, 0.012)),
    "opt_en_face": ((0.01, 0), (0, 0.01)),
}
GEOMETRY = {"PixelSpacing": [0.2, 0.3], "PixelSpacingCalibrationType": "GEOMETRY"}
DETECTOR = {"ImagerPixelSpacing": [0.3, 0.45], "EstimatedRadiographicMagnificationFactor": 1.5}


def of(name: str, **attributes: object) -> TrustedSpacing:
    return trusted_spacing(CASES[name].series(**attributes))


@pytest.mark.parametrize("name", TRUSTED)
def test_sources_with_a_size_in_the_patient(name):
    """Steps from slice to slice, row to row and column to column, in millimetres."""
    found = of(name)
    assert found.trusted
    assert np.allclose(found.axes_mm, TRUSTED[name], atol=1e-4)
    assert found.statement.startswith("Measured in millimetres: ")


@pytest.mark.parametrize("name", sorted(CASES.keys() - TRUSTED.keys()))
def test_sources_without(name):
    """The reason is a sentence, and the axes are those of the array."""
    found = of(name)
    assert not found.trusted
    assert found.statement.startswith("Measured in pixels: ")
    assert len(found.basis) > 20
    assert np.array_equal(found.axes(2), np.eye(2))


@pytest.mark.parametrize("name", ["opt_with_frame_of_reference", "opt_without", "opt_en_face"])
def test_scans_of_the_eye_are_nominal(name):
    """Their millimetres are said to be nominal."""
    assert "nominal" in of(name).basis


@pytest.mark.parametrize("name", ["xa_run", "xa_still", "xrf_run", "dx", "cr"])
def test_calibrated_projections(name):
    """A projection is trusted when it names its calibration, or its magnification (PS3.3 10.7)."""
    assert np.allclose(of(name, **GEOMETRY).axes(2), np.diag([0.2, 0.3]))
    fiducial = of(name, **{**GEOMETRY, "PixelSpacingCalibrationType": "FIDUCIAL"})
    assert fiducial.trusted
    assert "one depth" in fiducial.basis
    assert np.allclose(of(name, **DETECTOR).axes(2), np.diag([0.2, 0.3]))


@pytest.mark.parametrize(
    "attributes",
    [
        {"ImagerPixelSpacing": [0.3, 0.3]},
        {"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.3, 0.3]},
        {"PixelSpacing": [0.2, 0.2], "PixelSpacingCalibrationType": "SOMETHING"},
        {"PixelSpacingCalibrationType": "GEOMETRY"},
        {"EstimatedRadiographicMagnificationFactor": 1.5},
        {"EstimatedRadiographicMagnificationFactor": 0.5, "ImagerPixelSpacing": [0.3, 0.3]},
        {"PixelSpacing": [0, 0], "PixelSpacingCalibrationType": "FIDUCIAL"},
    ],
)
def test_projections_at_the_detector(attributes):
    """The spacing of the detector alone, or half of a calibration, is not trusted."""
    assert not of("xa_run", **attributes).trusted


def test_photographs_of_the_eye_are_not_trusted():
    """PixelSpacing of a fundus photograph is nominal (PS3.3 C.8.17.2)."""
    assert "PixelSpacing" in CASES["op_rgb"].series().datasets[0]
    assert "retina" in of("op_rgb").basis


def region(**attributes: object) -> object:
    return dicom_sources.item(
        **{
            "RegionSpatialFormat": 1,
            "PhysicalUnitsXDirection": 3,
            "PhysicalUnitsYDirection": 3,
            "PhysicalDeltaX": 0.02,
            "PhysicalDeltaY": -0.01,
            **attributes,
        }
    )


def test_one_ultrasound_region_in_centimetres():
    """Its deltas become millimetres; their sign is a direction."""
    assert np.allclose(of("us_run", SequenceOfUltrasoundRegions=[region()]).axes(2), np.diag([0.1, 0.2]))


@pytest.mark.parametrize(
    "regions",
    [
        [region(), region()],
        [region(PhysicalUnitsXDirection=4)],
        [region(RegionSpatialFormat=3)],
        [region(PhysicalDeltaX=0.0)],
    ],
    ids=["two regions", "seconds", "spectral", "no scale"],
)
def test_other_ultrasound_regions(regions):
    """Several regions, a Doppler spectrum or no scale are not trusted."""
    assert not of("us_run", SequenceOfUltrasoundRegions=regions).trusted


def test_a_tilted_gantry_keeps_its_shear():
    """Slices that lie 15 degrees off the way they follow each other: a voxel is smaller than its sides say."""
    axes = trusted_spacing(
        as_series(dicom_sources.ct_series(tilt_degrees=15, spacing=2.0), SourceKind.SLICES, Imaging.CT)
    ).axes(3)
    assert np.linalg.norm(axes[0]) == pytest.approx(2.0, abs=1e-4)
    assert abs(np.linalg.det(axes)) == pytest.approx(2.0 * np.cos(np.radians(15)) * 0.49, rel=1e-4)


def test_missing_slices_are_not_trusted():
    """A gap makes lengths along the slices wrong."""
    series = as_series(dicom_sources.ct_series(missing=(3,)), SourceKind.SLICES, Imaging.CT)
    assert "evenly" in trusted_spacing(series).basis


def test_a_single_slice_has_the_spacing_of_its_pixels():
    """There is no distance between slices, and none is needed."""
    series = as_series(dicom_sources.ct_series(frames=1), SourceKind.SLICES, Imaging.CT)
    assert np.allclose(trusted_spacing(series).axes(2), np.diag([0.7, 0.7]))


def test_stills_of_different_magnification():
    """One series, one unit: pictures with different spacings are measured in pixels."""
    stills = dicom_sources.xa_runs((1, 1), **GEOMETRY)
    assert trusted_spacing(as_series(stills, SourceKind.PICTURES, Imaging.XRAY_ANGIOGRAPHY)).trusted
    stills[1].PixelSpacing = [0.4, 0.6]
    assert not trusted_spacing(as_series(stills, SourceKind.PICTURES, Imaging.XRAY_ANGIOGRAPHY)).trusted


@pytest.mark.parametrize("value", [[0.7], [], [0.7, -0.7], None])
def test_a_broken_pixel_spacing_is_not_trusted(value):
    """Nothing is raised: the segmentation was made all the same."""
    series = CASES["ct"].series()
    for header in series.datasets:
        if value is None:
            del header.PixelSpacing
        else:
            header.PixelSpacing = value
    assert not trusted_spacing(series).trusted
