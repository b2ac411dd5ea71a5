"""Networks written as ONNX say what torch says, and the segmenter onnx finds with them what it should."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import SamConfig, SamModel
from tube_pictures import dice, picture, stack_of, vessel_mask

from dicom_core.errors import ConfigurationError, SegmentationError
from dicom_core.prompt import Box, Point
from worker.image_stack import Imaging
from worker.model_folder.manifest import ModelManifest, write_manifest
from worker.model_folder.opening import files_of
from worker.segmenters.interface import Prompt
from worker.segmenters.onnx_model.segmenter import OnnxSegmenter
from worker.segmenters.onnx_writing import TOLERANCE, Export, write_checked
from worker.segmenters.sam.onnx_export import export as export_sam
from worker.segmenters.sam.segmenter import SamSegmenter
from worker.segmenters.vesselnet.onnx_export import export as export_vesselnet
from worker.segmenters.vesselnet.segmenter import VesselnetSegmenter


def quiet(_share: float) -> None:
    """Take no notice of progress."""


def test_vesselnet_as_onnx_finds_the_same_vessels(tmp_path: Path) -> None:
    """The file equals torch at three sizes, and the segmenter onnx agrees with vesselnet on an angiogram."""
    report = export_vesselnet(tmp_path / "out")
    assert report.max_difference < TOLERANCE
    assert report.files == ("vesselnet.onnx",)
    truth = vessel_mask(384)
    stack = stack_of(picture(truth, bright=False)[None], Imaging.XRAY_ANGIOGRAPHY)
    ours = VesselnetSegmenter(gate=False, polarity="dark").segment(stack, Prompt(), quiet)
    theirs = OnnxSegmenter(folder=str(tmp_path / "out"), threads=1).segment(stack, Prompt(), quiet)
    assert dice(theirs.mask[0], ours.mask[0]) > 0.97
    assert theirs.mask.any()


def test_vesselnet_knows_no_other_kind(tmp_path: Path) -> None:
    """The text names those it knows."""
    with pytest.raises(ConfigurationError, match="fundus"):
        export_vesselnet(tmp_path, Imaging.CT)


def tiny_sam(folder: Path) -> Path:
    """A SAM with random weights, 64 pixels wide, whose answers differ from place to place."""
    torch.manual_seed(0)
    config = SamConfig(
        vision_config={
            "hidden_size": 16,
            "output_channels": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 64,
            "window_size": 2,
            "global_attn_indexes": [1],
            "mlp_dim": 32,
            "num_pos_feats": 8,
        },
        prompt_encoder_config={
            "hidden_size": 16,
            "image_size": 64,
            "image_embedding_size": 4,
            "mask_input_channels": 4,
        },
        mask_decoder_config={
            "hidden_size": 16,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
            "num_hidden_layers": 2,
        },
    )
    model = SamModel(config).eval()
    with torch.no_grad():  # as initialised the answer to everything is 0
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight) * 0.3)
        model.mask_decoder.upscale_conv2.weight.mul_(30)
    model.save_pretrained(folder)
    names = ["config.json", "model.safetensors"]
    files = files_of(folder, names)
    write_manifest(folder, ModelManifest(system="sam", name="tiny", version="1", license="Apache-2.0", files=files))
    return folder


PROMPTS = [
    Prompt(boxes=(Box(left=10, top=8, right=50, bottom=30),)),
    Prompt(points=(Point(x=20, y=20), Point(x=40, y=5, inside=False))),
    Prompt(points=(Point(x=20, y=20),)),
]


def test_sam_as_onnx_answers_the_same(tmp_path: Path) -> None:
    """Encoder and decoder equal torch for points, boxes and both, and the two segmenters give like probabilities."""
    sam = tiny_sam(tmp_path / "sam")
    report = export_sam(str(sam), tmp_path / "out")
    assert report.max_difference < TOLERANCE
    stack = stack_of(picture(vessel_mask(64), bright=False)[None, :40], Imaging.OTHER)
    native = SamSegmenter(folder=str(sam))
    onnx = OnnxSegmenter(folder=str(tmp_path / "out"), threads=1)
    for prompt in PROMPTS:
        ours, theirs = (one.segment(stack, prompt, quiet).probability.astype(float) for one in (native, onnx))
        assert np.abs(ours - theirs).mean() < 0.05 * ours.std()
        assert theirs.std() > 0.02


class Wrong(torch.nn.Module):
    """Says something else each time that Python looks at it, which tracing cannot know."""

    calls = 0

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return pictures + self.calls


def test_a_file_that_differs_is_not_kept(tmp_path: Path) -> None:
    """What onnxruntime says otherwise than torch is an error, and no file and no manifest remain."""
    made = Export("model.onnx", Wrong().eval(), {"x": torch.zeros(1, 1, 4, 4)}, ["y"], {})
    with pytest.raises(SegmentationError, match="differs from torch"):
        write_checked(tmp_path / "out", [made], lambda _names: pytest.fail("no manifest is made"))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_folder_is_left_alone(tmp_path: Path) -> None:
    """Nothing is written beside what is there."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigurationError, match="not empty"):
        export_vesselnet(tmp_path)
