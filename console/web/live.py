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
from dataclasses import asdict, dataclass
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from console.web.access import Caller, Reader
from console.web.rate_limits import network_of
from db import live_changes
from db.live_changes import Changes, Progress
from db.session import Record
from dicom_core.errors import TooManyRequestsError, UnavailableError

router = APIRouter(include_in_schema=False)
PERIOD_SECONDS = 0.5
MOST_LISTENERS = 200
"""In one process; each costs an open connection and nothing else."""
MOST_OF_A_PERSON = 12
"""Of these, or of one token: pages that nobody sees give their stream back, so few need more."""
MOST_OF_AN_ADDRESS = 60
"""Behind one address there may be a whole department."""
AGAIN_SECONDS = 30
"""After that a page that got no stream looks at the record once more and asks again (``live.js``)."""
LONGEST_STREAM_SECONDS = 300.0
"""After that a browser connects anew, and who is signed out by then is told so."""
_QUIET_SECONDS = 15.0
"""A comment goes out after so long, so that proxies between keep the connection."""
_RETRY_MS = 2000
_MOST_WAITING = 100
_TOO_MANY = "{of} too many pages open; this one looks for changes twice a minute until others are closed"
Event = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Listener:
    """Whose page listens.

    Attributes:
        name: Of the person or token, "" where sign-in is switched off.
        network: The address, of IPv6 its network.
    """

    name: str
    network: str

    @classmethod
    def of(cls, caller: Caller) -> "Listener":
        """Who asks."""
        return cls(caller.name, network_of(caller.address))


class LiveFeed:
    """The poller of one process and those who listen to it. Belongs to one event loop.

    Args:
        record: Asked while somebody listens.
        period_seconds: How often.
    """

    def __init__(self, record: Record, period_seconds: float = PERIOD_SECONDS) -> None:
        self._record = record
        self._period = period_seconds
        self._listeners: dict[asyncio.Queue[Event | None], Listener] = {}
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

    def check_room(self, listener: Listener) -> None:
        """Refuse one more stream where there are enough.

        Raises:
            TooManyRequestsError: The person or the address has its share.
            HTTPException: 503, all of them are taken.
        """
        taken = self._listeners.values()
        if len(taken) >= MOST_LISTENERS:
            raise HTTPException(503, "too many pages are open; this one does not follow by itself")
        if listener.name and sum(one.name == listener.name for one in taken) >= MOST_OF_A_PERSON:
            raise TooManyRequestsError(_TOO_MANY.format(of="you have"), seconds=AGAIN_SECONDS)
        if sum(one.network == listener.network for one in taken) >= MOST_OF_AN_ADDRESS:
            raise TooManyRequestsError(_TOO_MANY.format(of="this address has"), seconds=AGAIN_SECONDS)

    async def events(self, listener: Listener) -> AsyncIterator[Event | None]:
        """What changes from now on; None where nothing did for a while, or to begin with. Nothing where no room is."""
        try:
            self.check_room(listener)  # once more: many may have been let in since they were asked
        except (TooManyRequestsError, HTTPException):
            return
        queue: asyncio.Queue[Event | None] = asyncio.Queue(_MOST_WAITING)
        self._listeners[queue] = listener
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
            del self._listeners[queue]

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
async def events(request: Request, caller: Reader) -> StreamingResponse:
    """The stream for one browser. 429 where its person or address has enough of them, 503 where all are taken."""
    feed: LiveFeed = request.app.state.live_feed
    listener = Listener.of(caller)
    feed.check_room(listener)
    return StreamingResponse(
        _stream(feed, listener), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )  # fmt: skip


async def _stream(feed: LiveFeed, listener: Listener) -> AsyncIterator[str]:
    yield f"retry: {_RETRY_MS}\n\n"
    async for event in feed.events(listener):
        if event is None:
            yield ":\n\n"
        else:
            yield f"event: {event[0]}\ndata: {json.dumps(event[1])}\n\n"
