"""SAM of transformers behind the interface of the promptable networks."""

from typing import Any, cast

import torch

from worker.model_folder.opening import ModelFolder
from worker.segmenters.promptable.drawing import Asked, Features
from worker.segmenters.promptable.loading import load, read_config


def load_model(model: ModelFolder) -> Any:
    """Load ``transformers.SamModel`` from a folder, in float32 on the CPU.

    Raises:
        ConfigurationError: The folder holds no SAM, or one that is damaged.
    """
    from transformers import SamConfig, SamModel

    return load(model, SamModel, SamConfig, read_config(model, ("sam",)))


class SamNetwork:
    """A SAM on its device; see ``PromptableNetwork``.

    Args:
        model: ``transformers.SamModel`` in float32.
        device: Where it works.
        dtype: Numbers of its image encoder.

    Attributes:
        parameters: Numbers in the weights.
    """

    def __init__(self, model: Any, device: str, dtype: str) -> None:
        self.device = torch.device(device)
        self._dtype = getattr(torch, dtype)
        self._model = model.to(self.device)
        self._model.vision_encoder.to(self._dtype)
        self.parameters = sum(weight.numel() for weight in model.parameters())
        self.size = int(model.config.vision_config.image_size)
        self.mask_side = 4 * int(model.prompt_encoder.image_embedding_size[0])

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor) -> tuple[Features, ...]:
        """Look at pictures, ``(pictures, 3, size, size)`` float32."""
        embeddings = self._model.get_image_embeddings(pixels.to(self.device, self._dtype)).float()
        return tuple((one[None],) for one in embeddings)

    @torch.inference_mode()
    def decode(self, features: Features, asked: Asked) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw targets of one picture; each is a picture of its own to the model, so that each has its own mask."""
        (embedding,) = features
        targets = next(len(one) for one in (asked.boxes, asked.points, asked.masks) if one is not None)
        out = self._model(
            image_embeddings=embedding.expand(targets, -1, -1, -1),
            input_points=None if asked.points is None else asked.points[:, None],
            input_labels=None if asked.labels is None else asked.labels[:, None],
            input_boxes=None if asked.boxes is None else asked.boxes[:, None],
            input_masks=asked.masks,
            multimask_output=asked.several,
        )
        return cast("torch.Tensor", out.pred_masks[:, 0]), cast("torch.Tensor", out.iou_scores[:, 0])
