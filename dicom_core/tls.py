"""TLS as DICOM asks for it: PS3.15 B.12, which follows BCP 195 (RFC 8996, RFC 9325). For servers and for clients."""

import socket
import ssl
from pathlib import Path

from dicom_core.errors import ConfigurationError

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption only (RFC 9325 section 4.2). TLS 1.3 has no others."""


def server_context(certificate_file: Path, key_file: Path, client_ca_file: Path | None) -> ssl.SSLContext:
    """The context of a server.

    Args:
        certificate_file: Its certificate and those between it and its CA, PEM.
        key_file: Its private key, PEM, without passphrase.
        client_ca_file: Certificates that those of clients must come from; None: clients need none.

    Raises:
        ConfigurationError: A file cannot be read, is not what it should be, or key and certificate are not a pair.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0  # every connection proves anew who it is
    _load_own(context, certificate_file, key_file)
    if client_ca_file is not None:
        _load_trusted(context, client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(
    ca_file: Path | None = None, certificate_file: Path | None = None, key_file: Path | None = None
) -> ssl.SSLContext:
    """The context of a client; it checks the name of the server.

    Args:
        ca_file: Certificates to trust, PEM; None: the system's.
        certificate_file: Our certificate, for servers that ask for one.
        key_file: Its private key, PEM, without passphrase.

    Raises:
        ConfigurationError: A file cannot be read, is not what it should be, or key and certificate are not a pair.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    if ca_file is None:
        context.load_default_certs()
    else:
        _load_trusted(context, ca_file)
    if certificate_file is not None and key_file is not None:
        _load_own(context, certificate_file, key_file)
    return context


def handshake_problem(host: str, port: int, context: ssl.SSLContext, server_name: str, seconds: float) -> str:
    """Why a client cannot speak TLS with a server, in words, "" where TLS is not what keeps them apart.

    For clients whose library tells only that there is no connection. Waits up to a second after the handshake, since
    TLS 1.3 refuses certificates of clients only then.
    """
    try:
        with (
            socket.create_connection((host, port), seconds) as plain,
            context.wrap_socket(plain, server_hostname=server_name or host) as connection,
        ):
            connection.settimeout(min(seconds, 1.0))
            connection.recv(1)
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not trusted: {error.verify_message}"
    except ssl.SSLError as error:
        return f"TLS fails: {error.reason or type(error).__name__}"
    except OSError:
        pass  # not TLS, or silence, which is as it should be
    return ""


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _load_own(context: ssl.SSLContext, certificate_file: Path, key_file: Path) -> None:
    def no_passphrase() -> str:  # otherwise OpenSSL asks for it on the terminal
        raise ConfigurationError(f"the key {key_file} has a passphrase; give one without, readable by its owner only")

    _must_be_readable(certificate_file)
    _must_be_readable(key_file)
    try:
        context.load_cert_chain(certificate_file, key_file, password=no_passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigurationError(f"the key {key_file} is not that of the certificate {certificate_file}") from error
        raise ConfigurationError(
            f"{certificate_file} and {key_file} must be a certificate and its private key, both PEM"
        ) from error


def _load_trusted(context: ssl.SSLContext, ca_file: Path) -> None:
    _must_be_readable(ca_file)
    try:
        context.load_verify_locations(ca_file)
    except ssl.SSLError as error:
        raise ConfigurationError(f"{ca_file} must hold the certificates to trust, PEM") from error


def _must_be_readable(file: Path) -> None:
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
