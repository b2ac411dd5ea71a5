"""The JSON API of the work under way: queue and workers, peers and destinations, rules."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from console import peer_states
from console.given_headers import header_of_json
from console.output import jsonable
from console.site_state import site_state
from console.web.access import Operator, Reader, ScopeFirst
from console.web.actions import Because
from console.web.request_values import TheRecord, TheSettings, refuse
from dicom_core.errors import SourceError
from dicom_core.rule_explanation import described, explain

router = APIRouter(prefix="/api/v1", route_class=ScopeFirst)
MOST_STUDIES_TRIED = 500
Kind = Annotated[Literal["peer", "destination"], Path(description="Of which table of the settings.")]
Name = Annotated[str, Path(pattern="^[a-z0-9][a-z0-9_-]{0,62}$", description="Its name in the settings.")]


class GivenHeader(BaseModel):
    """The header of one instance."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    header: dict[str, Any] = Field(description="In the DICOM JSON Model (PS3.18 annex F).")


class ChangedRules(BaseModel):
    """Rules that are to be tried."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: str = Field(min_length=1, max_length=500_000, description="TOML with [[rules]], as in the settings.")
    days: int = Field(7, ge=1, le=3650, description="How far back.")
    most_studies: int = Field(
        200,
        ge=1,
        le=MOST_STUDIES_TRIED,
        description="The newest ones, if there are more; the command line has no limit.",
    )


@router.get("/queue", tags=["queue"])
def show_queue(
    _: Reader,
    record: TheRecord,
    settings: TheSettings,
    hours: Annotated[int, Query(ge=1, le=168, description="How far back what was done is told.")] = 24,
) -> dict[str, Any]:
    """What waits, runs and is stuck, which processes live, what was done in the last hours: as `vesselq top`."""
    state: dict[str, Any] = jsonable(site_state(settings, record, hours=hours))
    return state


@router.get("/peers", tags=["peers"])
def list_peers(_: Reader, record: TheRecord, settings: TheSettings) -> dict[str, Any]:
    """Peers and destinations: their last contact, what waits for them, and what they answered."""
    return {"peers": jsonable(peer_states.peer_states(settings, record))}


@router.post("/peers/{kind}/{name}/check", tags=["peers"])
def check_peer(_: Operator, record: TheRecord, settings: TheSettings, kind: Kind, name: Name) -> dict[str, Any]:
    """Ask a system whether it answers: by C-ECHO, a DICOMweb query, or a file. The answer is kept and audited."""
    return {"check": jsonable(peer_states.check(settings, record, f"{kind}/{name}"))}


@router.post("/peers/{kind}/{name}/resend", tags=["peers"])
def resend_to_peer(
    _: Operator, record: TheRecord, settings: TheSettings, kind: Kind, name: Name, because: Because
) -> dict[str, int]:
    """Send at once what waits for a system, and again what it refused. 409 when there is neither."""
    hurried, repeated = peer_states.resend(settings, record, (f"{kind}/{name}",), because.reason)
    return {"objects_sent_now": hurried, "jobs_sent_again": repeated}


@router.get("/rules", tags=["rules"])
def list_rules(_: Reader, settings: TheSettings) -> dict[str, Any]:
    """The rules in words, in their order: the first that holds decides."""
    return {"rules": jsonable([described(rule) for rule in settings.rules])}


@router.post("/rules/explain", tags=["rules"])
def explain_rules(_: Operator, settings: TheSettings, given: GivenHeader) -> dict[str, Any]:
    """Which rule is for a header and why. Values that tell whose it is are not repeated, and nothing is kept."""
    try:
        header = header_of_json(given.header)
    except SourceError as error:
        raise refuse(str(error)) from None
    return {"explanation": jsonable(explain(settings.rules, header))}


@router.post("/rules/try", tags=["rules"])
def try_changed_rules(_: Operator, settings: TheSettings, changed: ChangedRules) -> dict[str, Any]:
    """What changed rules would have decided about the studies of the past days. Nothing is queued or written.

    409 while another dry run is under way.
    """
    from console.rule_trial_process import try_in_process

    found = try_in_process(settings, changed.rules, days=changed.days, most_studies=changed.most_studies)
    return {"trial": found}
