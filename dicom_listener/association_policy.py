"""Who may open an association, and what it may carry. Pure: no socket, no file, no clock.

The default is to accept nobody: until peers are configured every association is refused.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from pydicom import uid

from dicom_core.errors import ConfigurationError
from dicom_core.setting_tables import ListenerSettings, PeerSettings

VERIFICATION = "1.2.840.10008.1.1"
ANY_CERTIFICATE = "*"
"""As ``certificate_name``: every certificate from the CA file will do."""

TRANSFER_SYNTAXES: tuple[str, ...] = (
    uid.ExplicitVRLittleEndian,
    uid.JPEG2000Lossless,
    uid.JPEG2000,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.HTJ2K,
    uid.JPEGLSLossless,
    uid.JPEGLSNearLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLossless,
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.RLELossless,
    uid.ExplicitVRBigEndian,
    uid.ImplicitVRLittleEndian,
)
"""In order of preference. Implicit VR is last: choosing it makes senders transcode and lose the VR of private elements.
Deflated is left out: one megabyte of it can become gigabytes."""

STORAGE_CLASSES: tuple[str, ...] = (
    uid.ComputedRadiographyImageStorage,
    uid.DigitalXRayImageStorageForPresentation,
    uid.DigitalXRayImageStorageForProcessing,
    uid.CTImageStorage,
    uid.EnhancedCTImageStorage,
    uid.LegacyConvertedEnhancedCTImageStorage,
    uid.UltrasoundImageStorage,
    uid.UltrasoundMultiFrameImageStorage,
    uid.MRImageStorage,
    uid.EnhancedMRImageStorage,
    uid.EnhancedMRColorImageStorage,
    uid.LegacyConvertedEnhancedMRImageStorage,
    uid.SecondaryCaptureImageStorage,
    uid.MultiFrameSingleBitSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
    uid.XRayAngiographicImageStorage,
    uid.EnhancedXAImageStorage,
    uid.XRayRadiofluoroscopicImageStorage,
    uid.EnhancedXRFImageStorage,
    uid.XRay3DAngiographicImageStorage,
    uid.OphthalmicPhotography8BitImageStorage,
    uid.OphthalmicPhotography16BitImageStorage,
    uid.OphthalmicTomographyImageStorage,
    uid.WideFieldOphthalmicPhotographyStereographicProjectionImageStorage,
    uid.WideFieldOphthalmicPhotography3DCoordinatesImageStorage,
    uid.OphthalmicOpticalCoherenceTomographyEnFaceImageStorage,
    uid.OphthalmicOpticalCoherenceTomographyBscanVolumeAnalysisStorage,
    uid.PositronEmissionTomographyImageStorage,
    uid.LegacyConvertedEnhancedPETImageStorage,
    uid.EnhancedPETImageStorage,
)
"""Image classes in which vessels can be seen, and those that accompany them in one series send. Segmentation Storage is
left out: what comes back from a PACS must not enter again. Objects without pixels are left out as well."""


@dataclass(frozen=True, slots=True)
class OfferedContext:
    """One abstract syntax with the transfer syntaxes it is taken in, best first."""

    abstract_syntax_uid: str
    transfer_syntax_uids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rejection:
    """An A-ASSOCIATE-RJ (PS3.8 table 9-21) and the reason in words.

    Attributes:
        result: 1 permanent, 2 transient.
        source: 1 service user, 2 provider (ACSE), 3 provider (presentation).
        reason: Reason/Diag., its meaning depends on ``source``.
        sentence: For the log and the audit row; holds nothing from the wire.
    """

    result: int
    source: int
    reason: int
    sentence: str


@dataclass(frozen=True, slots=True)
class AssociationRequest:
    """Who asks for an association.

    Attributes:
        calling_ae_title: From the A-ASSOCIATE-RQ, without padding.
        called_ae_title: From the A-ASSOCIATE-RQ, without padding.
        peer_address: IP address.
        certificate_names: Of the certificate that the peer proved to own (``dicom_listener.tls.peer_names``).
    """

    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    certificate_names: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Load:
    """How things stand at the moment of a request.

    Attributes:
        associations: Open associations, all peers together.
        associations_of_peer: Open associations from the address that asks.
        free_bytes: Free space of the spool's file system.
        closing: The listener takes no new work: it stops or its disk failed.
    """

    associations: int
    associations_of_peer: int
    free_bytes: int
    closing: bool = False


Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class AllowedPeer:
    """An AE title and the networks it may call from; no network means from anywhere.

    Attributes:
        certificate_name: What its certificate must be made out to where certificates are asked for; "" stands for
            its AE title, "*" for any name.
    """

    name: str
    ae_title: str
    networks: tuple[Network, ...]
    certificate_name: str = ""

    def admits(self, calling_ae_title: str, peer_address: str) -> bool:
        """Whether this is the peer that calls."""
        if calling_ae_title != self.ae_title:
            return False
        address = ip_address(plain_address(peer_address))
        return not self.networks or any(address in network for network in self.networks)

    def owns(self, certificate_names: frozenset[str]) -> bool:
        """Whether a certificate with these names is this peer's; upper and lower case are the same in names."""
        wanted = (self.certificate_name or self.ae_title).casefold()
        return wanted == ANY_CERTIFICATE or wanted in {name.casefold() for name in certificate_names}


class AssociationPolicy:
    """The verdict over association requests."""

    def __init__(self, settings: ListenerSettings, peers: Sequence[AllowedPeer]) -> None:
        self._settings = settings
        self._peers = tuple(peers)

    def verdict(self, request: AssociationRequest, load: Load) -> Rejection | None:
        """Decide over one request.

        Args:
            request: Who asks.
            load: How things stand, the asking association not counted.

        Returns:
            None to accept, otherwise what to answer.
        """
        return self._who(request) or self._limits(load)

    def _who(self, request: AssociationRequest) -> Rejection | None:
        if request.called_ae_title != self._settings.ae_title:
            return Rejection(1, 1, 7, "the called AE title is not ours")
        if not self._peers:
            return Rejection(1, 1, 3, "no peer is configured, so nobody may connect; add [[peers]] to the settings")
        known = [peer for peer in self._peers if peer.admits(request.calling_ae_title, request.peer_address)]
        if not known:
            return Rejection(1, 1, 3, "no configured peer has this calling AE title and address")
        if self._settings.tls.mutual and not any(peer.owns(request.certificate_names) for peer in known):
            return Rejection(1, 1, 3, "the certificate is made out to another name than the peer's certificate_name")
        return None

    def _limits(self, load: Load) -> Rejection | None:
        settings = self._settings
        if load.closing:
            return Rejection(2, 3, 1, "the listener takes no new associations now")
        if load.associations >= settings.maximum_associations:
            return Rejection(2, 3, 2, "maximum_associations is reached")
        if load.associations_of_peer >= settings.maximum_associations_per_peer:
            return Rejection(2, 3, 2, "maximum_associations_per_peer is reached for this address")
        if load.free_bytes < settings.low_water_bytes:
            return Rejection(2, 3, 2, "the spool has less free space than low_water_bytes")
        return None


def storage_contexts() -> tuple[OfferedContext, ...]:
    """Every Storage SOP Class that is taken, and Verification."""
    verification = OfferedContext(VERIFICATION, (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian))
    return (verification, *(OfferedContext(sop_class, TRANSFER_SYNTAXES) for sop_class in STORAGE_CLASSES))


def allowed_peers(peers: Iterable[PeerSettings], resolve: Callable[[str], Iterable[str]]) -> tuple[AllowedPeer, ...]:
    """Turn the configured peers into networks, once, when the listener starts.

    Args:
        peers: The allow list of the settings. Addresses are IP addresses, CIDR networks or host names.
        resolve: Gives the IP addresses of a host name; raises OSError when there are none.

    Raises:
        ConfigurationError: An address is neither a network nor a name that can be resolved.
    """
    return tuple(
        AllowedPeer(peer.name, peer.ae_title, tuple(_networks(peer, resolve)), peer.certificate_name) for peer in peers
    )


def _networks(peer: PeerSettings, resolve: Callable[[str], Iterable[str]]) -> Iterable[Network]:
    for address in peer.addresses:
        try:
            yield ip_network(address, strict=False)
            continue
        except ValueError:
            pass  # not an address: a host name
        try:
            yield from (ip_network(plain_address(resolved)) for resolved in resolve(address))
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"peers: {peer.name}: {address!r} is neither an IP address, a network such as 10.1.0.0/16, nor a host "
                f"name that can be resolved now"
            ) from error


def plain_address(address: str) -> str:
    """An IP address without zone, IPv4 in its own form where a dual-stack socket maps it into IPv6."""
    parsed = ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or parsed)
