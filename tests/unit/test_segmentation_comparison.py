"""Two results of the same images are compared by measures that have known values for known shapes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from seg_cases import ARTERY_AND_VEIN, CASES, IDENTITY, segmentation_of

from dicom_core.errors import ConfigurationError, InvalidSegmentationError, NotFoundError
from dicom_core.result import ResultKind
from worker.seg_reader.comparison import Comparison, _Sums, compare_files
from worker.seg_writer.writer import build_segmentation, save_segmentation
from worker.segmenters.interface import SegmentClass
from worker.source_series import SourceSeries

ARTERY, VEIN = ARTERY_AND_VEIN


def written(
    path: Path,
    source: SourceSeries,
    mask: np.ndarray,
    classes: Sequence[SegmentClass],
    kind: ResultKind = ResultKind.SEG,
) -> Path:
    segmentation = segmentation_of(mask, classes)
    save_segmentation(build_segmentation(source, segmentation, IDENTITY, kind=kind), path)
    return path


def compared(
    folder: Path, source: SourceSeries, first: np.ndarray, second: np.ndarray, names: Sequence[SegmentClass] = (ARTERY,)
) -> Comparison:
    """Both masks ``(segments, frames, rows, columns)`` written and compared."""
    return compare_files(
        written(folder / "a.dcm", source, first, names), written(folder / "b.dcm", source, second, names)
    )


def empty(source: SourceSeries, segments: int = 1) -> np.ndarray:
    header = source.datasets[0]
    return np.zeros((segments, len(source.frames), int(header.Rows), int(header.Columns)), np.bool_)


@pytest.mark.parametrize("name", ["ct", "ct_tilted_with_gap", "enhanced_mr", "xa_run", "several_op", "op_rgb"])
def test_equal_masks(name: str, tmp_path: Path) -> None:
    """The same mask twice: overlap 1, distance 0, in millimetres only where there is geometry."""
    source = CASES[name].series()
    mask = empty(source)
    mask[0, :, 20:30, 10:50] = True
    (segment,) = (found := compared(tmp_path, source, mask, mask)).segments
    assert (segment.dice, segment.cl_dice, segment.distance_95) == (1.0, 1.0, 0.0)
    assert segment.voxels == (mask.sum(), mask.sum())
    assert segment.one_sided_frames == 0
    placed = name in ("ct", "enhanced_mr")
    assert found.unit == segment.unit == ("mm" if placed or name == "ct_tilted_with_gap" else "pixels")
    assert bool(found.remarks) == (found.unit == "pixels")


@pytest.mark.parametrize(("shift", "distance"), [(1, 0.7), (2, 1.4)])
def test_shift_in_the_plane_is_measured_in_millimetres(shift: int, distance: float, tmp_path: Path) -> None:
    """A slab that moves by whole pixels is as far away as they are wide; Dice is the common share."""
    source = CASES["ct"].series()
    first = empty(source)
    first[0, :, 10:20, :] = True
    second = np.roll(first, shift, axis=2)
    (segment,) = compared(tmp_path, source, first, second).segments
    assert segment.distance_95 == pytest.approx(distance)
    assert segment.dice == pytest.approx((10 - shift) / 10)


def test_shift_between_slices_is_measured_in_millimetres(tmp_path: Path) -> None:
    """Slices are 1.25 mm apart, and those without a vessel, which are in no object, count as steps too."""
    source = CASES["ct"].series()
    first, second = empty(source), empty(source)
    first[0, [0, 1]] = True
    second[0, [4, 5]] = True
    (segment,) = compared(tmp_path, source, first, second).segments
    assert segment.distance_95 == pytest.approx(5.0)
    assert segment.dice == 0.0
    assert segment.one_sided_frames == 4


def test_runs_are_compared_frame_by_frame_in_pixels(tmp_path: Path) -> None:
    """The distance is that within the frames, not across time; frames that only one shows are counted apart."""
    source = CASES["xa_run"].series(PixelSpacing=[0.2, 0.2])
    first, second = empty(source), empty(source)
    first[0, :4, 10:20, :] = True
    second[0, :3, 13:23, :] = True
    found = compared(tmp_path, source, first, second)
    (segment,) = found.segments
    assert (segment.distance_95, segment.unit, segment.one_sided_frames) == (3.0, "pixels", 1)
    assert found.frames == 4
    assert "no geometry" in found.remarks[0]


def test_centre_line_dice_forgives_width(tmp_path: Path) -> None:
    """A tube and a thicker one with the same centre line: Dice falls, centre-line Dice stays."""
    source = CASES["op_rgb"].series()
    first, second = empty(source), empty(source)
    first[0, 0, 30:33, 5:60] = True
    second[0, 0, 27:36, 5:60] = True
    (segment,) = compared(tmp_path, source, first, second).segments
    assert segment.dice is not None
    assert segment.cl_dice is not None
    assert segment.dice == pytest.approx(0.5)
    assert segment.cl_dice > 0.9


def test_centre_line_dice_punishes_a_lost_branch(tmp_path: Path) -> None:
    """A thin branch is little area and much length: Dice hardly falls, centre-line Dice does."""
    source = CASES["op_rgb"].series()
    first = empty(source)
    first[0, 0, 20:40, 5:65] = True
    first[0, 0, 50:52, 5:65] = True
    second = first.copy()
    second[0, 0, 50:52] = False
    (segment,) = compared(tmp_path, source, first, second).segments
    assert segment.dice is not None
    assert segment.cl_dice is not None
    assert segment.dice > 0.94
    assert segment.cl_dice < 0.85


def test_one_empty_segment_has_no_distance(tmp_path: Path) -> None:
    """Where one has nothing of a segment overlap is 0 and a distance is not made up."""
    source = CASES["ct"].series()
    first, second = empty(source, 2), empty(source, 2)
    first[0, 3, 10:20, 10:20] = first[1, 3, 30:40, 10:20] = second[1, 3, 30:40, 10:20] = True
    artery, vein = compared(tmp_path, source, first, second, ARTERY_AND_VEIN).segments
    assert (artery.dice, artery.cl_dice, artery.distance_95) == (0.0, 0.0, None)
    assert vein.dice == 1.0


def test_uneven_slices_are_compared_one_by_one(tmp_path: Path) -> None:
    """Slices on no regular grid have no volume; that is said."""
    source = CASES["ct"].series()
    for header, place in zip(source.datasets, (0, 1, 2.5, 3, 4.2, 5, 6, 7), strict=True):
        header.ImagePositionPatient = [0, 0, place]
    mask = empty(source)
    mask[0, :, 10:20, 10:20] = True
    found = compared(tmp_path, source, mask, mask)
    assert found.unit == "pixels"
    assert "unevenly spaced" in found.remarks[0]


# --- which segment is which -------------------------------------------------------------------------------------------


def two(source: SourceSeries) -> np.ndarray:
    mask = empty(source, 2)
    mask[0, 0, 10:20, 10:20] = mask[1, 0, 30:50, 10:20] = True
    return mask


def test_segments_are_matched_by_code_whatever_their_order(tmp_path: Path) -> None:
    """Artery meets artery though the numbers are swapped and the labels differ."""
    source = CASES["sc"].series()
    mask = two(source)
    first = written(tmp_path / "a.dcm", source, mask, [ARTERY, VEIN])
    renamed = [replace(VEIN, label="blue"), replace(ARTERY, label="red")]
    second = written(tmp_path / "b.dcm", source, mask[::-1], renamed)
    segments = compare_files(first, second).segments
    assert [(one.numbers, one.matched_by, one.dice) for one in segments] == [
        ((1, 2), "code", 1.0),
        ((2, 1), "code", 1.0),
    ]


def test_segments_of_one_code_are_matched_by_label(tmp_path: Path) -> None:
    """Two branches with the same code are told apart by what they are called."""
    source = CASES["sc"].series()
    mask = two(source)
    names = [SegmentClass("artery", "Branch 1"), SegmentClass("artery", "Branch 2")]
    first = written(tmp_path / "a.dcm", source, mask, names)
    second = written(tmp_path / "b.dcm", source, mask[::-1], names[::-1])
    segments = compare_files(first, second).segments
    assert [(one.label, one.numbers, one.dice) for one in segments] == [
        ("Branch 1", (1, 2), 1.0),
        ("Branch 2", (2, 1), 1.0),
    ]


def test_segments_are_matched_by_label_then_by_number(tmp_path: Path) -> None:
    """Where codes differ the label decides, and the number where nothing else does; it is said which."""
    source = CASES["sc"].series()
    mask = two(source)
    first = written(tmp_path / "a.dcm", source, mask, [SegmentClass("artery", "left"), SegmentClass("aorta", "x")])
    second = written(tmp_path / "b.dcm", source, mask, [SegmentClass("vein", "Left"), SegmentClass("capillary", "y")])
    assert [one.matched_by for one in compare_files(first, second).segments] == ["label", "number"]


def test_segments_that_only_one_has_are_named(tmp_path: Path) -> None:
    """What has no partner is not compared with something else."""
    source = CASES["sc"].series()
    mask = two(source)
    first = written(tmp_path / "a.dcm", source, mask, [ARTERY, VEIN])
    second = written(tmp_path / "b.dcm", source, mask[:1], [ARTERY])
    found = compare_files(first, second)
    assert ([one.label for one in found.segments], found.only_first, found.only_second) == (["Artery"], ("Vein",), ())
    found = compare_files(second, first)
    assert (found.only_first, found.only_second) == ((), ("Vein",))


def test_kinds_may_differ(tmp_path: Path) -> None:
    """A label map and a fractional object of the same mask equal the binary one."""
    source = CASES["ct"].series()
    mask = empty(source, 2)
    mask[0, 2:5, 10:20, 10:40] = mask[1, 2:5, 40:50, 10:40] = True
    first = written(tmp_path / "a.dcm", source, mask, ARTERY_AND_VEIN)
    for kind in (ResultKind.SEG_LABELMAP, ResultKind.SEG_FRACTIONAL, ResultKind.SEG_DEFLATED):
        second = written(tmp_path / "b.dcm", source, mask, ARTERY_AND_VEIN, kind)
        assert [one.dice for one in compare_files(first, second).segments] == [1.0, 1.0]


# --- PNG masks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_png_with_a_segmentation_of_one_picture(mode: str, tmp_path: Path) -> None:
    """A mask drawn by hand is compared with the result of a photograph, on either side."""
    source = CASES["op_rgb"].series()
    mask = empty(source)
    mask[0, 0, 20:30, 10:50] = True
    segmentation = written(tmp_path / "a.dcm", source, mask, [ARTERY])
    Image.fromarray(mask[0, 0].astype(np.uint8) * 255).convert(mode).save(tmp_path / "truth.png")
    for pair in ((segmentation, tmp_path / "truth.png"), (tmp_path / "truth.png", segmentation)):
        (segment,) = compare_files(*pair).segments
        assert (segment.dice, segment.matched_by, segment.unit) == (1.0, "number", "pixels")


def test_two_pngs(tmp_path: Path) -> None:
    """Values of 1 are a mask as well as values of 255."""
    mask = np.zeros((40, 50), np.uint8)
    mask[10:20, 10:40] = 1
    Image.fromarray(mask).save(tmp_path / "a.png")
    Image.fromarray(mask * 255).save(tmp_path / "b.png")
    assert compare_files(tmp_path / "a.png", tmp_path / "b.png").segments[0].dice == 1.0


def test_png_with_a_run_is_refused(tmp_path: Path) -> None:
    """One picture says nothing of many frames."""
    source = CASES["xa_run"].series()
    mask = empty(source)
    mask[:, :5, 3, 3] = True
    Image.fromarray(mask[0, 0]).save(tmp_path / "b.png")
    with pytest.raises(ConfigurationError, match="one frame, the segmentation 5"):
        compare_files(written(tmp_path / "a.dcm", source, mask, [ARTERY]), tmp_path / "b.png")


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_different_sources_are_refused(tmp_path: Path) -> None:
    """Masks of two patients overlap by chance only."""
    files = []
    for name in ("a", "b"):
        source = CASES["ct"].series()
        mask = empty(source)
        mask[0, 3] = True
        files.append(written(tmp_path / f"{name}.dcm", source, mask, [ARTERY]))
    with pytest.raises(ConfigurationError, match="different images"):
        compare_files(*files)


def test_different_sizes_are_refused(tmp_path: Path) -> None:
    """A mask that was resampled is not comparable pixel by pixel."""
    for name, shape in (("a", (40, 50)), ("b", (40, 51))):
        Image.fromarray(np.ones(shape, np.uint8)).save(tmp_path / f"{name}.png")
    with pytest.raises(ConfigurationError, match="different rows and columns"):
        compare_files(tmp_path / "a.png", tmp_path / "b.png")


def test_objects_without_a_frame_in_common_are_compared(tmp_path: Path) -> None:
    """Of one series one found vessels in the upper, one in the lower half: that is Dice 0, not another source."""
    source = CASES["several_op"].series()
    first, second = empty(source), empty(source)
    first[0, 0, 10:20, 10:20] = second[0, 1, 10:20, 10:20] = True
    (segment,) = compared(tmp_path, source, first, second).segments
    assert (segment.dice, segment.distance_95, segment.one_sided_frames) == (0.0, None, 2)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    """Text called PNG, and a file that is not there."""
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(InvalidSegmentationError, match="no PNG"):
        compare_files(tmp_path / "a.png", tmp_path / "a.png")
    with pytest.raises(NotFoundError):
        compare_files(tmp_path / "b.png", tmp_path / "a.png")


# --- properties -------------------------------------------------------------------------------------------------------

MASKS = arrays.arrays(np.bool_, st.tuples(st.integers(1, 6), st.integers(1, 8), st.integers(1, 8)))


def sums(first: np.ndarray, second: np.ndarray) -> _Sums:
    found = _Sums()
    found.add(first, second, (2.0, 1.0, 0.5))
    return found


@settings(max_examples=40, deadline=None)
@given(masks=MASKS.flatmap(lambda first: st.tuples(st.just(first), arrays.arrays(np.bool_, first.shape))))
def test_measures_are_symmetric_and_bounded(masks: tuple[np.ndarray, np.ndarray]) -> None:
    """Swapping the two changes nothing; overlap is between 0 and 1 and agrees with its definition."""
    first, second = masks
    one, other = sums(first, second), sums(second, first)
    assert one.dice() == other.dice()
    assert one.cl_dice() == pytest.approx(other.cl_dice())
    assert one.distance_95() == other.distance_95()
    total = first.sum() + second.sum()
    assert one.dice() == (None if total == 0 else 2 * (first & second).sum() / total)
    for share in (one.dice(), one.cl_dice()):
        assert share is None or 0 <= share <= 1
    assert (one.distance_95() is None) == (not first.any() or not second.any())
