"""OHIF beside Orthanc on one address, as a hospital's web server would offer them; it lives in a thread.

::

    with OhifServer(ohif_dist(), orthanc_port=orthanc.http_port) as server:
        browser.goto(f"{server.url}/viewer?StudyInstanceUIDs={uid}")
"""

import http.client
import mimetypes
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

from loopback import LOOPBACK

APP_CONFIG = Path(__file__).parents[2] / "docker" / "ohif" / "app-config.js"
"""The configuration that the documentation recommends is the one that is tested."""
_TO_ORTHANC = ("/dicom-web", "/wado")
_FORWARDED = ("Host", "Accept", "Content-Type")
_ISOLATION = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
"""What the viewer's threads need to share memory."""


class OhifServer:
    """A web server with OHIF at the root and Orthanc's DICOMweb below ``/dicom-web``.

    Attributes:
        url: Without a slash at the end.
    """

    def __init__(self, dist: Path, orthanc_port: int) -> None:
        """Bind a free port of loopback; serve from ``__enter__`` on.

        Args:
            dist: The folder with OHIF's ``index.html``.
            orthanc_port: Of the HTTP server of Orthanc.
        """
        handler = type("Handler", (_Handler,), {"dist": dist, "orthanc_port": orthanc_port})
        self._server = ThreadingHTTPServer((LOOPBACK, 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.url = f"http://{LOOPBACK}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Files of the viewer, its configuration, and everything else from Orthanc."""

    protocol_version = "HTTP/1.1"
    dist: Path
    orthanc_port: int

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith(_TO_ORTHANC):
            self._forward()
        elif path == "/app-config.js":
            self._answer(200, "text/javascript", APP_CONFIG.read_bytes(), cache=False)
        else:
            self._file(path)

    def _file(self, path: str) -> None:
        """A file of the viewer; every other address is a page of the single-page application."""
        file = (self.dist / path.lstrip("/")).resolve()
        if not (file.is_file() and file.is_relative_to(self.dist)):
            file = self.dist / "index.html"
        kind = "application/wasm" if file.suffix == ".wasm" else mimetypes.guess_type(file.name)[0]
        self._answer(200, kind or "application/octet-stream", file.read_bytes(), cache=file.name != "index.html")

    def _forward(self) -> None:
        """Ask Orthanc under the host name that the browser used: Orthanc builds addresses in its answers from it."""
        headers = {name: self.headers[name] for name in _FORWARDED if name in self.headers}
        orthanc = http.client.HTTPConnection(LOOPBACK, self.orthanc_port, timeout=60)
        try:
            orthanc.request("GET", self.path, headers=headers)
            answer = orthanc.getresponse()
            kind = answer.headers.get("Content-Type", "application/octet-stream")
            self._answer(answer.status, kind, answer.read(), cache=False)
        finally:
            orthanc.close()

    def _answer(self, status: int, kind: str, body: bytes, *, cache: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=3600" if cache else "no-store")
        for name, value in _ISOLATION.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is that of the base class
        """Say nothing."""
