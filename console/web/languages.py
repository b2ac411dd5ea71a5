"""The languages of the pages. English text is the key; ``catalogue/`` has one JSON file for each other language."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from fastapi import Request

from dicom_core.settings import Settings

LANGUAGES: Mapping[str, str] = {"en": "English", "zh": "中文"}
"""Code (BCP 47) and own name of each."""
COOKIE = "vesselq_language"
_FALLBACK = "en"
_FOLDER = Path(__file__).parent / "catalogue"


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """English text to text of ``language``; empty for English."""
    if language == _FALLBACK:
        return {}
    words: dict[str, str] = json.loads((_FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    return words


def translate(language: str, text: str, **values: object) -> str:
    """``text`` in ``language``, with ``{names}`` in it replaced; English where the catalogue has nothing.

    Args:
        language: Key of ``LANGUAGES``.
        text: English, as the catalogue has it.
        **values: What the names stand for.
    """
    found = catalogue(language).get(text, text)
    return found.format(**values) if values else found


def language_of(request: Request) -> str:
    """The language that a page is shown in: what the person chose, else the setting, else what the browser wants."""
    chosen = request.cookies.get(COOKIE, "")
    if chosen in LANGUAGES:
        return chosen
    settings: Settings = request.app.state.settings
    if settings.web.language != "auto":
        return settings.web.language
    return _wanted(request.headers.get("accept-language", ""))


def _wanted(accepted: str) -> str:
    """The first language of an Accept-Language header (RFC 9110 section 12.5.4) that we have.

    Browsers list languages by falling weight, so the weights themselves need no reading.
    """
    for entry in accepted.split(","):
        code = entry.partition(";")[0].strip().partition("-")[0].lower()
        if code in LANGUAGES:
            return code
    return _FALLBACK
