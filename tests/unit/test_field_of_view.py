"""What of a picture shows the patient: surround of a camera, leaves of a collimator, margins and sizes."""

import numpy as np
import pytest
from tube_pictures import picture, vessel_mask

from worker.segmenters.field_of_view import between_leaves, diameter_of, field_of_view, shrink

EMPTY = np.zeros((240, 240), bool)


def test_picture_without_surround_is_shown_whole() -> None:
    """A picture that fills its frame, even with dark vessels that reach the border, has no surround."""
    assert field_of_view(picture(vessel_mask(240), bright=False)).all()
    assert field_of_view(np.zeros((30, 40), np.float32)).all()


def test_disc_of_a_fundus_camera_is_found() -> None:
    """The black surround is left out, and the diameter is the disc's, not the picture's."""
    rows, columns = np.mgrid[:240, :320]
    disc = np.hypot(rows - 120, columns - 160) < 100
    shown = field_of_view(np.where(disc, 120.0, 3.0).astype(np.float32))
    assert (shown != disc).mean() < 0.005
    assert diameter_of(shown) == pytest.approx(200, rel=0.02)
    assert diameter_of(np.ones((240, 320), bool)) == 240


def test_dark_heart_at_the_border_is_no_surround() -> None:
    """A dark region at the border that has structure stays in the field of view."""
    intensity = picture(EMPTY, bright=True)
    intensity[120:, :] -= np.linspace(40, 120, 240)[None, :].astype(np.float32)
    assert field_of_view(intensity).all()


@pytest.mark.parametrize("side", range(4))
def test_grey_leaf_of_a_collimator_is_left_out(side: int) -> None:
    """A leaf behind which radiation scatters is grey, not black; it is found on each side by its straight edge."""
    intensity = picture(vessel_mask(240), bright=False)
    np.rot90(intensity, side)[:20] *= 0.5
    opened = np.rot90(between_leaves(intensity, np.ones_like(EMPTY)), side)
    assert not opened[:19].any()
    assert opened[28:].all()


def test_leaf_turned_by_a_degree_is_left_out() -> None:
    """The edge of a leaf need not be parallel to the picture's side to the pixel."""
    rows, columns = np.mgrid[:240, :240]
    leaf = rows < 18 + columns * np.tan(np.radians(1.0))
    opened = between_leaves(picture(EMPTY, bright=False) * np.where(leaf, 0.5, 1.0), ~EMPTY)
    assert not opened[leaf].any()
    assert opened[35:].all()


def test_vessel_along_the_side_is_no_leaf() -> None:
    """A vessel that crosses near a side, and a dark lower half, do not cost any of the picture."""
    truth = EMPTY.copy()
    truth[30:36, :120] = True
    intensity = picture(truth, bright=False)
    intensity[120:] -= 40
    assert between_leaves(intensity, ~EMPTY).all()


def test_margin_counts_from_surround_and_from_the_border() -> None:
    """Shrinking takes the margin off at the picture's own border too; less than a pixel takes nothing."""
    shown = ~EMPTY
    assert shrink(shown, 0.5) is shown
    assert shrink(shown, 3).sum() == 234 * 234
