"""SAM 2 of transformers behind the interface of the promptable networks.

The folders that Hugging Face has hold the network for videos (``sam2_video``); one for pictures alone (``sam2``) is
taken as well, and cannot follow anything through frames.
"""

from typing import Any, cast

import torch

from worker.model_folder.opening import ModelFolder
from worker.segmenters.promptable.drawing import Asked, Features
from worker.segmenters.promptable.loading import load, read_config


def load_model(model: ModelFolder) -> Any:
    """Load ``transformers.Sam2VideoModel`` or ``Sam2Model`` from a folder, in float32 on the CPU.

    Raises:
        ConfigurationError: The folder holds no SAM 2, or one that is damaged.
    """
    from transformers import Sam2Config, Sam2Model, Sam2VideoConfig, Sam2VideoModel

    values = read_config(model, ("sam2_video", "sam2"))
    if values["model_type"] == "sam2":
        return load(model, Sam2Model, Sam2Config, values)
    return load(model, Sam2VideoModel, Sam2VideoConfig, values)


class Sam2Network:
    """A SAM 2 on its device; see ``PromptableNetwork``.

    Args:
        model: ``transformers.Sam2VideoModel`` or ``Sam2Model`` in float32.
        device: Where it works.
        dtype: Numbers of its image encoder.

    Attributes:
        model: On its device.
        follows: Whether it can follow what was shown through frames.
    """

    def __init__(self, model: Any, device: str, dtype: str) -> None:
        self.device = torch.device(device)
        self._dtype = getattr(torch, dtype)
        self.model = model.to(self.device)
        for part in (model.vision_encoder, model.mask_decoder.conv_s0, model.mask_decoder.conv_s1):
            part.to(self._dtype)  # what get_image_features uses; the rest takes its float32
        self.size = int(model.prompt_encoder.input_image_size)
        self.mask_side = int(model.prompt_encoder.mask_input_size[0])
        self.follows = model.config.model_type == "sam2_video"

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor) -> tuple[Features, ...]:
        """Look at pictures, ``(pictures, 3, size, size)`` float32."""
        levels = self.model.get_image_embeddings(pixels.to(self.device, self._dtype))
        return tuple(tuple(level[n : n + 1].float() for level in levels) for n in range(len(pixels)))

    @torch.inference_mode()
    def maps(self, pixels: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        """Look at one picture, ``(1, 3, size, size)``, for the model's own way through a video."""
        out = self.model.get_image_features(pixels.to(self.device, self._dtype), return_dict=True)
        return {
            "vision_feats": [level.float() for level in out.fpn_hidden_states],
            "vision_pos_embeds": [level.float() for level in out.fpn_position_encoding],
        }

    @torch.inference_mode()
    def decode(self, features: Features, asked: Asked) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw targets of one picture, as ``Sam2Model`` does: its forward is written out, the video model has none."""
        *fine, coarse = features
        targets = next(len(one) for one in (asked.boxes, asked.points, asked.masks) if one is not None)
        points, labels = asked.points, asked.labels
        if points is None and asked.boxes is None:  # a mask alone comes with one place that is none
            points, labels = coarse.new_zeros(targets, 1, 2), torch.full((targets, 1), -1, device=self.device)
        sparse, dense = self.model.get_prompt_embeddings(
            input_points=None if points is None else points[:, None],
            input_labels=None if labels is None else labels[:, None],
            input_boxes=None if asked.boxes is None else asked.boxes[:, None],
            input_masks=asked.masks,
        )
        masks, iou, *_ = self.model.mask_decoder(
            image_embeddings=coarse.expand(targets, -1, -1, -1),
            image_positional_embeddings=self.model.get_image_wide_positional_embeddings().expand(targets, -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=asked.several,
            high_resolution_features=[level.expand(targets, -1, -1, -1) for level in fine],
        )
        return cast("torch.Tensor", masks[:, 0]), cast("torch.Tensor", iou[:, 0])
