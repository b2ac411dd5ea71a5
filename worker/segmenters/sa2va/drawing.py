"""SAM 2 draws what the language model meant: one picture at a time, without memory."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Sam2VideoModel

from worker.segmenters.sa2va.picture_tensors import SAM2_SIZE


@dataclass(frozen=True, slots=True)
class Features:
    """What SAM 2's encoder saw, by resolution.

    Attributes:
        fine: ``(pictures, channels, 256, 256)`` and ``(pictures, channels, 128, 128)``.
        coarse: ``(pictures, channels, 64, 64)``, without any memory.
    """

    fine: tuple[Tensor, Tensor]
    coarse: Tensor

    def of(self, pictures: Tensor) -> "Features":
        """Of some pictures, by number, also repeatedly."""
        return Features((self.fine[0][pictures], self.fine[1][pictures]), self.coarse[pictures])


@dataclass(frozen=True, slots=True)
class Drawn:
    """Of several alternatives the one that SAM 2 itself thinks best.

    Attributes:
        logits: ``(masks, 256, 256)``.
        predicted_iou: ``(masks,)``: how well SAM 2 expects it to fit, 0 to 1.
        object_score: ``(masks,)``: above 0 where SAM 2 thinks that there is something.
        token: ``(masks, channels)``: what a memory remembers of what was drawn.
    """

    logits: Tensor
    predicted_iou: Tensor
    object_score: Tensor
    token: Tensor


class Drawer:
    """SAM 2's encoder and decoder.

    Args:
        sam2: With weights.
    """

    def __init__(self, sam2: Sam2VideoModel) -> None:
        self.sam2 = sam2
        nowhere = torch.zeros(1, 1, 1, 2, device=sam2.device, dtype=sam2.dtype)
        nothing = torch.full((1, 1, 1), -1, device=sam2.device, dtype=torch.int32)
        # Two places that are none: what SAM 2 was trained with where no point is given.
        self._no_points, self._no_mask = sam2.get_prompt_embeddings(input_points=nowhere, input_labels=nothing)
        self._positions = sam2.get_image_wide_positional_embeddings()

    def look(self, pictures: Tensor) -> Features:
        """Look at pictures, ``(pictures, 3, 1024, 1024)``."""
        flat = self.sam2.get_image_features(pictures, return_dict=True).fpn_hidden_states
        sizes = self.sam2.backbone_feature_sizes
        maps = [one.permute(1, 2, 0).unflatten(2, tuple(size)) for one, size in zip(flat, sizes, strict=True)]
        return Features((maps[0], maps[1]), maps[2])

    def draw(self, features: Features, vectors: Tensor) -> Drawn:
        """Draw what each vector, ``(masks, width)``, means in the picture of the same number."""
        alone = self.sam2.no_memory_embedding.reshape(1, -1, 1, 1)
        return self.decode(Features(features.fine, features.coarse + alone), vectors)

    def decode(self, features: Features, vectors: Tensor | None) -> Drawn:
        """Draw on features to which a memory, or the lack of one, has been added.

        Args:
            features: Of as many pictures as masks are wanted.
            vectors: ``(masks, width)``; None to follow the memory alone.
        """
        masks = len(features.coarse)
        prompts = self._no_points.expand(masks, -1, -1, -1)
        if vectors is not None:
            prompts = torch.cat([prompts, vectors[:, None, None].to(prompts.dtype)], dim=2)
        logits, ious, tokens, score = self.sam2.mask_decoder(
            image_embeddings=features.coarse,
            image_positional_embeddings=self._positions.expand(masks, -1, -1, -1),
            sparse_prompt_embeddings=prompts,
            dense_prompt_embeddings=self._no_mask.expand(masks, -1, -1, -1),
            multimask_output=True,
            high_resolution_features=list(features.fine),
        )
        rows, best = torch.arange(masks, device=ious.device), ious[:, 0].argmax(-1)
        return Drawn(logits[rows, 0, best], ious[rows, 0, best], score.reshape(masks), tokens[rows, 0, best])


def enlarged(logits: Tensor) -> Tensor:
    """Logits at SAM 2's own resolution: ``(masks, 256, 256)`` to ``(masks, 1024, 1024)`` float32."""
    return _resized(logits.float(), (SAM2_SIZE, SAM2_SIZE))


def probability(logits: Tensor, rows: int, columns: int) -> Tensor:
    """Probabilities at the size of the picture: ``(masks, 256, 256)`` to ``(masks, rows, columns)`` float32."""
    return _resized(enlarged(logits), (rows, columns)).sigmoid()


def _resized(values: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(values[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
