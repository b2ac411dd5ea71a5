"""A DICOMweb server as destination: the Store transaction (PS3.18 section 10.5), one object a request.

``requests`` is used without ``dicomweb-client``, which encodes the data set again, follows redirects and repeats failed
requests by itself. Here the bytes of the file go out as they are, once, and the caller decides what happens next.
"""

import http.client
import io
import ipaddress
import json
import secrets
import socket
import ssl
import time
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ProtocolError

from dicom_core.errors import ConfigurationError, DeliveryError, PermanentDeliveryError, TransientDeliveryError
from dicom_core.setting_tables import StowRSSettings
from worker.destinations.interface import DUPLICATE_SOP_INSTANCE, judge_dimse_status, open_object

_TRY_LATER = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_MAXIMUM_ANSWER_BYTES = 1024 * 1024
_MAXIMUM_CONNECTIONS = 8
_METADATA_ADDRESSES = frozenset({"100.100.100.200", "fd00:ec2::254"})
"""Of cloud providers, outside the link-local networks."""
_PROCESSING_FAILURE = 0x0110
_JSON = {"Accept": "application/dicom+json"}
_FAILED_SOP_SEQUENCE, _FAILURE_REASON = "00081198", "00081197"
_REFERENCED_SOP_SEQUENCE, _WARNING_REASON = "00081199", "00081196"


class StowRS:
    """Sends objects to one DICOMweb server over kept connections.

    Proxies and ``.netrc`` of the environment are not used, redirects are not followed and cookies are not kept: the
    settings alone say where results and credentials go.

    Raises:
        ConfigurationError: The URL is none, holds credentials or leads to a link-local or metadata address, or there
            is no ``ca_file``.
    """

    def __init__(self, settings: StowRSSettings) -> None:
        self.name = settings.name
        self._url = settings.url.rstrip("/")
        self._timeout_seconds = settings.timeout_seconds
        self._host = _host(self.name, self._url)
        _refuse_metadata_addresses(self.name, self._host)
        self._session = _session(settings)

    def describe(self) -> str:
        """The base URL."""
        return f"DICOMweb server {self._url}"

    def send(self, file: Path, *, sop_instance_uid: str, study_instance_uid: str, series_instance_uid: str) -> str:
        """Store by ``POST {url}/studies``. See ``Destination.send``."""
        status, answer = self._post(file)
        reason = _failure_reason(answer)
        if status == HTTPStatus.CONFLICT and reason != DUPLICATE_SOP_INSTANCE:
            # Some servers answer a duplicate so, without the reason or with another one.
            query = f"studies/{study_instance_uid}/series/{series_instance_uid}/instances"
            if self._is_there(query, sop_instance_uid):
                return f"{status} already there: UIDs are derived from the content, so it is the same object"
        if reason is not None:
            return f"{status} {judge_dimse_status(reason, self.describe())}"
        self._judge(status)
        warning = _warning_reason(answer)
        if warning is not None:
            return f"{status} stored with a warning (0x{warning:04X})"
        return f"{status} stored"

    def check(self) -> str:
        """Query for one study; the answer is not read. See ``Destination.check``."""
        self._find("studies", limit="1", read=False)
        return "QIDO-RS answered"

    def close(self) -> None:
        """Close the kept connections."""
        self._session.close()

    def _post(self, file: Path) -> tuple[int, Any]:
        """One Store request: HTTP status and decoded answer.

        A connection that was kept may have been closed by the server meanwhile; a request that breaks is therefore
        repeated once. Storing the same object twice does no harm.
        """
        for last in (False, True):
            with open_object(file) as stream:
                body = _MultipartBody(stream)
                headers = {**_JSON, "Content-Type": body.content_type}
                try:
                    return self._request("POST", "studies", data=body, headers=headers)
                except requests.ConnectionError as error:
                    broken = bool(error.args) and isinstance(error.args[0], ProtocolError)
                    if last or not broken:
                        raise self._no_answer(error) from error
                except (requests.RequestException, OSError) as error:
                    raise self._no_answer(error) from error
        raise AssertionError("the loop returns or raises")

    def _is_there(self, query: str, sop_instance_uid: str) -> bool:
        """Whether a query finds the instance; not every server that stores can be asked."""
        try:
            return bool(self._find(query, SOPInstanceUID=sop_instance_uid))
        except PermanentDeliveryError:
            return False

    def _find(self, query: str, *, read: bool = True, **matching: str) -> Any:
        """One QIDO-RS request (PS3.18 section 10.6): the decoded answer."""
        try:
            status, answer = self._request("GET", query, params=matching, headers=_JSON, read=read)
        except (requests.RequestException, OSError) as error:
            raise self._no_answer(error) from error
        self._judge(status)
        return answer

    def _request(self, method: str, resource: str, *, read: bool = True, **arguments: Any) -> tuple[int, Any]:
        self._refuse_moved_name()
        with self._session.request(
            method,
            f"{self._url}/{resource}",
            timeout=self._timeout_seconds,
            allow_redirects=False,
            stream=True,
            **arguments,
        ) as response:
            return response.status_code, self._answer(response) if read else None

    def _refuse_moved_name(self) -> None:
        """A name may lead elsewhere since the settings were read."""
        try:
            _refuse_metadata_addresses(self.name, self._host)
        except ConfigurationError as error:
            raise PermanentDeliveryError(str(error)) from error

    def _answer(self, response: requests.Response) -> Any:
        """The decoded DICOM JSON of a response, None for anything else; never more than the limit is read."""
        deadline = time.monotonic() + self._timeout_seconds
        content = bytearray()
        for chunk in response.iter_content(64 * 1024):
            content += chunk
            if len(content) > _MAXIMUM_ANSWER_BYTES or time.monotonic() > deadline:
                return None
        try:
            return json.loads(content)
        except ValueError:
            return None

    def _judge(self, status: int) -> None:
        """Raise what an HTTP status means; the text never holds what the server wrote."""
        if 200 <= status < 300:
            return
        words = http.client.responses.get(status, "unknown status")
        text = f"{self.describe()} answered {status} {words}"
        if status in _TRY_LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise TransientDeliveryError(text, status=status)
        if 300 <= status < 400:
            text += "; redirects are not followed: write the final address as url"
        elif status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            text += "; check username and password or bearer_token of the destination"
        elif status == HTTPStatus.NOT_FOUND:
            text += "; check url of the destination"
        raise PermanentDeliveryError(text, status=status)

    def _no_answer(self, error: Exception) -> DeliveryError:
        """Errors of requests can hold URLs with queries: only their kind is told."""
        if isinstance(error, requests.exceptions.SSLError):
            return TransientDeliveryError(
                f"{self.describe()} shows a certificate that is not trusted; check ca_file of the destination"
            )
        if isinstance(error, requests.Timeout):
            return TransientDeliveryError(f"{self.describe()} does not answer in {self._timeout_seconds:g} s")
        return TransientDeliveryError(f"{self.describe()} cannot be reached, or ended the connection")


class _MultipartBody:
    """``multipart/related`` with one part (PS3.18 section 8.6.1.2), read from the file while it is sent."""

    def __init__(self, file: BinaryIO) -> None:
        boundary = secrets.token_hex(16)
        self.content_type = f'multipart/related; type="application/dicom"; boundary={boundary}'
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        self._parts: list[BinaryIO] = [io.BytesIO(head), file, io.BytesIO(tail)]
        self._length = len(head) + file.seek(0, io.SEEK_END) + len(tail)
        file.seek(0)

    def __len__(self) -> int:
        return self._length

    def read(self, size: int = -1) -> bytes:
        while self._parts:
            data = self._parts[0].read(size)
            if data:
                return data
            self._parts.pop(0)
        return b""


def _host(name: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises for one that is out of range
    except ValueError as error:
        raise ConfigurationError(f"destination {name}: url is not valid; write https://HOST:PORT/PATH") from error
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(f"destination {name}: write username and password as settings, not in url")
    return parts.hostname or ""


def _session(settings: StowRSSettings) -> requests.Session:
    if settings.ca_file is not None and not settings.ca_file.is_file():
        raise ConfigurationError(f"destination {settings.name}: there is no ca_file {settings.ca_file}")
    session = requests.Session()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    system = ssl.get_default_verify_paths()
    session.verify = str(settings.ca_file) if settings.ca_file else system.cafile or system.capath or True
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=_MAXIMUM_CONNECTIONS, max_retries=0))
    token, password = settings.bearer_token.get_secret_value(), settings.password.get_secret_value()
    if token:
        session.headers["Authorization"] = f"Bearer {token}"
    elif settings.username:
        session.auth = (settings.username, password)
    return session


def _failure_reason(answer: Any) -> int | None:
    """The code of the first item of FailedSOPSequence in a Store response (PS3.18 annex I.2), None without item."""
    item = _first_item(answer, _FAILED_SOP_SEQUENCE)
    return None if item is None else _code(item, _FAILURE_REASON) or _PROCESSING_FAILURE


def _warning_reason(answer: Any) -> int | None:
    """The code of the first item of ReferencedSOPSequence, None without one."""
    return _code(_first_item(answer, _REFERENCED_SOP_SEQUENCE), _WARNING_REASON)


def _first_item(answer: Any, sequence: str) -> Any:
    try:
        return answer[sequence]["Value"][0]
    except (KeyError, IndexError, TypeError):
        return None


def _code(item: Any, tag: str) -> int | None:
    try:
        return int(item[tag]["Value"][0])
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _refuse_metadata_addresses(name: str, host: str) -> None:
    """Results and credentials must not go where only a cloud's own services live (169.254.0.0/16, fe80::/10).

    Raises:
        ConfigurationError: ``host`` is or leads to such an address.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return  # no address, no danger; sending tells
    for *_, socket_address in found:
        address = ipaddress.ip_address(str(socket_address[0]).partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_link_local or str(address) in _METADATA_ADDRESSES:
            raise ConfigurationError(f"destination {name}: {host} is a link-local or metadata address ({address})")
