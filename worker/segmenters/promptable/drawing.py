"""Shows targets to a network and joins what it draws for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from worker.segmenters.device_memory import in_batches
from worker.segmenters.promptable.preparing import Preparation
from worker.segmenters.promptable.targets import Target

Features = tuple[torch.Tensor, ...]
"""What the image encoder made of one frame, each ``(1, channels, rows, columns)``."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Targets of one kind as the network takes them, coordinates in pixels of its square.

    Attributes:
        boxes: ``(targets, 4)`` float32, or None.
        points: ``(targets, points, 2)`` float32, or None.
        labels: ``(targets, points)`` int64: 1 on the target, 0 beside it; None without points.
        masks: ``(targets, 1, side, side)`` float32 logits, or None.
        several: Whether to offer several masks for each target.
    """

    boxes: torch.Tensor | None = None
    points: torch.Tensor | None = None
    labels: torch.Tensor | None = None
    masks: torch.Tensor | None = None
    several: bool = False


class PromptableNetwork(Protocol):
    """A network of the SAM family.

    Attributes:
        size: Side of the square picture that it takes.
        mask_side: Side of the masks that it takes and draws.
        device: Where it works.
    """

    size: int
    mask_side: int
    device: torch.device

    def encode(self, pixels: torch.Tensor) -> tuple[Features, ...]:
        """Look at pictures, ``(pictures, 3, size, size)`` float32; the slow part."""
        ...

    def decode(self, features: Features, asked: Asked) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw targets of one picture.

        Returns:
            ``(targets, masks, mask_side, mask_side)`` float32 logits and ``(targets, masks)`` predicted IoU.
        """
        ...


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was found on a frame.

    Attributes:
        probability: ``(rows, columns)`` float32 in [0, 1]: the largest of those of all targets.
        predicted_iou: How good the network thinks its masks are: their mean, in [0, 1].
    """

    probability: NDArray[np.float32]
    predicted_iou: float


@torch.inference_mode()
def draw(
    network: PromptableNetwork,
    features: Features,
    targets: Sequence[Target],
    preparation: Preparation,
    shape: tuple[int, int],
    at_once: int,
) -> Drawn:
    """Draw all targets of a frame: one class, so their union.

    Args:
        network: That made the features.
        features: Of the frame; they are computed once, however many targets there are.
        targets: At least one.
        preparation: How the frame became a square.
        shape: Rows and columns of the frame.
        at_once: Targets to show at a time; fewer where memory runs out.
    """
    union = Union(preparation, shape)
    for _, same in groupby(sorted(targets, key=lambda one: one.kind), key=lambda one: one.kind):
        group = tuple(same)

        def work(part: slice, group: tuple[Target, ...] = group) -> None:
            logits, iou = network.decode(features, asked_for(group[part], preparation, network, shape))
            union.add(*best_of(logits, iou))

        in_batches(len(group), at_once, work)
    return union.drawn()


class Union:
    """Joins masks of one frame: a pixel is as likely as in the mask that is surest of it."""

    def __init__(self, preparation: Preparation, shape: tuple[int, int]) -> None:
        self._preparation, self._shape = preparation, shape
        self._logits: torch.Tensor | None = None
        self._iou: list[float] = []

    def add(self, logits: torch.Tensor, iou: torch.Tensor) -> None:
        """Add masks, ``(masks, side, side)`` logits with ``(masks,)`` predicted IoU."""
        top = self._preparation.to_frame(logits, self._shape).amax(dim=0)
        self._logits = top if self._logits is None else torch.maximum(self._logits, top)
        self._iou += iou.clamp(0, 1).tolist()

    def drawn(self) -> Drawn:
        """The union of what was added."""
        if self._logits is None:
            return Drawn(np.zeros(self._shape, np.float32), 0.0)
        return Drawn(torch.sigmoid(self._logits).cpu().numpy(), float(np.mean(self._iou)))


def asked_for(
    targets: Sequence[Target], preparation: Preparation, network: PromptableNetwork, shape: tuple[int, int]
) -> Asked:
    """Targets of one kind as arrays on the device."""
    has_box, points, has_mask = targets[0].kind

    def there(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(network.device)

    boxes = np.stack([one.box.reshape(2, 2) for one in targets if one.box is not None]) if has_box else None
    masks = [preparation.mask_logits(one.mask, network.mask_side) for one in targets if one.mask is not None]
    places = np.stack([one.points for one in targets])
    return Asked(
        boxes=None if boxes is None else there(preparation.places(boxes, shape).reshape(-1, 4)),
        points=there(preparation.places(places, shape)) if points else None,
        labels=there(torch.from_numpy(np.stack([one.inside for one in targets])).long()) if points else None,
        masks=there(torch.stack(masks)) if has_mask else None,
        several=targets[0].is_ambiguous,
    )


def best_of(logits: torch.Tensor, iou: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of several masks a target the one with the highest predicted IoU: ``(targets, side, side)``, ``(targets,)``."""
    best = iou.argmax(dim=1)
    rows = torch.arange(len(best), device=best.device)
    return logits[rows, best], iou[rows, best]
