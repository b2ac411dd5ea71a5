"""Checks of ``vesselq doctor`` that look at who can listen in: DICOM in the clear, certificates, audit repositories."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from console.findings import Finding, Health
from dicom_core.errors import VesselqError
from dicom_core.setting_tables import ListenerSettings
from dicom_core.settings import Settings

_SOON = timedelta(days=30)
_WHAT = "DICOM security"


@dataclass(frozen=True)
class PlainDicom:
    """Where DICOM crosses the network without TLS (PS3.15 B.12)."""

    listener: bool
    """Whether other machines can send to the listener in the clear."""
    destinations: tuple[str, ...]
    """Names of the destinations on other machines that get results in the clear."""


def plain_dicom(settings: Settings) -> PlainDicom:
    """Where others on the network can read along, by the settings alone: nobody is asked."""
    listener = settings.listener
    plain = [one.name for one in settings.destinations if one.kind == "storage_scu" and not one.tls]
    return PlainDicom(
        listener.tls.certificate_file is None and not _is_loopback(listener.host),
        tuple(name for name in plain if not _is_loopback(getattr(settings.destination(name), "host", ""))),
    )


def dicom_security(settings: Settings) -> Iterator[Finding]:
    """Whether others on the network can read along, or speak as somebody else."""
    listener = settings.listener
    plain = plain_dicom(settings)
    if listener.tls.certificate_file is not None:
        yield _certificates(listener)
    elif not plain.listener:
        yield Finding(_WHAT, Health.OK, "plain DICOM, and only this machine can connect")
    else:
        yield Finding(
            _WHAT,
            Health.WARNING,
            f"plain DICOM is open to other machines at {listener.host}:{listener.port}: whoever is on the way reads "
            "along, and anybody may use any AE title",
            "run `vesselq tls init` and set [listener.tls]; or keep this network to the peers alone",
        )
    if plain.destinations:
        yield Finding(
            "destinations in the clear",
            Health.WARNING,
            f"results go to {', '.join(plain.destinations)} as plain DICOM",
            "set tls = true where the destination can; or keep that network to the two of you",
        )


def _certificates(listener: ListenerSettings) -> Finding:
    from console.private_authority import facts
    from dicom_listener.tls import server_context

    own = listener.tls
    advice = "see docs/how-to/use-tls.md: `vesselq tls init`, `vesselq tls issue`, `vesselq tls show`"
    try:
        server_context(listener)
        found = [facts(file) for file in (own.certificate_file, own.ca_file) if file is not None]
    except VesselqError as error:
        return Finding(_WHAT, Health.FAILS, f"the listener cannot start: {error}", advice)
    now = datetime.now(UTC)
    first = min(found, key=lambda one: one.not_after)
    until = f"{first.file.name} is good until {first.not_after:%Y-%m-%d}"
    if any(now < one.not_before for one in found) or now > first.not_after:
        return Finding(_WHAT, Health.FAILS, f"no sender accepts it: {until}", advice)
    if not own.mutual:
        return Finding(_WHAT, Health.WARNING, f"TLS without certificates of senders, {until}: anybody may use any AE "
                       "title", 'set listener.tls.ca_file and client_certificates = "required"')  # fmt: skip
    if first.not_after - now < _SOON:
        return Finding(_WHAT, Health.WARNING, f"TLS on both sides, but {until}", advice)
    return Finding(_WHAT, Health.OK, f"TLS on both sides, {until}")


def audit_repositories(settings: Settings) -> Iterator[Finding]:
    """Whether each audit repository can be spoken to now."""
    from dicom_listener.audit_repository import sender

    for repository in settings.audit.repositories:
        what = f"audit repository {repository.name}"
        if repository.transport == "udp":
            found = f"{repository.host}:{repository.port} over UDP: nobody knows whether messages arrive"
            yield Finding(what, Health.WARNING, found, "use TLS where the server can")
            continue
        try:
            sender(repository)([])
        except VesselqError as error:
            yield Finding(what, Health.FAILS, str(error), "messages wait in the record: start it, or correct its entry")
            continue
        yield Finding(what, Health.OK, f"{repository.host}:{repository.port} answers over TLS")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
