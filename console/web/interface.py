"""The OpenAPI document: what FastAPI finds out by itself, and what every address has in common."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import RouteContext, iter_route_contexts

from console.web.access import Needs, needs_of
from console.web.forms import session_cookie
from dicom_core.settings import Settings

ADDRESS = "/api/v1/openapi.json"
_ERRORS = {
    "400": "The Host header is none of `web.allowed_hosts`, or the content is no JSON.",
    "401": "Nobody is signed in, or the token is not valid.",
    "403": "The account or token may not do this, or the page of another site sent it.",
    "404": "There is no such thing.",
    "409": "The record does not allow that change now.",
    "411": "The length of the content is not told.",
    "413": "The content is too long.",
    "415": "The content is not said to be JSON.",
    "422": "A value is not understood.",
    "429": "Too many requests; the header Retry-After has the seconds to wait.",
    "503": "The database, or something else that is needed, does not answer.",
}
_OF_EVERY_ANSWER = ("400", "401", "403", "429", "503")
_OF_CHANGES = ("409", "411", "413", "415")
_ERROR = {"$ref": "#/components/schemas/Refusal"}
_REFUSAL = {
    "title": "Refusal",
    "type": "object",
    "required": ["detail"],
    "properties": {
        "detail": {
            "description": "A sentence; of 422 also a list of what is wrong where.",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}],
        }
    },
}


def describe(application: FastAPI) -> dict[str, Any]:
    """The document of an application, made once."""
    if application.openapi_schema is None:
        document = get_openapi(
            title=application.title,
            version=application.version,
            description=application.description,
            routes=application.routes,
        )
        settings: Settings = application.state.settings
        parts = document.setdefault("components", {})
        parts["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer", "description": "Made by `vesselq tokens create`."},
            "session": {
                "type": "apiKey", "in": "cookie", "name": session_cookie(settings.web),
                "description": "Of a browser in which somebody is signed in.",
            },
        }  # fmt: skip
        schemas = parts.setdefault("schemas", {})
        schemas["Refusal"] = _REFUSAL
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for route in iter_route_contexts(application.routes):
            _complete(document, route)
        application.openapi_schema = document
    return application.openapi_schema


def _complete(document: dict[str, Any], route: RouteContext) -> None:
    """Say of one route what it demands and how it refuses."""
    for method, operation in document["paths"].get(getattr(route, "path", ""), {}).items():
        if method.upper() not in (route.methods or ()):
            continue
        demanded = needs_of(route)
        operation["security"] = _security(demanded)
        answers: dict[str, Any] = operation["responses"]
        codes = [*_OF_EVERY_ANSWER] if demanded else ["400", "429", "503"]
        if operation.get("parameters"):
            codes += ["404", "422"]
        if method not in ("get", "head"):
            codes += [*_OF_CHANGES, "404", "422"]
        for code in sorted({*codes, *answers} & set(_ERRORS)):
            answers[code] = {"description": _ERRORS[code], "content": {"application/json": {"schema": _ERROR}}}


def _security(demanded: tuple[Needs, ...]) -> list[dict[str, list[str]]]:
    """OpenAPI 3.1 section 4.8.30: the roles that are needed stand in the list of the scheme."""
    if not demanded:
        return []
    scopes = sorted({one.scope.value for one in demanded if one.scope is not None})
    return [{"token": scopes}, {"session": scopes}]
