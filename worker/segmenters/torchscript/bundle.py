"""What the metadata of a MONAI bundle say of its network; nothing of a bundle is executed but its TorchScript.

Read is ``network_data_format`` of ``configs/metadata.json``: how many channels, which spatial shape, what comes out.
The metadata do not say how numbers are made of Hounsfield units, nor at which spacing: that stands in Python or in
configurations that name Python classes, and the manifest has to say it.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dicom_core.errors import ConfigurationError
from worker.segmenters.semantic.settings import checked

MODEL_FILE, METADATA_FILE = "models/model.ts", "configs/metadata.json"
_MULTIPLE = re.compile(r"^(?:(\d+)\s*\*\s*)?[a-z]$")
"""A length that may vary: a letter, or a multiple of it, as "16*n"."""


class _Part(BaseModel):
    """Metadata hold much else; only what is read is checked."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _Tensor(_Part):
    num_channels: int = Field(ge=1)
    spatial_shape: tuple[int | str, ...]
    format: str = ""
    is_patch_data: bool = False
    channel_def: dict[str, str] = {}


class _Inputs(_Part):
    image: _Tensor


class _Outputs(_Part):
    pred: _Tensor


class _Format(_Part):
    inputs: _Inputs
    outputs: _Outputs


class _Metadata(_Part):
    network_data_format: _Format


def bundle_settings(file: Path, stated: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The settings that follow from metadata, and over them those that the manifest states.

    Args:
        file: ``configs/metadata.json``.
        stated: The manifest's own settings; of ``size`` and ``output`` single keys may be stated.
        name: Of the model, for errors.

    Returns:
        Values for :class:`worker.segmenters.semantic.settings.SemanticSettings`.

    Raises:
        ConfigurationError: The metadata are not those of a network that gives every pixel a number, or the manifest
            does not say how its input is normalised.
    """
    try:
        values = json.loads(file.read_bytes())
    except ValueError:
        raise ConfigurationError(f"{METADATA_FILE} of {name} is no JSON") from None
    if not isinstance(values, dict):
        raise ConfigurationError(f"{METADATA_FILE} of {name} is no JSON object")
    described = checked(_Metadata, values, name).network_data_format
    image, answer = described.inputs.image, described.outputs.pred
    if "normalisation" not in stated:
        raise ConfigurationError(
            f"The metadata of {name} do not tell how its input is normalised; write settings.normalisation in its "
            "manifest (see the transforms of the bundle's inference.json: ScaleIntensityRanged is scale window)"
        )
    volume = len(image.spatial_shape) == 3
    derived: dict[str, Any] = {
        "file": MODEL_FILE,
        "layout": "NCDHW" if volume else "NCHW",
        "channels": image.num_channels,
        "size": _size(image, name),
        "output": {"activation": _activation(answer)},
    }
    if volume:
        # MONAI's bundles turn volumes to R, A, S: of axial slices of a patient on the back, columns run to the left
        # (-R), rows to the back (-A) and slices upwards.
        derived["axes"] = ("-columns", "-rows", "slices")
    parts = {key: {**derived[key], **stated.get(key, {})} for key in ("size", "output")}
    return {**derived, **stated, **parts}


def _activation(answer: _Tensor) -> Literal["softmax", "sigmoid"]:
    background = answer.channel_def.get("0", "").lower() == "background"
    return "softmax" if background and answer.num_channels > 1 else "sigmoid"


def _size(image: _Tensor, name: str) -> dict[str, Any]:
    """How pictures become what the network takes: patches are windows, other fixed shapes are resized to."""
    lengths = [one for one in image.spatial_shape if isinstance(one, int)]
    if len(lengths) == len(image.spatial_shape):
        return {"fit": "windows" if image.is_patch_data else "resize", "size": tuple(lengths)}
    multiples = {_multiple(one, name) for one in image.spatial_shape}
    return {"fit": "pad", "multiple_of": max(multiples)}


def _multiple(length: int | str, name: str) -> int:
    if length == "*":
        return 1
    found = _MULTIPLE.match(str(length).strip())
    if found is None:
        raise ConfigurationError(
            f"The metadata of {name} name the length {length!r}; write settings.size in its manifest"
        )
    return int(found.group(1) or 1)
