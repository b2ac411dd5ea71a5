"""Windows, overlays, sizes and captions: what stands in single pixels of a picture."""

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.image_stack import Arrangement, FrameIdentity, ImageStack, Imaging
from worker.pictures.caption import BACKGROUND, Legend, caption_strip, drawable, font_size, with_caption, write_words
from worker.pictures.choice import evenly_spaced, most_vessel, vessel_extent
from worker.pictures.display import display_frame, display_grey, display_limits
from worker.pictures.overlay import FILLED, OUTLINED, Style, border, lay_over
from worker.pictures.scaling import resized_mask, resized_picture, scale_for, scaled_shape

RED, BLUE = (216, 101, 79), (0, 151, 206)


def stack_of(pixels: NDArray[np.generic], imaging: Imaging = Imaging.XRAY_ANGIOGRAPHY, **more: object) -> ImageStack:
    frames = tuple(FrameIdentity("1.2.3", number + 1) for number in range(len(pixels)))
    return ImageStack(pixels, Arrangement.RUN, imaging, frames, **more)


# --- display ----------------------------------------------------------------------------------------------------------


def test_window_of_the_source() -> None:
    """``display_range`` decides black and white; what lies outside is cut."""
    stack = stack_of(np.array([[[-100, 0, 50, 100, 900]]], np.float32), display_range=(0, 100))
    assert display_frame(stack, 0)[0].tolist() == [[value] * 3 for value in (0, 0, 128, 255, 255)]


def test_robust_percentiles_without_window() -> None:
    """One hot pixel among thousands does not darken the picture, nor does one that is no number break it."""
    frame = np.linspace(0, 100, 10_000, dtype=np.float32).reshape(1, 100, 100)
    frame[0, 0, 0], frame[0, 0, 1] = 1e6, np.nan
    shown = display_frame(stack_of(frame), 0)
    assert int(shown[50, 50, 0]) == pytest.approx(127, abs=4)
    assert shown[0, 1].tolist() == [0, 0, 0]


def test_ct_without_window_gets_that_of_ct_angiography() -> None:
    """Bone and air do not decide what is grey: soft tissue at 40 HU is dark grey, contrast at 400 HU bright."""
    volume = np.full((4, 32, 32), -1000, np.float32)
    volume[:, 8:24, 8:24], volume[:, 14, 14], volume[:, 10, 10] = 40, 400, 3000
    shown = display_frame(stack_of(volume, Imaging.CT), 1)
    assert (shown[0, 0, 0], shown[10, 10, 0]) == (0, 255)
    assert 40 < shown[9, 9, 0] < 80
    assert 200 < shown[14, 14, 0] < 230


def test_limits_hold_for_a_whole_run() -> None:
    """A run does not flicker: its frames share one window, even where one of them is empty."""
    run = np.stack([np.zeros((40, 40)), np.full((40, 40), 50), np.full((40, 40), 100)]).astype(np.float32)
    stack = stack_of(run)
    assert [int(display_frame(stack, index)[5, 5, 0]) for index in range(3)] == [0, 128, 255]


@pytest.mark.parametrize("value", [7, np.nan, np.inf])
def test_flat_pictures(value: float) -> None:
    """A picture of one value, or of no number at all, is drawn without dividing by zero."""
    assert display_frame(stack_of(np.full((1, 8, 8), value, np.float32)), 0).shape == (8, 8, 3)


def test_colour_stays_as_it_is() -> None:
    """RGB is shown untouched, in an array of its own."""
    pixels = np.random.default_rng(1).integers(0, 256, (2, 6, 7, 3)).astype(np.uint8)
    stack = stack_of(pixels, Imaging.FUNDUS)
    shown = display_frame(stack, 1)
    assert np.array_equal(shown, pixels[1])
    assert not np.shares_memory(shown, pixels)


def test_grey_of_any_shape() -> None:
    """Windowing takes lines as well as pictures and leaves its argument alone."""
    values = np.array([0.0, 5.0, np.nan, 10.0], np.float32)
    assert display_grey(values, (0, 10)).tolist() == [0, 128, 0, 255]
    assert np.isnan(values[2])


def test_limits_are_never_equal() -> None:
    """A window of width 0 becomes a step, not a division by zero."""
    low, high = display_limits(stack_of(np.zeros((1, 2, 2), np.float32), display_range=(5, 5)))
    assert low == 5
    assert high > low


# --- choice -----------------------------------------------------------------------------------------------------------


def test_most_vessel_counts_all_classes() -> None:
    """The frame with most voxels over all classes; the middle one where nothing was found."""
    mask = np.zeros((2, 9, 4, 4), np.bool_)
    assert most_vessel(mask) == 4
    mask[0, 2, 0], mask[1, 7, :2] = True, True
    assert most_vessel(mask) == 7


def test_extent_of_the_vessels() -> None:
    """From the first frame with a vessel to the last, with a margin that stays inside; everything when empty."""
    mask = np.zeros((1, 20, 4, 4), np.bool_)
    assert vessel_extent(mask, 3) == (0, 20)
    mask[0, [4, 16]] = True
    assert vessel_extent(mask) == (4, 17)
    assert vessel_extent(mask, 3) == (1, 20)


@pytest.mark.parametrize(("begin", "end", "most"), [(0, 1, 20), (3, 9, 20), (0, 600, 20), (5, 45, 40), (0, 41, 40)])
def test_evenly_spaced(begin: int, end: int, most: int) -> None:
    """Different indices in order, both ends among them, no gap more than one longer than another."""
    chosen = evenly_spaced(begin, end, most)
    assert len(chosen) == min(most, end - begin) == len(set(chosen))
    assert (chosen[0], chosen[-1]) == (begin, end - 1)
    gaps = np.diff(chosen)
    assert not gaps.size or gaps.max() - gaps.min() <= 1


# --- overlay ----------------------------------------------------------------------------------------------------------


def test_line_runs_outside_the_segment() -> None:
    """The border pixels lie beside the mask, never in it, and close around it without gaps along rows and columns."""
    mask = np.zeros((12, 12), np.bool_)
    mask[4:8, 5:7] = True
    line = border(mask)
    assert not (line & mask).any()
    assert line.sum() == 2 * (4 + 2)
    assert line[3, 5]
    assert line[8, 6]
    assert line[5, 4]
    assert not line[3, 4]
    assert border(mask, 2).sum() > 2 * line.sum()


def test_line_at_the_edge_of_the_picture() -> None:
    """A vessel that leaves the picture has no line along the edge, and the other side of the picture none either."""
    mask = np.zeros((6, 6), np.bool_)
    mask[:, :2] = True
    assert np.array_equal(np.argwhere(border(mask))[:, 1], [2] * 6)


def test_thin_vessels_stay_visible() -> None:
    """Of a vessel one pixel wide the reader sees the image itself, almost untinted, between two lines."""
    picture = np.full((20, 20, 3), 60, np.uint8)
    mask = np.zeros((20, 20), np.bool_)
    mask[:, 10] = True
    drawn = lay_over(picture, [mask], [RED], OUTLINED).astype(int)
    assert np.abs(drawn[5, 10] - 60).max() <= 0.15 * 160
    for beside in (9, 11):
        assert np.abs(drawn[5, beside] - RED).max() <= 10
    assert (drawn[5, 5] == 60).all()


def test_filled_lets_the_picture_through() -> None:
    """The tint is a mixture of picture and colour; the rest is untouched, and so is the picture given."""
    picture = np.full((20, 20, 3), 100, np.uint8)
    mask = np.zeros((20, 20), np.bool_)
    mask[5:12, 5:12] = True
    drawn = lay_over(picture, [mask], [RED], FILLED)
    expected = np.rint(100 + FILLED.tint * (np.array(RED) - 100.0))
    assert drawn[8, 8].tolist() == expected.tolist()
    assert drawn[0, 0].tolist() == [100] * 3
    assert (picture == 100).all()


def test_lines_lie_above_tints() -> None:
    """Where segments touch, no tint hides the line of the other."""
    masks = np.zeros((2, 10, 10), np.bool_)
    masks[0, 2:5], masks[1, 5:8] = True, True
    drawn = lay_over(np.zeros((10, 10, 3), np.uint8), list(masks), [RED, BLUE], Style(tint=1, line=1))
    assert drawn[4, 5].tolist() == list(BLUE)
    assert drawn[5, 5].tolist() == list(RED)
    assert drawn[3, 5].tolist() == list(RED)
    assert drawn[6, 5].tolist() == list(BLUE)


@pytest.mark.parametrize("opacity", [0.0, 0.3, 1.0])
def test_blending_is_exact_for_every_value(opacity: float) -> None:
    """The table behind the mixture gives what arithmetic gives, for all 256 values."""
    picture = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    drawn = lay_over(picture, [np.ones((1, 256), np.bool_)], [RED], Style(tint=opacity, line=0))
    expected = picture + opacity * (np.array(RED, np.float64) - picture)
    assert np.abs(drawn - expected).max() <= 0.5 + 1e-4


def test_wider_lines_on_larger_pictures() -> None:
    """On 2000 pixels a line is two pixels wide, so that it can be seen on a screen that shows the whole picture."""
    mask = np.zeros((2000, 30), np.bool_)
    mask[:, 10:12] = True
    drawn = lay_over(np.zeros((2000, 30, 3), np.uint8), [mask], [RED], Style(tint=0, line=1))
    assert np.flatnonzero(drawn[1000].any(axis=1)).tolist() == [8, 9, 12, 13]


# --- scaling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [(64, 72, 8.0), (512, 512, 1.0), (300, 511, 2.0), (960, 1000, 1.0), (2000, 3000, 0.4266), (1, 1, 512.0)],
)
def test_scale_for(rows: int, columns: int, expected: float) -> None:
    """Small pictures grow by a whole factor, large ones shrink to the limit, those between stay."""
    assert scale_for(rows, columns, least=512, most=1280) == pytest.approx(expected, abs=1e-3)
    assert scaled_shape(rows, columns, expected) == (max(1, round(rows * expected)), round(columns * expected))


def test_growing_never_passes_the_limit() -> None:
    """A picture just below the least size is not made larger than the most."""
    assert scale_for(300, 300, least=512, most=512) == 1.0


@pytest.mark.parametrize("size", [50, 77, 120, 199])
@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("left", [98, 99, 100, 101])
def test_thin_vessels_survive_shrinking(left: int, width: int, size: int) -> None:
    """A thin line is still a line without gaps in a picture up to four times smaller, and never a wide one."""
    mask = np.zeros((200, 200), np.bool_)
    mask[:, left : left + width] = True
    small = resized_mask(mask, (size, size))
    assert small.any(axis=1).all()
    assert 1 <= small.sum(axis=1).max() <= width + 1


def test_growing_keeps_the_area() -> None:
    """A mask three times larger covers nine times the pixels, within what rounding its corners takes."""
    mask = np.zeros((40, 40), np.bool_)
    mask[10:30, 12:20] = True
    grown = resized_mask(mask, (120, 120))
    assert grown.sum() == pytest.approx(9 * mask.sum(), rel=0.03)
    assert grown[60, 45]
    assert not grown[15, 45]


def test_same_size_is_the_same() -> None:
    """Nothing is resampled without need."""
    mask, picture = np.eye(7, dtype=np.bool_), np.zeros((7, 7, 3), np.uint8)
    assert resized_mask(mask, (7, 7)) is mask
    assert resized_picture(picture, (7, 7)) is picture


# --- caption ----------------------------------------------------------------------------------------------------------

LEGEND = Legend((("Artery", RED), ("Vein", BLUE)), "ridge 1.0")


def colours_in(picture: NDArray[np.uint8]) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in np.unique(picture.reshape(-1, 3), axis=0).tolist()}


@pytest.mark.parametrize("columns", [64, 200, 512, 1000, 4096])
def test_strip_shows_every_colour(columns: int) -> None:
    """Each segment has its colour in the strip, at any width, and the strip is as wide as the picture."""
    strip = caption_strip(columns, LEGEND)
    assert strip.shape[1] == columns
    assert {RED, BLUE, BACKGROUND} <= colours_in(strip)


def test_words_wrap_on_narrow_pictures() -> None:
    """What does not fit into one line goes on in the next: nothing is cut off at the right edge."""
    wide, narrow = caption_strip(1000, LEGEND), caption_strip(250, LEGEND)
    assert len(narrow) > 2 * font_size(250) * 1.5
    assert len(wide) < 3 * font_size(1000)
    for strip in (wide, narrow):
        assert colours_in(strip[:, -3:]) == {BACKGROUND}


def test_text_can_be_read() -> None:
    """Letters are at least 13 pixels high and bright on dark."""
    assert font_size(10) >= 13
    strip = caption_strip(512, LEGEND)
    assert strip.max() > 180
    assert np.median(strip) < 30


def test_nothing_found_says_so() -> None:
    """Without a vessel the strip has no colours to explain, and another text."""
    nothing = caption_strip(512, Legend(LEGEND.segments, "ridge 1.0", found=False))
    assert not {RED, BLUE} & colours_in(nothing)
    assert nothing.max() > 180


def test_letters_that_the_font_lacks() -> None:
    """A label in any script is drawn, unknown letters as question marks, control characters too."""
    assert drawable("Gefäß ß é") == "Gefäß ß é"
    assert drawable("血管\n") == "???"
    assert caption_strip(300, Legend((("血管" * 40, RED),), "")).shape[1] == 300


def test_caption_hides_nothing() -> None:
    """The picture above the strip is as it was."""
    picture = np.random.default_rng(2).integers(0, 256, (30, 200, 3)).astype(np.uint8)
    captioned = with_caption(picture, caption_strip(200, LEGEND))
    assert np.array_equal(captioned[:30], picture)


def test_words_on_pictures_stand_out() -> None:
    """On white and on black there are bright and dark pixels around the place, and none far from it."""
    for grey in (0, 255):
        picture = np.full((100, 200, 3), grey, np.uint8)
        written = write_words(picture, "7/20", (0.02, 0.02))
        assert written[:30, :60].max() > 180
        assert written[:30, :60].min() < 40
        assert (written[60:] == grey).all()
        assert (picture == grey).all()
