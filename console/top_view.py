"""The tables of ``vesselq top``: one look at the work under way, as large as the terminal."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from console.output import cell
from console.site_state import SiteState, SpoolState
from db.throughput import Span

_MOST_ROWS = 12
_BLOCKS = " ▁▂▃▄▅▆▇█"
_UNITS = (("d", 86400), ("h", 3600), ("min", 60))


def view(state: SiteState) -> Group:
    """Everything, from what needs a person down to what was done."""
    return Group(*_parts(state))


def _parts(state: SiteState) -> Iterator[RenderableType]:
    yield _summary(state)
    if state.stuck:
        lines = Text("\n").join(
            Text(f"{span_in_words(state.at, one.since):>8}  {one.reason} {one.advice}") for one in state.stuck
        )
        yield Panel(lines, title="Needs a person", border_style="red", title_align="left")
    yield _running(state)
    if state.waiting:
        yield _waiting(state)
    if state.lanes:
        yield _lanes(state)
    yield _processes(state)
    yield _done(state.spans)


def _summary(state: SiteState) -> RenderableType:
    text = Text()
    text.append(f"{state.at.astimezone():%Y-%m-%d %H:%M:%S}  ", style="bold")
    text.append(f"{state.studies_receiving} studies arriving   ")
    for name, count in sorted(state.jobs.items()):
        if count:
            text.append_text(cell(name))
            text.append(f" {count}   ")
    text.append_text(_spool(state.spool))
    return text


def _spool(spool: SpoolState) -> Text:
    if spool.free_bytes is None:
        return Text("spool: not on this machine", style="dim")
    style = "bold red" if spool.free_bytes < spool.low_water_bytes else ""
    return Text(f"spool: {spool.free_bytes / 1024**3:.1f} GiB free", style=style)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold", pad_edge=False, expand=True, box=None)
    for column in columns:
        table.add_column(column, overflow="ellipsis", no_wrap=True)
    return table


def _running(state: SiteState) -> RenderableType:
    if not state.running:
        return Text("No job is running.", style="dim")
    table = _table("Running", "job", "modality", "segmenter", "for", "stage", "", "worker", "device")
    for job in state.running[:_MOST_ROWS]:
        table.add_row(
            job.job_id[:8],
            job.modality,
            job.segmenter,
            span_in_words(state.at, job.started_at),
            job.stage or "…",
            ProgressBar(total=1.0, completed=job.share, width=24),
            job.worker[:8],
            job.device,
        )
    return table


def _waiting(state: SiteState) -> Table:
    table = _table("Waiting", "priority", "jobs", "the oldest for")
    for one in state.waiting[:_MOST_ROWS]:
        table.add_row(str(one.priority), str(one.jobs), span_in_words(state.at, one.oldest_since))
    return table


def _lanes(state: SiteState) -> Table:
    table = _table("Results on their way", "to", "waiting", "sending", "refused", "the oldest for", "answer")
    for lane in state.lanes[:_MOST_ROWS]:
        table.add_row(
            lane.lane, str(lane.waiting), str(lane.sending), str(lane.failed),
            span_in_words(state.at, lane.oldest_since), lane.answer,
        )  # fmt: skip
    return table


def _processes(state: SiteState) -> Table:
    table = _table("Processes", "kind", "", "host", "process", "version", "up for", "doing")
    for one in state.processes[:_MOST_ROWS]:
        health = (
            Text("alive", style="green") if one.alive else Text("ended" if one.stopped_at else "silent", style="red")
        )
        table.add_row(
            one.kind, health, one.host, str(one.pid), one.version, span_in_words(state.at, one.started_at), one.doing
        )
    return table


def _done(spans: Sequence[Span]) -> Table:
    table = _table(f"Done in the last {len(spans)} hours, one block an hour", "", "", "together")
    for name, values in (
        ("instances received", [one.instances for one in spans]),
        ("jobs done", [one.done for one in spans]),
        ("jobs failed", [one.failed for one in spans]),
        ("objects sent", [one.sent for one in spans]),
    ):
        table.add_row(name, Text(sparkline(values), style="cyan"), str(sum(values)))
    return table


def sparkline(values: list[int]) -> str:
    """One block a value; the largest is a whole one."""
    most = max(values, default=0)
    if not most:
        return " " * len(values)
    return "".join(_BLOCKS[-(-value * (len(_BLOCKS) - 1) // most)] for value in values)


def span_in_words(now: datetime, since: datetime | None) -> str:
    """``3 min``; "" without a time."""
    if since is None:
        return ""
    seconds = max(0, int((now - since).total_seconds()))
    return next((f"{seconds // size} {unit}" for unit, size in _UNITS if seconds >= size), f"{seconds} s")
