"""The shipped weights and the card that goes with them: what they are, and what was fitted to them.

``weights.json`` names the hash of ``weights.safetensors``; weights that do not bear it are not loaded. Reading the card
needs no torch.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dicom_core.errors import ConfigurationError
from worker.image_stack import Imaging

if TYPE_CHECKING:
    from worker.segmenters.vesselnet.network import VesselNetwork

SHIPPED = Path(__file__).parent
"""The folder of the weights that come with vesselq."""
CARD, WEIGHTS = "weights.json", "weights.safetensors"


class KindFit(BaseModel):
    """What was fitted for one kind of picture on pictures that the network had not learnt from.

    Attributes:
        slope: The network's logit times this plus ``offset`` is the logit of the probability.
        offset: See ``slope``.
        threshold: Least probability of a vessel pixel.
        seed: Least probability that each piece of vessel reaches somewhere.
        minimum_extent: A piece has at least the area of a square with this side, as a share of the field of view.
        gate: Least mean logit of the gate for a picture to be of the kind.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    slope: float = Field(default=1.0, gt=0)
    offset: float = 0.0
    threshold: float = Field(default=0.5, gt=0, lt=1)
    seed: float = Field(default=0.5, ge=0, le=1)
    minimum_extent: float = Field(default=0.0, ge=0, lt=1)
    gate: float = 0.0


class Card(BaseModel):
    """What is known of weights without loading them.

    Attributes:
        version: Changes with the weights or what was fitted to them.
        sha256: Hash of the file of weights, lower-case hexadecimal.
        fits: By kind of picture.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    fits: Mapping[Imaging, KindFit]


def read_card(folder: Path = SHIPPED) -> Card:
    """Read the card of a folder of weights.

    Raises:
        ConfigurationError: The folder holds no card.
    """
    try:
        return Card.model_validate_json((folder / CARD).read_bytes())
    except (OSError, ValidationError) as error:
        raise ConfigurationError(
            f"{folder / CARD} is missing or damaged; install vesselq again, or name a folder made by training.export"
        ) from error


def load_network(folder: Path, device: str) -> "VesselNetwork":
    """Load the weights of a folder, ready to look at pictures.

    Args:
        folder: Holds :data:`CARD` and :data:`WEIGHTS`.
        device: ``"cpu"``, ``"cuda:0"``.

    Raises:
        ConfigurationError: The weights are missing, of another network, or not those that the card describes.
    """
    import torch
    from safetensors.torch import load

    from worker.segmenters.vesselnet.network import VesselNetwork

    card = read_card(folder)
    try:
        data = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{folder / WEIGHTS} cannot be read; install vesselq again") from error
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise ConfigurationError(f"{folder / WEIGHTS} is not the file that {CARD} describes; install vesselq again")
    network = VesselNetwork()
    try:
        network.load_state_dict({key: value.float() for key, value in load(data).items()})
    except (RuntimeError, ValueError) as error:
        raise ConfigurationError(f"{folder / WEIGHTS} holds the weights of another network") from error
    network.fuse().requires_grad_(requires_grad=False)
    network.to(torch.device(device))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from torch's types
    return network
