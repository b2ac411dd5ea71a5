"""A folder with weights that learnt nothing, and the card that fits them: for tests of what surrounds the weights."""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save

from worker.segmenters.vesselnet.network import KINDS, VesselNetwork
from worker.segmenters.vesselnet.weights import CARD, WEIGHTS, Card, KindFit


def untrained_network(seed: int = 0) -> VesselNetwork:
    """Return a network with random weights whose batch norms have seen something."""
    torch.manual_seed(seed)
    network = VesselNetwork()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
        if isinstance(module, torch.nn.Embedding):
            torch.nn.init.normal_(module.weight, std=0.3)
    return network.eval()


def weights_folder(folder: Path, *, gate: float = -100.0, vessel: float | None = None, known: float = 0.0) -> Path:
    """Write weights and card.

    Args:
        folder: Where.
        gate: Least logit of a picture of the kind.
        vessel: Logit of vessel that the network says of every pixel; None leaves it to chance.
        known: Logit of being of its kind that the network says of every picture.
    """
    network = untrained_network()
    with torch.no_grad():
        network.gate[-1].weight.zero_()
        network.gate[-1].bias.fill_(known)
        if vessel is not None:
            network.head.weight.zero_()
            network.head.bias.fill_(vessel)
    folder.mkdir(parents=True, exist_ok=True)
    data = save(network.state_dict())
    (folder / WEIGHTS).write_bytes(data)
    fit = KindFit(gate=gate, minimum_extent=0.01)
    card = Card(version="test", sha256=hashlib.sha256(data).hexdigest(), fits=dict.fromkeys(KINDS, fit))
    (folder / CARD).write_text(card.model_dump_json())
    return folder
