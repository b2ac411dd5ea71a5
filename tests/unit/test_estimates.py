"""When results are to be expected: medians of the last jobs, spread over the workers in the order of the queue."""

from datetime import UTC, datetime, timedelta

import pytest

from db.estimates import _left, _spread, _usual_seconds, _Waiting

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


def test_each_job_goes_to_the_worker_that_is_free_first() -> None:
    """Two workers: the third job waits for the quicker of the first two."""
    waiting = [_Waiting("a", 10), _Waiting("b", 4), _Waiting("c", 5), _Waiting("d", 1)]
    assert _spread(waiting, 2) == {"a": 10, "b": 4, "c": 9, "d": 10}
    assert _spread(waiting, 1) == {"a": 10, "b": 14, "c": 19, "d": 20}
    assert _spread([], 3) == {}


def test_usual_time_is_the_median_of_the_segmenter_or_of_all() -> None:
    """One job that took for ever changes little, and jobs without times count for nothing."""
    usual = _usual_seconds([("ridge", 2), ("ridge", 4), ("ridge", 900), ("sam", 10), ("sam", 0)])
    assert usual == {"ridge": 4, "sam": 10, "": 7}
    assert _usual_seconds([]) == {}


@pytest.mark.parametrize(("started_before", "left"), [(None, 30), (10, 20), (45, 0)])
def test_what_runs_already_has_less_to_go(started_before: float | None, left: float) -> None:
    """A job that takes longer than usual is to be done any moment, never before now."""
    started_at = None if started_before is None else NOW - timedelta(seconds=started_before)
    assert _left(30, started_at, NOW) == left
