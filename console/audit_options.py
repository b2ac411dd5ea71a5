"""The options with which commands choose rows of the audit log."""

from datetime import datetime
from typing import Annotated

import typer

from console.moments import moment
from console.options import checked_uid


def _known_event(word: str) -> str:
    from db.audit import Event

    if word and word not in [event.word for event in Event]:
        events = ", ".join(event.word for event in Event)
        raise typer.BadParameter(f"{word!r} is no event; there are {events}")
    return word


Study = Annotated[str, typer.Option("--study", metavar="UID", help="Only of this study.", callback=checked_uid)]
Since = Annotated[
    datetime | None,
    typer.Option(
        "--since", metavar="TIME", parser=moment, help="From this time on, ISO 8601; local time without a zone."
    ),
]
Until = Annotated[
    datetime | None, typer.Option("--until", metavar="TIME", parser=moment, help="Before this time, ISO 8601.")
]
User = Annotated[str, typer.Option("--user", metavar="NAME", help="Only of this person.")]
Event = Annotated[
    str,
    typer.Option("--event", metavar="EVENT", help="Only this event, for example job-failed.", callback=_known_event),
]
Failed = Annotated[bool, typer.Option("--failed", help="Only what did not succeed.")]
