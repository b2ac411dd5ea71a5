"""What the list of studies says of all studies: asked once however many look, and never out of date for long."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from console_site import ConsoleSite
from sqlalchemy import event

from console.web.list_facts import ListFacts, Remembered
from db import estimates


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ConsoleSite]:
    site = ConsoleSite(tmp_path / "data")
    yield site
    site.close()


def test_jobs_are_counted_once_for_each_change(site: ConsoleSite) -> None:
    """Whoever looks between two changes gets the counts that there are; after a change they are those of now."""
    asked: list[str] = []
    event.listen(site.record.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    facts = ListFacts(site.record)
    assert facts.counts() == {}
    job = site.study("1.2.3")
    assert [facts.counts() for _ in range(5)] == [{"QUEUED": 1}] * 5
    site.claim(job)
    assert facts.counts() == {"RUNNING": 1}
    assert len([one for one in asked if "GROUP BY jobs.state" in one]) == 3


def test_modalities_are_looked_up_once_a_minute(site: ConsoleSite) -> None:
    """They read every series; a new one may come a minute late."""
    seconds = [0.0]
    facts = ListFacts(site.record, clock=lambda: seconds[0])
    site.receive("1.2.3", modality="XA")
    assert facts.modalities() == ["XA"]
    site.receive("1.2.4", modality="CT")
    seconds[0] = 59.0
    assert facts.modalities() == ["XA"]
    seconds[0] = 60.0
    assert facts.modalities() == ["CT", "XA"]


def test_who_asks_at_the_same_time_waits_for_one_answer() -> None:
    """All browsers fetch their lists after the same change: one of them asks the record."""
    asked, begun, may_end = [], threading.Event(), threading.Event()

    def ask() -> int:
        asked.append(1)
        begun.set()
        assert may_end.wait(10)
        return len(asked)

    remembered, answers = Remembered(ask), []
    threads = [threading.Thread(target=lambda: answers.append(remembered.at("now"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    may_end.set()
    for thread in threads:
        thread.join(10)
    assert answers == [1] * 8
    assert remembered.at("later") == 2


def test_an_answer_that_failed_is_not_remembered() -> None:
    """The next one asks again."""
    tries = iter([ValueError("the database is away"), 7])

    def ask() -> int:
        if isinstance(found := next(tries), Exception):
            raise found
        return int(found)

    remembered = Remembered(ask)
    with pytest.raises(ValueError, match="away"):
        remembered.at("now")
    assert remembered.at("now") == 7


def test_last_results_are_found_by_when_they_ended(site: ConsoleSite) -> None:
    """Not by their state, which would have all jobs sorted that ever ended, at each refresh of a page."""
    statement = estimates._last_made().compile(site.record.engine, compile_kwargs={"literal_binds": True})
    with site.record.engine.connect() as connection:
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}")]
    assert any("INDEX ix_jobs_finished_at" in step for step in plan), plan
    assert not any("ix_jobs_state_queue_key" in step for step in plan), plan
