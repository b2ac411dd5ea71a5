"""The network: a picture-reading language model, SAM 2, and the two layers by which the one tells the other."""

import torch
from torch import nn
from transformers import InternVLForConditionalGeneration, Sam2VideoModel

from worker.segmenters.sa2va.configuration import NetworkConfig


class Sa2vaNetwork(nn.Module):
    """The parts, each a class of transformers.

    Attributes:
        internvl: InternViT, its projector and the language model.
        sam2: SAM 2.0, for pictures and for runs.
        projection: From the last hidden state at the word [SEG] to what SAM 2 takes as a prompt.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.sizes.llm_config.hidden_size
        self.config = config
        self.internvl = InternVLForConditionalGeneration(config.internvl)
        self.sam2 = Sam2VideoModel(config.sam2)
        self.projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, config.vector_width))


def network_without_weights(config: NetworkConfig) -> Sa2vaNetwork:
    """Build the network on the meta device: its shape, and no memory for its weights."""
    with torch.device("meta"):
        network = Sa2vaNetwork(config)
    return network.eval().requires_grad_(requires_grad=False)


def fill_computed_buffers(network: nn.Module, device: torch.device) -> None:
    """Compute what no checkpoint holds (frequencies and positions of the rotary embeddings).

    Such buffers are made by the constructors; those of a network on the meta device were made of nothing.
    """
    for module in list(network.modules()):
        # There is no public word for it: these are the buffers that a state dict leaves out.
        computed = module._non_persistent_buffers_set  # noqa: SLF001
        empty = [name for name in computed if module.get_buffer(name).is_meta]
        if empty:
            fresh = type(module)(config=module.config)
            for name in empty:
                module.register_buffer(name, fresh.get_buffer(name).to(device), persistent=False)
