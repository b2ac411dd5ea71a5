"""TLS of the Storage SCP: its context, and the names that a sender has proved."""

import ssl
from typing import Any

from dicom_core import tls
from dicom_core.setting_tables import ListenerSettings


def server_context(settings: ListenerSettings) -> ssl.SSLContext | None:
    """What to wrap connections with, None for plain DICOM.

    Raises:
        ConfigurationError: A file cannot be read, is not what it should be, or key and certificate are not a pair.
    """
    own = settings.tls
    if own.certificate_file is None or own.key_file is None:
        return None
    return tls.server_context(own.certificate_file, own.key_file, own.ca_file if own.mutual else None)


def peer_names(connection: ssl.SSLSocket | ssl.SSLObject) -> frozenset[str]:
    """The names in the certificate of the other side, after the handshake.

    Common names of the subject, and DNS names, URIs and IP addresses among the subject alternative names (RFC 5280
    section 4.2.1.6). None where no certificate was asked for, since an unproved name is worth nothing.
    """
    # the types of the library say less than what it gives: pairs of a kind and a value
    certificate: dict[str, Any] = dict(connection.getpeercert() or {})
    common = (value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName")
    alternative = (value for _, value in certificate.get("subjectAltName", ()) if isinstance(value, str))
    return frozenset((*common, *alternative))
