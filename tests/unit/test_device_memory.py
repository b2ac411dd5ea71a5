"""The device runs out of memory in these tests because ``work`` says so; the halving is what is looked at."""

from collections.abc import Callable

import pytest
import torch

from dicom_core.errors import RunnerBusyError
from worker.segmenters.device_memory import Portions, fits, in_batches, is_out_of_memory


def device_for(most: int, done: list[range], error: Callable[[], Exception]) -> Callable[[slice], None]:
    def work(part: slice) -> None:
        items = range(part.start, part.stop)
        if len(items) > most:
            raise error()
        done.append(items)

    return work


def out_of_memory() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory")


def test_all_items_are_worked_on_once_in_order() -> None:
    """Nine items, four at a time: 0-3, 4-7, 8; progress after each; nothing to warn of."""
    done: list[range] = []
    shares: list[float] = []
    portions = in_batches(9, 4, device_for(4, done, out_of_memory), shares.append)
    assert done == [range(4), range(4, 8), range(8, 9)]
    assert shares == [4 / 9, 8 / 9, 1.0]
    assert portions == Portions(4, 4)
    assert portions.warnings() == ()


def test_what_does_not_fit_is_halved_until_it_does() -> None:
    """Eight at a time do not fit, nor four, but two do; from then on two at a time, and the result says so."""
    done: list[range] = []
    portions = in_batches(9, 8, device_for(3, done, out_of_memory))
    assert done == [range(2), range(2, 4), range(4, 6), range(6, 8), range(8, 9)]
    assert portions == Portions(8, 2)
    assert portions.warnings() == ("The device ran out of memory with 8 frames at a time; 2 at a time were used",)


def test_more_at_a_time_than_there_are_is_nothing_to_warn_of() -> None:
    """A batch of 16 for three items is a batch of three; no items at all are no work."""
    done: list[range] = []
    assert in_batches(3, 16, device_for(16, done, out_of_memory)).warnings() == ()
    assert done == [range(3)]
    assert in_batches(0, 16, device_for(0, done, out_of_memory)).warnings() == ()


def test_a_device_too_small_for_one_item_is_busy() -> None:
    """Not one fits: an error that may be tried again later, when others have left the device."""
    done: list[range] = []
    with pytest.raises(RunnerBusyError, match="no memory left for a single frame") as raised:
        in_batches(4, 4, device_for(0, done, out_of_memory))
    assert raised.value.retryable
    assert done == []


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("not enough memory of this"), False),
    ],
)
def test_only_a_lack_of_memory_is_tried_again(error: Exception, *, is_memory: bool) -> None:
    """On a CPU torch has no class for it, only words; any other error passes through."""

    def work() -> None:
        raise error

    assert is_out_of_memory(error) is is_memory
    if is_memory:
        assert not fits(work)
    else:
        with pytest.raises(type(error)):
            fits(work)


def test_what_fits_is_done_once() -> None:
    """The common case costs nothing but the call."""
    calls: list[int] = []
    assert fits(lambda: calls.append(1))
    assert calls == [1]
