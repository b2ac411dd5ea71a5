"""Looks at a folder of weights from end to end: its files, whether the model can be made of them, and what it says."""

import time
from collections.abc import Callable
from pathlib import Path

from dicom_core.errors import VesselqError
from worker.model_folder.checking import Finding, Health, check_model
from worker.model_folder.manifest import read_manifest
from worker.model_folder.opening import ModelFolder
from worker.model_trial.self_test import self_test
from worker.segmenters import registry
from worker.segmenters.interface import Segmenter


def verify(
    folder: Path,
    device: str,
    progress: Callable[[int], None] = lambda _bytes: None,
    *,
    load: bool = True,
) -> tuple[Finding, ...]:
    """Check the files, then load the model and show it a generated picture.

    Nothing is loaded from a folder whose files are not those that its manifest lists. No licence has to be accepted:
    the picture is nobody's.

    Args:
        folder: With a manifest.
        device: Where to load it.
        progress: Called with the number of bytes read since the last call.
        load: Whether to go beyond the files.

    Raises:
        ConfigurationError: There is no manifest, or it is wrong itself.
    """
    model = ModelFolder(folder, read_manifest(folder))
    findings = check_model(model, progress)
    if not load or any(one.health is Health.FAILS for one in findings):
        return findings
    began = time.perf_counter()
    try:
        segmenter = _loaded(model, device)
    except VesselqError as error:
        return (*findings, Finding("load", Health.FAILS, str(error)))
    seconds = time.perf_counter() - began
    loaded = Finding("load", Health.OK, f"{seconds:.1f} s on {device}, no weight missing or left over")
    return (*findings, loaded, *_words(model), *_tested(segmenter), *_memory())


def _loaded(model: ModelFolder, device: str) -> Segmenter:
    return registry.load("model", {"model": {"system": model.manifest.system, "folder": model}}, device)


def _words(model: ModelFolder) -> tuple[Finding, ...]:
    """The numbers of the words that a Sa2VA hangs on: another tokenizer would make it talk nonsense."""
    if model.manifest.system != "sa2va":
        return ()
    from worker.segmenters.sa2va.conversion import special_words

    numbers = special_words(model)
    return (Finding("words", Health.OK, ", ".join(f"{word} is {number}" for word, number in numbers.items())),)


def _tested(segmenter: Segmenter) -> tuple[Finding, ...]:
    try:
        return (Finding("self-test", Health.OK, self_test(segmenter).in_words()),)
    except VesselqError as error:
        return (Finding("self-test", Health.FAILS, str(error)),)


def _memory() -> tuple[Finding, ...]:
    import torch

    if not torch.cuda.is_available():
        return ()
    return (Finding("device memory", Health.OK, f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB at most"),)
