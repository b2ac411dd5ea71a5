"""What the doctor says of the web pages."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from console_site import ConsoleSite

from console.findings import Health
from console.web_checks import web_findings
from db import accounts
from dicom_core.setting_tables import WebSettings
from dicom_core.settings import Settings

ANYWHERE = "0.0.0.0"  # noqa: S104 - a setting that is looked at, nothing is bound to it


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ConsoleSite]:
    site = ConsoleSite(tmp_path / "data")
    yield site
    site.close()


@pytest.mark.parametrize(
    ("web", "found"),
    [
        ({}, [("web", Health.OK), ("accounts", Health.WARNING)]),
        ({"sign_in": "off"}, [("web", Health.WARNING)]),
        ({"host": ANYWHERE}, [("web", Health.WARNING), ("accounts", Health.WARNING)]),
        ({"host": ANYWHERE, "behind_https": True}, [("web", Health.OK), ("accounts", Health.WARNING)]),
        ({"oidc": {"issuer": "https://login.example.org", "client_id": "x"}}, [("web", Health.OK)]),
        (
            {"certificate_file": "/no/such.pem", "key_file": "/no/such.key"},
            [("web", Health.OK), ("web certificate", Health.FAILS), ("accounts", Health.WARNING)],
        ),
    ],
)
def test_findings(site: ConsoleSite, web: dict[str, Any], found: list[tuple[str, Health]]) -> None:
    """Who gets in and who can listen; whatever is not well comes with advice."""
    findings = list(web_findings(Settings(data_folder=site.folder, web=WebSettings(**web))))
    assert [(one.what, one.health) for one in findings] == found
    assert all(bool(one.advice) == (one.health is not Health.OK) for one in findings)


def test_accounts_are_seen(site: ConsoleSite, tmp_path: Path) -> None:
    """With one account nothing is said of them, nor where there is no database yet."""
    accounts.add(site.record, "ada", ["admin"], "correct horse battery")
    for folder in (site.folder, tmp_path / "nothing"):
        assert [one.what for one in web_findings(Settings(data_folder=folder))] == ["web"]
    assert not (tmp_path / "nothing").exists()
