"""The network: a narrow encoder and decoder with additive skips, told what kind of picture it looks at.

Two by two pixels become channels first and come back last, so that no convolution runs at full resolution: there a
CPU spends half its time for edges that four channels describe as well. The coarsest level sees about 300 pixels.
"""

import itertools
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from worker.image_stack import Imaging

KINDS = (Imaging.XRAY_ANGIOGRAPHY, Imaging.FUNDUS, Imaging.OCT_ANGIOGRAPHY)
"""The kinds of picture in the order of their numbers in the network."""
CHANNELS = 3
"""What the network is given of each pixel: fine and coarse normalised intensity, and whether it shows anything."""
STRIDE = 32
"""Rows and columns must be multiples of this."""
WIDTHS = (32, 64, 96, 128, 160)
"""Channels of each level, from half the resolution down to a thirty-second of it."""
_GATE_WIDTH = 32


class VesselNetwork(nn.Module):
    """The trunk with two heads: a number for each pixel (vessel or not), and one for each place (a known kind or not).

    Args:
        widths: Channels of each level, as :data:`WIDTHS`.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        first = 4 * CHANNELS
        self.encoder = nn.ModuleList(
            _Block(coming, going) for coming, going in zip((first, *widths[:-1]), widths, strict=True)
        )
        self.lifts = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in itertools.pairwise(widths))
        self.decoder = nn.ModuleList(_Block(width, width) for width in widths[:-1])
        self.head = nn.Conv2d(widths[0], 4, 3, padding=1)
        self.gate = nn.Sequential(
            nn.Conv2d(widths[-1] + widths[-2], _GATE_WIDTH, 1), nn.ReLU(), nn.Conv2d(_GATE_WIDTH, 1, 1)
        )

    def forward(self, pictures: torch.Tensor, kinds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Look at pictures.

        Args:
            pictures: ``(pictures, CHANNELS, rows, columns)`` float; rows and columns are multiples of :data:`STRIDE`.
            kinds: ``(pictures,)`` int64, the index of each picture's kind in :data:`KINDS`.

        Returns:
            ``(pictures, 1, rows, columns)`` logits of vessel, and ``(pictures, 1, rows / 32, columns / 32)`` logits of
            the picture being of its kind, one for each place.
        """
        x = F.pixel_unshuffle(pictures, 2)
        levels = []
        for depth, block in enumerate(self.encoder):
            x = block(F.max_pool2d(x, 2) if depth else x, kinds)
            levels.append(x)
        known = self.gate(torch.cat([levels[-1], F.avg_pool2d(levels[-2], 2)], dim=1))
        for block, lift, skip in zip(reversed(self.decoder), reversed(self.lifts), reversed(levels[:-1]), strict=True):
            coarse = F.interpolate(lift(x), size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = block(skip + coarse, kinds)
        return F.pixel_shuffle(self.head(x), 2), known

    def fuse(self) -> "VesselNetwork":
        """Fold the batch norms into their convolutions, for a third less time on a CPU; it cannot learn any more."""
        self.eval()
        for block in (*self.encoder, *self.decoder):
            block.fuse()
        return self


class _Block(nn.Module):
    """Two convolutions around a shortcut; each kind of picture has a gain and an offset of its own."""

    def __init__(self, coming: int, going: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(coming, going, 3, padding=1, bias=False)
        self.first_norm: nn.Module = nn.BatchNorm2d(going)
        self.second = nn.Conv2d(going, going, 3, padding=1, bias=False)
        self.second_norm: nn.Module = nn.BatchNorm2d(going)
        self.shortcut = nn.Identity() if coming == going else nn.Conv2d(coming, going, 1, bias=False)
        self.kind = nn.Embedding(len(KINDS), 2 * going)
        nn.init.zeros_(self.kind.weight)

    def forward(self, x: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.first_norm(self.first(x)), inplace=True)
        y = self.second_norm(self.second(y))
        gain, offset = self.kind(kinds)[:, :, None, None].chunk(2, dim=1)
        return F.relu(torch.addcmul(self.shortcut(x) + offset, y, 1 + gain), inplace=True)

    def fuse(self) -> None:
        """Fold both batch norms into their convolutions."""
        self.first = fuse_conv_bn_eval(self.first, cast("nn.BatchNorm2d", self.first_norm))
        self.second = fuse_conv_bn_eval(self.second, cast("nn.BatchNorm2d", self.second_norm))
        self.first_norm, self.second_norm = nn.Identity(), nn.Identity()
