"""The generated pictures for training: reproducible, with truths that fit each other and the picture."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from typer import Typer
from typer.testing import CliRunner

from dicom_core.errors import ConfigurationError
from training.synthetic.__main__ import main
from training.synthetic.camera import compressed, motion_blurred, shifted_rows
from training.synthetic.fields import blobs, resized, softened, spot, step
from training.synthetic.growth import Habit, Pieces, area, grow, joined, path
from training.synthetic.picture import KINDS, Kind, SyntheticPicture
from training.synthetic.sampling import sample, sample_negative
from training.synthetic.shards import picture, read_shard, write_shards
from training.synthetic.sheet import contact_sheet, outlined
from training.synthetic.strokes import draw, lumen
from training.synthetic.visibility import hidden

SIZE = 192
SEEDS = range(10)
EVERYWHERE = np.ones((3, 3), bool)


@pytest.fixture(scope="module")
def pictures() -> dict[Kind, list[SyntheticPicture]]:
    return {kind: [sample(kind, seed, SIZE) for seed in SEEDS] for kind in KINDS}


def tree(seed: int = 0, **habit: float) -> Pieces:
    rng = np.random.default_rng(seed)
    return grow([[20, 20]], [0.8], [5], Habit(**habit), rng, SIZE)  # type: ignore[arg-type]


def digest(one: SyntheticPicture) -> str:
    planes = (one.image, one.mask, one.centre_line, one.unsure, one.field)
    return hashlib.sha256(b"".join(plane.tobytes() for plane in planes)).hexdigest()


class TestPictures:
    """The pictures as a whole."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_same_seed_same_bytes(self, kind: Kind, pictures: dict[Kind, list[SyntheticPicture]]) -> None:
        """A picture depends on kind, seed and size alone, and other seeds give other pictures."""
        assert digest(sample(kind, 3, SIZE)) == digest(pictures[kind][3])
        assert len({digest(one) for one in pictures[kind]}) == len(SEEDS)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("size", [64, 129, 256])
    def test_any_size(self, kind: Kind, size: int) -> None:
        """All arrays have the size asked for, and their types."""
        one = sample(kind, 5, size)
        assert one.image.dtype == np.uint8
        assert one.image.shape in {(size, size), (size, size, 3)}
        for plane in (one.mask, one.centre_line, one.unsure, one.field):
            assert plane.shape == (size, size)
            assert plane.dtype == bool
        assert one.kind == kind

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_truths_fit_each_other(self, kind: Kind, pictures: dict[Kind, list[SyntheticPicture]]) -> None:
        """Centre line and unsure vessels lie in the mask, the mask in the field, and no vessel lacks its line."""
        for one in pictures[kind]:
            assert not (one.mask & ~one.field).any()
            assert not (one.centre_line & ~one.mask).any()
            assert not (one.unsure & ~one.mask).any()
            if one.mask.any():
                near = ndimage.binary_dilation(one.centre_line, EVERYWHERE, iterations=SIZE // 12)
                assert near[one.mask].mean() > 0.97
                assert one.centre_line.sum() < one.mask.sum()

    @pytest.mark.parametrize("kind", KINDS)
    def test_vessels_cover_a_plausible_share(self, kind: Kind, pictures: dict[Kind, list[SyntheticPicture]]) -> None:
        """The median share of vessels is that of such pictures, and no picture is drowned in them."""
        shares = [one.mask.mean() for one in pictures[kind]]
        assert 0.02 < np.median(shares) < 0.16
        assert max(shares) < 0.3

    @pytest.mark.parametrize("kind", KINDS)
    def test_vessels_hang_together(self, kind: Kind, pictures: dict[Kind, list[SyntheticPicture]]) -> None:
        """Most of the vessels of most pictures are in few pieces: trees, not specks."""
        shares = []
        for one in pictures[kind]:
            labels, count = ndimage.label(one.mask, EVERYWHERE)
            if count:
                sizes = np.sort(np.bincount(labels.ravel())[1:])[::-1]
                shares.append(sizes[:8].sum() / sizes.sum())
        assert np.median(shares) > 0.85

    @pytest.mark.parametrize(("kind", "bright"), [("xa", False), ("fundus", False), ("octa", True), ("oct", False)])
    def test_vessels_stand_out(self, kind: Kind, bright: bool, pictures: dict[Kind, list[SyntheticPicture]]) -> None:
        """In most pictures the vessels are darker than what lies beside them, in OCT angiograms brighter."""
        differences = []
        for one in pictures[kind]:
            grey = one.image if one.image.ndim == 2 else one.image[..., 1]
            beside = ndimage.binary_dilation(one.mask, iterations=5) & ~ndimage.binary_dilation(one.mask) & one.field
            if one.mask.any() and beside.any():
                differences.append(float(grey[one.mask].mean()) - float(grey[beside].mean()))
        right = [(difference > 0) == bright for difference in differences]
        assert np.mean(right) >= 0.6
        assert np.median(np.abs(differences)) > 8

    def test_pictures_differ_in_brightness(self, pictures: dict[Kind, list[SyntheticPicture]]) -> None:
        """The generator varies more than the noise: brightness differs widely within each kind."""
        for ones in pictures.values():
            assert np.ptp([one.image.mean() for one in ones]) > 25

    def test_fundus_comes_in_colour_and_xa_in_grey(self, pictures: dict[Kind, list[SyntheticPicture]]) -> None:
        """Photographs have three channels that differ; X-ray pictures have one."""
        assert all(one.image.ndim == 2 for one in pictures["xa"])
        coloured = [one for one in pictures["fundus"] if one.image.ndim == 3 and np.ptp(one.image, axis=2).max() > 20]
        assert len(coloured) >= 5

    def test_negatives_have_no_vessels(self) -> None:
        """Pictures of other things come with an empty mask, reproducibly, in many kinds."""
        ones = [sample_negative(seed, 128) for seed in range(30)]
        assert not any(one.mask.any() or one.centre_line.any() or one.unsure.any() for one in ones)
        assert all(one.field.all() and one.kind == "negative" and one.image.dtype == np.uint8 for one in ones)
        assert len({digest(one) for one in ones}) > 25
        assert digest(sample_negative(7, 128)) == digest(ones[7])
        assert {one.image.ndim for one in ones} == {2, 3}


class TestGrowth:
    """The trees."""

    def test_murrays_law(self) -> None:
        """Behind the first branching the cubes of both radii add up to the cube before it."""
        pieces = tree(taper=0.0, interval=(4, 6), minimum_radius=1.0)
        child = pieces.where(pieces.branch == 1)
        trunk = pieces.where(pieces.branch == 0)
        before = trunk.begin_radius[0]
        origin = np.flatnonzero((trunk.end == child.begin[0]).all(1))
        assert len(origin) == 1
        after = trunk.begin_radius[origin[0] + 1]
        assert before**3 == pytest.approx(after**3 + child.begin_radius[0] ** 3, rel=1e-4)

    def test_vessels_taper_and_end_thin(self) -> None:
        """No piece widens, and none is thinner than the habit allows by more than one step."""
        pieces = tree(minimum_radius=1.0, taper=0.002)
        assert (pieces.end_radius <= pieces.begin_radius).all()
        assert pieces.begin_radius.min() >= 1.0
        assert len(np.unique(pieces.branch)) > 5

    def test_branches_begin_on_their_parents(self) -> None:
        """Every branch begins where another one ends a piece, so the tree is one."""
        pieces = tree(interval=(4, 8))
        ends = {tuple(point) for point in pieces.end.tolist()}
        for branch in np.unique(pieces.branch)[1:].tolist():
            assert tuple(pieces.where(pieces.branch == branch).begin[0].tolist()) in ends

    def test_the_pieces_of_a_branch_follow_each_other(self) -> None:
        """Each piece begins where the one before it ends, and distances grow."""
        trunk = tree().where(tree().branch == 0)
        np.testing.assert_array_equal(trunk.begin[1:], trunk.end[:-1])
        assert (np.diff(trunk.distance) > 0).all()

    def test_straight_without_wander(self) -> None:
        """Without any cause to turn a vessel without branches runs straight."""
        pieces = tree(wander=0.0, interval=(1e6, 1e6))
        along = pieces.end[-1] - pieces.begin[0]
        away = pieces.end - pieces.begin[0]
        across = np.abs(away[:, 0] * along[1] - away[:, 1] * along[0]) / np.hypot(*along)
        assert across.max() < 0.01

    def test_wander_is_the_spread_of_directions(self) -> None:
        """After n pixels directions spread by about sqrt(n) times ``wander``."""
        rng, habit = np.random.default_rng(2), Habit(wander=0.03, persistence=0.5, interval=(1e6, 1e6), step=2.0)
        starts, steps = np.full((400, 2), 500.0), 50
        pieces = grow(starts, np.zeros(400), np.full(400, 3.0), habit, rng, 1000)
        along = pieces.end - pieces.begin
        directions = np.arctan2(along[:, 0], along[:, 1])[(steps - 1) * 400 : steps * 400]
        assert np.std(directions) == pytest.approx(0.03 * np.sqrt(2.0 * steps), rel=0.2)

    def test_region_and_steering(self) -> None:
        """Tips end at the border of their region and turn to where they are steered."""
        rng = np.random.default_rng(3)

        def down(points: np.ndarray, radii: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return np.full(len(points), np.pi / 2, np.float32), np.full(len(radii), 0.3, np.float32)

        pieces = grow(
            [[10, 100]], [0.0], [4], Habit(), rng, SIZE, steering=down, region=lambda points: points[:, 0] < 120
        )
        assert pieces.begin[:, 0].max() < 120
        last = pieces.where(pieces.branch == 0)
        assert last.end[-1, 0] - last.begin[0, 0] > 100

    def test_no_crossing_leaves_room(self) -> None:
        """A tree whose tips stop where it has been overlaps itself less."""

        def overlap(crossing: float) -> float:
            pieces = tree(5, crossing=crossing, interval=(3, 6), length=(60, 120), minimum_radius=0.6)
            return area(pieces, SIZE) / max(lumen(pieces, SIZE).mean(), 1e-6)

        assert overlap(0.0) < overlap(1.0)

    def test_joined_keeps_branches_apart(self) -> None:
        """Trees that are joined share no branch number."""
        one, two = tree(0), tree(1)
        both = joined([one, two])
        assert len(both) == len(one) + len(two)
        assert len(np.unique(both.branch)) == len(np.unique(one.branch)) + len(np.unique(two.branch))


class TestStrokes:
    """Trees on the grid."""

    def test_a_straight_vessel_has_its_radius(self) -> None:
        """Depth, chord and lumen of a straight tube are those of geometry."""
        strokes = draw(path([[50, -20], [50, 120]], 4.2), 100)
        assert strokes.lumen[:, 50].sum() == 9
        assert strokes.depth[50, 50] == pytest.approx(4.2, abs=0.4)
        assert strokes.depth[53, 50] == pytest.approx(1.2, abs=0.15)
        assert strokes.chord[50, 50] == pytest.approx(8.4, abs=0.8)
        assert strokes.centrality[50, 50] > 0.9
        assert strokes.chord[60, 50] == 0
        np.testing.assert_array_equal(np.flatnonzero(strokes.centre_line[:, 50]), [50])

    def test_fine_vessels_have_no_gaps(self) -> None:
        """A slanting vessel thinner than a pixel still is one piece, as is its centre line."""
        strokes = draw(path([[5.3, 4.1], [83.7, 91.9]], 0.6), 100)
        assert ndimage.label(strokes.centre_line, EVERYWHERE)[1] == 1
        assert ndimage.label(strokes.lumen, EVERYWHERE)[1] == 1
        assert strokes.coverage.max() <= 1

    def test_crossing_vessels_add_up(self) -> None:
        """Where two vessels of different layers cross, the X-ray passes both."""
        first, second = path([[50, 0], [50, 99]], 4.0), path([[0, 50], [99, 50]], 4.0)
        pieces = joined([first, second])
        pieces.layer[1] = 1
        strokes = draw(pieces, 100)
        assert strokes.chord[50, 50] == pytest.approx(2 * strokes.chord[50, 20], rel=0.1)

    def test_filling_thins_the_shadow_only(self) -> None:
        """Half the contrast medium halves the chord and leaves the walls alone."""
        pieces = path([[50, 0], [50, 99]], 4.0)
        full, half = draw(pieces, 100), draw(pieces, 100, np.array([0.5]))
        np.testing.assert_allclose(half.chord, full.chord / 2, atol=1e-4)
        np.testing.assert_array_equal(half.depth, full.depth)

    def test_vessels_outside_do_no_harm(self) -> None:
        """Pieces that lie outside leave no trace, wherever they lie."""
        outside = joined([path([[-90, -70], [-20, -30]], 9.0), path([[150, 20], [420, 900]], 3.0)])
        strokes = draw(outside, 100)
        assert not strokes.lumen.any()
        assert not strokes.centre_line.any()
        assert strokes.chord.max() == 0

    def test_nothing_is_no_lumen(self) -> None:
        """An empty tree has an empty mask."""
        none = tree().where(np.zeros(len(tree()), bool))
        assert not lumen(none, 64).any()


class TestFields:
    """The parts of backgrounds."""

    @pytest.mark.parametrize("cells", [1, 7.3, 60])
    def test_blobs_are_even_noise(self, cells: float) -> None:
        """Noise has about unit spread at any scale and changes little from pixel to pixel when coarse."""
        planes = np.stack([blobs(128, cells, np.random.default_rng(seed)) for seed in range(20)])
        assert abs(planes.mean()) < 0.3
        assert 0.6 < planes.std() < 1.3

    def test_step_is_monotonous(self) -> None:
        """An edge rises from 0 to 1 without overshoot."""
        edge = step(np.linspace(-3, 3, 61), 1.0)
        assert edge[0] == 0
        assert edge[-1] == 1
        assert edge[30] == pytest.approx(0.5)
        assert (np.diff(edge) >= 0).all()

    def test_spot_stays_in_its_place(self) -> None:
        """An ellipse raises its own pixels and none elsewhere, and half of one may lie outside."""
        canvas = np.zeros((80, 80), np.float32)
        spot(canvas, (40, 20), (10, 4), 0.0, 0.7, 0.1)
        assert canvas[40, 20] == pytest.approx(0.7)
        assert canvas[40, 28] > 0.3
        assert canvas[46, 20] == 0
        spot(canvas, (-3, 79), (10, 10), 0.0, 1.0, 0.1)
        spot(canvas, (400, 400), (10, 10), 0.0, 1.0, 0.1)
        assert canvas[2, 77] > 0.9
        assert canvas[79, 79] == 0

    def test_resized_and_softened_keep_the_level(self) -> None:
        """A level plane stays level."""
        level = np.full((40, 40), 3.0, np.float32)
        np.testing.assert_allclose(resized(level, 64), 3.0, atol=1e-4)
        np.testing.assert_allclose(softened(level, 2.5), 3.0, atol=1e-4)


class TestCamera:
    """What cameras do."""

    def test_motion_smears_along_its_line(self) -> None:
        """A point becomes a line of the same total."""
        plane = np.zeros((41, 41), np.float32)
        plane[20, 20] = 9.0
        smeared = motion_blurred(plane, 8, 0.0)
        assert smeared.sum() == pytest.approx(9.0, rel=1e-4)
        assert set(np.flatnonzero(smeared.sum(1))) == {20}
        assert np.flatnonzero(smeared[20]).size == 9

    def test_rows_move_by_their_own_shift(self) -> None:
        """Each row moves by its number, to the right when positive."""
        plane = np.arange(12).reshape(3, 4)
        moved = shifted_rows(plane, np.array([0, 1, -1]))
        np.testing.assert_array_equal(moved, [[0, 1, 2, 3], [4, 4, 5, 6], [9, 10, 11, 11]])

    def test_compression_changes_little(self) -> None:
        """JPEG keeps shape and level."""
        pixels = (softened(np.random.default_rng(0).uniform(0, 255, (64, 64, 3)), 4)).astype(np.uint8)
        after = compressed(pixels, 90)
        assert after.shape == pixels.shape
        assert np.abs(after.astype(int) - pixels).mean() < 4


class TestVisibility:
    """Which vessels nobody could draw."""

    def test_only_vessels_that_differ_are_seen(self) -> None:
        """Of two tubes of which one is painted into noise, the other one is hidden."""
        rng = np.random.default_rng(0)
        shown, missing = (lumen(path([[row, -9], [row, 200]], 2.5), SIZE) for row in (50, 140))
        image = np.clip(120 + 12 * rng.standard_normal((SIZE, SIZE)) - 40 * shown, 0, 255).astype(np.uint8)
        found = hidden(image, shown | missing, np.ones((SIZE, SIZE), bool))
        assert found[missing].mean() > 0.7
        assert found[shown].mean() < 0.02
        assert not (found & ~(shown | missing)).any()

    def test_black_hides_everything(self) -> None:
        """Where the picture is black nothing is seen, in colour as well."""
        tube = lumen(path([[50, -9], [50, 200]], 2.5), SIZE)
        assert hidden(np.zeros((SIZE, SIZE, 3), np.uint8), tube, np.ones_like(tube))[tube].all()


class TestCommand:
    """The command line and its files."""

    @pytest.fixture
    def run(self):
        app = Typer()
        app.command()(main)
        return lambda *words: CliRunner().invoke(app, list(words))

    def test_sheet(self, run, tmp_path: Path) -> None:
        """A sheet shows every picture beside its outlines."""
        result = run("--kind", "octa", "--count", "2", "--size", "96", "--out", str(tmp_path / "sheet.png"))
        assert result.exit_code == 0, result.output
        with Image.open(tmp_path / "sheet.png") as sheet:
            assert sheet.size == (6 * 96, 96)

    def test_shards_come_back_and_repeat(self, run, tmp_path: Path) -> None:
        """Shards hold the pictures that ``sample`` makes, and the same command writes the same bytes."""
        for folder in ("one", "two"):
            words = ("--kind", "xa", "--count", "3", "--seed", "11", "--size", "96", "--pack", str(tmp_path / folder))
            assert run(*words).exit_code == 0
        (file,) = (tmp_path / "one").iterdir()
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
        for seed, one in zip(range(11, 14), read_shard(file), strict=True):
            made = sample("xa", seed, 96)
            np.testing.assert_array_equal(one.image[..., 0], made.image)
            for name in ("mask", "centre_line", "unsure", "field"):
                np.testing.assert_array_equal(getattr(one, name), getattr(made, name))
            assert one.kind == "xa"

    def test_many_pictures_fill_several_shards(self, tmp_path: Path) -> None:
        """No shard holds more than asked for, none is lost, and each picture is reported once."""
        reported: list[int] = []
        files = write_shards(tmp_path, "negative", range(5), 64, 2, lambda: reported.append(1))
        assert [len(list(read_shard(file))) for file in files] == [2, 2, 1]
        assert len(reported) == 5

    def test_neither_out_nor_pack(self, run) -> None:
        """Without a place to write the command says what to add."""
        result = run("--kind", "xa")
        assert result.exit_code == 2
        assert "--out" in result.output

    def test_unknown_kind(self, run, tmp_path: Path) -> None:
        """An unknown kind is refused with the known ones."""
        with pytest.raises(ConfigurationError, match="fundus"):
            picture("heart", 0, 64)
        result = run("--kind", "heart", "--out", str(tmp_path / "x.png"))
        assert result.exit_code != 0
        assert "octa" in result.output

    def test_outlines_lie_on_the_vessels(self) -> None:
        """Outside the mask the outlined picture is the picture."""
        one = sample("fundus", 1, 96)
        drawn = outlined(one)
        changed = (drawn != (one.image if one.image.ndim == 3 else one.image[..., np.newaxis])).any(axis=2)
        assert changed.any()
        assert not (changed & ~one.mask).any()
        assert contact_sheet([one] * 4, columns=2).size == (4 * 96, 2 * 96)
