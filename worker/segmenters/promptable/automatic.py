"""Everything that can be cut out of a picture, without being asked for any of it.

A grid of points is shown; of the masks those stay that the network thinks good, whose border hardly depends on the
threshold, that are no background, and that do not repeat a better one. What they are the network does not know.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from worker.segmenters.device_memory import in_batches
from worker.segmenters.promptable.drawing import Asked, Drawn, Features, PromptableNetwork, Union
from worker.segmenters.promptable.preparing import Preparation


class AutomaticSettings(BaseModel):
    """The table ``[models.NAME.automatic]``.

    Attributes:
        points_per_side: The grid has this many rows and columns.
        least_iou: Least predicted IoU of a mask.
        least_stability: Least IoU of the masks at a logit of 1 more and 1 less.
        largest_overlap: Of two masks whose boxes have a larger IoU the better one stays.
        largest_share: A mask that covers more of the picture is background.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    points_per_side: int = Field(default=32, ge=1, le=128)
    least_iou: float = Field(default=0.88, ge=0, le=1)
    least_stability: float = Field(default=0.95, ge=0, le=1)
    largest_overlap: float = Field(default=0.7, ge=0, le=1)
    largest_share: float = Field(default=0.25, gt=0, le=1)

    def in_words(self) -> str:
        """For the account of a result."""
        return ", ".join(f"{name} {value:g}" for name, value in self.model_dump().items())


@dataclass(frozen=True, slots=True)
class AutomaticMasks:
    """What was cut out of a frame.

    Attributes:
        drawn: The union.
        labels: ``(rows, columns)`` uint16: 0 for nothing, else the number of a mask; smaller masks lie on larger ones.
    """

    drawn: Drawn
    labels: NDArray[np.uint16]


@torch.inference_mode()
def cut_out(
    network: PromptableNetwork,
    features: Features,
    settings: AutomaticSettings,
    preparation: Preparation,
    shape: tuple[int, int],
    at_once: int,
) -> AutomaticMasks:
    """Cut a frame into masks; arguments as for ``drawing.draw``."""
    grid = preparation.places(point_grid(settings.points_per_side, shape), shape)[:, None].to(network.device)
    labels = torch.ones(grid.shape[:2], dtype=torch.long, device=network.device)
    kept: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def work(part: slice) -> None:
        logits, iou = network.decode(features, Asked(points=grid[part], labels=labels[part], several=True))
        good = iou > settings.least_iou
        logits, iou = logits[good], iou[good]
        if len(iou):
            kept.append(_filtered(logits, iou, settings, preparation, shape))

    in_batches(len(grid), at_once, work)
    if not kept:
        return AutomaticMasks(Union(preparation, shape).drawn(), np.zeros(shape, np.uint16))
    logits, iou, boxes = (torch.cat(values) for values in zip(*kept, strict=True))
    best = without_repeats(boxes.cpu().numpy(), iou.cpu().numpy(), settings.largest_overlap)
    return _joined(logits[best], iou[best], preparation, shape, at_once)


def point_grid(side: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """``(side * side, 2)`` places x and y in the middles of equal fields of a picture of ``(rows, columns)``."""
    middles = (np.arange(side) + 0.5) / side
    x, y = np.meshgrid(middles * shape[1], middles * shape[0])
    return np.stack([x.ravel(), y.ravel()], axis=-1).astype(np.float32)


def stability(logits: torch.Tensor) -> torch.Tensor:
    """IoU of each mask, ``(masks, rows, columns)`` logits, with a strict and with a lax threshold."""
    strict, lax = ((logits > limit).sum(dim=(1, 2)) for limit in (1.0, -1.0))
    return torch.where(lax > 0, strict / lax.clamp(min=1), 0.0)


def boxes_of(masks: torch.Tensor) -> torch.Tensor:
    """Left, top, right and bottom pixel of each of ``(masks, rows, columns)`` bool, none of them empty."""
    sides = []
    for present in (masks.any(dim=1), masks.any(dim=2)):
        first = present.int().argmax(dim=1)
        last = present.shape[1] - 1 - present.flip(1).int().argmax(dim=1)
        sides.append((first, last))
    (left, right), (top, bottom) = sides
    return torch.stack([left, top, right, bottom], dim=1)


def without_repeats(boxes: NDArray[np.int64], scores: NDArray[np.float32], largest_overlap: float) -> list[int]:
    """Non-maximum suppression: indices of boxes that overlap none with a higher score too much, best first."""
    widths, heights = boxes[:, 2] - boxes[:, 0] + 1, boxes[:, 3] - boxes[:, 1] + 1
    left = np.argsort(-scores, kind="stable")
    kept = []
    while left.size:
        best, left = left[0], left[1:]
        kept.append(int(best))
        across = np.minimum(boxes[best, 2], boxes[left, 2]) - np.maximum(boxes[best, 0], boxes[left, 0]) + 1
        down = np.minimum(boxes[best, 3], boxes[left, 3]) - np.maximum(boxes[best, 1], boxes[left, 1]) + 1
        common = np.clip(across, 0, None) * np.clip(down, 0, None)
        overlap = common / (widths[best] * heights[best] + widths[left] * heights[left] - common)
        left = left[overlap <= largest_overlap]
    return kept


def _filtered(
    logits: torch.Tensor,
    iou: torch.Tensor,
    settings: AutomaticSettings,
    preparation: Preparation,
    shape: tuple[int, int],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    full = preparation.to_frame(logits, shape)
    masks = full > 0
    area = masks.sum(dim=(1, 2))
    good = (area > 0) & (area <= settings.largest_share * shape[0] * shape[1])
    good &= stability(full) >= settings.least_stability
    return logits[good], iou[good], boxes_of(masks[good])


def _joined(
    logits: torch.Tensor, iou: torch.Tensor, preparation: Preparation, shape: tuple[int, int], at_once: int
) -> AutomaticMasks:
    union, labels = Union(preparation, shape), np.zeros(shape, np.uint16)
    larger_first = torch.argsort((logits > 0).sum(dim=(1, 2)), descending=True, stable=True)

    def work(part: slice) -> None:
        chosen = larger_first[part]
        masks = (preparation.to_frame(logits[chosen], shape) > 0).cpu().numpy()
        union.add(logits[chosen], iou[chosen])
        for number, mask in enumerate(masks, start=part.start + 1):
            labels[mask] = number

    in_batches(len(iou), at_once, work)
    return AutomaticMasks(union.drawn(), labels)
