"""Writes SAM and MedSAM as two ONNX files, an encoder of pictures and a decoder of points and boxes.

The decoder has the inputs and outputs that the makers of SAM gave theirs, without the optional mask: points and boxes
are one list, whose labels say what each is (0 outside, 1 inside, 2 and 3 the corners of a box, -1 nothing). It gives
four masks: the first for what is clear, three more for a lone point, which may mean a part or the whole.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from worker.model_folder.manifest import ModelManifest
from worker.model_folder.opening import ModelFolder, open_folder
from worker.segmenters.onnx_writing import Export, ExportReport, listed, write_checked
from worker.segmenters.promptable.preparing import Preparation
from worker.segmenters.sam.network import load_model

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"


class _Encoder(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.vision_encoder

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.encoder(pixel_values).last_hidden_state)


class _Decoder(torch.nn.Module):
    """What ``SamModel`` does after the encoder, with boxes as pairs of points."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.prompts, self.decoder = model.prompt_encoder, model.mask_decoder
        with torch.inference_mode():
            places = model.get_image_wide_positional_embeddings().clone()
        self.register_buffer("places", places)

    def forward(
        self, image_embeddings: torch.Tensor, point_coords: torch.Tensor, point_labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        size = self.prompts.input_image_size
        where = self.prompts.shared_embedding((point_coords + 0.5)[:, None], (size, size))
        label = point_labels[:, None, :, None]
        asked = torch.where(label == -1, self.prompts.not_a_point_embed.weight, where)
        for number, embedding in enumerate(self.prompts.point_embed):
            asked = torch.where(label == number, where + embedding.weight, asked)
        nothing = self.prompts.no_mask_embed.weight.reshape(1, -1, 1, 1).expand_as(image_embeddings)
        # The mask for what is clear and the three for what is not; onnxruntime computes once what both have in common.
        answers = [
            self.decoder(image_embeddings, self.places, asked, nothing, multimask_output=several)
            for several in (False, True)
        ]
        return torch.cat([one for one, _ in answers], dim=2)[:, 0], torch.cat([one for _, one in answers], dim=2)[:, 0]


def export(folder: str | ModelFolder, out: Path, *, accept_license: str = "") -> ExportReport:
    """Write a folder of SAM or MedSAM as a pair of ONNX files, and compare both with torch.

    Args:
        folder: For the segmenter ``sam``.
        out: A new folder.
        accept_license: The licence that is accepted, where it is not permissive.

    Raises:
        ConfigurationError: The folder holds no SAM, or ``out`` is not empty.
        SegmentationError: onnxruntime and torch differ.
    """
    opened = open_folder(folder, "sam", accept_license=accept_license)
    model = load_model(opened).eval()
    size = int(model.config.vision_config.image_size)
    preparation = Preparation.of_folder(opened, size, stretch=False, pillow=True)
    return write_checked(out, _exports(model, size), lambda names: _manifest(opened, out, names, preparation))


def _exports(model: Any, size: int) -> list[Export]:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, 3, size, size, generator=random)
    encoder = _Encoder(model)
    with torch.inference_mode():
        embedding = encoder(pixels)

    def asked(*labels: float) -> dict[str, torch.Tensor]:
        places = torch.rand(1, len(labels), 2, generator=random) * size
        return {"image_embeddings": embedding, "point_coords": places, "point_labels": torch.tensor([labels])}

    points = {1: "points"}
    return [
        Export(ENCODER, encoder, {"pixel_values": pixels}, ["image_embeddings"], {}),
        Export(
            DECODER,
            _Decoder(model),
            asked(1.0, 0.0, -1.0),
            ["low_res_masks", "iou_predictions"],
            {"point_coords": points, "point_labels": points},
            [asked(2.0, 3.0), asked(2.0, 3.0, 1.0, 0.0), asked(1.0, -1.0)],
        ),
    ]


def _manifest(model: ModelFolder, out: Path, names: Sequence[str], how: Preparation) -> ModelManifest:
    said = model.manifest
    # The segmenter onnx starts from 0 to 1, whatever the folder multiplies pixels by.
    unit = 1.0 if how.min_max else 255 * how.factor
    return listed(
        out,
        names,
        name=said.name,
        version=said.version,
        summary=said.summary,
        license=said.license,
        source=said.source,
        revision=said.revision,
        imagings=said.imagings,
        arrangements=said.arrangements,
        classes=said.classes[:1],
        parameters=said.parameters,
        settings={
            "kind": "sam",
            "encoder": ENCODER,
            "decoder": DECODER,
            "fit": "stretch" if how.stretch else "longest_side",
            "min_max": how.min_max,
            "mean": [value / unit for value in how.mean],
            "std": [value / unit for value in how.std],
        },
    )
