"""Keeps the state of a training so that it can go on after it was stopped; tensors only, nothing that is executed."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from dicom_core.errors import ConfigurationError

_LAST = "last.safetensors"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(slots=True)
class Training:
    """What changes while the network learns.

    Attributes:
        network: What learns.
        average: The average of its weights over the last steps, which is what will be shipped.
        optimizer: AdamW over the network's parameters, in their order.
        step: Steps done.
    """

    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.AdamW
    step: int = 0

    @classmethod
    def of(cls, network: nn.Module, weight_decay: float) -> "Training":
        """Return a training that has not begun; gains, offsets and biases do not decay."""
        decaying = [p for p in network.parameters() if p.ndim == 4]
        others = [p for p in network.parameters() if p.ndim != 4]
        groups = [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
        average = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
        return cls(network, average, torch.optim.AdamW(groups, betas=(0.9, 0.99)))

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Move the average a little towards the network."""
        decay = min(decay, (1 + self.step) / (10 + self.step))
        for average, now in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if average.dtype.is_floating_point:
                average.lerp_(now, 1 - decay)
            else:
                average.copy_(now)


def save(training: Training, folder: Path) -> Path:
    """Write the whole state; an older one stays until the new one is complete."""
    tensors = {f"network.{key}": value for key, value in training.network.state_dict().items()}
    tensors |= {f"average.{key}": value for key, value in training.average.state_dict().items()}
    for index, parameter in enumerate(_parameters(training.optimizer)):
        state = training.optimizer.state.get(parameter, {})
        tensors |= {f"optimizer.{index}.{name}": state[name] for name in _MOMENTS if name in state}
    path, fresh = folder / _LAST, folder / f"{_LAST}.new"
    save_file({key: value.contiguous() for key, value in tensors.items()}, fresh, {"step": json.dumps(training.step)})
    fresh.replace(path)
    return path


def exists(folder: Path) -> bool:
    """Whether a folder holds the state of a training."""
    return (folder / _LAST).is_file()


def restore(training: Training, folder: Path) -> None:
    """Bring a training to the state that was kept last.

    Raises:
        ConfigurationError: The folder holds no state, or that of another network.
    """
    device = str(next(training.network.parameters()).device)
    try:
        with safe_open(folder / _LAST, "pt", device=device) as kept:
            tensors = {key: kept.get_tensor(key) for key in kept.keys()}  # noqa: SIM118 - no mapping
            training.step = int(json.loads(kept.metadata()["step"]))
        training.network.load_state_dict(_below(tensors, "network."))
        training.average.load_state_dict(_below(tensors, "average."))
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{folder} holds no training of this network; start without --resume") from error
    for index, parameter in enumerate(_parameters(training.optimizer)):
        state = _below(tensors, f"optimizer.{index}.")
        if state:
            state["step"] = state["step"].cpu()
            training.optimizer.state[parameter] = state


def average_of(folder: Path) -> dict[str, torch.Tensor]:
    """Return the averaged weights of the state that was kept last.

    Raises:
        ConfigurationError: The folder holds no state.
    """
    try:
        with safe_open(folder / _LAST, "pt") as kept:
            names = [key for key in kept.keys() if key.startswith("average.")]  # noqa: SIM118 - no mapping
            return {key.removeprefix("average."): kept.get_tensor(key) for key in names}
    except OSError as error:
        raise ConfigurationError(f"{folder} holds no training; run training.train first") from error


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _below(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
