"""``/health/live`` and ``/health/ready``: what a container platform asks, without a sign-in and without a secret."""

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from console.web.request_values import TheRecord
from db import migrate
from db.session import Record
from dicom_core.errors import ConfigurationError, VesselqError

router = APIRouter(tags=["health"])


@router.get("/health/live")
def live() -> dict[str, str]:
    """200 as long as this process answers: start it anew when it does not."""
    return {"status": "ok"}


def _readiness(record: TheRecord) -> dict[str, str]:
    return {"database": _database(record)}


def _database(record: Record) -> str:
    try:
        migrate.require_current(record)
    except ConfigurationError as error:
        return str(error)
    except VesselqError:
        return "it does not answer"  # where it is and why is nobody's business who is not signed in
    return "ok"


@router.get("/health/ready", responses={503: {"description": "It cannot work now; the check that fails says why."}})
def ready(checks: Annotated[dict[str, str], Depends(_readiness)]) -> JSONResponse:
    """200 when this process can do its work: the database answers and has the schema of this release. Else 503."""
    well = all(said == "ok" for said in checks.values())
    return JSONResponse({"status": "ok" if well else "not ready", "checks": checks}, 200 if well else 503)
