"""Shows the network large pictures piece by piece, so that memory stays bounded and no seam is seen."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention

from worker.segmenters.vesselnet.network import STRIDE, VesselNetwork

WINDOW = 1024
"""Pictures with no side larger are looked at in one piece."""
OVERLAP = 192
"""Neighbouring pieces share so many pixels, over which one fades into the other."""


def look(
    network: VesselNetwork, pictures: torch.Tensor, kind: int, *, window: int = WINDOW, overlap: int = OVERLAP
) -> tuple[torch.Tensor, torch.Tensor]:
    """Look at pictures of any size.

    Args:
        network: In evaluation mode.
        pictures: ``(pictures, channels, rows, columns)`` from ``preparing.channels``; the last channel is the field
            of view.
        kind: Index of their kind.
        window: Largest side of a piece, a multiple of the network's stride.
        overlap: Pixels that neighbouring pieces share, less than half a window.

    Returns:
        ``(pictures, 1, rows, columns)`` float32 logits of vessel and ``(pictures,)`` mean logits over the field of view
        of the picture being of its kind.
    """
    count, _, rows, columns = pictures.shape
    kinds = torch.full((count,), kind, device=pictures.device)
    if max(rows, columns) <= window:
        logits, known, weight = _piece(network, pictures, kinds)
        return logits, known / weight
    logits = pictures.new_zeros(count, 1, rows, columns)
    weights = pictures.new_zeros(1, 1, rows, columns)
    known, known_weight = pictures.new_zeros(count), pictures.new_zeros(count)
    for place in _places(rows, columns, window, overlap):
        piece = pictures[(..., *place)]
        found, sure, weight = _piece(network, piece, kinds)
        fade = _fade(piece.shape[-2], overlap, piece)[:, None] * _fade(piece.shape[-1], overlap, piece)
        logits[(..., *place)] += found * fade
        weights[(..., *place)] += fade
        known += sure
        known_weight += weight
    return logits / weights, known / known_weight


def _piece(
    network: VesselNetwork, piece: torch.Tensor, kinds: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return logits of vessel, and of each picture the gate's logits summed over the field of view and its area."""
    rows, columns = piece.shape[-2:]
    padded = F.pad(piece, (0, -columns % STRIDE, 0, -rows % STRIDE)).contiguous(memory_format=torch.channels_last)
    logits, known = network(padded, kinds)
    weight = F.avg_pool2d(padded[:, -1:], STRIDE) + 1e-3
    return (
        logits[..., :rows, :columns].float(),
        (known.float() * weight).sum(dim=(1, 2, 3)),
        weight.sum(dim=(1, 2, 3)),
    )


def _places(rows: int, columns: int, window: int, overlap: int) -> Iterator[tuple[slice, slice]]:
    for top in _starts(rows, window, overlap):
        for left in _starts(columns, window, overlap):
            yield slice(top, min(top + window, rows)), slice(left, min(left + window, columns))


def _starts(length: int, window: int, overlap: int) -> list[int]:
    """Return where pieces begin: evenly spread, the last one ending with the picture."""
    if length <= window:
        return [0]
    pieces = -(-(length - overlap) // (window - overlap))
    return [round(index * (length - window) / (pieces - 1)) for index in range(pieces)]


def _fade(length: int, overlap: int, like: torch.Tensor) -> torch.Tensor:
    """Return weights that rise from the ends of a piece; never 0, since a border of the picture has no neighbour."""
    steps = torch.arange(1, length + 1, device=like.device, dtype=like.dtype)
    return torch.minimum(steps, steps.flip(0)).clamp(max=overlap) / overlap
