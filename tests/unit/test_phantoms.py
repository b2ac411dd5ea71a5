"""The generated pictures: repeatable, lifelike where it matters, and true to their known vessels."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from console.demo.phantom_angiography import FILLED
from console.demo.phantom_ct import ARTERY_HU
from console.demo.phantoms import angiography_run, contrast_ct, fundus_photograph
from console.demo.texture import smooth_noise, soft_step
from console.demo.vessel_drawing import draw_vessels
from console.demo.vessel_tree import Habit, Route, Vessel, grow_tree, placed

HABIT = Habit(step=2.0, minimum_radius=1.0, interval=(20, 40))
TRUNK = Route(
    [(10, 10), (100, 60), (200, 50), (300, 100)], branches=(Route([(100, 60), (90, 140), (60, 200)], (), 0.7),)
)

Pixels = NDArray[np.generic]
Mask = NDArray[np.bool_]


@pytest.fixture(scope="module")
def run() -> tuple[NDArray[np.uint8], Mask]:
    return angiography_run(frames=20, rows=256, columns=256, seed=1)


@pytest.fixture(scope="module")
def fundus() -> tuple[NDArray[np.uint8], Mask]:
    return fundus_photograph(rows=480, columns=500, seed=1)


@pytest.fixture(scope="module")
def ct() -> tuple[NDArray[np.int16], Mask]:
    return contrast_ct(slices=30, rows=128, columns=128, spacing_mm=(3.0, 2.4, 2.4), seed=1)


def beside(mask: Mask) -> Mask:
    """What lies three to seven cells away from the vessels of each frame."""
    in_plane = ndimage.generate_binary_structure(2, 1)[np.newaxis] if mask.ndim == 3 else None
    near = ndimage.binary_dilation(mask, in_plane, iterations=3)
    wide = ndimage.binary_dilation(mask, in_plane, iterations=7)
    ring: Mask = wide & ~near
    return ring


def children_of(tree: list[Vessel], index: int) -> list[Vessel]:
    return [vessel for vessel in tree if vessel.parent == index]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("axes", [2, 3])
def test_every_branching_obeys_murrays_law(seed: int, axes: int) -> None:
    """The cube of the parent's radius is the sum of the cubes of its two children's, in a plane and in space."""
    waypoints = np.array(TRUNK.waypoints, float)
    if axes == 3:
        waypoints = np.column_stack([waypoints, waypoints[:, 0]])
    tree = grow_tree(Route(waypoints), 8.0, HABIT, np.random.default_rng(seed))
    branchings = [(vessel, children) for i, vessel in enumerate(tree) if (children := children_of(tree, i))]
    assert len(branchings) >= 5
    for parent, children in branchings:
        assert len(children) == 2
        assert sum(child.radii[0] ** 3 for child in children) == pytest.approx(parent.radii[-1] ** 3)


def test_tree_is_connected_and_its_distances_add_up() -> None:
    """Each stretch begins where its parent ends, with the parent's distance from the root."""
    tree = grow_tree(TRUNK, 8.0, HABIT, np.random.default_rng(0))
    assert tree[0].parent is None
    assert tree[0].distances[0] == 0
    for vessel in tree[1:]:
        assert vessel.parent is not None
        parent = tree[vessel.parent]
        np.testing.assert_allclose(vessel.points[0], parent.points[-1])
        assert vessel.distances[0] == pytest.approx(parent.distances[-1])
        steps = np.linalg.norm(np.diff(vessel.points, axis=0), axis=1)
        np.testing.assert_allclose(np.diff(vessel.distances), steps)


def test_planned_branches_are_grown_and_nothing_is_too_thin() -> None:
    """A planned branch ends near its last waypoint; no radius is below the least one."""
    tree = grow_tree(TRUNK, 8.0, HABIT, np.random.default_rng(0))
    ends = np.array([vessel.points[-1] for vessel in tree])
    assert np.linalg.norm(ends - (60, 200), axis=1).min() < 12
    assert min(vessel.radii.min() for vessel in tree) >= HABIT.minimum_radius


def test_free_side_branches_respect_the_border() -> None:
    """``inside`` stops side branches: with nothing allowed only planned routes grow."""
    free = grow_tree(TRUNK, 8.0, HABIT, np.random.default_rng(0))
    bound = grow_tree(TRUNK, 8.0, HABIT, np.random.default_rng(0), inside=lambda _point: False)
    assert len({vessel.branch for vessel in bound}) == 2
    assert len({vessel.branch for vessel in free}) > 5


def test_vessel_that_passes_through_keeps_its_radius() -> None:
    """A route that leaves the picture neither tapers nor sprouts."""
    tree = grow_tree(Route(TRUNK.waypoints, passes_through=True), 8.0, HABIT, np.random.default_rng(0))
    assert len(tree) == 1
    np.testing.assert_array_equal(tree[0].radii, 8.0)


def straight(begin: tuple[float, ...], end: tuple[float, ...], radius: float, branch: int = 0) -> Vessel:
    points = np.linspace(begin, end, 20)
    return Vessel(points, np.full(20, radius), np.linspace(0, 100, 20), branch, None)


def test_drawing_measures_a_straight_tube() -> None:
    """Depth, chord, distance and centrality of a straight tube have the values of geometry."""
    drawing = draw_vessels([straight((32, -20), (32, 80), 6.0)], (64, 64))
    assert drawing.depth[32, 30] == pytest.approx(6, abs=1e-4)
    assert drawing.depth[36, 30] == pytest.approx(2, abs=1e-4)
    assert drawing.chord[32, 30] == pytest.approx(12, abs=1e-4)
    assert drawing.chord[36, 30] == pytest.approx(2 * np.sqrt(36 - 16), abs=1e-4)
    assert drawing.distance[32, 30] == pytest.approx(50, abs=0.1)
    assert drawing.centrality[35, 30] == pytest.approx(0.5, abs=1e-4)
    assert drawing.depth[5, 5] == -2
    assert drawing.coverage.sum() == pytest.approx(12 * 64, rel=0.01)
    np.testing.assert_array_equal(np.flatnonzero(drawing.lumen[:, 30]), np.arange(26, 39))


def test_drawing_of_a_tube_in_space_has_its_volume() -> None:
    """The antialiased volume of a cylinder on a grid with unequal spacing is that of geometry."""
    tube = straight((-20, 20, 20), (80, 20, 20), 6.0)
    drawing = draw_vessels([tube], (20, 40, 40), (2.0, 1.0, 1.0))
    assert drawing.coverage.sum() == pytest.approx(20 * np.pi * 36, rel=0.02)


def test_crossing_vessels_add_up_and_one_vessel_does_not() -> None:
    """Where two vessels cross, a ray meets both; along one vessel the stretches do not count twice."""
    crossing = [straight((32, -20), (32, 80), 6.0, 0), straight((-20, 32), (80, 32), 4.0, 1)]
    assert draw_vessels(crossing, (64, 64)).chord[32, 32] == pytest.approx(20, abs=1e-3)
    joined = [straight((32, -20), (32, 32), 6.0, 0), straight((32, 32), (32, 80), 6.0, 0)]
    assert draw_vessels(joined, (64, 64)).chord[32, 32] == pytest.approx(12, abs=1e-3)


def test_placed_tree_is_enlarged_and_moved() -> None:
    """Points are scaled along each axis and moved, radii grow with the least scale."""
    (moved,) = placed([straight((0, 0), (10, 10), 3.0)], scale=(2.0, 4.0), offset=(1.0, 0.0))
    np.testing.assert_allclose(moved.points[-1], (21, 40))
    np.testing.assert_allclose(moved.radii, 6.0)


def test_texture_is_normalised_and_as_coarse_as_asked() -> None:
    """Noise has mean 0 and deviation 1 and neighbours within a blob are alike; the soft step goes from 0 to 1."""
    noise = smooth_noise((100, 120), (20, 20), np.random.default_rng(0))
    assert noise.mean() == pytest.approx(0, abs=1e-4)
    assert noise.std() == pytest.approx(1, abs=1e-4)
    assert np.abs(np.diff(noise, axis=0)).max() < 0.5
    np.testing.assert_allclose(soft_step(np.array([-50.0, 0.0, 50.0]), 1.0), [0, 0.5, 1], atol=1e-6)


def test_same_seed_gives_the_same_pictures_and_another_seed_others(
    run: tuple[Pixels, Mask], fundus: tuple[Pixels, Mask], ct: tuple[Pixels, Mask]
) -> None:
    """The pictures follow from the seed alone."""

    def small_ct(seed: int) -> tuple[Pixels, Mask]:
        return contrast_ct(slices=30, rows=128, columns=128, spacing_mm=(3.0, 2.4, 2.4), seed=seed)

    for first, again, other in (
        (run, angiography_run(rows=256, columns=256, seed=1), angiography_run(rows=256, columns=256, seed=2)),
        (fundus, fundus_photograph(480, 500, seed=1), fundus_photograph(480, 500, seed=2)),
        (ct, small_ct(1), small_ct(2)),
    ):
        np.testing.assert_array_equal(first[0], again[0])
        np.testing.assert_array_equal(first[1], again[1])
        assert (first[0] != other[0]).any()
        assert (first[1] != other[1]).any()


def test_shapes_and_types(run: tuple[Pixels, Mask], fundus: tuple[Pixels, Mask], ct: tuple[Pixels, Mask]) -> None:
    """Pixels and truth have the sizes asked for and the types that the files store."""
    assert [run[0].shape, run[0].dtype, run[1].shape, run[1].dtype] == [(20, 256, 256), np.uint8, (20, 256, 256), bool]
    assert [fundus[0].shape, fundus[0].dtype, fundus[1].shape] == [(480, 500, 3), np.uint8, (480, 500)]
    assert [ct[0].shape, ct[0].dtype, ct[1].shape] == [(30, 128, 128), np.int16, (30, 128, 128)]


def test_share_of_vessels_is_that_of_real_pictures(
    run: tuple[Pixels, Mask], fundus: tuple[Pixels, Mask], ct: tuple[Pixels, Mask]
) -> None:
    """Coronary and retinal vessels fill 3 to 12 % of a picture, arteries 0.2 to 2 % of an abdomen."""
    assert 0.03 < run[1][10].mean() < 0.12
    assert 0.03 < fundus[1].mean() < 0.12
    assert 0.002 < ct[1].mean() < 0.02


def test_contrast_fills_from_the_root_and_washes_out(run: tuple[Pixels, Mask]) -> None:
    """The first frame has no contrast, the filled lumen grows, stays, and is nearly gone at the end."""
    filled = run[1].mean(axis=(1, 2))
    assert filled[0] == 0
    assert (np.diff(filled[1:6]) >= 0).all()
    assert filled[8:15].min() > 0.9 * filled.max()
    assert filled[-1] < 0.2 * filled.max()
    first = next(mask for mask in run[1] if mask.any())
    assert np.argwhere(first)[:, 1].max() < np.argwhere(run[1][10])[:, 1].max() - 40
    assert 0 < FILLED < 1


def test_filled_coronary_arteries_are_dark(run: tuple[NDArray[np.uint8], Mask]) -> None:
    """With contrast a vessel is darker than what is beside it, and darker than the same place before."""
    pixels, truth = run
    ring = beside(truth)
    for index in range(6, 16):
        assert pixels[index][truth[index]].mean() < pixels[index][ring[index]].mean() - 12
    assert pixels[10][truth[10]].mean() < pixels[0][truth[10]].mean() - 12


def test_catheter_is_dark_from_the_start_and_not_in_the_truth(run: tuple[NDArray[np.uint8], Mask]) -> None:
    """At a quarter of its way the catheter is darker than its neighbourhood in every frame and never in the truth."""
    pixels, truth = run
    row = 24  # of 256; the catheter comes down at about column 42
    for index in (0, 10, 19):
        profile = pixels[index][row - 1 : row + 2, 30:56].mean(axis=0)
        assert profile.min() < np.median(profile) - 15
        assert not truth[index][:row, 30:56].any()


def test_heart_beats(run: tuple[NDArray[np.uint8], Mask]) -> None:
    """The filled tree of two frames in different moments of the beat lies in different places."""
    assert (run[1][8] ^ run[1][12]).sum() > 0.1 * run[1][8].sum()


def test_collimator_leaves_the_borders_black(run: tuple[NDArray[np.uint8], Mask]) -> None:
    """The outermost pixels see no radiation and hold no truth."""
    pixels, truth = run
    for edge in (pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1]):
        assert edge.max() < 60
    assert not truth[:, 0].any()
    assert not truth[:, :, -1].any()


def test_retinal_vessels_are_dark_in_green(fundus: tuple[NDArray[np.uint8], Mask]) -> None:
    """Blood takes more green than red, so vessels stand out most in the green channel."""
    pixels, truth = fundus
    ring = beside(truth[np.newaxis])[0] & (pixels[..., 0] > 60)
    inside, outside = pixels[truth].mean(axis=0), pixels[ring].mean(axis=0)
    assert inside[1] < 0.9 * outside[1]
    assert inside[1] / outside[1] < inside[0] / outside[0]


def test_fundus_has_aperture_disc_and_fovea(fundus: tuple[NDArray[np.uint8], Mask]) -> None:
    """The corners are black and without truth, the disc is bright, the fovea is dark and free of vessels."""
    pixels, truth = fundus
    assert pixels[:30, :30].max() < 20
    assert not truth[:30, :30].any()
    row, column = np.ogrid[:480, :500]
    disc = np.hypot(row - 243.5, column - 324.5) < 18
    fovea = np.hypot(row - 256.5, column - 190.5) < 18
    near_fovea = (np.hypot(row - 256.5, column - 190.5) > 55) & (np.hypot(row - 256.5, column - 190.5) < 70)
    assert pixels[disc & ~truth][:, 1].mean() > 2 * pixels[..., 1].mean()
    assert pixels[fovea][:, 1].mean() < 0.85 * pixels[near_fovea & ~truth][:, 1].mean()
    assert not truth[fovea].any()


def test_arteries_of_the_ct_are_bright(ct: tuple[NDArray[np.int16], Mask]) -> None:
    """The middle of the aorta has the Hounsfield units of contrast, far above what surrounds it."""
    pixels, truth = ct
    deep = ndimage.binary_erosion(truth, iterations=2)
    assert deep.sum() > 100
    assert pixels[deep].mean() == pytest.approx(ARTERY_HU, abs=20)
    assert pixels[beside(truth)].mean() < ARTERY_HU - 150


def test_ct_has_air_fat_soft_tissue_and_bone(ct: tuple[NDArray[np.int16], Mask]) -> None:
    """The tissues have their Hounsfield units, and bone is brighter than contrast but not in the truth."""
    pixels, truth = ct
    assert pixels[:, :5, :5].mean() == pytest.approx(-1000, abs=30)
    for low, high, least_share in ((-130, -70, 0.05), (20, 130, 0.1), (450, 1000, 0.002)):
        assert ((pixels > low) & (pixels < high)).mean() > least_share
    assert not truth[pixels > 600].any()


def test_aorta_runs_through_all_slices(ct: tuple[NDArray[np.int16], Mask]) -> None:
    """Every slice shows a lumen, and the greatest connected part of the truth reaches from the first to the last."""
    _, truth = ct
    assert truth.any(axis=(1, 2)).all()
    labels, count = ndimage.label(truth, np.ones((3, 3, 3)))
    largest = 1 + int(np.argmax(ndimage.sum_labels(truth, labels, range(1, count + 1))))
    assert (labels[0] == largest).any()
    assert (labels[-1] == largest).any()
