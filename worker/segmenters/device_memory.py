"""Work that does not fit into the memory of the device is tried again in smaller portions."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from dicom_core.errors import RunnerBusyError

_FULL = (
    "can't allocate memory",
    "not enough memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""How torch on a CPU, and libraries on a GPU, say what torch has a class of its own for."""


@dataclass(frozen=True, slots=True)
class Portions:
    """How work was portioned in the end.

    Attributes:
        asked: Items at a time that the settings ask for.
        used: The most items at a time that fitted.
    """

    asked: int
    used: int

    def warnings(self) -> tuple[str, ...]:
        """For the reader of the result: nothing, or that less was done at a time."""
        if self.used == self.asked:
            return ()
        return (f"The device ran out of memory with {self.asked} frames at a time; {self.used} at a time were used",)


def in_batches(
    count: int,
    batch: int,
    work: Callable[[slice], None],
    progress: Callable[[float], None] = lambda _share: None,
) -> Portions:
    """Do work on all items, some at a time, and fewer where the device has no memory for so many.

    Args:
        count: Number of items.
        batch: Items at a time, at least 1; no more than ``count`` are counted as asked for.
        work: Gets the slice of items that is next; the same items again, in smaller slices, where memory ran out, so it
            must only keep what it finished.
        progress: Called with the finished share, 0 to 1, after each slice.

    Returns:
        What fitted.

    Raises:
        RunnerBusyError: Not even one item fits.
    """
    asked = used = max(1, min(batch, count))
    start = 0
    while start < count:
        stop = min(start + used, count)
        if fits(partial(work, slice(start, stop))):
            start = stop
            progress(start / count)
        elif stop - start == 1:
            raise RunnerBusyError("The device has no memory left for a single frame; free it or choose a smaller model")
        else:
            used = max(1, (stop - start) // 2)
    return Portions(asked, used)


def fits(work: Callable[[], object]) -> bool:
    """Do work, and tell whether the device had the memory for it; any other error is passed on."""
    try:
        work()
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not is_out_of_memory(error):
            raise
    else:
        return True
    # Here, and not in the handler: the error holds on to everything that was being worked on.
    _give_back()
    return False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the machine or a device has no memory left; asked without importing torch."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the latter is torch's
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _FULL)


def _give_back() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
