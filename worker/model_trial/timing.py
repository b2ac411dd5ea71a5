"""How long a segmenter takes for a frame, measured on generated pictures."""

import statistics
import time
from dataclasses import dataclass

from worker.model_trial.asking import any_prompt
from worker.model_trial.generated import generated_picture, generated_stack
from worker.segmenters.interface import Segmenter


@dataclass(frozen=True, slots=True)
class Timing:
    """One measurement.

    Attributes:
        frames: How many were given at a time.
        seconds_a_frame: The median over the rounds.
        slowest: The worst round, seconds a frame.
        frames_a_second: The other way round, of the median.
        device_gib: Most memory of the device that was in use, 0 on a CPU.
    """

    frames: int
    rows: int
    columns: int
    rounds: int
    seconds_a_frame: float
    slowest: float
    frames_a_second: float
    device_gib: float


def time_frames(
    segmenter: Segmenter,
    frames: int,
    rows: int,
    columns: int,
    rounds: int = 3,
) -> Timing:
    """Measure, after one round that is thrown away.

    Args:
        segmenter: Loaded.
        frames: At a time.
        rows: Of each frame.
        columns: Of each frame.
        rounds: At least 1.
    """
    stack = generated_stack(segmenter.info, frames, rows, columns)
    prompt = any_prompt(segmenter.info, generated_picture(rows, columns), frames)
    seconds = []
    _forget_peak()
    for _ in range(rounds + 1):
        began = time.perf_counter()
        segmenter.segment(stack, prompt, lambda _share: None)
        seconds.append((time.perf_counter() - began) / frames)
    measured = seconds[1:]
    median = statistics.median(measured)
    return Timing(frames, rows, columns, rounds, median, max(measured), 1 / median, _peak_gib())


def _forget_peak() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _peak_gib() -> float:
    import torch

    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
