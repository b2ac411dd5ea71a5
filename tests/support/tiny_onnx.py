"""Tiny ONNX models made on the spot, in folders with manifests, for tests of what runs them.

``write_tiny_onnx`` writes a real, if modest, finder of vessels: a difference of two means that stands out where
something narrow is darker or brighter than what surrounds it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from worker.model_folder.manifest import ManifestClass, ModelManifest, write_manifest
from worker.model_folder.opening import files_of

OPSET, IR_VERSION = 17, 8
VESSEL = ManifestClass(key="blood_vessel", label="Vessel")
_NARROW, _WIDE = 3, 15
_LEAST_CONTRAST, _STEEPNESS = 0.045, 120.0


def write_tiny_onnx(
    folder: Path,
    *,
    polarity: str = "dark",
    volume: bool = False,
    settings: Mapping[str, Any] | None = None,
    license: str = "Apache-2.0",  # noqa: A002 - as the manifest calls it
) -> Path:
    """Write a network that finds narrow things, with a manifest for the segmenter ``onnx``.

    Args:
        folder: Is made.
        polarity: ``"dark"`` or ``"bright"`` vessels, or ``"either"``.
        volume: Whether it takes volumes (NCDHW) and not pictures (NCHW).
        settings: Over those that the manifest gets.
        license: That the manifest names.
    """
    values: dict[str, Any] = {
        "layout": "NCDHW" if volume else "NCHW",
        "normalisation": {"scale": "percentiles", "per": "stack"},
        "output": {"activation": "sigmoid"},
        "mask": {"minimum_size": 30},
    }
    if volume:
        values["size"] = {"fit": "windows", "size": [16, 32, 32]}
        values["normalisation"] = {"values": "modality", "scale": "window", "low": -200, "high": 600}
    return write_model(
        folder, {"model.onnx": tiny_finder(polarity, 3 if volume else 2)}, {**values, **(settings or {})}, license
    )


def write_model(
    folder: Path,
    models: Mapping[str, onnx.ModelProto],
    settings: Mapping[str, Any],
    license: str = "Apache-2.0",  # noqa: A002 - as the manifest calls it
    classes: Sequence[ManifestClass] = (VESSEL,),
    system: str = "onnx",
) -> Path:
    """Write ONNX files and a manifest that lists them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in models.items():
        (folder / name).write_bytes(model.SerializeToString())
    return write_listed(folder, models, settings, license, classes, system)


def write_listed(
    folder: Path,
    names: Sequence[str] | Mapping[str, Any],
    settings: Mapping[str, Any],
    license: str = "Apache-2.0",  # noqa: A002 - as the manifest calls it
    classes: Sequence[ManifestClass] = (VESSEL,),
    system: str = "onnx",
) -> Path:
    """Write the manifest of files that are there."""
    manifest = ModelManifest(
        system=system,
        name="tiny",
        version="1",
        license=license,
        classes=tuple(classes),
        files=files_of(folder, names),
        settings=dict(settings),
    )
    write_manifest(folder, manifest)
    return folder


def tiny_finder(polarity: str = "dark", axes: int = 2) -> onnx.ModelProto:
    """A network ``(n, 1, *spatial)`` in [0, 1] -> logits of the same shape, for any size."""
    edge = _WIDE // 2 if axes == 2 else _WIDE // 4
    width = 2 * edge + 1
    kernel = -np.full((width,) * axes, 1 / width**axes)
    inner = (slice(edge - _NARROW // 2, edge + _NARROW // 2 + 1),) * axes
    kernel[inner] += 1 / _NARROW**axes
    sign = -1.0 if polarity == "dark" else 1.0
    nodes = [
        helper.make_node("Pad", ["image", "pads"], ["padded"], mode="edge"),
        helper.make_node("Conv", ["padded", "kernel"], ["difference"]),
        helper.make_node("Abs" if polarity == "either" else "Identity", ["difference"], ["contrast"]),
        helper.make_node("Sub", ["contrast", "least"], ["above"]),
        helper.make_node("Mul", ["above", "steepness"], ["logits"]),
    ]
    constants = {
        "pads": np.array([0, 0, *[edge] * axes] * 2, np.int64),
        "kernel": (sign * kernel)[None, None].astype(np.float32),
        "least": np.array(_LEAST_CONTRAST, np.float32),
        "steepness": np.array(_STEEPNESS, np.float32),
    }
    free: list[int | str | None] = ["n", 1, *("rows", "columns", "slices")[:axes]]
    return model_of(nodes, {"image": free}, {"logits": free}, constants)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str | None]],
    outputs: Mapping[str, Sequence[int | str | None]],
    constants: Mapping[str, NDArray[Any]] = {},
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """A model of nodes, all of whose inputs and outputs are float32."""

    def values(shapes: Mapping[str, Sequence[int | str | None]]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in shapes.items()]

    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "tiny", values(inputs), values(outputs), stored)
    opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = IR_VERSION
    return model
