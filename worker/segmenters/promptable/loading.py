"""Builds a network of transformers from a folder of weights: its own classes, safetensors, nothing from a network."""

import json
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from dicom_core.errors import ConfigurationError
from worker.model_folder.opening import ModelFolder

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def read_config(model: ModelFolder, kinds: tuple[str, ...]) -> dict[str, Any]:
    """Read ``config.json``.

    Args:
        model: The folder.
        kinds: The values of ``model_type`` that are taken.

    Raises:
        ConfigurationError: It is missing, changed, no JSON, or of another kind of network.
    """
    path = model.path(CONFIG_FILE)
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise ConfigurationError(f"{path} is no JSON") from None
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind not in kinds:
        raise ConfigurationError(f"{path} describes a network of the kind {kind!r}; it must be {' or '.join(kinds)}")
    return dict(values)


def load(model: ModelFolder, made_by: Any, config: Any) -> Any:
    """Load the weights into a network, all of them and no others, in float32 and in evaluation mode.

    Args:
        model: The folder.
        made_by: A class of transformers.
        config: For it.

    Raises:
        ConfigurationError: The weights are missing, changed, or those of another network.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    path = model.path(WEIGHTS_FILE)
    try:
        weights = load_file(path)
        network, told = made_by.from_pretrained(
            None, config=config, state_dict=weights, dtype=torch.float32, output_loading_info=True
        )
    except (SafetensorError, RuntimeError, ValueError, OSError) as error:
        raise ConfigurationError(f"{path} cannot be loaded into the network that {CONFIG_FILE} describes") from error
    for said in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if told[said]:
            names = ", ".join(sorted(map(str, told[said]))[:3])
            raise ConfigurationError(f"{path} holds the weights of another network: {said.replace('_', ' ')} {names}")
    return network.requires_grad_(requires_grad=False)


def chosen_dtype(dtype: str, device: str, on_gpu: str) -> str:
    """The name of the number format of the image encoder.

    Args:
        dtype: ``auto``, ``float32``, ``float16`` or ``bfloat16``.
        device: ``auto`` is float32 on a CPU.
        on_gpu: What ``auto`` is elsewhere.

    Raises:
        ConfigurationError: Another word.
    """
    if dtype == "auto":
        return "float32" if torch.device(device).type == "cpu" else on_gpu
    if dtype not in DTYPES:
        raise ConfigurationError(f"The setting `dtype` must be auto, {', '.join(DTYPES)}")
    return dtype
