"""SAM 2 follows what was drawn on some frames of a run through all others.

Its class in transformers keeps a session of its own through methods that are private and have changed between
releases; this loop uses only its layers. What is remembered is bounded: it does not grow with the run.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Sam2VideoModel

from worker.segmenters.sa2va.drawing import Drawer, Drawn, Features, enlarged

_POINTERS = 16
"""Frames of which a pointer to what was drawn is remembered, this one included."""


@dataclass(frozen=True, slots=True)
class _Memory:
    """What is remembered of one frame.

    Attributes:
        picture: ``(places, objects, channels)`` bfloat16, as SAM 2 stores it.
        pointers: ``(objects, channels)``.
    """

    picture: Tensor
    pointers: Tensor


class Tracker:
    """Follows objects through the frames of one run, which it is given in a fixed order.

    Args:
        drawer: Of the network.
        vectors: ``(objects, width)``: what is drawn on the conditioning frames.
        conditioning: Numbers of these frames.
        frames: Number of frames of the run.
    """

    def __init__(self, drawer: Drawer, vectors: Tensor, conditioning: Sequence[int], frames: int) -> None:
        self._drawer, self._vectors = drawer, vectors
        self._sam2: Sam2VideoModel = drawer.sam2
        self._conditioning = tuple(sorted(conditioning))
        self._known: dict[int, _Memory] = {}
        self._followed: dict[int, _Memory] = {}
        first = self._conditioning[0]
        ahead = [frame for frame in range(first, frames) if frame not in self._conditioning]
        self.order = (*self._conditioning, *ahead, *range(first - 1, -1, -1))
        self._places, self._memory_places = self._positions(self._sam2.hidden_dim), self._positions(self._sam2.mem_dim)

    def draw(self, frame: int, features: Features) -> Drawn:
        """Draw all objects on one frame; frames come in ``order``, and one may come again with those after it.

        Args:
            frame: Its number.
            features: Of this frame alone.
        """
        each = features.of(torch.zeros(len(self._vectors), dtype=torch.long, device=features.coarse.device))
        if frame in self._conditioning:
            drawn = self._drawer.draw(each, self._vectors)
            self._known[frame] = self._remember(each, drawn)
        else:
            backwards = frame < self._conditioning[0]
            drawn = self._drawer.decode(Features(each.fine, self._reminded(frame, each, backwards=backwards)), None)
            self._followed[frame] = self._remember(each, drawn)
            self._forget(frame)
        return drawn

    def _forget(self, frame: int) -> None:
        """Drop what no later frame asks for: only near frames count, and on the way back those after the first."""
        turn = self._conditioning[0]
        near = [one for one in self._followed if abs(one - frame) < _POINTERS + 1 or abs(one - turn) < _POINTERS + 1]
        self._followed = {one: self._followed[one] for one in near}

    def _remember(self, features: Features, drawn: Drawn) -> _Memory:
        config = self._sam2.config
        dtype = features.coarse.dtype
        soft = enlarged(drawn.logits).sigmoid()[:, None]
        scaled = (soft * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc).to(dtype)
        picture, _ = self._sam2.memory_encoder(features.coarse, scaled)
        there = (drawn.object_score > 0).to(dtype)[:, None]
        pointers = there * self._sam2.object_pointer_proj(drawn.token) + (1 - there) * self._sam2.no_object_pointer
        return _Memory(picture.to(torch.bfloat16).flatten(2).permute(2, 0, 1), pointers)

    def _reminded(self, frame: int, features: Features, *, backwards: bool) -> Tensor:
        """The coarse features of a frame, ``(objects, channels, 64, 64)``, in the light of what is remembered."""
        step = -1 if backwards else 1
        memories, positions = self._remembered_pictures(frame, step)
        pointers = self._remembered_pointers(frame, step)
        memories.append(pointers)
        positions.append(torch.zeros_like(pointers))
        dtype = features.coarse.dtype
        out = self._sam2.memory_attention(
            current_vision_features=features.coarse.flatten(2).permute(2, 0, 1),
            current_vision_position_embeddings=self._places.to(dtype).expand(-1, len(self._vectors), -1),
            memory=torch.cat([one.to(dtype) for one in memories]),
            memory_posision_embeddings=torch.cat([one.to(dtype) for one in positions]),
            num_object_pointer_tokens=len(pointers),
        )
        # (1, objects, places, channels) or (places, objects, channels), by the number of objects
        rows: Tensor = out.reshape(len(self._vectors), -1, self._sam2.hidden_dim)
        return rows.transpose(1, 2).reshape(features.coarse.shape)

    def _remembered_pictures(self, frame: int, step: int) -> tuple[list[Tensor], list[Tensor]]:
        """Conditioning frames, then those just passed; each is told apart by how long ago it was."""
        times = self._sam2.memory_temporal_positional_encoding
        chosen = [(0, memory) for memory in self._known.values()]
        for ago in range(self._sam2.num_maskmem - 1, 0, -1):
            memory = self._followed.get(frame - step * ago)
            if memory is not None:
                chosen.append((ago, memory))
        pictures = [memory.picture for _, memory in chosen]
        return pictures, [self._memory_places.expand_as(memory.picture) + times[ago - 1] for ago, memory in chosen]

    def _remembered_pointers(self, frame: int, step: int) -> Tensor:
        """``(pointers in parts as wide as a memory, objects, channels)`` of conditioning frames passed, and others."""
        passed = [memory.pointers for one, memory in self._known.items() if (frame - one) * step >= 0]
        near: Iterable[int] = (frame - step * ago for ago in range(1, _POINTERS))
        passed += [self._followed[one].pointers for one in near if one in self._followed]
        width = self._sam2.mem_dim
        if not passed:
            return self._vectors.new_zeros(0, len(self._vectors), width)
        stacked = torch.stack(passed)
        parts = stacked.reshape(len(passed), len(self._vectors), -1, width)
        return parts.permute(0, 2, 1, 3).flatten(0, 1)

    def _positions(self, channels: int) -> Tensor:
        """Where each place lies, ``(places, 1, channels)``, in float32 whatever the network computes in."""
        encode = (
            self._sam2.vision_encoder.neck.position_encoding
            if channels == self._sam2.hidden_dim
            else self._sam2.memory_encoder.position_encoding
        )
        size = torch.Size((1, channels, *self._sam2.backbone_feature_sizes[-1]))
        encoded: Tensor = encode(size, self._sam2.device, torch.float32)
        return encoded.flatten(2).permute(2, 0, 1)
