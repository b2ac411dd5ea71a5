"""Times systems in their true shape with random weights, where the weights themselves are not at hand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dicom_core.errors import ConfigurationError

DEFAULT_SIZES = {"sa2va": "8b", "sam": "b"}
"""The systems that can be made without weights, and the shape that is made unless another is named."""


@dataclass(frozen=True, slots=True)
class Measuring:
    """What is to be measured.

    Attributes:
        device: ``"cpu"``, ``"cuda:0"``.
        dtype: Numbers of the weights; ``""`` is what suits the device.
        batches: Frames at a time.
        rows: Of each frame, for systems that do not bring all pictures to one size.
        columns: The same.
        rounds: At least 1, after one that is thrown away.
    """

    device: str
    dtype: str
    batches: Sequence[int]
    rows: int
    columns: int
    rounds: int


def time_true_shape(system: str, size: str, how: Measuring) -> Iterator[object]:
    """Measure a system; yields one data class with all that was measured for each line.

    Raises:
        ConfigurationError: The system cannot be made without weights, or has no such size.
        RunnerBusyError: The device has no memory for it.
    """
    if system not in DEFAULT_SIZES:
        raise ConfigurationError(
            f"{system} cannot be made with random weights; that can be done for {', '.join(DEFAULT_SIZES)}"
        )
    measure = {"sa2va": _sa2va, "sam": _sam}[system]
    return measure(size.removeprefix("vit-") or DEFAULT_SIZES[system], how)


def _sa2va(size: str, how: Measuring) -> Iterator[object]:
    from worker.segmenters.sa2va.benchmark import time_frames

    dtype = how.dtype or ("float32" if how.device == "cpu" else "bfloat16")
    yield from time_frames(
        size, device=how.device, dtype=dtype, batches=how.batches, rows=how.rows, columns=how.columns,
        rounds=how.rounds,
    )  # fmt: skip


def _sam(size: str, how: Measuring) -> Iterator[object]:
    from worker.segmenters.sam.timing import benchmark

    for batch in how.batches:
        yield benchmark(size, how.device, how.dtype or "auto", batch=batch, rounds=how.rounds)
