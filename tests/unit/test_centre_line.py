"""Thinning: topology is kept, and every shape of array is taken."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from worker.measurements.centre_line import skeleton


def _disc(rows: int, columns: int, radius: float) -> NDArray[np.bool_]:
    y, x = np.mgrid[0:rows, 0:columns]
    return np.asarray(np.hypot(y - rows / 2, x - columns / 2) < radius)


@pytest.mark.parametrize("shape", [(20, 30), (1, 20, 30), (20, 30, 1), (8, 20, 30)])
def test_an_empty_mask_has_an_empty_skeleton(shape):
    """Nothing in, nothing out, for pictures and volumes."""
    assert not skeleton(np.zeros(shape, bool)).any()


def test_a_bar_becomes_one_line():
    """A bar of 9 x 60 pixels thins to one piece, one pixel thin, in its middle row."""
    mask = np.zeros((30, 80), bool)
    mask[10:19, 10:70] = True
    thin = skeleton(mask)
    assert not (thin & ~mask).any()
    assert ndimage.label(thin, np.ones((3, 3)))[1] == 1
    assert thin.sum(axis=0).max() == 1
    assert set(np.flatnonzero(thin[:, 20:60].any(axis=1))) == {14}


def test_a_ring_keeps_its_hole():
    """A ring thins to a closed line."""
    thin = skeleton(_disc(64, 72, 25) & ~_disc(64, 72, 15))
    assert ndimage.label(~thin)[1] == 2


def test_a_mask_at_the_border_is_thinned():
    """A bar that fills the height of the array reaches from border to border, but for its radius."""
    mask = np.zeros((40, 20), bool)
    mask[:, 8:13] = True
    thin = skeleton(mask)
    assert thin.any(axis=1).sum() >= 35
    assert thin[5:35].sum(axis=1).tolist() == [1] * 30


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_of_one_slice_is_a_picture(axis):
    """The one slice may lie along any axis."""
    picture = _disc(40, 50, 18) & ~_disc(40, 50, 10)
    volume = np.expand_dims(picture, axis)
    assert np.array_equal(skeleton(volume), np.expand_dims(skeleton(picture), axis))


def test_a_tube_in_a_volume_becomes_one_line():
    """A straight tube of radius 4 thins to one voxel a slice."""
    volume = np.broadcast_to(_disc(24, 24, 4), (30, 24, 24)).copy()
    thin = skeleton(volume)
    assert thin[6:24].sum(axis=(1, 2)).tolist() == [1] * 18


def test_pieces_stay_pieces():
    """Every separate piece, down to a single pixel, keeps one piece of centre line."""
    mask = np.zeros((30, 30), bool)
    mask[2, 2] = mask[5:8, 5:20] = mask[15:28, 20:25] = True
    assert ndimage.label(skeleton(mask), np.ones((3, 3)))[1] == 3
