"""Which frames of a run the language model sees."""

import numpy as np
import pytest

from worker.segmenters.sa2va.conditioning import chosen_frames, filled_frames, vessel_contrast


def angiogram(filling: float, *, brightness: int = 150) -> np.ndarray:
    """A picture with a vessel that is filled to some degree, on a background that every frame has."""
    rows, columns = np.mgrid[:128, :160]
    grey = brightness + 20 * np.sin(columns / 30)
    grey = grey - 80 * filling * (np.abs(rows - 64 - 20 * np.sin(columns / 25)) < 3)
    noise = np.random.default_rng(0).normal(0, 3, grey.shape)
    return np.repeat(np.clip(grey + noise, 0, 255)[..., None], 3, -1).astype(np.uint8)


def filling_of(frame: int) -> float:
    """Contrast medium comes at frame 8, is full from 12 to 20, and washes out."""
    return float(np.interp(frame, [8, 12, 20, 28], [0, 1, 1, 0]))


def test_first_is_as_published() -> None:
    """The first five, or all of fewer; no picture is even looked at."""

    def never(_frame: int) -> np.ndarray:
        raise AssertionError

    assert chosen_frames("first", 40, never) == (0, 1, 2, 3, 4)
    assert chosen_frames("first", 3, never) == (0, 1, 2)
    assert chosen_frames("contrast", 5, never) == (0, 1, 2, 3, 4)
    assert chosen_frames("evenly", 41, never) == (0, 10, 20, 30, 40)
    assert chosen_frames("evenly", 2, never) == (0, 1)


def test_contrast_finds_filled_vessels() -> None:
    """In a run of 40 frames whose vessels are full from 12 to 20, all five lie where they are nearly full."""
    chosen = chosen_frames("contrast", 40, lambda frame: angiogram(filling_of(frame)))
    assert len(set(chosen)) == 5
    assert all(filling_of(frame) >= 0.6 for frame in chosen)
    assert max(chosen) - min(chosen) >= 8


def test_a_flash_is_no_contrast() -> None:
    """One frame that is wildly structured, a wrong exposure or a marker, is not chosen for it."""
    contrast = np.array([filling_of(frame) for frame in range(40)])
    contrast[3] = 50.0
    assert 3 not in filled_frames(contrast, 5)


def test_a_run_without_contrast_medium_still_has_frames() -> None:
    """Equal frames: evenly over the run. A rise in the last two frames: they and the next best."""
    assert filled_frames(np.ones(21), 5) == (0, 5, 10, 15, 20)
    assert filled_frames(np.array([0, 0, 0, 0.1, 0.2, 0.3, 1, 1.0]), 5) == (3, 4, 5, 6, 7)


@pytest.mark.parametrize("invert", [False, True])
def test_vessels_count_dark_or_bright(*, invert: bool) -> None:
    """Contrast grows with filling whether vessels are dark, or bright after subtraction; brightness is none."""
    pictures = [angiogram(filling) for filling in (0.0, 0.5, 1.0)]
    contrasts = [vessel_contrast(255 - one if invert else one) for one in pictures]
    assert contrasts[0] < contrasts[1] < contrasts[2]
    assert vessel_contrast(angiogram(0.0, brightness=120)) == pytest.approx(contrasts[0], rel=0.05)
