"""For every system that needs a folder of weights a tiny model that a test can make in a moment."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sa2va_checkpoints
import tiny_onnx
import tiny_sam
import torch

from worker.model_folder.adopting import Description, adopt
from worker.model_folder.recognising import recognise


def write_tiny_sa2va(folder: Path) -> Path:
    """A Sa2VA with random weights that gives the usual answer."""
    raw = folder.with_name(f"{folder.name}-download")
    sa2va_checkpoints.write_checkpoint(raw)
    adopt(recognise(raw), folder, Description("tiny-sa2va", license="MIT"))
    return folder


class _Finder(torch.nn.Module):
    """Logits of narrow dark things, as :func:`tiny_onnx.tiny_finder` gives them."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """``(n, 1, rows, columns)`` in [0, 1] to logits."""
        wide = torch.nn.functional.avg_pool2d(image, 15, 1, 7, count_include_pad=False)
        narrow = torch.nn.functional.avg_pool2d(image, 3, 1, 1, count_include_pad=False)
        return (wide - narrow - 0.045) * 120.0


def write_tiny_torchscript(folder: Path) -> Path:
    """A TorchScript network that finds narrow dark things."""
    folder.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch would rather have other formats written
        torch.jit.trace(_Finder(), torch.zeros(1, 1, 32, 48)).save(str(folder / "model.ts"))
    settings = {"normalisation": {"scale": "percentiles", "per": "stack"}, "output": {"activation": "sigmoid"}}
    return tiny_onnx.write_listed(folder, ["model.ts"], settings, system="torchscript")


WRITERS: dict[str, Callable[[Path], Path]] = {
    "sa2va": write_tiny_sa2va,
    "sam": tiny_sam.write_tiny_sam,
    "sam2": tiny_sam.write_tiny_sam2,
    "onnx": tiny_onnx.write_tiny_onnx,
    "torchscript": write_tiny_torchscript,
}


def tiny_table(system: str, folder: Path) -> dict[str, Any]:
    """Make the tiny model of a system and return its ``[models.NAME]`` table."""
    return {"system": system, "folder": str(WRITERS[system](folder / system))}
