"""The pages for people that need only the right to read. Plain HTML made here; the templates escape every value."""

from http import HTTPStatus

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse

from console.web import actions, live, studies_page, study_page
from console.web.access import SomebodySignedIn
from console.web.rendering import NAVIGATION

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
router.include_router(studies_page.router)
router.include_router(study_page.router)
router.include_router(actions.pages_router)
router.include_router(live.router)


def to_own_first_page(request: Request, caller: SomebodySignedIn) -> None:
    """Send who may not see studies from the first page of all to the first one that is for him: auditors to theirs.

    Raises:
        HTTPException: With that address.
    """
    if request.url.path != "/" or caller.may("read"):
        return
    own = next((path for path, _, scope in NAVIGATION if caller.may(scope)), None)
    if own is not None:
        raise HTTPException(HTTPStatus.SEE_OTHER, headers={"Location": own})
