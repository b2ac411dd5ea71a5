"""How pictures, places and masks come to the square of a SAM network and back, and what a folder may ask for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_sam import MEDSAM_PREPROCESSOR, SAM2_PREPROCESSOR, SAM_PREPROCESSOR
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

from dicom_core.errors import ConfigurationError
from worker.model_folder.manifest import ModelManifest
from worker.model_folder.medsam import manifest_settings
from worker.model_folder.opening import ModelFolder, files_of
from worker.segmenters.promptable.preparing import Preparation

SHAPES = [(48, 48), (50, 90), (130, 70), (5, 40)]


def picture(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def folder(tmp_path: Path, preprocessor: dict[str, object] | None, **settings: object) -> ModelFolder:
    """A folder with a preprocessor file and nothing else."""
    names = []
    if preprocessor is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessor))
        names = ["preprocessor_config.json"]
    (tmp_path / "config.json").write_text("{}")
    files = files_of(tmp_path, ["config.json", *names])
    return ModelFolder(
        tmp_path, ModelManifest(system="sam", name="m", version="1", license="MIT", files=files, settings=settings)
    )


def preparation(tmp_path: Path, preprocessor: dict[str, object] | None, **settings: object) -> Preparation:
    return Preparation.of_folder(folder(tmp_path, preprocessor, **settings), 64, stretch=False, pillow=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("preprocessor", [SAM_PREPROCESSOR, MEDSAM_PREPROCESSOR], ids=["sam", "medsam"])
def test_pixels_are_those_of_the_sam_image_processor(
    tmp_path: Path, shape: tuple[int, int], preprocessor: dict[str, object]
) -> None:
    """The input equals that of transformers' SamImageProcessor, made from the same file, to rounding."""
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    theirs = SamImageProcessorPil.from_pretrained(tmp_path)(picture(shape), return_tensors="np")["pixel_values"][0]
    ours = preparation(tmp_path, preprocessor).pixels([picture(shape)])[0].numpy()
    assert theirs.shape == ours.shape == (3, 64, 64)
    assert np.abs(ours - theirs).max() <= 1e-6


def test_pixels_at_full_size_are_those_of_the_sam_image_processor() -> None:
    """The same with the numbers of the public SAM folders, for a picture that is made smaller."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ours = Preparation(size=1024, stretch=False, mean=mean, std=std).pixels([picture((700, 1500))])[0].numpy()
    theirs = SamImageProcessorPil()(picture((700, 1500)), return_tensors="np")["pixel_values"][0]
    assert np.abs(ours - theirs).max() <= 1e-6


def test_sam2_stretches_with_whole_grey_levels_of_torch(tmp_path: Path) -> None:
    """SAM 2 fills the square with torch's own resampling of bytes, as its torchvision processor does."""
    model = folder(tmp_path, SAM2_PREPROCESSOR)
    ours = Preparation.of_folder(model, 64, stretch=True, pillow=False).pixels([picture((130, 70))])[0]
    levels = torch.nn.functional.interpolate(
        torch.from_numpy(picture((130, 70))).permute(2, 0, 1)[None], size=(64, 64), mode="bilinear", antialias=True
    )[0]
    mean, std = (torch.tensor(SAM2_PREPROCESSOR[key])[:, None, None] for key in ("image_mean", "image_std"))
    assert torch.allclose(ours, (levels / 255 - mean) / std, atol=1e-6)


def test_medsam_by_its_own_code_is_stretched_and_min_max(tmp_path: Path) -> None:
    """With stretch and min_max in the manifest a dull picture of any aspect fills the square from exactly 0 to 1."""
    prepared = preparation(tmp_path, MEDSAM_PREPROCESSOR, stretch=True, min_max=True)
    dull = picture((50, 90)) // 4 + 60
    pixels = prepared.pixels([dull])[0]
    assert (pixels.min(), pixels.max()) == (0, 1)
    assert (pixels[:, 40:].std(), prepared.inner_size((50, 90))) == (pytest.approx(0.1, abs=0.15), (64, 64))
    assert pixels[:, 40:].std() > 0
    assert torch.equal(prepared.pixels([np.full((5, 5, 3), 9, np.uint8)]), torch.zeros(1, 3, 64, 64))


def test_folder_without_the_file_is_prepared_as_its_system(tmp_path: Path) -> None:
    """No preprocessor_config.json: the numbers of the public folders, stretched or not as the system does."""
    model = folder(tmp_path, None)
    by_sam = Preparation.of_folder(model, 64, stretch=False, pillow=True)
    assert by_sam == preparation(tmp_path, SAM_PREPROCESSOR)
    assert Preparation.of_folder(model, 64, stretch=True, pillow=True).stretch


@pytest.mark.parametrize(
    ("file", "settings", "text"),
    [
        ({"size": {"longest_edge": 1024}}, {}, "bilinear resampling to 64"),
        ({"size": {"height": 64, "width": 32}}, {}, "bilinear resampling to 64"),
        ({"resample": 3}, {}, "bilinear resampling"),
        ({"image_mean": [0.5]}, {}, "image_mean"),
        ([1], {}, "not what Hugging Face writes"),
        ({}, {"min_max": "perhaps"}, "stretch and min_max"),
        ({}, {"sharpen": True}, "stretch and min_max"),
    ],
)
def test_folder_that_asks_for_something_else_is_refused(
    tmp_path: Path, file: dict[str, object], settings: dict[str, object], text: str
) -> None:
    """Sizes and filters that the network does not take, and words that nobody knows, are configuration errors."""
    with pytest.raises(ConfigurationError, match=text):
        preparation(tmp_path, file, **settings)


def test_damaged_file_is_refused(tmp_path: Path) -> None:
    """A preprocessor file that is no JSON, or another than the manifest lists, is a configuration error."""
    model = folder(tmp_path, {"size": {}})
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(ConfigurationError, match="hash or size"):
        Preparation.of_folder(model, 64, stretch=False, pillow=True)
    with pytest.raises(ConfigurationError, match="no JSON"):
        Preparation.of_folder(ModelFolder(tmp_path, model.manifest, checked=False), 64, stretch=False, pillow=True)


@pytest.mark.parametrize(("stretch", "expected"), [(False, (36.0, 12.8)), (True, (36.0, 25.6))])
def test_place_on_a_wide_picture_goes_to_its_place_in_the_square(stretch: bool, expected: tuple[float, float]) -> None:
    """Column 45, row 16 of a picture of 40 x 80 lies where the same share of the filled part of the square is."""
    places = Preparation(size=64, stretch=stretch).places(np.array([[45, 16]], np.float32), (40, 80))
    assert places[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("stretch", [False, True])
@pytest.mark.parametrize("shape", [(96, 192), (192, 96), (64, 64)])
def test_bright_spot_is_found_at_its_place(stretch: bool, shape: tuple[int, int]) -> None:
    """The pixels of the square around a place show what the picture shows there; so places and pixels agree."""
    prepared = Preparation(size=64, stretch=stretch)
    spot = np.zeros((*shape, 3), np.uint8)
    row, column = shape[0] // 3, shape[1] // 4
    spot[row - 4 : row + 5, column - 4 : column + 5] = 255
    x, y = prepared.places(np.array([column, row], np.float32), shape).tolist()
    brightest = prepared.pixels([spot])[0, 0]
    weights = brightest / brightest.sum()
    there = torch.arange(64.0)
    assert float((weights.sum(0) * there).sum()) == pytest.approx(x, abs=0.5)
    assert float((weights.sum(1) * there).sum()) == pytest.approx(y, abs=0.5)


@pytest.mark.parametrize("stretch", [False, True])
def test_mask_comes_back_where_it_was(stretch: bool) -> None:
    """A mask brought to the network's logits and back to the frame differs at its border only."""
    prepared = Preparation(size=64, stretch=stretch)
    mask = np.zeros((40, 80), bool)
    mask[8:24, 40:72] = True
    logits = prepared.mask_logits(mask, 16)
    assert logits.shape == (1, 16, 16)
    assert (float(logits.max()), float(logits.min())) == (10, -10)
    back = prepared.to_frame(logits, (40, 80))[0].numpy() > 0
    wrong = back != mask
    assert wrong.mean() < 0.06
    assert not wrong[12:20, 46:66].any()
    assert not wrong[:4].any()


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_come_back_as_the_sam_processor_brings_them(shape: tuple[int, int]) -> None:
    """Upscaling and cutting away the padding equals transformers' post_process_masks."""
    logits = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(0))
    prepared = Preparation(size=64, stretch=False)
    theirs = SamImageProcessorPil().post_process_masks(
        [logits[None]], [shape], [prepared.inner_size(shape)], binarize=False, pad_size={"height": 64, "width": 64}
    )[0]
    assert torch.allclose(prepared.to_frame(logits, shape), theirs[0], atol=1e-6)


def test_preparation_is_told_in_words() -> None:
    """The account of a result says how pictures came to the network."""
    assert Preparation(size=64, stretch=True, min_max=True).in_words() == "64 x 64, stretched, min-max"
    assert "padded" in Preparation(size=64, stretch=False).in_words()


def test_folder_of_medsam_is_known_by_its_preprocessor_file(tmp_path: Path) -> None:
    """`do_normalize: false` means MedSAM, whose manifest is to say stretch and min_max; no other folder does."""
    for file, expected in (
        (MEDSAM_PREPROCESSOR, {"stretch": True, "min_max": True}),
        (SAM_PREPROCESSOR, {}),
        ([1], {}),
    ):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(file))
        assert manifest_settings(tmp_path) == expected
    assert manifest_settings(tmp_path / "nowhere") == {}
    folder(tmp_path, MEDSAM_PREPROCESSOR)
    assert preparation(tmp_path, MEDSAM_PREPROCESSOR, **manifest_settings(tmp_path)).in_words() == (
        "64 x 64, stretched, min-max"
    )
