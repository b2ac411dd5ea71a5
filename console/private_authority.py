"""A certificate authority of one's own, in a folder: for sites that have none and want DICOM over TLS.

The authority's certificate goes to every partner, its key to nobody. Certificates are made out to AE titles: the
common name is the AE title, the subject alternative names are the hosts (RFC 5280), so that both a listener that asks
who calls and a sender that asks where it arrived find what they look for.
"""

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dicom_core.errors import ConfigurationError, NotFoundError

CA_CERTIFICATE = "ca_certificate.pem"
CA_KEY = "ca_key.pem"
_FOR_THE_OWNER = 0o600
_FOR_THE_GROUP = 0o640
_CLOCKS_DIFFER = timedelta(hours=1)
_LONGEST_NAME = 64
"""Of a common name (RFC 5280 appendix A.1)."""
_HOST_LIKE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, as files."""

    certificate_file: Path
    key_file: Path


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What a certificate says.

    Attributes:
        names: Common names of the subject and the subject alternative names.
        issuer: In the form of RFC 4514.
        authority: Whether it may issue others.
        fingerprint: SHA-256, in hexadecimal.
    """

    file: Path
    names: tuple[str, ...]
    issuer: str
    authority: bool
    not_before: datetime
    not_after: datetime
    fingerprint: str


def make_authority(folder: Path, *, name: str, days: int) -> Issued:
    """Make a new authority in ``folder``.

    Raises:
        ConfigurationError: There is one already, the folder cannot be written, or the name is none.
    """
    if not 1 <= len(name) <= _LONGEST_NAME:
        raise ConfigurationError(f"the name of an authority has 1 to {_LONGEST_NAME} characters")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _certificate(subject, subject, key.public_key(), key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
    )
    certificate = builder.sign(key, hashes.SHA256())
    return _write(folder / CA_CERTIFICATE, folder / CA_KEY, certificate, key)


def issue(folder: Path, ae_title: str, *, hosts: tuple[str, ...], days: int) -> Issued:
    """Make a certificate for an application entity, to be used as server and as client.

    Args:
        folder: With the authority in it.
        ae_title: Becomes the common name, and a host name as well where it has the form of one.
        hosts: Names and IP addresses under which it is reached.
        days: How long it is good, but never longer than the authority.

    Raises:
        NotFoundError: There is no authority in the folder.
        ConfigurationError: Its files cannot be read, the certificate exists, or a host is no name.
    """
    authority, authority_key = _authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ae_title)])
    last = authority.not_valid_after_utc
    builder = (
        _certificate(subject, authority.subject, key.public_key(), authority_key.public_key(), days, last)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
    )
    names = _alternative_names(ae_title, hosts)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    word = re.sub(r"[^A-Za-z0-9_-]", "_", ae_title)
    certificate = builder.sign(authority_key, hashes.SHA256())
    return _write(folder / f"{word}_certificate.pem", folder / f"{word}_key.pem", certificate, key)


def facts(file: Path) -> CertificateFacts:
    """Read the first certificate of a PEM file.

    Raises:
        ConfigurationError: There is none in it, or it cannot be read.
    """
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{file} holds no certificate in PEM form") from error
    common = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return CertificateFacts(
        file=file,
        names=tuple(dict.fromkeys([*common, *_names_in(certificate)])),
        issuer=certificate.issuer.rfc4514_string(),
        authority=_is_authority(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def certificates_in(folder: Path) -> list[CertificateFacts]:
    """All certificates of a folder of ``make_authority``, that of the authority first.

    Raises:
        NotFoundError: There is no authority in the folder.
    """
    if not (folder / CA_CERTIFICATE).exists():
        raise NotFoundError(f"there is no certificate authority in {folder}; `vesselq tls init` makes one")
    found = [facts(file) for file in sorted(folder.glob("*certificate.pem"))]
    return sorted(found, key=lambda one: not one.authority)


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    days: int,
    last: datetime | None = None,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    end = now + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(min(end, last) if last else end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(ae_title: str, hosts: tuple[str, ...]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.DNSName(ae_title)] if _HOST_LIKE.fullmatch(ae_title) else []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ip_address(host)))
            continue
        except ValueError:
            pass  # a name
        if not all(_HOST_LIKE.fullmatch(label) for label in host.split(".")):
            raise ConfigurationError(f"{host!r} is neither a host name nor an IP address")
        names.append(x509.DNSName(host))
    return list(dict.fromkeys(names))


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate((folder / CA_CERTIFICATE).read_bytes())
        key = serialization.load_pem_private_key((folder / CA_KEY).read_bytes(), password=None)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no certificate authority in {folder}; `vesselq tls init` makes one") from error
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"the certificate authority in {folder} cannot be read ({type(error).__name__})"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigurationError(f"the key in {folder} was not made by `vesselq tls init`")
    return certificate, key


def _names_in(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    kinds: tuple[type[x509.GeneralName], ...] = (x509.DNSName, x509.IPAddress, x509.UniformResourceIdentifier)
    return [str(name.value) for name in names if isinstance(name, kinds)]


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _write(
    certificate_file: Path, key_file: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> Issued:
    """Both files, the key first and for its owner alone; none of them may exist."""
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for file in (key_file, certificate_file):
        if file.exists():
            raise ConfigurationError(f"{file} exists; move it away first, since a certificate may be in use with it")
    try:
        key_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _create(key_file, private, _FOR_THE_OWNER)
        _create(certificate_file, certificate.public_bytes(pem), _FOR_THE_GROUP)
    except OSError as error:
        raise ConfigurationError(f"{error.filename} cannot be written: {error.strerror}") from error
    return Issued(certificate_file, key_file)


def _create(file: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
