"""What a person chooses for the pages in this browser, kept in cookies: the language, light or dark."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import RedirectResponse

from console.web.languages import COOKIE, LANGUAGES
from console.web.rendering import APPEARANCE_COOKIE, APPEARANCES
from console.web.request_values import own_page

router = APIRouter(include_in_schema=False)
_YEAR_SECONDS = 365 * 86400


@router.get("/appearance")
def choose_appearance(
    language: Annotated[str, Query(max_length=8)] = "",
    appearance: Annotated[str, Query(max_length=8)] = "",
    next_page: Annotated[str, Query(alias="next", max_length=2000)] = "/",
) -> RedirectResponse:
    """Remember the choice and go back to the page. It changes nothing but this browser, so it needs no sign-in."""
    answer = RedirectResponse(own_page(next_page), 303)
    for name, value, known in ((COOKIE, language, LANGUAGES), (APPEARANCE_COOKIE, appearance, APPEARANCES)):
        if value in known:
            answer.set_cookie(name, value, max_age=_YEAR_SECONDS, httponly=True, samesite="lax")
    return answer
