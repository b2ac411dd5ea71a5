"""Live pages: what the record tells of changes, and how one poller tells every browser."""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from console_site import ConsoleSite
from fastapi.testclient import TestClient
from web_client import signed_in, stranger

from console.web import live
from console.web.live import Listener, LiveFeed
from db import live_changes, progress, viewings
from db.session import Record

QUICK = 0.01
ADA = Listener("ada", "192.0.2.1")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ConsoleSite]:
    site = ConsoleSite(tmp_path / "data")
    yield site
    site.close()


def test_changes_name_the_studies(site: ConsoleSite) -> None:
    """Every study that was touched since is named once; nothing new is no change."""
    before = live_changes.head(site.record)
    assert before == 0
    site.study("1.2.3")
    site.receive("1.2.4")
    changes = live_changes.changes_since(site.record, before)
    assert (changes.anything, changes.studies) == (True, ("1.2.3", "1.2.4"))
    assert changes.head == live_changes.head(site.record)
    again = live_changes.changes_since(site.record, changes.head)
    assert (again.anything, again.studies, again.head) == (False, (), changes.head)


def test_looking_at_a_study_is_no_change(site: ConsoleSite) -> None:
    """Or a page that is fetched again because somebody looked at it would be fetched for ever."""
    site.receive("1.2.3")
    before = live_changes.head(site.record)
    viewings.note_viewing(site.record, "1.2.3", address="192.0.2.7", by="web", with_trail=True)
    changes = live_changes.changes_since(site.record, before)
    assert changes.head == before + 2
    assert not changes.anything


def test_who_is_far_behind_is_told_that_anything_changed(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Instead of reading thousands of rows the poller goes on from the end of the log."""
    monkeypatch.setattr(live_changes, "MOST_ROWS", 3)
    for number in range(4):
        site.refuse_association(f"NOBODY{number}")
    changes = live_changes.changes_since(site.record, 0)
    assert changes == live_changes.Changes(4, True, None)


def test_progress_is_that_of_the_try_that_runs(site: ConsoleSite) -> None:
    """A job that was handed to another worker shows nothing of the try before."""
    job = site.claim(site.study("1.2.3"))
    progress.report(site.record, job, "segment", 0.5, "cpu")
    (found,) = live_changes.running(site.record)
    assert (found.job_id, found.study_instance_uid, found.stage, found.share) == (job.job_id, "1.2.3", "segment", 0.5)
    with site.record.writing() as transaction:
        from db.models import JobRow

        transaction.session.get_one(JobRow, job.job_id).fence += 1
    assert live_changes.running(site.record) == []


class CountingRecord(Record):
    """Counts how often it is read."""

    readings = 0

    def reading(self) -> Any:
        CountingRecord.readings += 1
        return super().reading()


async def _take(feed: LiveFeed, listener: Listener, count: int, into: list[Any]) -> None:
    """Events until there are so many that say something."""
    async for event in feed.events(listener):
        if event is not None:
            into.append(event)
        if len(into) == count:
            return


def test_one_poller_tells_every_listener(site: ConsoleSite) -> None:
    """Each browser hears of each change and of progress; twenty browsers ask the database no oftener than one."""
    job = site.claim(site.study("1.2.3"))
    record = CountingRecord(f"sqlite:///{site.folder / 'vesselq.sqlite3'}", process="test")
    heard: list[list[Any]] = [[] for _ in range(20)]

    async def listen() -> None:
        feed = LiveFeed(record, QUICK)
        people = [Listener(f"person{number}", "192.0.2.1") for number in range(len(heard))]
        tasks = [asyncio.create_task(_take(feed, *one)) for one in zip(people, repeat(3), heard)]
        while feed.listeners < len(heard) or CountingRecord.readings < 4:
            await asyncio.sleep(QUICK)
        progress.report(site.record, job, "segment", 0.5)
        while not all(len(one) == 2 for one in heard):
            await asyncio.sleep(QUICK)
        site.receive("1.2.4")
        await asyncio.gather(*tasks)
        readings = CountingRecord.readings
        await asyncio.sleep(5 * QUICK)
        assert feed.listeners == 0
        assert CountingRecord.readings - readings <= 2, "nobody listens: nothing is asked"

    asyncio.run(asyncio.wait_for(listen(), 30))
    record.close()
    assert all(one[0] == ("ready", {}) for one in heard)
    assert all(one[1][0] == "progress" and one[1][1]["jobs"][0]["share"] == 0.5 for one in heard)
    assert all(one[2] == ("change", {"studies": ("1.2.4",)}) for one in heard)


def test_nothing_is_missed_once_the_stream_is_ready(site: ConsoleSite) -> None:
    """A page that is fetched again when it is told `ready`, and at each change after it, is never behind the record."""

    async def listen() -> list[Any]:
        events = LiveFeed(site.record, QUICK).events(ADA)
        assert await anext(events) is None
        site.receive("1.2.5")  # while the page that was made before connects: it is told to look again
        heard = [await anext(events)]
        site.receive("1.2.6")
        heard.append(await anext(events))
        await events.aclose()
        return heard

    assert asyncio.run(asyncio.wait_for(listen(), 10)) == [("ready", {}), ("change", {"studies": ("1.2.6",)})]


def test_streams_end_when_the_process_does(site: ConsoleSite) -> None:
    """So that stopping does not wait for browsers that keep their connection."""

    async def listen() -> int:
        feed = LiveFeed(site.record, QUICK)
        events = feed.events(ADA)
        assert await anext(events) is None
        feed.stop()
        return len([event async for event in events])

    assert asyncio.run(asyncio.wait_for(listen(), 10)) == 0


def test_slow_browser_is_told_that_anything_changed() -> None:
    """What it did not take in time is replaced by one event that makes it fetch its page."""

    async def fill() -> list[Any]:
        queue: asyncio.Queue[Any] = asyncio.Queue(2)
        for number in range(3):
            live._put(queue, ("change", {"studies": (str(number),)}))
        return [queue.get_nowait() for _ in range(queue.qsize())]

    assert asyncio.run(fill()) == [("change", {"studies": None})]


def test_events_are_for_who_may_read(site: ConsoleSite) -> None:
    """A stranger is told to sign in, an auditor is refused, and there is a most for open streams."""
    assert stranger(site).get("/events").status_code == 401
    with signed_in(site, roles=("auditor",)) as client:
        assert client.get("/events").status_code == 403
    with signed_in(site, roles=("viewer",)) as client:
        _fill(client, [Listener(f"person{number}", f"192.0.2.{number}") for number in range(live.MOST_LISTENERS)])
        assert client.get("/events").status_code == 503


def test_nobody_takes_all_streams(site: ConsoleSite) -> None:
    """A person has a share of them and so has an address; others still follow. The sentence says what happens now."""
    for taken, sentence in (
        ([Listener("vera", f"192.0.2.{number}") for number in range(live.MOST_OF_A_PERSON)], "you have too many pages"),
        ([Listener(f"p{number}", "127.0.0.1") for number in range(live.MOST_OF_AN_ADDRESS)], "this address has too"),
    ):
        with signed_in(site, roles=("viewer",), name="vera") as client:
            feed = _fill(client, taken)
            answer = client.get("/events")
            assert (answer.status_code, answer.headers["Retry-After"]) == (429, "30")
            assert answer.json()["detail"].startswith(sentence)
            feed.check_room(Listener("otto", "192.0.2.200"))
    feed.check_room(Listener("", "192.0.2.200"))


def test_streams_that_came_in_together_are_counted_as_well(site: ConsoleSite) -> None:
    """Requests that were all let in before the first one was counted: those that are too many end at once."""

    async def listen() -> list[int]:
        feed = LiveFeed(site.record, QUICK)
        streams = [feed.events(ADA) for _ in range(live.MOST_OF_A_PERSON + 3)]
        begun = [await anext(stream, "over") for stream in streams]
        counted = feed.listeners
        for stream in streams:
            await stream.aclose()
        return [begun.count(None), begun.count("over"), counted, feed.listeners]

    most = live.MOST_OF_A_PERSON
    assert asyncio.run(asyncio.wait_for(listen(), 10)) == [most, 3, most, 0]


def _fill(client: TestClient, taken: Sequence[Listener]) -> LiveFeed:
    feed: LiveFeed = client.app.state.live_feed  # type: ignore[attr-defined]
    feed._listeners = {asyncio.Queue(): listener for listener in taken}
    return feed
