"""What the network is told to get better at: pixels, areas, and vessels that hang together."""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention

from training.crops import Batch

_SMOOTH = 20.0
"""Pixels added to both sides of a ratio, so that crops without vessels do not decide everything."""
_LINE_WEIGHT = 0.4
_GATE_WEIGHT = 0.3
_THINNING = 4
"""Steps of the soft skeleton at half resolution: vessels up to four times as wide in full pixels become lines."""


def loss_of(logits: torch.Tensor, known: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return one number to make small.

    Args:
        logits: ``(crops, 1, rows, columns)`` of vessel.
        known: ``(crops, 1, places, places)`` logits of the crop being of its kind.
        batch: The truth.
    """
    pixels = F.binary_cross_entropy_with_logits(logits, batch.vessel, batch.counted)
    probability = torch.sigmoid(logits) * batch.counted
    vessel = batch.vessel * batch.counted
    gate = F.binary_cross_entropy_with_logits(gate_logit(known, batch.pictures[:, -1:]), batch.known)
    lines = centre_line_loss(probability, vessel)
    return pixels + area_loss(probability, vessel) + _LINE_WEIGHT * lines + _GATE_WEIGHT * gate


def gate_logit(known: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
    """Return ``(pictures,)`` means of the gate's logits over the field of view, ``(pictures, 1, rows, columns)``."""
    places = (known.shape[-2], known.shape[-1])
    weight = F.adaptive_avg_pool2d(shown, places) + 1e-3
    return (known * weight).sum(dim=(1, 2, 3)) / weight.sum(dim=(1, 2, 3))


def area_loss(probability: torch.Tensor, vessel: torch.Tensor) -> torch.Tensor:
    """Return 1 less the soft Dice coefficient, the mean over crops."""
    common = (probability * vessel).sum(dim=(1, 2, 3))
    both = probability.sum(dim=(1, 2, 3)) + vessel.sum(dim=(1, 2, 3))
    return 1 - ((2 * common + _SMOOTH) / (both + _SMOOTH)).mean()


def centre_line_loss(probability: torch.Tensor, vessel: torch.Tensor) -> torch.Tensor:
    """Return 1 less the soft centre-line Dice (Shit et al., CVPR 2021), the mean over crops, at half resolution."""
    small, true = F.avg_pool2d(probability, 2), F.avg_pool2d(vessel, 2)
    with torch.no_grad():
        true_line = _soft_line(true)
    line = _soft_line(small)
    precise = ((line * true).sum(dim=(1, 2, 3)) + 1) / (line.sum(dim=(1, 2, 3)) + 1)
    sensitive = ((true_line * small).sum(dim=(1, 2, 3)) + 1) / (true_line.sum(dim=(1, 2, 3)) + 1)
    return 1 - (2 * precise * sensitive / (precise + sensitive)).mean()


def _soft_line(areas: torch.Tensor) -> torch.Tensor:
    line = F.relu(areas - _opened(areas))
    for _ in range(_THINNING):
        areas = _eroded(areas)
        line = line + F.relu((1 - line) * (areas - _opened(areas)))
    return line


def _opened(areas: torch.Tensor) -> torch.Tensor:
    return F.max_pool2d(_eroded(areas), 3, stride=1, padding=1)


def _eroded(areas: torch.Tensor) -> torch.Tensor:
    return torch.minimum(-F.max_pool2d(-areas, (3, 1), 1, (1, 0)), -F.max_pool2d(-areas, (1, 3), 1, (0, 1)))
