"""How many numbers the weights of a folder hold, read from the heads of the files without the numbers themselves."""

from collections.abc import Iterable
from math import prod
from pathlib import Path

from dicom_core.errors import ConfigurationError


def parameters_of(folder: Path, names: Iterable[str]) -> int:
    """Count the numbers in all safetensors files; 0 when there are none, as for ONNX and TorchScript.

    Raises:
        ConfigurationError: A file is damaged.
    """
    return sum(_numbers_in(folder / name) for name in names if name.endswith(".safetensors"))


def _numbers_in(file: Path) -> int:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as weights:
            return sum(prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118 - no dict
    except (SafetensorError, OSError) as error:
        raise ConfigurationError(f"{file} is no whole safetensors file: {error}") from None
