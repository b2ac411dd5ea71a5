"""Signals that end `vesselq demo`."""

import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from console.demo.interruption import Interruption

ENDING = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """The handlers of the test run come back afterwards."""
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_unwinds_with_the_exit_code_of_an_interrupted_program(number: signal.Signals, exit_code: int) -> None:
    """Each of the two raises SystemExit where the program is, with 128 and its number."""
    interruption = Interruption()
    interruption.unwind_if_wanted()
    with pytest.raises(SystemExit) as ended:
        signal.raise_signal(number)
    assert ended.value.code == exit_code


def test_lost_exception_is_raised_again_by_whoever_asks() -> None:
    """A signal whose exception somebody swallowed still ends the program at the next question."""
    interruption = Interruption()
    with suppress(SystemExit):
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(SystemExit) as ended:
        interruption.unwind_if_wanted()
    assert ended.value.code == 130
