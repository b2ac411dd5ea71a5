"""Audit messages on their way to a syslog server: RFC 5424 over TLS (RFC 5425), or over UDP (RFC 5426) when asked.

PS3.15 section A.6 and IHE ITI-20 name both. TLS has no answer that says "taken", but its end has: the server replies
to our close_notify after it has read everything before it (RFC 5425 section 4.4). So a batch is one connection, and
it counts as sent when that connection ended in order.
"""

import re
import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dicom_core.errors import ConfigurationError, UnavailableError
from dicom_core.setting_tables import AuditRepositorySettings
from dicom_core.tls import client_context
from dicom_listener.proven_stream import ProvenStream

_APPLICATION, _MESSAGE_ID = "vesselq", "DICOM+RFC3881"
_AUTHORIZATION = 10
_NOTICE, _WARNING = 5, 4
_LARGEST_DATAGRAM = 65_000
_NOT_PRINTABLE = re.compile("[^!-~]")


@dataclass(frozen=True, slots=True)
class SyslogMessage:
    """One message before it is framed.

    Attributes:
        at: ISO 8601, UTC.
        process: Which of ours it tells of.
        failure: Whether it tells of something that did not succeed.
        xml: The audit message, without declaration.
    """

    at: str
    process: str
    failure: bool
    xml: str


def syslog_line(message: SyslogMessage, host: str) -> bytes:
    """RFC 5424 section 6, with facility 10 and severity 5 (4 for failures) and the XML in UTF-8 without BOM."""
    priority = _AUTHORIZATION * 8 + (_WARNING if message.failure else _NOTICE)
    head = f"<{priority}>1 {message.at} {_name(host, 255)} {_APPLICATION} {_name(message.process, 128)} {_MESSAGE_ID} -"
    return f'{head} <?xml version="1.0" encoding="UTF-8"?>{message.xml}'.encode()


def _name(text: str, length: int) -> str:
    """PRINTUSASCII of RFC 5424 section 6, where nothing is a hyphen."""
    return _NOT_PRINTABLE.sub("?", text)[:length] or "-"


def sender(settings: AuditRepositorySettings) -> Callable[[Iterable[SyslogMessage]], None]:
    """What sends a batch to the repository; it returns when the repository has it.

    Over UDP nobody can know that: there it returns when the network took it. The sender raises UnavailableError when
    the repository does not answer, is not who it should be, or may not have read all.

    Raises:
        ConfigurationError: A certificate or key cannot be used.
    """
    host = socket.gethostname()
    if settings.transport == "udp":
        return lambda messages: _send_datagrams(settings, (syslog_line(message, host) for message in messages))
    _context(settings)  # a wrong file is told when the process starts
    return lambda messages: _send_stream(settings, (syslog_line(message, host) for message in messages))


def _context(settings: AuditRepositorySettings) -> ssl.SSLContext:
    """Made for each connection, so that renewed certificates count without a restart."""
    return client_context(settings.ca_file, settings.certificate_file, settings.key_file)


def _send_stream(settings: AuditRepositorySettings, lines: Iterable[bytes]) -> None:
    place = f"the audit repository {settings.name} at {settings.host}:{settings.port}"
    try:
        with socket.create_connection((settings.host, settings.port), settings.timeout_seconds) as connection:
            stream = ProvenStream(connection, _context(settings), settings.server_name or settings.host)
            for line in lines:
                stream.write(b"%d %b" % (len(line), line))  # octet counting, RFC 5425 section 4.3
            stream.end()
    except ssl.SSLCertVerificationError as error:
        raise UnavailableError(f"{place} has a certificate that is not trusted: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise UnavailableError(f"{place} does not agree on TLS: {error.reason or type(error).__name__}") from error
    except ConfigurationError as error:  # a file that was good when the process started
        raise UnavailableError(str(error)) from error
    except TimeoutError as error:
        raise UnavailableError(f"{place} does not answer in {settings.timeout_seconds:g} s") from error
    except (OSError, UnicodeError) as error:  # a name that no DNS could know is no Unicode of IDNA
        raise UnavailableError(f"{place} cannot be reached: {_why(error)}") from error


def _why(error: OSError | UnicodeError) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def _send_datagrams(settings: AuditRepositorySettings, lines: Iterable[bytes]) -> None:
    place = f"the audit repository {settings.name} at {settings.host}:{settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as connection:
            connection.settimeout(settings.timeout_seconds)
            connection.connect(address)
            for line in lines:
                connection.send(line[:_LARGEST_DATAGRAM].decode("utf-8", "ignore").encode())
    except (OSError, UnicodeError) as error:
        raise UnavailableError(f"{place} cannot be reached: {_why(error)}") from error
