"""Live pages: server-sent events (WHATWG HTML, section 9.2) that tell browsers what changed in the record.

One thread's worth of questions serves every browser of this process: a poller asks the record what changed while at
least one browser listens, and hands the answer to all of them. The events carry no content but UIDs and progress: pages
fetch what they show again, with the rights of whoever looks at them.

``ready``      nothing that happens from now on is missed: what was shown before may be old already
``change``     ``{"studies": [...]}``, or null for any
``progress``   ``{"jobs": [{"job_id", "study_instance_uid", "stage", "share", "device"}]}``
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from console.web.access import Reader
from db import live_changes
from db.live_changes import Changes, Progress
from db.session import Record
from dicom_core.errors import UnavailableError

router = APIRouter(include_in_schema=False)
PERIOD_SECONDS = 0.5
MOST_LISTENERS = 200
"""In one process; each costs an open connection and nothing else."""
LONGEST_STREAM_SECONDS = 300.0
"""After that a browser connects anew, and who is signed out by then is told so."""
_QUIET_SECONDS = 15.0
"""A comment goes out after so long, so that proxies between keep the connection."""
_RETRY_MS = 2000
_MOST_WAITING = 100
Event = tuple[str, dict[str, Any]]


class LiveFeed:
    """The poller of one process and those who listen to it. Belongs to one event loop.

    Args:
        record: Asked while somebody listens.
        period_seconds: How often.
    """

    def __init__(self, record: Record, period_seconds: float = PERIOD_SECONDS) -> None:
        self._record = record
        self._period = period_seconds
        self._listeners: set[asyncio.Queue[Event | None]] = set()
        self._poller: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._over = False

    @property
    def listeners(self) -> int:
        """How many browsers listen."""
        return len(self._listeners)

    def stop(self) -> None:
        """End every stream within a period; may be called from a signal handler."""
        self._over = True

    async def events(self) -> AsyncIterator[Event | None]:
        """What changes from now on; None where nothing did for a while, or to begin with."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(_MOST_WAITING)
        self._listeners.add(queue)
        if self._poller is None or self._poller.done():
            self._ready.clear()
            self._poller = asyncio.create_task(self._poll())
        try:
            end = asyncio.get_running_loop().time() + LONGEST_STREAM_SECONDS
            yield None
            await self._ready.wait()
            if not self._over:
                yield "ready", {}
            while not self._over and (left := end - asyncio.get_running_loop().time()) > 0:
                event = None
                with suppress(TimeoutError):
                    event = await asyncio.wait_for(queue.get(), min(_QUIET_SECONDS, left))
                if not self._over:
                    yield event
        finally:
            self._listeners.discard(queue)

    async def _poll(self) -> None:
        head, shown = -1, None
        while self._listeners and not self._over:
            try:
                changes, progress = await run_in_threadpool(self._ask, head)
            except UnavailableError:  # the database is away: who listens goes on waiting
                await asyncio.sleep(self._period)
                continue
            head = changes.head
            self._ready.set()
            if changes.anything:
                self._tell("change", {"studies": changes.studies})
            if progress and progress != shown:
                self._tell("progress", {"jobs": [asdict(one) for one in progress]})
            shown = progress
            await asyncio.sleep(self._period)
        self._ready.set()
        for queue in self._listeners:
            _put(queue, None)

    def _ask(self, head: int) -> tuple[Changes, list[Progress]]:
        if head < 0:
            return Changes(live_changes.head(self._record), False, ()), live_changes.running(self._record)
        return live_changes.changes_since(self._record, head), live_changes.running(self._record)

    def _tell(self, name: str, content: dict[str, Any]) -> None:
        for queue in self._listeners:
            _put(queue, (name, content))


def _put(queue: asyncio.Queue[Event | None], event: Event | None) -> None:
    """Hand over; a browser that takes nothing for long is told that anything may have changed."""
    try:
        queue.put_nowait(event)
    except asyncio.QueueFull:
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(("change", {"studies": None}))


@router.get("/events", response_class=StreamingResponse)
async def events(request: Request, _: Reader) -> StreamingResponse:
    """The stream for one browser."""
    feed: LiveFeed = request.app.state.live_feed
    if feed.listeners >= MOST_LISTENERS:
        raise HTTPException(503, "too many pages are open; this one does not follow by itself")
    return StreamingResponse(
        _stream(feed), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )  # fmt: skip


async def _stream(feed: LiveFeed) -> AsyncIterator[str]:
    yield f"retry: {_RETRY_MS}\n\n"
    async for event in feed.events():
        if event is None:
            yield ":\n\n"
        else:
            yield f"event: {event[0]}\ndata: {json.dumps(event[1])}\n\n"
