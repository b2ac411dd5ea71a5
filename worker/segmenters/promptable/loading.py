"""Builds a network of transformers from a folder of weights: its own classes, safetensors, nothing from a network.

A configuration is data of somebody else, and transformers takes more from it than sizes: a kernel that it fetches and
runs (``attn_implementation``), networks of other libraries (``model_type`` of a part), packed numbers. Those are left
out or refused here.
"""

import json
from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import load_file

from dicom_core.errors import ConfigurationError
from worker.model_folder.opening import ModelFolder
from worker.segmenters.device_memory import is_out_of_memory

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
_OURS_TO_SAY = frozenset({"auto_map", "dtype", "torch_dtype", "use_kernels", "self"})
"""How a network is run is no business of the folder's; the names of kernels end as _IMPLEMENTATION says."""
_IMPLEMENTATION = ("_implementation", "_implementation_internal", "_implementation_autoset")
_PACKED = "quantization_config"
_FAMILY = "sam"


def read_config(model: ModelFolder, kinds: tuple[str, ...]) -> dict[str, Any]:
    """Read ``config.json``.

    Args:
        model: The folder.
        kinds: The values of ``model_type`` that are taken.

    Returns:
        What it says of sizes and parts.

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
    return _sizes(values, str(path))


def _sizes(values: dict[str, Any], where: str) -> dict[str, Any]:
    """The values without those that say how a network is run; those of its parts as well."""
    kind = values.get("model_type") or _FAMILY
    if not isinstance(kind, str) or not kind.startswith(_FAMILY):
        raise ConfigurationError(f"{where} names a part of the kind {kind!r}, which is not of this family of networks")
    if values.get(_PACKED):
        raise ConfigurationError(f"{where} says that the weights are packed ({_PACKED}); get them as plain numbers")
    return {
        key: _sizes(value, where) if isinstance(value, dict) else value
        for key, value in values.items()
        if key not in _OURS_TO_SAY and not key.endswith(_IMPLEMENTATION)
    }


def load(model: ModelFolder, made_by: Any, config_made_by: Callable[..., Any], values: dict[str, Any]) -> Any:
    """Load the weights into a network, all of them and no others, in float32 and in evaluation mode.

    Args:
        model: The folder.
        made_by: A class of transformers.
        config_made_by: The class of its configuration.
        values: From :func:`read_config`.

    Raises:
        ConfigurationError: The weights are missing, changed, or those of another network.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    path = model.path(WEIGHTS_FILE)
    try:
        weights = load_file(path)
        config = config_made_by(**values)
        network, told = made_by.from_pretrained(
            None, config=config, state_dict=weights, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # a foreign configuration raises anything: KeyError, ZeroDivisionError, ImportError
        if is_out_of_memory(error):
            raise
        raise ConfigurationError(f"{path} cannot be loaded into the network that {CONFIG_FILE} describes") from error
    for said in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if told[said]:
            names = ", ".join(sorted(map(str, told[said]))[:3])
            raise ConfigurationError(f"{path} holds the weights of another network: {said.replace('_', ' ')} {names}")
    return network.requires_grad_(requires_grad=False)
