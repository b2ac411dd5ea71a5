"""Writes torch modules as ONNX files and holds what onnxruntime says against what torch says."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dicom_core.errors import ConfigurationError, SegmentationError
from worker.model_folder.manifest import ModelManifest, write_manifest
from worker.model_folder.opening import files_of

OPSET = 17
TOLERANCE = 1e-4
"""Most that the two may differ anywhere."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written.

    Attributes:
        folder: With a manifest for the segmenter ``onnx``.
        files: Names in it.
        max_difference: Largest absolute difference between onnxruntime and torch on the same input.
    """

    folder: Path
    files: tuple[str, ...]
    max_difference: float


@dataclass(frozen=True, slots=True)
class Export:
    """One module to be written.

    Attributes:
        name: Of the file.
        module: In evaluation mode, on the CPU, in float32.
        inputs: By name, what it is traced with.
        outputs: Names.
        free: For each input or output the axes that may vary, with their names.
        checks: More inputs of other sizes, to prove that the axes may vary.
    """

    name: str
    module: torch.nn.Module
    inputs: Mapping[str, torch.Tensor]
    outputs: Sequence[str]
    free: Mapping[str, Mapping[int, str]]
    checks: Sequence[Mapping[str, torch.Tensor]] = ()


@torch.inference_mode()
def write_checked(
    folder: Path, exports: Sequence[Export], manifest: Callable[[Sequence[str]], ModelManifest]
) -> ExportReport:
    """Write modules and a manifest into a new folder.

    Args:
        folder: Must not hold anything.
        exports: One file each.
        manifest: Makes the manifest of the files' names.

    Raises:
        ConfigurationError: The folder holds something, or onnxruntime is not installed.
        SegmentationError: onnxruntime says something else than torch by more than :data:`TOLERANCE`.
    """
    try:
        import onnx  # noqa: F401 - torch needs it to write
        import onnxruntime
    except ImportError:
        raise ConfigurationError("Exporting needs onnx and onnxruntime: pip install 'vesselq[onnx]'") from None
    if folder.exists() and any(folder.iterdir()):
        raise ConfigurationError(f"{folder} is not empty; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    worst = 0.0
    for export in exports:
        file = folder / export.name
        _write(export, file)
        session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
        worst = max(worst, *(_difference(export, session, one) for one in (export.inputs, *export.checks)))
        if worst > TOLERANCE:
            file.unlink()
            raise SegmentationError(f"{export.name} differs from torch by {worst:.2g}; it was not kept")
    names = [export.name for export in exports]
    write_manifest(folder, manifest(names))
    return ExportReport(folder, tuple(names), worst)


def listed(folder: Path, names: Sequence[str], **said: Any) -> ModelManifest:
    """A manifest for the segmenter ``onnx`` that lists files of a folder."""
    return ModelManifest(system="onnx", files=files_of(folder, names), **said)


def _write(export: Export, file: Path) -> None:
    with warnings.catch_warnings():  # of tracing, and that torch prefers its newer exporter: the check below decides
        warnings.simplefilter("ignore")
        torch.onnx.export(
            export.module,
            tuple(export.inputs.values()),
            str(file),
            input_names=list(export.inputs),
            output_names=list(export.outputs),
            dynamic_axes={name: dict(axes) for name, axes in export.free.items()},
            opset_version=OPSET,
            dynamo=False,
        )


def _difference(export: Export, session: Any, inputs: Mapping[str, torch.Tensor]) -> float:
    expected = export.module(*inputs.values())
    expected = expected if isinstance(expected, tuple) else (expected,)
    found = session.run(list(export.outputs), {name: value.numpy() for name, value in inputs.items()})
    return max(float(np.abs(one - want.numpy()).max(initial=0.0)) for one, want in zip(found, expected, strict=True))
