"""Keeps the state of a training so that it can go on after it was stopped; tensors only, nothing that is executed."""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dicom_core.errors import ConfigurationError

_WEIGHTS, _OPTIMIZER = ".weights.safetensors", ".optimizer.safetensors"
"""After the number of the step: two files, so that each stays small enough to be carried about."""
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


def save(training: Training, folder: Path) -> None:
    """Write the whole state; an older one stays until the new one is complete."""
    weights = {f"network.{key}": value for key, value in training.network.state_dict().items()}
    weights |= {f"average.{key}": value for key, value in training.average.state_dict().items()}
    moments: dict[str, torch.Tensor] = {}
    for index, parameter in enumerate(_parameters(training.optimizer)):
        state = training.optimizer.state.get(parameter, {})
        moments |= {f"{index}.{name}": state[name] for name in _MOMENTS if name in state}
    for suffix, tensors in ((_WEIGHTS, weights), (_OPTIMIZER, moments)):
        path = folder / f"{training.step:07d}{suffix}"
        fresh = path.with_name(f"{path.name}.new")
        save_file({key: value.contiguous() for key, value in tensors.items()}, fresh)
        fresh.replace(path)
    for path in folder.glob("*.safetensors"):
        if not path.name.startswith(f"{training.step:07d}."):
            path.unlink()


def exists(folder: Path) -> bool:
    """Whether a folder holds the state of a training."""
    return _last_step(folder) is not None


def restore(training: Training, folder: Path) -> None:
    """Bring a training to the state that was kept last.

    Raises:
        ConfigurationError: The folder holds no state, or that of another network.
    """
    step = _last_step(folder)
    if step is None:
        raise ConfigurationError(f"{folder} holds no training; start without --resume")
    device = next(training.network.parameters()).device
    weights = load_file(folder / f"{step:07d}{_WEIGHTS}", device=str(device))
    moments = load_file(folder / f"{step:07d}{_OPTIMIZER}", device=str(device))
    try:
        training.network.load_state_dict(_below(weights, "network."))
        training.average.load_state_dict(_below(weights, "average."))
    except RuntimeError as error:
        raise ConfigurationError(f"{folder} holds the training of another network; choose another folder") from error
    for index, parameter in enumerate(_parameters(training.optimizer)):
        state = _below(moments, f"{index}.")
        if state:
            training.optimizer.state[parameter] = state | {"step": state["step"].cpu()}
    training.step = step


def average_of(folder: Path) -> dict[str, torch.Tensor]:
    """Return the averaged weights of the state that was kept last.

    Raises:
        ConfigurationError: The folder holds no state.
    """
    step = _last_step(folder)
    if step is None:
        raise ConfigurationError(f"{folder} holds no training; run training.train first")
    return _below(load_file(folder / f"{step:07d}{_WEIGHTS}"), "average.")


def _last_step(folder: Path) -> int | None:
    """Return the step of the last state of which both files are there."""
    steps = [int(path.name.removesuffix(_OPTIMIZER)) for path in folder.glob(f"*{_OPTIMIZER}")]
    complete = [step for step in steps if (folder / f"{step:07d}{_WEIGHTS}").is_file()]
    return max(complete, default=None)


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _below(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
