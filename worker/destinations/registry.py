"""Which destination a setting or the sender of a study stands for."""

import ipaddress
import socket
from collections.abc import Iterable

from dicom_core.errors import PermanentDeliveryError, TransientDeliveryError
from dicom_core.setting_tables import (
    DestinationSettings,
    FolderSettings,
    ListenerTLSSettings,
    PeerSettings,
    StorageSCUSettings,
    StowRSSettings,
)
from dicom_core.settings import SENDER
from worker.destinations.interface import Destination

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def make_destination(settings: DestinationSettings, *, calling_ae_title: str) -> Destination:
    """The destination that ``settings`` describe.

    Args:
        settings: One entry of ``destinations``.
        calling_ae_title: Our AE title where the settings give none: the listener's.

    Raises:
        ConfigurationError: A value cannot be used.
    """
    # imported when they are needed: with the first comes pynetdicom, and most workers never send to all three
    match settings:
        case StorageSCUSettings():
            from worker.destinations.storage_scu import StorageSCU

            return StorageSCU(settings, own_ae_title=calling_ae_title)
        case StowRSSettings():
            from worker.destinations.stow_rs import StowRS

            return StowRS(settings)
        case FolderSettings():
            from worker.destinations.folder import Folder

            return Folder(settings)


def back_to_sender(
    peers: Iterable[PeerSettings],
    *,
    calling_ae_title: str,
    peer_address: str,
    own_ae_title: str,
    timeout_seconds: float = 30,
    identity: ListenerTLSSettings | None = None,
) -> Destination:
    """The Storage SCP of whoever sent a study.

    The peer is found by AE title and address; results go to its ``host``, or to the address it called from.

    Args:
        peers: Of the settings.
        calling_ae_title: Of the association that brought the study.
        peer_address: IP address of the same association.
        own_ae_title: Our AE title towards the peer.
        timeout_seconds: Longest wait for an answer.
        identity: Certificate and trust of the listener, for peers that are called over TLS.

    Raises:
        ConfigurationError: A certificate or key cannot be used.
        PermanentDeliveryError: No configured peer has that AE title and address.
    """
    from worker.destinations.storage_scu import StorageSCU

    address = _plain(peer_address)
    for peer in peers:
        if peer.ae_title == calling_ae_title and _may_call_from(peer, address):
            return StorageSCU.for_sender(
                peer.ae_title,
                peer.host or str(address),
                peer.port,
                name=SENDER,
                own_ae_title=own_ae_title,
                timeout_seconds=timeout_seconds,
                identity=(identity or ListenerTLSSettings()) if peer.tls else None,
            )
    raise PermanentDeliveryError(
        f"results cannot go back to the sender: no entry of peers has ae_title {calling_ae_title!r} for the address "
        f"{peer_address}; add one with the host and port of its Storage SCP, or name another destination in the rule"
    )


def _plain(peer_address: str) -> Address:
    """An IPv4 caller of a listener on ``::`` has an IPv6 form, which is the same address."""
    address = ipaddress.ip_address(peer_address)
    return getattr(address, "ipv4_mapped", None) or address


def _may_call_from(peer: PeerSettings, address: Address) -> bool:
    """Whether ``address`` is one of the peer's; as for the listener, no addresses means any."""
    return not peer.addresses or any(address in network for entry in peer.addresses for network in _networks(entry))


def _networks(entry: str) -> list[Network]:
    """What an entry of ``addresses`` stands for now: itself, or all addresses of a host name."""
    try:
        return [ipaddress.ip_network(entry, strict=False)]
    except ValueError:
        pass  # a host name
    try:
        found = socket.getaddrinfo(entry, None)
    except OSError as error:
        raise TransientDeliveryError(f"peers: the name {entry!r} cannot be resolved now") from error
    return [ipaddress.ip_network(str(_plain(str(place[4][0]).partition("%")[0]))) for place in found]
