"""TLS of servers and clients: who is let in, what is refused, and what a wrong file is answered with."""

import ssl
from pathlib import Path

import pytest
from certificates import Authority, Owned, shake_hands
from cryptography.hazmat.primitives import serialization
from pydantic import ValidationError

from dicom_core import tls
from dicom_core.errors import ConfigurationError
from dicom_core.setting_tables import (
    AuditRepositorySettings,
    ListenerSettings,
    ListenerTLSSettings,
    StorageSCUSettings,
    WebSettings,
)
from dicom_listener.tls import peer_names, server_context


def _listener(authority: Authority, **changes: object) -> ListenerSettings:
    own = {"certificate_file": authority.vesselq.certificate_file, "key_file": authority.vesselq.key_file}
    return ListenerSettings(tls=ListenerTLSSettings(**{**own, "ca_file": authority.ca_file, **changes}))


def _client(authority: Authority, owned: Owned | None) -> ssl.SSLContext:
    if owned is None:
        return tls.client_context(authority.ca_file)
    return tls.client_context(authority.ca_file, owned.certificate_file, owned.key_file)


def test_without_a_certificate_the_listener_speaks_plain_dicom() -> None:
    """The default of the settings: no context, so nothing to wrap connections with."""
    assert server_context(ListenerSettings()) is None
    assert not ListenerTLSSettings().mutual


def test_a_sender_with_a_certificate_is_known_by_name(authority: Authority) -> None:
    """Common name and alternative names are read after the handshake, in TLS 1.3."""
    server, _ = shake_hands(server_context(_listener(authority)), _client(authority, authority.pacs))
    assert server.version() == "TLSv1.3"
    assert peer_names(server) == {"PACS", "127.0.0.1", "localhost"}


def test_tls_1_2_is_spoken_with_forward_secrecy(authority: Authority) -> None:
    """PS3.15 B.12 asks for 1.2 as well, with the ciphers of RFC 9325."""
    client = _client(authority, authority.pacs)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    server, _ = shake_hands(server_context(_listener(authority)), client)
    cipher = server.cipher()
    assert server.version() == "TLSv1.2"
    assert cipher is not None
    assert cipher[0].startswith("ECDHE-ECDSA-")
    assert peer_names(server) == {"PACS", "127.0.0.1", "localhost"}


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_a_sender_without_certificate_is_refused(authority: Authority, version: str) -> None:
    """Mutual TLS is the default, whatever the version."""
    client = _client(authority, None)
    if version == "TLSv1.2":
        client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"PEER_DID_NOT_RETURN_A_CERTIFICATE|peer did not return a certificate"):
        shake_hands(server_context(_listener(authority)), client)


def test_a_certificate_from_another_authority_is_refused(authority: Authority, stranger: Authority) -> None:
    """The right name from the wrong authority proves nothing."""
    with pytest.raises(ssl.SSLError, match="verify failed"):
        shake_hands(server_context(_listener(authority)), _client(authority, stranger.pacs))


def test_old_versions_are_refused(authority: Authority) -> None:
    """RFC 8996: nothing below TLS 1.2."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(authority.ca_file)
    client.load_cert_chain(authority.pacs.certificate_file, authority.pacs.key_file)
    client.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSVersion"):
        client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol"):
        shake_hands(server_context(_listener(authority)), client)


def test_without_client_certificates_there_are_no_names(authority: Authority) -> None:
    """Encrypted only: nobody has proved anything, so nobody has a name."""
    context = server_context(_listener(authority, client_certificates="off", ca_file=None))
    server, _ = shake_hands(context, _client(authority, authority.pacs))
    assert peer_names(server) == frozenset()


def test_a_client_checks_the_name_of_the_server(authority: Authority) -> None:
    """A certificate of the right authority for another host is refused; the AE title is a name as well."""
    context = server_context(_listener(authority))
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(context, _client(authority, authority.pacs), "pacs.example.org")
    shake_hands(context, _client(authority, authority.pacs), "vesselq")


def test_a_client_trusts_the_system_unless_told(authority: Authority) -> None:
    """Without a CA file a private authority is unknown."""
    client = tls.client_context(None, authority.pacs.certificate_file, authority.pacs.key_file)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server_context(_listener(authority)), client)


def test_a_key_with_a_passphrase_is_refused_without_asking(authority: Authority, tmp_path: Path) -> None:
    """Nobody sits at the terminal of a listener."""
    key = serialization.load_pem_private_key(authority.vesselq.key_file.read_bytes(), password=None)
    locked = tmp_path / "locked.pem"
    secret = serialization.BestAvailableEncryption(b"secret")
    locked.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret))
    with pytest.raises(ConfigurationError, match="has a passphrase"):
        server_context(_listener(authority, key_file=locked))


def test_wrong_files_are_named(authority: Authority, tmp_path: Path) -> None:
    """Missing, of another pair, not PEM: the sentence says which file and what is wrong."""
    missing, words = tmp_path / "missing.pem", tmp_path / "words.pem"
    words.write_text("no certificate")
    for changes, said in (
        ({"certificate_file": missing}, "missing.pem cannot be read: No such file"),
        ({"key_file": missing}, "missing.pem cannot be read: No such file"),
        ({"ca_file": missing}, "missing.pem cannot be read: No such file"),
        ({"ca_file": words}, "words.pem must hold the certificates to trust, PEM"),
        ({"certificate_file": words}, "must be a certificate and its private key"),
        ({"key_file": authority.pacs.key_file}, "PACS_key.pem is not that of the certificate"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            server_context(_listener(authority, **changes))
    with pytest.raises(ConfigurationError, match=r"words.pem must hold"):
        tls.client_context(words)
    with pytest.raises(ConfigurationError, match="is not that of the certificate"):
        tls.client_context(authority.ca_file, authority.pacs.certificate_file, authority.vesselq.key_file)


@pytest.mark.parametrize("table", [ListenerTLSSettings, WebSettings])
@pytest.mark.parametrize("given", ["certificate_file", "key_file"])
def test_certificate_and_key_go_together(table: type, given: str) -> None:
    """One without the other is a mistake that is told when the settings are read."""
    with pytest.raises(ValidationError, match="go together"):
        table(**{given: "x.pem"})


def test_senders_cannot_be_known_without_a_ca_file() -> None:
    """Client certificates that nothing could check are a mistake; leaving them out has to be said."""
    pair = {"certificate_file": "c.pem", "key_file": "k.pem"}
    with pytest.raises(ValidationError, match='client_certificates = "off"'):
        ListenerTLSSettings(**pair)
    assert not ListenerTLSSettings(**pair, client_certificates="off").mutual
    assert ListenerTLSSettings(**pair, ca_file="ca.pem").mutual


def test_certificates_that_would_not_be_used_are_refused() -> None:
    """Whoever names a CA file believes to be encrypted."""
    place = {"name": "x", "host": "pacs.example.org", "ca_file": "ca.pem"}
    with pytest.raises(ValidationError, match="ca_file would not be used: set tls = true"):
        StorageSCUSettings(kind="storage_scu", ae_title="PACS", **place)
    with pytest.raises(ValidationError, match="ca_file and server_name would not be used: UDP"):
        AuditRepositorySettings(transport="udp", server_name="y", **place)
    assert StorageSCUSettings(kind="storage_scu", ae_title="PACS", tls=True, **place).tls
    assert AuditRepositorySettings(**place).transport == "tls"
