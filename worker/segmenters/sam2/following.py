"""Follows what was found on some frames through the others: the memory of SAM 2, by transformers' own session.

The found masks of the frames that were asked about are what the network remembers; from the first of them it goes
forward to the end and then back to the beginning, as SAM 2 does. What it remembers lies in main memory, not on the
device, and of each frame only what later frames look at is kept.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray

from worker.segmenters.sam2.network import Sam2Network

_OBJECT = 1
_KEPT = "non_cond_frame_outputs"


def follow(
    network: Sam2Network,
    frames: int,
    pixels: Callable[[int], torch.Tensor],
    shown: Mapping[int, NDArray[np.bool_]],
) -> Iterator[tuple[int, torch.Tensor, float]]:
    """Follow one thing through a run or a volume.

    Args:
        network: For videos.
        frames: How many there are.
        pixels: Makes the input, ``(1, 3, size, size)``, of the frame of an index.
        shown: Masks ``(rows, columns)`` of some frames, none of them empty.

    Yields:
        Of each other frame: its index, ``(1, side, side)`` logits and the probability that the thing is there.
    """
    session = _session(frames)
    for index, mask in sorted(shown.items()):
        _show(network, session, index, mask, pixels)
    first = min(shown)
    for reverse, indices in ((False, range(first + 1, frames)), (True, range(first - 1, -1, -1))):
        for index in indices:
            if index not in shown:
                session.cache.cache_vision_features(index, network.maps(pixels(index)))
                out = network.model(session, frame_idx=index, reverse=reverse)
                _shrink(session.output_dict_per_obj[0][_KEPT], index)
                yield index, out.pred_masks[0], float(torch.sigmoid(out.object_score_logits.float()).max())


def square(mask: NDArray[np.bool_], size: int) -> torch.Tensor:
    """A mask ``(rows, columns)`` as ``(1, 1, size, size)`` of 0 and 1, as SAM 2 takes masks."""
    values = torch.from_numpy(mask).float()[None, None]
    resized = F.interpolate(values, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    return (resized >= 0.5).float()


def _session(frames: int) -> Any:
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    session = Sam2VideoInferenceSession(dtype=torch.float32)
    # The pictures never lie in the session: their features are put into its cache, one frame at a time.
    session.processed_frames = dict.fromkeys(range(frames))
    return session


def _show(
    network: Sam2Network, session: Any, index: int, mask: NDArray[np.bool_], pixels: Callable[[int], torch.Tensor]
) -> None:
    """Let the network remember a mask."""
    session.inference_device = session.cache.inference_device = network.device
    thing = session.obj_id_to_idx(_OBJECT)
    session.cache.cache_vision_features(index, network.maps(pixels(index)))
    session.add_mask_inputs(thing, index, square(mask, network.size))
    session.obj_with_new_inputs = [_OBJECT]
    network.model(session, frame_idx=index)
    session.remove_mask_inputs(thing, index)
    _shrink(session.output_dict_per_obj[thing]["cond_frame_outputs"], index)


def _shrink(outputs: dict[int, dict[str, torch.Tensor]], index: int) -> None:
    """Drop the drawn masks of a frame, and take what is remembered of it off the device."""
    frame = outputs[index]
    frame.pop("high_res_masks", None)
    frame.pop("pred_masks", None)
    frame["maskmem_features"] = frame["maskmem_features"].cpu()
    first = next(iter(outputs.values()))  # where a memory lies in the picture is the same for all frames
    frame["maskmem_pos_enc"] = frame["maskmem_pos_enc"].cpu() if first is frame else first["maskmem_pos_enc"]
