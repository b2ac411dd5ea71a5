"""Preview pictures show the right frame in the right colours and nothing else."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from seg_cases import ARTERY_AND_VEIN, segmentation_of

from worker.image_stack import Arrangement, FrameIdentity, ImageStack, Imaging
from worker.seg_writer.catalogue import colour_of
from worker.seg_writer.preview import display_frame, most_vessel, write_preview


def stack_of(pixels: np.ndarray, imaging: Imaging = Imaging.XRAY_ANGIOGRAPHY, **more: object) -> ImageStack:
    frames = tuple(FrameIdentity("1.2.3", number + 1) for number in range(len(pixels)))
    return ImageStack(pixels, Arrangement.RUN, imaging, frames, **more)


def mask_in_frame(index: int, shape: tuple[int, ...] = (1, 5, 20, 24)) -> np.ndarray:
    mask = np.zeros(shape, np.bool_)
    mask[:, index, 5:12, 6:15] = True
    mask[:, 0, 0, 0] = True
    return mask


def test_frame_with_most_vessel(tmp_path: Path) -> None:
    """Of a run the frame with most vessel is shown, at its own size."""
    stack = stack_of(np.zeros((5, 20, 24), np.float32))
    assert write_preview(stack, segmentation_of(mask_in_frame(3)), tmp_path / "preview.png") == 3
    with Image.open(tmp_path / "preview.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (24, 20))


def test_inside_is_tinted_and_border_is_full(tmp_path: Path) -> None:
    """The border has the segment's colour, the inside lets the picture through, the rest is untouched."""
    stack = stack_of(np.full((5, 20, 24), 50, np.float32), display_range=(0, 100))
    write_preview(stack, segmentation_of(mask_in_frame(2)), tmp_path / "preview.png")
    with Image.open(tmp_path / "preview.png") as image:
        picture = np.asarray(image).astype(int)
    colour = np.array(colour_of("blood_vessel", Imaging.XRAY_ANGIOGRAPHY))
    assert picture[5, 6].tolist() == colour.tolist()
    assert np.abs(picture[8, 10] - (0.55 * 127.5 + 0.45 * colour)).max() <= 1
    assert np.abs(picture[15, 20] - 127.5).max() <= 0.5


def test_two_segments_in_their_colours(tmp_path: Path) -> None:
    """Each segment is drawn in the colour of its type."""
    mask = np.zeros((2, 1, 16, 16), np.bool_)
    mask[0, 0, 1, :] = True
    mask[1, 0, 9, :] = True
    colour = np.zeros((1, 16, 16, 3), np.uint8)
    path = tmp_path / "preview.png"
    write_preview(stack_of(colour, Imaging.FUNDUS), segmentation_of(mask, ARTERY_AND_VEIN), path)
    with Image.open(path) as image:
        assert image.getpixel((4, 1)) == colour_of("artery", Imaging.FUNDUS)
        assert image.getpixel((4, 9)) == colour_of("vein", Imaging.FUNDUS)
        assert image.getpixel((4, 4)) == (0, 0, 0)


def test_nothing_but_pixels(tmp_path: Path) -> None:
    """The file carries no text and no time: only header, pixels and end."""
    stack = stack_of(np.zeros((5, 20, 24), np.float32), body_part_examined="HEART")
    write_preview(stack, segmentation_of(mask_in_frame(3)), tmp_path / "preview.png")
    content = (tmp_path / "preview.png").read_bytes()
    for chunk in (b"tEXt", b"iTXt", b"zTXt", b"tIME", b"eXIf"):
        assert chunk not in content
    assert b"1.2.3" not in content


def test_window_of_the_source() -> None:
    """``display_range`` decides black and white."""
    stack = stack_of(np.array([[[-100, 0, 50, 100, 900]]], np.float32), display_range=(0, 100))
    assert display_frame(stack, 0)[0, :, 0].tolist() == [0, 0, 127.5, 255, 255]


def test_robust_percentiles_without_window() -> None:
    """One hot pixel among thousands does not darken the picture, nor does one that is no number break it."""
    frame = np.linspace(0, 100, 10_000, dtype=np.float32).reshape(1, 100, 100)
    frame[0, 0, 0], frame[0, 0, 1] = 1e6, np.nan
    shown = display_frame(stack_of(frame), 0)
    assert shown[50, 50, 0] == pytest.approx(127, abs=4)
    assert np.isfinite(shown).all()


@pytest.mark.parametrize("pixels", [np.full((1, 8, 8), 7, np.float32), np.full((1, 8, 8), np.nan, np.float32)])
def test_flat_and_empty_pictures(pixels: np.ndarray) -> None:
    """A picture of one value, or of no number at all, is drawn without dividing by zero."""
    assert np.isfinite(display_frame(stack_of(pixels), 0)).all()


def test_no_vessel_shows_the_middle() -> None:
    """With an empty mask the middle frame stands for the series."""
    assert most_vessel(np.zeros((1, 9, 4, 4), np.bool_)) == 4
