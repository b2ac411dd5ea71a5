"""STOW-RS as a destination against a small HTTP server that answers what the test tells it."""

import base64
import email.parser
import email.policy
import json
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from loopback import free_port
from scripted_scp import RawPeer
from segmentation_files import SegmentationFile, segmentation_file

from dicom_core.errors import PermanentDeliveryError, TransientDeliveryError
from dicom_core.setting_tables import StowRSSettings
from worker.destinations.stow_rs import StowRS

SECRET = "geheim"
OPENSSL = shutil.which("openssl")


@dataclass
class Answer:
    """One HTTP answer; ``drop`` closes the connection instead."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False


@dataclass(frozen=True)
class Request:
    """One HTTP request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    def part(self) -> bytes:
        """The content of the only part of the multipart body."""
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + self.body)
        (part,) = message.iter_parts()
        assert part.get_content_type() == "application/dicom"
        # The parser of mails changes line ends: the bytes are cut out here.
        return self.body[self.body.index(b"\r\n\r\n") + 4 : self.body.rindex(b"\r\n--")]


class ScriptedServer:
    """Answers POST by ``script``, the last one repeats; answers GET by ``query``."""

    def __init__(self, *script: Answer, query: Answer | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.script = list(script) or [Answer()]
        self.query = query or Answer(body=b"[]")
        self.requests: list[Request] = []
        self.connections = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                outer.connections += 1
                self.number = outer.connections

            def do_POST(self) -> None:
                script = outer.script
                self.answer(script.pop(0) if len(script) > 1 else script[0])

            def do_GET(self) -> None:
                self.answer(outer.query)

            def answer(self, answer: Answer) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {key.lower(): value for key, value in self.headers.items()}
                outer.requests.append(Request(self.command, self.path, headers, body, self.number))
                if answer.drop:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(answer.status)
                for key, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_address[1]}/dicom-web"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def posts(self) -> list[Request]:
        return [request for request in self.requests if request.method == "POST"]

    def __enter__(self) -> "ScriptedServer":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()


@pytest.fixture
def result(tmp_path: Path) -> SegmentationFile:
    return segmentation_file(tmp_path)


@pytest.fixture
def closing() -> Iterator[list[StowRS]]:
    opened: list[StowRS] = []
    yield opened
    for destination in opened:
        destination.close()


def stow_to(closing: list[StowRS], url: str, *, timeout_seconds: float = 5, **settings: Any) -> StowRS:
    destination = StowRS(
        StowRSSettings(kind="stow_rs", name="web", url=url, timeout_seconds=timeout_seconds, **settings)
    )
    closing.append(destination)
    return destination


def store_response(*, failure: int | None = None, warning: int | None = None) -> bytes:
    """A Store response in DICOM JSON (PS3.18 annex I.2)."""
    item: dict[str, Any] = {"00081150": {"vr": "UI", "Value": ["1.2"]}, "00081155": {"vr": "UI", "Value": ["1.2.3"]}}
    if failure is not None:
        item["00081197"] = {"vr": "US", "Value": [failure]}
        return json.dumps({"00081198": {"vr": "SQ", "Value": [item]}}).encode()
    if warning is not None:
        item["00081196"] = {"vr": "US", "Value": [warning]}
    return json.dumps({"00081199": {"vr": "SQ", "Value": [item]}}).encode()


def test_the_file_goes_out_as_it_is(result: SegmentationFile, closing: list[StowRS]) -> None:
    """One multipart/related request with a length, the file's bytes as its only part."""
    with ScriptedServer(Answer(body=store_response())) as server:
        assert stow_to(closing, server.url + "/").send(result.path, **result.uids) == "200 stored"
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/dicom-web/studies")
    assert request.headers["content-type"].startswith('multipart/related; type="application/dicom"; boundary=')
    assert request.headers["accept"] == "application/dicom+json"
    assert int(request.headers["content-length"]) == len(request.body)
    assert request.part() == result.path.read_bytes()
    assert "authorization" not in request.headers


def test_basic_and_bearer_authentication(
    result: SegmentationFile, closing: list[StowRS], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The settings decide; ``.netrc`` and proxies of the environment have no say."""
    (tmp_path / "netrc").write_text("default login someone password else")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with ScriptedServer() as server:
        stow_to(closing, server.url, username="worker", password=SECRET).send(result.path, **result.uids)
        stow_to(closing, server.url, bearer_token=SECRET).send(result.path, **result.uids)
        stow_to(closing, server.url).send(result.path, **result.uids)
    basic = base64.b64encode(f"worker:{SECRET}".encode()).decode()
    assert [request.headers.get("authorization") for request in server.requests] == [
        f"Basic {basic}",
        f"Bearer {SECRET}",
        None,
    ]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *[(status, PermanentDeliveryError) for status in (400, 401, 403, 404, 405, 406, 410, 413, 415, 422)],
        *[(status, TransientDeliveryError) for status in (408, 425, 429, 500, 501, 502, 503, 504, 507, 599)],
        *[(status, PermanentDeliveryError) for status in (301, 302, 303, 307, 308)],
    ],
)
def test_http_status_classes(
    result: SegmentationFile, closing: list[StowRS], status: int, error: type[PermanentDeliveryError]
) -> None:
    """The error carries the status, and neither the secret nor what the server wrote."""
    body = b"<html>Doe^Jane " + SECRET.encode()
    with ScriptedServer(Answer(status, body)) as server:
        destination = stow_to(closing, server.url, bearer_token=SECRET)
        with pytest.raises(error, match=f"answered {status}") as caught:
            destination.send(result.path, **result.uids)
    assert caught.value.status == status
    assert SECRET not in str(caught.value)
    assert "Jane" not in str(caught.value)
    assert len(server.posts()) == 1


def test_redirects_are_not_followed(result: SegmentationFile, closing: list[StowRS]) -> None:
    """Neither object nor credentials go where the settings do not say."""
    with ScriptedServer() as elsewhere:
        redirect = Answer(307, b"", {"Location": f"{elsewhere.url}/studies"})
        with ScriptedServer(redirect, query=redirect) as server:
            destination = stow_to(closing, server.url, username="worker", password=SECRET)
            with pytest.raises(PermanentDeliveryError, match="redirects are not followed"):
                destination.send(result.path, **result.uids)
            with pytest.raises(PermanentDeliveryError, match="redirects are not followed"):
                destination.check()
        assert elsewhere.connections == 0


@pytest.mark.parametrize("status", [200, 202])
def test_warnings_count_as_stored(result: SegmentationFile, closing: list[StowRS], status: int) -> None:
    """202 with a Warning Reason; the code is in the answer."""
    with ScriptedServer(Answer(status, store_response(warning=0xB000))) as server:
        answer = stow_to(closing, server.url).send(result.path, **result.uids)
    assert answer == f"{status} stored with a warning (0xB000)"


@pytest.mark.parametrize("status", [200, 202, 409])
@pytest.mark.parametrize(
    ("reason", "error"),
    [
        (0xA700, TransientDeliveryError),
        (0x0110, TransientDeliveryError),
        (0xA900, PermanentDeliveryError),
        (0xC122, PermanentDeliveryError),
        (0x0122, PermanentDeliveryError),
        (0x0124, PermanentDeliveryError),
    ],
)
def test_failure_reasons_decide_over_the_http_status(
    result: SegmentationFile,
    closing: list[StowRS],
    status: int,
    reason: int,
    error: type[PermanentDeliveryError],
) -> None:
    """Some servers answer 200 for an object that they did not store."""
    with (
        ScriptedServer(Answer(status, store_response(failure=reason))) as server,
        pytest.raises(error, match=f"0x{reason:04X}") as caught,
    ):
        stow_to(closing, server.url).send(result.path, **result.uids)
    assert caught.value.status == reason


def test_a_failed_item_without_a_reason_is_transient(result: SegmentationFile, closing: list[StowRS]) -> None:
    """It is not stored, and nobody says that it never will be."""
    body = json.dumps({"00081198": {"vr": "SQ", "Value": [{}]}}).encode()
    with ScriptedServer(Answer(200, body)) as server, pytest.raises(TransientDeliveryError, match="0x0110"):
        stow_to(closing, server.url).send(result.path, **result.uids)


def test_a_duplicate_with_its_reason_counts_as_stored(result: SegmentationFile, closing: list[StowRS]) -> None:
    """409 with 0x0111: no query is needed."""
    with ScriptedServer(Answer(409, store_response(failure=0x0111))) as server:
        answer = stow_to(closing, server.url).send(result.path, **result.uids)
    assert answer.startswith("409 0x0111 already there")
    assert len(server.requests) == 1


@pytest.mark.parametrize("body", [b"", b"<xml/>", store_response(failure=0x0110), store_response(failure=0xA900)])
def test_a_conflict_is_looked_up(result: SegmentationFile, closing: list[StowRS], body: bytes) -> None:
    """Servers that name no reason or another one are asked whether the instance is there."""
    found = Answer(body=json.dumps([{"00080018": {"vr": "UI", "Value": [result.sop_instance_uid]}}]).encode())
    with ScriptedServer(Answer(409, body), query=found) as server:
        assert stow_to(closing, server.url).send(result.path, **result.uids).startswith("409 already there")
    path = f"/dicom-web/studies/{result.study_instance_uid}/series/{result.uids['series_instance_uid']}/instances"
    assert server.requests[-1].path == f"{path}?SOPInstanceUID={result.sop_instance_uid}"


@pytest.mark.parametrize("query", [Answer(body=b"[]"), Answer(204, b""), Answer(404)])
def test_a_conflict_without_the_instance_is_permanent(
    result: SegmentationFile, closing: list[StowRS], query: Answer
) -> None:
    """Nothing there and no reason; the 409 is what is told, also where the server cannot be asked."""
    with (
        ScriptedServer(Answer(409, b""), query=query) as server,
        pytest.raises(PermanentDeliveryError, match="409 Conflict"),
    ):
        stow_to(closing, server.url).send(result.path, **result.uids)


@pytest.mark.parametrize(
    "body", [b"", b"not JSON", b"[]", b"null", b'{"00081198": 5}', b'{"00081198": {"Value": []}}', b"\xff" * 100]
)
def test_strange_answers_with_200_count_as_stored(result: SegmentationFile, closing: list[StowRS], body: bytes) -> None:
    """The status is the answer; a body that is no Store response adds nothing."""
    with ScriptedServer(Answer(200, body)) as server:
        assert stow_to(closing, server.url).send(result.path, **result.uids) == "200 stored"


def test_an_endless_answer_is_not_read_to_the_end(result: SegmentationFile, closing: list[StowRS]) -> None:
    """Not more than the limit gets into memory."""
    with ScriptedServer(Answer(200, b" " * 5_000_000)) as server:
        assert stow_to(closing, server.url).send(result.path, **result.uids) == "200 stored"


def test_connections_are_kept(tmp_path: Path, closing: list[StowRS]) -> None:
    """Ten objects, one connection."""
    with ScriptedServer(Answer(body=store_response())) as server:
        destination = stow_to(closing, server.url)
        for _ in range(10):
            result = segmentation_file(tmp_path, frames=8)
            destination.send(result.path, **result.uids)
        assert server.connections == 1
    assert len(server.requests) == 10


def test_a_kept_connection_that_was_closed_is_replaced(result: SegmentationFile, closing: list[StowRS]) -> None:
    """Once; a server that drops the fresh one too is transient."""
    script = [Answer(), Answer(drop=True), Answer(), Answer(drop=True), Answer(drop=True), Answer()]
    with ScriptedServer(*script) as server:
        destination = stow_to(closing, server.url)
        destination.send(result.path, **result.uids)
        assert destination.send(result.path, **result.uids) == "200 stored"
        assert server.posts()[-1].part() == result.path.read_bytes()
        with pytest.raises(TransientDeliveryError, match="cannot be reached"):
            destination.send(result.path, **result.uids)
        assert len(server.posts()) == 5


def test_silence_and_absence_are_transient(result: SegmentationFile, closing: list[StowRS]) -> None:
    """In time, and without a word of the exception that could hold a URL with a query."""
    began = time.monotonic()
    with RawPeer() as peer, pytest.raises(TransientDeliveryError, match=r"does not answer in 0\.4 s"):
        stow_to(closing, f"http://127.0.0.1:{peer.port}", timeout_seconds=0.4).send(result.path, **result.uids)
    with pytest.raises(TransientDeliveryError, match="cannot be reached"):
        stow_to(closing, f"http://127.0.0.1:{free_port()}").send(result.path, **result.uids)
    with pytest.raises(TransientDeliveryError, match="cannot be reached"):
        stow_to(closing, "http://nowhere.invalid").send(result.path, **result.uids)
    assert time.monotonic() - began < 5


def test_plain_http_where_tls_is_expected_is_transient(result: SegmentationFile, closing: list[StowRS]) -> None:
    """Certificates get renewed; the text names the setting."""
    with ScriptedServer() as server, pytest.raises(TransientDeliveryError, match="ca_file"):
        stow_to(closing, server.url.replace("http", "https")).send(result.path, **result.uids)


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
def test_only_trusted_certificates_are_accepted(
    result: SegmentationFile, closing: list[StowRS], tmp_path: Path
) -> None:
    """A certificate of one's own needs ``ca_file``; nothing is sent before it is verified."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = [OPENSSL or "", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ScriptedServer(tls=context) as server:
        assert stow_to(closing, server.url, ca_file=certificate).send(result.path, **result.uids) == "200 stored"
        with pytest.raises(TransientDeliveryError, match="certificate that is not trusted"):
            stow_to(closing, server.url, bearer_token=SECRET).send(result.path, **result.uids)
        assert len(server.requests) == 1


def test_a_name_that_moves_to_a_metadata_address_is_refused(
    result: SegmentationFile, closing: list[StowRS], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checked for every request, not only when the settings are read."""
    with ScriptedServer() as server:
        destination = stow_to(closing, server.url)
        moved = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 0))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: moved)
        with pytest.raises(PermanentDeliveryError, match="link-local or metadata"):
            destination.send(result.path, **result.uids)
        assert server.connections == 0


def test_a_missing_result_is_permanent(tmp_path: Path, closing: list[StowRS], result: SegmentationFile) -> None:
    """Nothing is asked of the server."""
    with ScriptedServer() as server:
        with pytest.raises(PermanentDeliveryError, match="is missing"):
            stow_to(closing, server.url).send(tmp_path / "gone.dcm", **result.uids)
        assert server.connections == 0


def test_check_asks_for_one_study(closing: list[StowRS]) -> None:
    """QIDO-RS with limit 1; refusals have the same classes as for sending."""
    with ScriptedServer() as server:
        assert stow_to(closing, server.url).check() == "QIDO-RS answered"
        assert server.requests[0].path == "/dicom-web/studies?limit=1"
        server.query = Answer(401)
        with pytest.raises(PermanentDeliveryError, match="username and password"):
            stow_to(closing, server.url).check()
        server.query = Answer(503)
        with pytest.raises(TransientDeliveryError):
            stow_to(closing, server.url).check()


def test_secrets_are_in_no_log(
    result: SegmentationFile, closing: list[StowRS], caplog: pytest.LogCaptureFixture
) -> None:
    """Even with every logger at DEBUG."""
    caplog.set_level(logging.DEBUG)
    with ScriptedServer(Answer(drop=True), Answer(401), Answer()) as server:
        for settings in ({"username": "worker", "password": SECRET}, {"bearer_token": SECRET}):
            destination = stow_to(closing, server.url, **settings)
            assert SECRET not in destination.describe() + repr(vars(destination).get("name"))
            try:
                destination.send(result.path, **result.uids)
            except PermanentDeliveryError:
                logging.getLogger("test").exception("sending failed")
    assert "401" in caplog.text
    assert SECRET not in caplog.text
    assert base64.b64encode(f"worker:{SECRET}".encode()).decode() not in caplog.text
