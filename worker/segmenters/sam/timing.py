"""How fast a SAM of true shape is on a device, with random weights: none has to be at hand."""

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch

from dicom_core.errors import ConfigurationError
from worker.segmenters.number_types import chosen_number_type
from worker.segmenters.promptable.drawing import Asked
from worker.segmenters.sam.network import SamNetwork

SIZES: dict[str, dict[str, Any]] = {
    name: {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "global_attn_indexes": attending,
    }
    for name, width, layers, heads, attending in (
        ("b", 768, 12, 12, [2, 5, 8, 11]),
        ("l", 1024, 24, 16, [5, 11, 17, 23]),
        ("h", 1280, 32, 16, [7, 15, 23, 31]),
    )
}
"""What distinguishes ViT-B (also MedSAM), ViT-L and ViT-H."""


@dataclass(frozen=True, slots=True)
class SamTiming:
    """One measurement; times are medians over the rounds.

    Attributes:
        parameters: Numbers in the weights.
        batch: Frames that were looked at together.
        encode_seconds: Of the image encoder, for a frame.
        draw_seconds: Of drawing one box, for a frame, up to the logits.
        frames_per_second: Of both together.
        device_gib: Most memory of the device that was in use, 0 on a CPU.
    """

    size: str
    device: str
    dtype: str
    parameters: int
    batch: int
    encode_seconds: float
    draw_seconds: float
    frames_per_second: float
    device_gib: float


def random_network(size: str, device: str, dtype: str) -> SamNetwork:
    """Make a SAM of true shape with random weights.

    Args:
        size: A key of :data:`SIZES`.
        device: Where it works.
        dtype: Numbers of its image encoder.

    Raises:
        ConfigurationError: There is no such size.
    """
    from transformers import SamConfig, SamModel

    if size not in SIZES:
        raise ConfigurationError(f"There is no SAM of size {size!r}; known are {', '.join(SIZES)}")
    with torch.device(device):
        model = SamModel(SamConfig(vision_config=SIZES[size])).eval()
    return SamNetwork(model, device, dtype)


def benchmark(
    size: str = "b", device: str = "cpu", dtype: str = "auto", *, batch: int = 1, rounds: int = 3
) -> SamTiming:
    """Measure encoder and one box, after one round that is thrown away.

    Args:
        size: A key of :data:`SIZES`.
        device: Where to measure.
        dtype: As the setting of the segmenter.
        batch: Frames that are looked at together.
        rounds: At least 1.

    Raises:
        ConfigurationError: There is no such size or number format.
    """
    dtype = chosen_number_type(dtype, device, "float16")
    network = random_network(size, device, dtype)
    pixels = torch.rand(batch, 3, network.size, network.size)
    box = Asked(boxes=torch.tensor([[100.0, 100.0, 600.0, 700.0]], device=network.device))
    if network.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(network.device)
    encode, draw = [], []
    for _ in range(rounds + 1):
        began = _now(network)
        features = network.encode(pixels)
        encoded = _now(network)
        for one in features:
            network.decode(one, box)
        encode.append((encoded - began) / batch)
        draw.append((_now(network) - encoded) / batch)
    looked, drawn = statistics.median(encode[1:]), statistics.median(draw[1:])
    used = torch.cuda.max_memory_allocated(network.device) / 2**30 if network.device.type == "cuda" else 0.0
    return SamTiming(
        size, device, dtype, network.parameters, batch, looked, drawn, 1 / (looked + drawn), round(used, 2)
    )


def _now(network: SamNetwork) -> float:
    if network.device.type == "cuda":
        torch.cuda.synchronize(network.device)
    return time.perf_counter()
