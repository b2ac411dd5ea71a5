"""The golden numbers: what the published code computed in float32 for the same pictures and weights.

A wrong number of tiles, another prompt or another pixel shuffle moves the masks by 1e-6 only, but the vector that the
language model hands to SAM 2 by 1e-3 and more: it is the vector that is compared first.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from worker.image_stack import Arrangement, FrameIdentity, ImageStack, Imaging
from worker.model_folder.recognising import looked_at
from worker.segmenters.interface import Prompt, Segmentation, Status
from worker.segmenters.sa2va.loading import Checkpoint, load_network
from worker.segmenters.sa2va.network import network_without_weights
from worker.segmenters.sa2va.published import published_config
from worker.segmenters.sa2va.reading import AnswerMode
from worker.segmenters.sa2va.segmenter import Sa2vaSegmenter
from worker.segmenters.sa2va.settings import Sa2vaSettings
from worker.segmenters.sa2va.tensor_names import Part, places

SHARED = Path(os.environ.get("VESSELQ_SHARED", "../shared")) / "models"
GOLDEN = SHARED / "golden"
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the folder of golden numbers (VESSELQ_SHARED) is not here")


@pytest.fixture(scope="module")
def segmenter() -> Sa2vaSegmenter:
    """The small checkpoint in the published layout, opened as an engineer opens a download."""
    return Sa2vaSegmenter(folder=looked_at(SHARED / "sa2va-tiny"), conditioning="first", dtype="float32")


def picture(name: str) -> np.ndarray:
    return np.array(Image.open(GOLDEN / f"sa2va_{name}.png"))


def golden(name: str) -> dict[str, Any]:
    with np.load(GOLDEN / f"sa2va_{name}.npz") as numbers:
        return dict(numbers)


def segmented(segmenter: Sa2vaSegmenter, pictures: list[np.ndarray], arrangement: Arrangement) -> Segmentation:
    frames = tuple(FrameIdentity("2.25.1", number) for number in range(1, len(pictures) + 1))
    stack = ImageStack(np.stack(pictures), arrangement, Imaging.XRAY_ANGIOGRAPHY, frames)
    return segmenter.segment(stack, Prompt(), lambda _share: None)


def check(found: Segmentation, expected: dict[str, Any], frames: slice) -> None:
    scale = np.abs(expected["seg_vector"]).max()
    for vector in found.extras["seg_vector"]:
        assert np.abs(vector - expected["seg_vector"][0]).max() < 1e-5 * scale
    assert np.abs(found.extras["probability"][0, frames] - expected["probability"]).max() < 1e-5
    assert np.count_nonzero(found.mask[0, frames] != expected["mask"]) == 0
    assert found.answer == str(expected["answer"])
    assert found.status is Status.OK


@pytest.mark.parametrize(("name", "tiles"), [("image_512x512", "1"), ("image_384x640", "7")])
def test_picture(segmenter: Sa2vaSegmenter, name: str, tiles: str) -> None:
    """Vector within 1e-5 relative, probability within 1e-5, no other pixel, same text; in a batch of two as alone."""
    found = segmented(segmenter, [picture(name), picture(name)[:, ::-1]], Arrangement.FRAMES)
    assert (found.parameters["tiles"], found.parameters["batch"]) == (tiles, "2")
    hidden, vectors = found.extras["seg_hidden_state"], found.extras["seg_vector"]
    assert np.abs(hidden[:1] - golden(name)["seg_hidden_state"]).max() < 1e-5 * np.abs(hidden).max()
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-4  # the mirrored picture is another one
    found.extras["seg_vector"] = vectors[:1]
    check(found, golden(name), slice(0, 1))


@pytest.mark.parametrize("name", ["image_512x512", "image_384x640"])
def test_forced_answer(segmenter: Sa2vaSegmenter, name: str) -> None:
    """The answer put into the model's mouth leads to the same vector as the generated one."""
    answers = {
        mode: segmenter.model.ask_about_pictures([picture(name)], ["Please segment the blood vessel."], 0, mode)[0][0]
        for mode in AnswerMode
    }
    expected = torch.from_numpy(golden(name)["seg_vector"])
    for answer in answers.values():
        assert (answer.vectors - expected).abs().max() < 1e-5 * expected.abs().max()
        assert answer.text == str(golden(name)["answer"])


@pytest.mark.timeout(300)
def test_run(segmenter: Sa2vaSegmenter) -> None:
    """Eight frames, of which the language model sees five and SAM 2 follows three."""
    name = "video_256x320"
    found = segmented(segmenter, [picture(f"video_frame{number}") for number in range(8)], Arrangement.RUN)
    assert found.parameters["conditioning_frames"] == "1 2 3 4 5"
    check(found, golden(name), slice(0, 8))


def test_every_name_of_the_vessel_checkpoint_has_its_place() -> None:
    """All 1589 tensors of Sa2VA-vessel fit its shape strictly, and its 8,182,606,130 parameters are all there."""
    index = json.loads((SHARED / "sa2va_vessel_tensor_names.json").read_text())
    config = published_config("8b")
    there = {name: tuple(tensor.shape) for name, tensor in network_without_weights(config).state_dict().items()}
    shapes = {name: stored_shape(name, there) for name in index["names"]}
    assert len(shapes) == 1589
    stored = Checkpoint(shapes, lambda name: torch.empty(shapes[name], device="meta"))
    network = load_network(config, stored, device=torch.device("meta"), dtype=torch.bfloat16)
    assert sum(parameter.numel() for parameter in network.parameters()) == index["total_parameters"] == 8_182_606_130


def stored_shape(name: str, there: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """The shape in the file: queries, keys and values joined, points row by row."""
    first = places(name)[0]
    rows, *others = there[first.name] or (1,)
    if first.part is Part.QUERY:
        rows *= 3
    return (1 if first.row is not None else rows, *others)


def test_settings_of_this_test_are_those_of_the_published_code() -> None:
    """Generated answers and a threshold of one half are the defaults."""
    assert (Sa2vaSettings().answer, Sa2vaSettings().threshold) == ("generate", 0.5)
