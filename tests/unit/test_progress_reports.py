"""What the pipeline passes on of the child's messages, and what it knows of the device."""

import sys
from types import SimpleNamespace

import pytest

from dicom_core.errors import LeaseLostError, UnavailableError
from worker.device_facts import DeviceFacts
from worker.progress import PAUSE_SECONDS, ProgressReports


class Clock:
    """Seconds that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_first_message_is_written_at_once_and_then_one_a_second(clock: Clock) -> None:
    """Of many messages in a second the latest is passed on, when the second is over."""
    written: list[tuple[str, float]] = []
    reports = ProgressReports(lambda stage, share: written.append((stage, share)), clock)
    for share in (0.0, 0.1, 0.2):
        reports.tell("segment", share)
    reports.write_if_due()
    assert written == [("segment", 0.0)]
    clock.now += PAUSE_SECONDS
    reports.write_if_due()
    assert written == [("segment", 0.0), ("segment", 0.2)]
    clock.now += 10 * PAUSE_SECONDS
    reports.write_if_due()  # nothing new: nothing is written
    assert len(written) == 2
    reports.tell("draw", 0.5)
    assert written[-1] == ("draw", 0.5)


def test_a_record_that_is_away_does_not_end_the_work(clock: Clock) -> None:
    """The message is dropped, the next one is tried a second later."""
    tries: list[float] = []

    def report(_stage: str, share: float) -> None:
        tries.append(share)
        raise UnavailableError("the database does not answer")

    reports = ProgressReports(report, clock)
    reports.tell("segment", 0.1)
    reports.tell("segment", 0.2)
    clock.now += PAUSE_SECONDS
    reports.write_if_due()
    assert tries == [0.1, 0.2]


def test_other_errors_are_not_hidden(clock: Clock) -> None:
    """Only a record that is away is passed over."""

    def report(_stage: str, _share: float) -> None:
        raise LeaseLostError("somebody else has it")

    with pytest.raises(LeaseLostError):
        ProgressReports(report, clock).tell("segment", 0.1)


def test_the_processor_has_a_name_and_no_memory_of_its_own() -> None:
    """Its memory is that of the machine."""
    assert DeviceFacts.of("cpu") == DeviceFacts("cpu", None, None)


def test_a_graphics_card_tells_name_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch asks its driver: what all processes use together."""
    cuda = SimpleNamespace(
        mem_get_info=lambda _device: (30, 100), get_device_name=lambda device: f"NVIDIA {device[-1]}"
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert DeviceFacts.of("cuda:1") == DeviceFacts("cuda:1 (NVIDIA 1)", 70, 100)
