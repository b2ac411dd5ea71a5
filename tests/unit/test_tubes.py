"""Length, calibre, tortuosity and branch points of tubes whose truth is known; the bounds are those of the docs."""

import numpy as np
import pytest
from numpy.typing import NDArray
from tube_masks import bar, helix, ring, straight, tube, tube_length

from worker.measurements.tubes import Tubes, measure_tubes

PIXELS = np.eye(2)
LENGTH_BOUND = 0.03
"""Share of the length; for bends of at least fifteen pixels radius."""


def measured(mask: NDArray[np.bool_], axes: NDArray[np.float64] = PIXELS) -> Tubes:
    found = measure_tubes(mask, axes)
    assert found is not None
    return found


def test_an_empty_mask_has_no_tubes():
    """Neither in two nor in three dimensions."""
    assert measure_tubes(np.zeros((5, 6), bool), PIXELS) is None
    assert measure_tubes(np.zeros((4, 5, 6), bool), np.eye(3)) is None


# --- length -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [2, 3, 4, 6, 10, 16, 24])
def test_length_of_bars_at_all_angles(width):
    """Flat ended bars of 120 pixels: within 3 % at every angle, within 1 % on average, always one branch."""
    errors = []
    generator = np.random.default_rng(width)
    for angle in np.linspace(0, np.pi, 24, endpoint=False):
        centre = 90 + generator.uniform(0, 1, 2)
        found = measured(bar(angle, 120, width, centre))
        assert found.branch_points == 0
        errors.append(found.length / 120 - 1)
    assert np.abs(errors).max() < LENGTH_BOUND
    assert abs(np.mean(errors)) < 0.01


@pytest.mark.parametrize(("radius", "bound"), [(10, 0.045), (15, 0.02), (20, 0.01), (40, 0.005), (60, 0.005)])
@pytest.mark.parametrize("width", [3, 6])
def test_length_of_rings(radius, bound, width):
    """Closed rings have neither ends nor branch points nor a tortuosity."""
    for shift in (0.0, 0.3, 0.5):
        found = measured(ring(radius, width, (80 + shift, 80.0)))
        assert abs(found.length / (2 * np.pi * radius) - 1) < bound
        assert found.branch_points == 0
        assert found.tortuosity is None


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.25, 0.7, 0.7)])
@pytest.mark.parametrize("radius", [1.5, 2.5, 5.0])
def test_length_of_straight_tubes(spacing, radius):
    """In a volume, in all directions: within 4 % of some 40 mm, that is two voxels for two ends, on average 1 %."""
    errors = []
    generator = np.random.default_rng(1)
    for direction in generator.normal(size=(6, 3)):
        curve = straight(28 + generator.uniform(-0.5, 0.5, 3), direction, 36)
        mask = tube(curve, radius, (56, 56, 56), spacing)
        errors.append(measured(mask, np.diag(spacing)).length / tube_length(curve, radius) - 1)
    assert np.abs(errors).max() < 0.04
    assert abs(np.mean(errors)) < 0.015


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (1.25, 0.7, 0.7)])
@pytest.mark.parametrize(("bend", "radius"), [(12, 1.5), (12, 3.0), (20, 1.5), (20, 3.0)])
def test_length_of_helices(spacing, bend, radius):
    """Two turns around 12 and 20 mm, on cubic and on oblong voxels."""
    curve = helix((30, 28, 28), bend)
    found = measured(tube(curve, radius, (60, 56, 56), spacing), np.diag(spacing))
    assert abs(found.length / tube_length(curve, radius) - 1) < LENGTH_BOUND
    assert found.branch_points == 0


def test_length_does_not_depend_on_the_shear_of_the_slices():
    """A tube along the slices of a tilted gantry: each slice is shifted, the vessel is as long as it is."""
    shift = 1.0
    curve = straight((30, 20, 20), (1, 0, 0), 40)
    upright = tube(curve, 3, (60, 40, 40), (1, 1, 1))
    sheared = np.stack([np.roll(piece, -round(shift * index), axis=0) for index, piece in enumerate(upright)])
    axes = np.array([[1.0, shift, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    rolled = np.concatenate([np.zeros((60, 60, 40), bool), sheared], axis=1)
    assert abs(measured(rolled[10:, :, :], axes).length / 46 - 1) < 0.06


# --- calibre ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "bias"), [(2, 0.55), (3, 0.4), (4, 0.35), (6, 0.25), (10, 0.25), (16, 0.25), (24, 0.3)]
)
def test_calibre_of_bars(width, bias):
    """Mean over all angles, in pixels; the largest calibre is at most one pixel too large."""
    errors, largest = [], []
    generator = np.random.default_rng(width)
    for angle in np.linspace(0, np.pi, 24, endpoint=False):
        found = measured(bar(angle, 120, width, 90 + generator.uniform(0, 1, 2)))
        errors.append(found.diameter_mean - width)
        largest.append(found.diameter_maximum - width)
        assert found.diameter_mean <= found.diameter_maximum
        assert abs(found.diameter_median - found.diameter_mean) < 0.4
    assert abs(np.mean(errors)) < bias
    assert -0.5 < min(largest) <= max(largest) < 1.1


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (1.25, 0.7, 0.7)])
@pytest.mark.parametrize(("radius", "bias"), [(1.5, 0.45), (2.5, 0.25), (5.0, 0.25)])
def test_calibre_of_tubes(spacing, radius, bias):
    """Mean over directions, in millimetres, on cubic and on oblong voxels."""
    errors = []
    generator = np.random.default_rng(2)
    for direction in generator.normal(size=(5, 3)):
        curve = straight(28 + generator.uniform(-0.5, 0.5, 3), direction, 36)
        mask = tube(curve, radius, (56, 56, 56), spacing)
        errors.append(measured(mask, np.diag(spacing)).diameter_mean - 2 * radius)
    assert abs(np.mean(errors)) < bias


def test_calibre_scales_with_the_spacing():
    """The same pixels, half as large: half the numbers."""
    mask = bar(0.4, 120, 8, (90, 90))
    large, small = measured(mask, np.eye(2)), measured(mask, 0.5 * np.eye(2))
    assert small.diameter_mean == pytest.approx(large.diameter_mean / 2)
    assert small.length == pytest.approx(large.length / 2, rel=1e-3)
    assert small.tortuosity == pytest.approx(large.tortuosity)


def test_the_widest_place_decides_the_largest_calibre():
    """A bulge of 20 pixels on a tube of 6."""
    y, x = np.mgrid[0:180, 0:180]
    found = measured(bar(0, 140, 6, (90.5, 90.5)) | (np.hypot(y - 90.5, x - 90.5) <= 10))
    assert found.diameter_maximum == pytest.approx(20, abs=1)
    assert found.diameter_median == pytest.approx(6, abs=0.6)


# --- branches ---------------------------------------------------------------------------------------------------------


def test_a_fork_has_one_branch_point():
    """Three arms of 60 pixels that meet in one place."""
    arms = [straight((80 + 30 * np.sin(turn), 80 + 30 * np.cos(turn)), (np.sin(turn), np.cos(turn)), 60)
            for turn in (0.2, 0.2 + 2 * np.pi / 3, 0.2 + 4 * np.pi / 3)]  # fmt: skip
    mask = np.logical_or.reduce([tube(arm, 2.5, (160, 160), (1, 1)) for arm in arms])
    found = measured(mask)
    assert found.branch_points == 1
    assert found.length == pytest.approx(3 * 62.5, rel=LENGTH_BOUND)
    assert found.tortuosity == pytest.approx(1.0, abs=0.03)


def test_a_grid_has_as_many_branch_points_as_crossings():
    """Three by three lines cross nine times."""
    mask = np.zeros((120, 120), bool)
    for place in (25, 60, 95):
        mask[place : place + 4, 5:115] = mask[5:115, place : place + 4] = True
    assert measured(mask).branch_points == 9


def test_a_rough_surface_makes_no_branches():
    """A bar whose edge is jagged by two pixels has no branch points, and keeps its length."""
    mask = bar(0, 120, 16, (90, 90))
    generator = np.random.default_rng(3)
    for column in range(32, 148):
        mask[97 : 97 + generator.integers(0, 4), column] = True
        mask[83 - generator.integers(0, 4) : 83, column] = True
    found = measured(mask)
    assert found.branch_points == 0
    assert found.length == pytest.approx(120, rel=0.05)


def test_pieces_add_up():
    """Two bars apart are as long as both together."""
    mask = bar(0, 100, 4, (40.5, 90.5)) | bar(0, 60, 4, (120.5, 90.5))
    assert measured(mask).length == pytest.approx(160, rel=LENGTH_BOUND)


def test_a_single_pixel_is_as_long_as_wide():
    """The smallest thing that can be measured has about the size of a pixel."""
    mask = np.zeros((9, 9), bool)
    mask[4, 4] = True
    found = measured(mask)
    assert 0.5 < found.length < 2.5
    assert 0.5 < found.diameter_mean < 2.5
    assert found.tortuosity is None


def test_tortuosity_of_half_a_circle():
    """Arc over chord of a half circle is pi / 2."""
    half = tube(lambda t: 80 + 50 * np.stack([-np.sin(np.pi * t), np.cos(np.pi * t)], -1), 2, (160, 160), (1, 1))
    assert measured(half).tortuosity == pytest.approx(np.pi / 2, rel=0.03)


def test_tortuosity_of_a_straight_bar():
    """Never below 1, and no more than 1 % above."""
    for angle in (0.0, 0.3, np.pi / 4, 1.2):
        assert 1.0 <= measured(bar(angle, 120, 5, (90.3, 90.1))).tortuosity < 1.01


def test_the_border_of_the_picture_ends_a_vessel():
    """A bar from border to border is as long as the picture."""
    mask = np.zeros((60, 100), bool)
    mask[28:33] = True
    assert measured(mask).length == pytest.approx(100, abs=2)


def test_noise_is_not_followed(monkeypatch):
    """A mask with more centre line than any tree of vessels is given up before minutes are spent on it."""
    noise = np.random.default_rng(5).random((20, 40, 40)) > 0.7
    assert measure_tubes(noise, np.eye(3)) is not None
    monkeypatch.setattr("worker.measurements.tubes._MOST_POINTS", 1000)
    assert measure_tubes(noise, np.eye(3)) is None
