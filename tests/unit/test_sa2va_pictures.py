"""Pictures are cut and normalised as the published model was trained; a wrong tile moves every answer a little."""

import numpy as np
import pytest
import torch
from PIL import Image

from worker.segmenters.sa2va.picture_tensors import cut_tiles, for_language_model, for_sam2, tile_grid

CPU = torch.device("cpu")


def noise(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (rows, columns, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("rows", "columns", "tiles"),
    [(512, 512, 1), (768, 768, 5), (1024, 1024, 10), (480, 640, 13), (384, 640, 7), (448, 448, 1), (100, 3000, 13)],
)
def test_number_of_tiles(rows: int, columns: int, tiles: int) -> None:
    """The nearest shape of at most twelve tiles; of equal ones the larger if the picture fills it; and a thumbnail."""
    assert len(cut_tiles(noise(rows, columns), tile=448, most=12)) == tiles


def test_fewer_tiles_can_be_asked_for() -> None:
    """A limit of one is the thumbnail alone; a limit of four keeps the best shape within it."""
    assert cut_tiles(noise(768, 768), tile=448, most=1).shape == (1, 448, 448, 3)
    assert tile_grid(480, 640, tile=448, most=4) == (1, 1)
    assert tile_grid(480, 960, tile=448, most=4) == (2, 1)


def test_tiles_lie_row_by_row_and_the_whole_picture_is_last() -> None:
    """Four quarters of four greys become four tiles in reading order, and their mixture."""
    picture = np.zeros((200, 400, 3), np.uint8)
    picture[:, 200:] = 90
    tiles = cut_tiles(picture, tile=100, most=2)
    assert [round(float(tile.mean())) for tile in tiles] == [0, 90, 45]
    without = cut_tiles(picture, tile=100, most=2, thumbnail=False)
    assert np.array_equal(without, tiles[:2])


def test_language_model_sees_imagenet_units() -> None:
    """White is (1 - mean) / deviation of each colour, in float32 constants."""
    seen = for_language_model(np.full((1, 4, 4, 3), 255, np.uint8), CPU, torch.float32)
    assert seen.shape == (1, 3, 4, 4)
    expected = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert torch.allclose(seen[0, :, 0, 0], torch.tensor(expected), atol=1e-6)


def test_sam2_constants_are_rounded_to_bfloat16() -> None:
    """SAM 2's mean and deviation were held in bfloat16 even where everything else is float32."""
    seen = for_sam2([np.zeros((8, 16, 3), np.uint8)], CPU, torch.float32)
    assert seen.shape == (1, 3, 1024, 1024)
    mean = torch.tensor([0.485, 0.456, 0.406]).bfloat16().float()
    std = torch.tensor([0.229, 0.224, 0.225]).bfloat16().float()
    assert torch.allclose(seen[0, :, 5, 5], -mean / std, atol=1e-6)
    exact = torch.tensor([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    assert (seen[0, :, 5, 5] - exact).abs().max() > 1e-3


def test_sam2_sees_the_picture_stretched() -> None:
    """The whole picture in a square, as Pillow resizes it, whatever its shape."""
    picture = noise(40, 90)
    stretched = np.asarray(Image.fromarray(picture).resize((1024, 1024), Image.Resampling.BICUBIC))
    seen = for_sam2([picture], CPU, torch.float32)[0].permute(1, 2, 0).numpy()
    assert np.corrcoef(seen[..., 1].ravel(), stretched[..., 1].ravel())[0, 1] > 0.999999


def test_half_precision_is_the_last_step() -> None:
    """Numbers are rounded once, at the end."""
    picture = noise(32, 32)
    exact = for_sam2([picture], CPU, torch.float32)
    assert torch.equal(for_sam2([picture], CPU, torch.bfloat16), exact.bfloat16())
