"""How the web process serves: HTTPS by the settings, whose word counts behind a proxy, warnings, the first account."""

import http.client
import io
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from certificates import Authority
from console_site import ConsoleSite
from loopback import free_port
from pydantic import ValidationError

from console import up
from console.first_account import offer_first_account
from console.web import server
from console.web.application import make_application
from db import accounts
from dicom_core.errors import ConfigurationError
from dicom_core.roles import Role
from dicom_core.setting_tables import OidcSettings, WebSettings, is_loopback
from dicom_core.settings import Settings

ANYWHERE = "0.0.0.0"  # noqa: S104 - a setting that is looked at, nothing is bound to it


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ConsoleSite]:
    site = ConsoleSite(tmp_path / "data")
    yield site
    site.close()


@contextmanager
def served(settings: Settings, site: ConsoleSite) -> Iterator[None]:
    """The application on its port, as the web process has it."""
    options = server.protocol(settings.web)
    config = uvicorn.Config(
        make_application(settings, site.record),
        host="127.0.0.1",
        port=settings.web.port,
        log_config=None,
        **options,
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not running.started and time.monotonic() < deadline:
            time.sleep(0.01)
        assert running.started
        yield
    finally:
        running.should_exit = True
        thread.join()


def test_https(site: ConsoleSite, authority: Authority) -> None:
    """With a certificate in the settings only HTTPS is spoken, and `vesselq up` can tell that it is healthy."""
    own = authority.vesselq
    web = WebSettings(port=free_port(), certificate_file=own.certificate_file, key_file=own.key_file)
    with served(Settings(data_folder=site.folder, web=web), site):
        trusting = ssl.create_default_context(cafile=str(authority.ca_file))
        with closing(http.client.HTTPSConnection("127.0.0.1", web.port, timeout=10, context=trusting)) as connection:
            connection.request("GET", "/sign-in")
            answer = connection.getresponse()
            answer.read()
        assert answer.headers["Strict-Transport-Security"].startswith("max-age")
        assert answer.headers["Set-Cookie"].startswith("__Host-vesselq_visitor=")
        assert "Secure" in answer.headers["Set-Cookie"]
        with socket.create_connection(("127.0.0.1", web.port), timeout=10) as plain:
            plain.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert b"HTTP" not in plain.recv(100)
        assert up._is_healthy(web)


def test_certificate_that_cannot_be_used(tmp_path: Path, authority: Authority) -> None:
    """The process does not start, with a sentence that names the file."""
    web = WebSettings(certificate_file=tmp_path / "no.pem", key_file=authority.vesselq.key_file)
    with pytest.raises(ConfigurationError, match=r"no\.pem"):
        server.protocol(web)
    with pytest.raises(ValidationError, match="go together"):
        WebSettings(certificate_file=authority.vesselq.certificate_file)


@pytest.mark.parametrize("host", [ANYWHERE, "::", "192.0.2.1", "web.example.org"])
def test_sign_in_is_off_on_this_machine_only(host: str) -> None:
    """Neither the settings nor the server take it, however the settings were made."""
    with pytest.raises(ValidationError, match="loopback"):
        WebSettings(host=host, sign_in="off")
    made = WebSettings(sign_in="off").model_copy(update={"host": host})
    with pytest.raises(ConfigurationError, match="loopback"):
        server.protocol(made)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), (ANYWHERE, False), ("", False)],
)
def test_loopback(host: str, loopback: bool) -> None:
    """What only this machine reaches."""
    assert is_loopback(host) is loopback


def test_who_is_believed_about_the_sender() -> None:
    """X-Forwarded-For counts from the proxy alone, and only where the settings say that there is one."""
    assert server.protocol(WebSettings()) == {"proxy_headers": False, "forwarded_allow_ips": []}
    behind = server.protocol(WebSettings(behind_https=True, proxies=("10.0.0.2",)))
    assert behind == {"proxy_headers": True, "forwarded_allow_ips": ["10.0.0.2"]}


@pytest.mark.parametrize(
    ("web", "warned"),
    [
        ({}, ["vesselq users add"]),
        ({"sign_in": "off"}, ["sign-in is switched off"]),
        ({"host": ANYWHERE}, ["vesselq users add", "unencrypted"]),
        ({"host": ANYWHERE, "behind_https": True}, ["vesselq users add"]),
        ({"oidc": {"issuer": "https://login.example.org", "client_id": "x"}}, []),
    ],
)
def test_what_is_warned_of(
    site: ConsoleSite, monkeypatch: pytest.MonkeyPatch, web: dict[str, Any], warned: list[str]
) -> None:
    """Each danger once, in words that say what to do."""
    said: list[str] = []
    monkeypatch.setattr(server.log, "warning", lambda text, **_: said.append(text))
    server.warn(Settings(data_folder=site.folder, web=WebSettings(**web)), site.record)
    assert len(said) == len(warned)
    assert all(words in text for words, text in zip(warned, said, strict=True))


class Terminal(io.StringIO):
    """What a person looks at."""

    def isatty(self) -> bool:
        return True


def test_first_account(site: ConsoleSite, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody can sign in to a new site with what the terminal shows, once; no log has it."""
    caplog.set_level(logging.DEBUG)
    terminal = Terminal()
    settings = Settings(data_folder=site.folder)
    assert offer_first_account(settings, site.record, terminal)
    shown = re.search(r"name (\S+) +password (\S+)", terminal.getvalue())
    assert shown
    account = accounts.check_password(site.record, shown[1], shown[2], address="")
    assert (account.roles, account.must_change_password) == (tuple(Role), True)
    assert shown[2] not in caplog.text
    assert not offer_first_account(settings, site.record, terminal), "a second time"
    assert terminal.getvalue().count("password ") == 1


@pytest.mark.parametrize(
    ("web", "terminal"),
    [
        ({}, io.StringIO()),
        ({"sign_in": "off"}, Terminal()),
        ({"oidc": OidcSettings(issuer="https://login.example.org", client_id="x")}, Terminal()),
    ],
)
def test_no_first_account(site: ConsoleSite, web: dict[str, Any], terminal: io.StringIO) -> None:
    """None where nobody would see the password, nor where nobody needs it."""
    settings = Settings(data_folder=site.folder, web=WebSettings(**web))
    assert not offer_first_account(settings, site.record, terminal)
    assert terminal.getvalue() == ""
    assert not accounts.has_accounts(site.record)
