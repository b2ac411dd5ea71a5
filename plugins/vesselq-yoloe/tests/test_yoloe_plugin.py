"""The yoloe plug-in on a YOLOE with random weights; needs ultralytics, which vesselq never installs."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).parents[1])]

from vesselq_yoloe.configuration import YoloeSettings
from vesselq_yoloe.segmenter import YoloeSegmenter

from dicom_core.errors import ConfigurationError, InvalidPromptError
from dicom_core.prompt import Box, PromptKind, Question
from worker.image_stack import Arrangement, FrameIdentity, ImageStack, Imaging
from worker.model_folder.manifest import ManifestClass, ModelManifest, write_manifest
from worker.model_folder.opening import files_of
from worker.segmenters.interface import ExamplePicture, Prompt
from worker.segmenters.semantic.settings import checked

NAMES = ["blood vessel", "catheter"]
ARCHITECTURE = "yoloe-11n-seg.yaml"
needs_ultralytics = pytest.mark.filterwarnings("ignore")
"""Its own warnings are not ours to mend."""


def stack() -> ImageStack:
    pixels = np.random.default_rng(0).integers(0, 255, (2, 96, 128, 3), np.uint8)
    frames = (FrameIdentity("2.25.1", 1), FrameIdentity("2.25.1", 2))
    return ImageStack(pixels, Arrangement.FRAMES, Imaging.OTHER, frames)


def folder(place: Path, mode: str) -> Path:
    """A folder with random weights; skips where ultralytics is not there."""
    if importlib.util.find_spec("ultralytics") is None:  # not imported: that is for the plug-in, which first takes care
        pytest.skip("ultralytics (AGPL-3.0) is not installed")
    import torch
    from safetensors.torch import save_file
    from vesselq_yoloe.network import YoloeNetwork, yoloe_class

    torch.manual_seed(0)
    model = yoloe_class()(ARCHITECTURE)
    model.model.eval()
    settings = {
        "architecture": ARCHITECTURE,
        "mode": mode,
        "names": NAMES,
        "classes": [0],
        "confidence": 1e-5,
        "size": 128,
    }
    if mode == "prompt_free":
        shaper = object.__new__(YoloeNetwork)
        shaper._settings, shaper._model = checked(YoloeSettings, settings, "tiny"), model
        shaper._make_prompt_free()
    tensors = {name: value.contiguous().clone() for name, value in model.model.state_dict().items()}
    save_file(tensors, place / "model.safetensors")
    embeddings = torch.nn.functional.normalize(torch.randn(1, 2, 512), dim=-1)
    save_file({"embeddings": embeddings}, place / "prompts.safetensors")
    manifest = ModelManifest(
        system="yoloe",
        name="tiny",
        version="1",
        license="AGPL-3.0",
        classes=(ManifestClass(key="blood_vessel", label="Vessel"),),
        files=files_of(place, ["model.safetensors", "prompts.safetensors"]),
        settings=settings,
    )
    write_manifest(place, manifest)
    return place


def made(place: Path, mode: str) -> YoloeSegmenter:
    return YoloeSegmenter(folder=str(folder(place, mode)), accept_license="AGPL-3.0")


def check(result: Any, classes: int = 1) -> None:
    assert result.mask.shape == result.probability.shape == (classes, 2, 96, 128)
    assert np.isfinite(result.probability).all()
    assert len(result.scores) == 2
    assert result.mask.any()


@needs_ultralytics
def test_words_find_masks(tmp_path: Path) -> None:
    """With embeddings from a file: all classes unasked, single words asked, unknown words refused."""
    segmenter = made(tmp_path, "text")
    check(segmenter.segment(stack(), Prompt(), lambda _share: None))
    asked = Prompt(questions=(Question(text="Catheter"), Question(text="blood vessel")))
    found = segmenter.segment(stack(), asked, lambda _share: None)
    assert [one.label for one in found.classes] == ["Catheter", "blood vessel"]
    with pytest.raises(InvalidPromptError, match="blood vessel, catheter"):
        segmenter.segment(stack(), Prompt(questions=(Question(text="liver"),)), lambda _share: None)


@needs_ultralytics
def test_an_example_finds_masks(tmp_path: Path) -> None:
    """Another picture with a box shows what is meant; without one it must be asked."""
    segmenter = made(tmp_path, "visual")
    example = ExamplePicture(stack().pixels[0].astype(np.uint8), (Box(left=10, top=10, right=60, bottom=50),))
    check(segmenter.segment(stack(), Prompt(example=example), lambda _share: None))
    with pytest.raises(InvalidPromptError):
        segmenter.segment(stack(), Prompt(), lambda _share: None)


@needs_ultralytics
def test_a_prompt_free_network_finds_masks(tmp_path: Path) -> None:
    """Its words are in its weights."""
    segmenter = made(tmp_path, "prompt_free")
    assert segmenter.info.prompts == {PromptKind.NONE}
    assert segmenter.segment(stack(), Prompt(), lambda _share: None).mask.shape == (1, 2, 96, 128)


@needs_ultralytics
def test_nothing_is_sent_or_fetched(tmp_path: Path) -> None:
    """Offline, without updates, without usage reports."""
    made(tmp_path, "text")
    import ultralytics
    from ultralytics.utils import AUTOINSTALL, ONLINE

    assert not AUTOINSTALL
    assert not ONLINE
    assert ultralytics.settings["sync"] is False


@pytest.mark.parametrize("architecture", ["model.pt", "../yoloe-11s-seg.yaml", "yolo11n.yaml"])
def test_only_networks_of_ultralytics_are_named(architecture: str) -> None:
    """A path or a pickle is no architecture."""
    with pytest.raises(ConfigurationError, match="architecture"):
        checked(YoloeSettings, {"architecture": architecture}, "tiny")


def test_words_and_classes_must_fit() -> None:
    """As many classes as the manifest names, of words that are there."""
    settings = checked(YoloeSettings, {"architecture": ARCHITECTURE, "names": NAMES, "classes": [[0, 1]]}, "tiny")
    assert settings.words_of(1) == ((0, 1),)
    with pytest.raises(ConfigurationError, match="2 classes"):
        settings.words_of(2)


def test_info_says_the_licence() -> None:
    """AGPL-3.0, which a site must accept."""
    assert YoloeSegmenter.info.license == "AGPL-3.0"
    assert YoloeSegmenter.info.needs_folder
