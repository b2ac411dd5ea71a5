"""How pages are made: Jinja templates that escape every value, one environment for each language, a common frame.

::

    return page(request, "queue.html", {"jobs": found})

What every template has besides what its page gives it: ``_`` and the filters below, ``caller`` (None before anybody
signed in), ``csrf()`` (the hidden field for forms), ``navigation``, ``language``, ``languages``, ``appearance``.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from console.output import software_version
from console.web import words
from console.web.forms import csrf_field
from console.web.languages import LANGUAGES, language_of, translate
from console.web.sentences import in_language

TEMPLATES = Path(__file__).parent / "templates"
APPEARANCES = {"auto": "As the computer", "light": "Light", "dark": "Dark"}
APPEARANCE_COOKIE = "vesselq_appearance"
NAVIGATION = (
    ("/", "Studies", "read"),
    ("/queue", "Queue and workers", "read"),
    ("/peers", "Peers", "read"),
    ("/rules", "Rules", "read"),
    ("/audit", "Audit log", "audit"),
    ("/accounts", "Accounts", "admin"),
)
"""Path, English name and the scope that the page wants."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_ONE_DIGIT_BELOW = 10
_STEP_BYTES = 1000
_LONG_UID = re.compile(r"\d[\d.]{22,62}\d")
_LONG_HASH = re.compile(r"\b[0-9a-f]{32,64}\b")
_HASH_HEAD = 12


def page(
    request: Request, template: str, values: Mapping[str, Any] | None = None, *, status: int = 200
) -> HTMLResponse:
    """One page in the language of whoever asks.

    Args:
        request: Tells language, appearance and who asks.
        template: File name below ``templates``.
        values: What it shows; every one is escaped.
        status: Of HTTP.
    """
    language = language_of(request)
    frame = {**_frame(request, language), **(values or {})}
    return _templates(language).TemplateResponse(request, template, frame, status_code=status)


@cache
def _templates(language: str) -> Jinja2Templates:
    return Jinja2Templates(env=environment(language))


def environment(language: str) -> Environment:
    """The templates in one language: ``_`` is a plain function, so that macros need no context to translate."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    word = partial(translate, language)
    made.globals |= {
        "_": word,
        "release": software_version(),
        "languages": LANGUAGES,
        "appearances": APPEARANCES,
        "words": words,
    }
    made.filters |= {
        "time": shown_time,
        "iso": iso_time,
        "short_uid": short_uid,
        "brief": brief,
        "size": shown_size,
        "plain": plain_text,
        "said": partial(in_language, language),
        "duration": partial(shown_duration, word),
        "thousands": lambda number: f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}"),
    }
    return made


def _frame(request: Request, language: str) -> dict[str, Any]:
    caller = getattr(request.state, "caller", None)
    chosen = request.cookies.get(APPEARANCE_COOKIE, "")
    here = request.url.path
    return {
        "caller": caller,
        "csrf": partial(csrf_field, request),
        "language": language,
        "appearance": chosen if chosen in APPEARANCES else "auto",
        "here": here + (f"?{request.url.query}" if request.url.query else ""),
        "navigation": [
            (path, name, here == path or (path != "/" and here.startswith(path)) or _is_study(here, path))
            for path, name, scope in NAVIGATION
            if caller is not None and caller.may(scope)
        ],
    }


def _is_study(here: str, path: str) -> bool:
    return path == "/" and here.startswith("/studies/")


def shown_time(moment: datetime | str | None) -> str:
    """Date and time of day in UTC, to the second; "" for None. What is no time is shown as it is."""
    if isinstance(moment, str):
        try:
            return shown_time(datetime.fromisoformat(moment))
        except ValueError:  # a row of the audit log that somebody tampered with shall be seen
            return moment
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if moment else ""


def iso_time(moment: datetime | str | None) -> str:
    """For the ``datetime`` attribute of ``<time>``."""
    if isinstance(moment, str):
        return moment
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else ""


def short_uid(uid: str, head: int = 8, tail: int = 14) -> str:
    """A UID that fits a column: its beginning and, since that differs, its end."""
    return uid if len(uid) <= head + tail + 1 else f"{uid[:head]}…{uid[-tail:]}"


def brief(text: str) -> str:
    """A text for a column: long UIDs are cut in the middle, of hashes and ids there is the beginning."""
    shorter = _LONG_UID.sub(lambda found: short_uid(found[0]), text)
    return _LONG_HASH.sub(lambda found: f"{found[0][:_HASH_HEAD]}…", shorter)


def plain_text(value: object) -> str:
    """A value out of JSON for a reader: lists and tables without brackets and quotation marks."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plain_text(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(plain_text(one) for one in value)
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def shown_size(number: int) -> str:
    """Bytes in the largest unit that keeps a digit before the point (decimal prefixes)."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < _STEP_BYTES:
            return f"{value:.0f} {unit}" if unit == "B" or value >= _STEP_BYTES / 10 else f"{value:.1f} {unit}"
        value /= _STEP_BYTES
    return f"{value:.1f} TB"


def shown_duration(word: partial[str], seconds: float | None) -> str:
    """Seconds in words that fit a column, for example ``1.5 s``, ``4 min``, ``3 h``; "" for None."""
    if seconds is None:
        return ""
    if seconds < _ONE_DIGIT_BELOW:
        return word("{number} s", number=f"{seconds:.1f}")
    steps = ((_MINUTE, 1, "{number} s"), (_HOUR, _MINUTE, "{number} min"), (_DAY, _HOUR, "{number} h"))
    for limit, unit, text in steps:
        if seconds < limit:
            return word(text, number=round(seconds / unit))
    return word("{number} d", number=round(seconds / _DAY))
