"""The JSON API against its own OpenAPI document: requests that are made up from it, right ones and wrong ones.

Schemathesis makes them; the application answers in this process, over a record with studies, jobs and results. What it
looks for: answers that the document does not know, contents that are not what it says, and failures (500).
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from console_site import ConsoleSite
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from web_client import settings_of, with_token

from console.web.application import make_application
from dicom_core.job import JobState

SCOPES = ("read", "operate", "admin", "audit")
EXAMPLES = 4
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleSite]:
    site = ConsoleSite(tmp_path_factory.mktemp("schema") / "data")
    site.finish(site.study("1.2.3"))
    site.fail(site.study("1.2.4"))
    site.study("1.2.5", state=JobState.SKIPPED, reason="no rule fits")
    yield site
    site.close()


@pytest.fixture(scope="module")
def token(site: ConsoleSite) -> dict[str, str]:
    client = with_token(site, SCOPES)
    return {"Authorization": client.headers["Authorization"], "Host": "localhost:8042"}


@pytest.fixture(scope="module")
def document(site: ConsoleSite) -> dict[str, Any]:
    application = make_application(settings_of(site), site.record)
    made: dict[str, Any] = json.loads(json.dumps(application.openapi()))
    return made


@pytest.fixture(scope="module")
def api_schema(site: ConsoleSite, token: dict[str, str]) -> Any:
    application = make_application(settings_of(site, requests_per_minute=1_000_000), site.record)
    return schemathesis.openapi.from_asgi("/api/v1/openapi.json", application, headers=token)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_every_address_of_the_api_is_described(document: dict[str, Any]) -> None:
    """What it is for, what it needs, how it refuses: for each."""
    found = list(operations(document))
    assert len(found) > 20
    for path, method, operation in found:
        where = f"{method} {path}"
        assert len(operation["description"]) > 7, where
        public = path in ("/healthz", "/health/live", "/health/ready")
        assert bool(operation["security"]) != public, where
        assert {"429", "503"} <= set(operation["responses"]), where
        if not public:
            assert {"401", "403"} <= set(operation["responses"]), where
        if path.startswith(("/api/v1/accounts", "/api/v1/tokens")):
            assert operation["security"] == [{"token": ["admin"]}, {"session": ["admin"]}], where
        if path.startswith("/api/v1/audit"):
            assert operation["security"][0] == {"token": ["audit"]}, where
        if method != "get":
            assert not {"read"} & set(operation["security"][0]["token"]), where


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_answers_are_what_the_document_says(api_schema: Any, token: dict[str, str], mode: GenerationMode) -> None:
    """Made-up requests, right and wrong, to every address, with every scope: nothing that is not described."""
    problems = []
    for found in api_schema.get_all_operations():
        operation = found.ok()
        try:
            _ask(operation, token, mode)
        except Unsatisfiable:
            continue  # an address that takes nothing cannot be asked wrongly
        except FailureGroup as error:
            problems.append(f"{operation.label}: {error.exceptions}")
    assert problems == []


def _ask(operation: Any, token: dict[str, str], mode: GenerationMode) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: schemathesis.Case) -> None:
        response = case.call(headers={**token, "Host": "localhost:8042"})
        case.validate_response(response, checks=list(CHECKS))

    ask()
