"""Cleaning of masks: hysteresis, small pieces, and what counts as joined."""

import numpy as np
import pytest

from worker.image_stack import Arrangement
from worker.postprocessing import clean, remove_small

FRAMES, VOLUME = Arrangement.FRAMES, Arrangement.VOLUME


def test_weak_piece_is_kept_only_when_it_reaches_the_seed() -> None:
    """A piece of candidates stays whole when one of its pixels is a seed, and goes when none is."""
    probability = np.zeros((1, 5, 20), np.float16)
    probability[0, 1, 2:8] = 0.6
    probability[0, 1, 5] = 0.9
    probability[0, 3, 12:18] = 0.6
    mask = clean(probability, arrangement=FRAMES, threshold=0.5, seed=0.8)
    assert mask[0, 1, 2:8].all()
    assert not mask[0, 3].any()
    assert mask.sum() == 6


def test_threshold_and_seed_are_inclusive() -> None:
    """A probability equal to the threshold is in the mask, and one equal to the seed is a seed."""
    probability = np.full((1, 2, 2), 0.5, np.float16)
    assert clean(probability, arrangement=FRAMES, threshold=0.5, seed=0.5).all()
    assert not clean(probability, arrangement=FRAMES, threshold=0.5, seed=0.51).any()


def test_small_pieces_go_by_number_of_pixels() -> None:
    """A piece of exactly the minimum size stays, one pixel fewer goes."""
    mask = np.zeros((1, 10, 10), bool)
    mask[0, 0, :4] = True
    mask[0, 5, :3] = True
    kept = remove_small(mask, 4, arrangement=FRAMES)
    assert kept.sum() == 4
    assert kept[0, 0, :4].all()


def test_diagonal_neighbours_are_joined() -> None:
    """Thin oblique vessels are one piece: eight neighbours in a frame, 26 in a volume."""
    frame = np.eye(6, dtype=bool)[None]
    assert remove_small(frame, 6, arrangement=FRAMES).sum() == 6
    volume = np.zeros((6, 6, 6), bool)
    volume[range(6), range(6), range(6)] = True
    assert remove_small(volume, 6, arrangement=VOLUME).sum() == 6


@pytest.mark.parametrize(("arrangement", "kept"), [(FRAMES, 0), (Arrangement.RUN, 0), (VOLUME, 5)])
def test_pieces_are_joined_through_slices_but_not_through_time(arrangement: Arrangement, kept: int) -> None:
    """A pixel at the same place in five frames is one piece in a volume, and five in pictures and runs."""
    mask = np.zeros((5, 4, 4), bool)
    mask[:, 2, 2] = True
    assert remove_small(mask, 5, arrangement=arrangement).sum() == kept


def test_frames_are_cleaned_independently() -> None:
    """A frame's mask is the same alone and among others."""
    probability = np.random.default_rng(1).random((6, 30, 30)).astype(np.float16)
    together = clean(probability, arrangement=FRAMES, threshold=0.6, seed=0.9, minimum_size=5)
    for number in range(6):
        alone = clean(probability[number : number + 1], arrangement=FRAMES, threshold=0.6, seed=0.9, minimum_size=5)
        assert np.array_equal(alone[0], together[number])
    assert 0 < together.sum() < probability.size


def test_nothing_above_the_threshold_gives_an_empty_mask() -> None:
    """All-zero probabilities give a mask of the same shape without a pixel."""
    mask = clean(np.zeros((2, 3, 4), np.float16), arrangement=VOLUME)
    assert mask.shape == (2, 3, 4)
    assert mask.dtype == np.bool_
    assert not mask.any()
