"""The page *Peers*: who sends, where results go, what waits there, asking one, sending again."""

from http import HTTPStatus

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from console import peer_states
from console.security_checks import plain_dicom
from console.web.access import Operator, Reader
from console.web.actions import LONGEST_REASON
from console.web.forms import CheckedForm, text_of
from console.web.rendering import page
from console.web.request_values import TheRecord, TheSettings, refuse
from console.web.work_api import Kind, Name

router = APIRouter(include_in_schema=False)


@router.get("/peers", response_class=HTMLResponse)
def peers_page(request: Request, caller: Reader, record: TheRecord, settings: TheSettings) -> HTMLResponse:
    """Peers and destinations, and who else sent something lately."""
    found = peer_states.peer_states(settings, record)
    return page(
        request,
        "peers.html",
        {
            "groups": (
                ("peers", [one for one in found if one.kind == peer_states.PEER]),
                ("destinations", [one for one in found if one.kind not in ("", peer_states.PEER)]),
                ("others", [one for one in found if not one.kind]),
            ),
            "now": record.now(),
            "may_operate": caller.may("operate"),
            "listener": settings.listener,
            "plain": plain_dicom(settings),
        },
    )


@router.post("/peers/{kind}/{name}/check")
def check_by_form(
    _: Operator, record: TheRecord, settings: TheSettings, kind: Kind, name: Name, __: CheckedForm
) -> RedirectResponse:
    """The button *Ask*; the answer is kept, so that the page shows it."""
    peer_states.check(settings, record, f"{kind}/{name}")
    return _back_to(kind, name)


@router.post("/peers/{kind}/{name}/resend")
def resend_by_form(
    _: Operator, record: TheRecord, settings: TheSettings, kind: Kind, name: Name, form: CheckedForm
) -> RedirectResponse:
    """The button *Send now*."""
    reason = text_of(form, "reason", LONGEST_REASON).strip()
    if not reason:
        raise refuse("say why: the reason is kept in the audit log")
    peer_states.resend(settings, record, (f"{kind}/{name}",), reason)
    return _back_to(kind, name)


def _back_to(kind: str, name: str) -> RedirectResponse:
    return RedirectResponse(f"/peers#{kind}-{name}", HTTPStatus.SEE_OTHER)
