"""Who may connect, with which rejection, and what is offered."""

import pytest
from pydicom import uid

from dicom_core.errors import ConfigurationError
from dicom_core.setting_tables import ListenerSettings, ListenerTLSSettings, PeerSettings
from dicom_listener.association_policy import (
    STORAGE_CLASSES,
    TRANSFER_SYNTAXES,
    AssociationPolicy,
    AssociationRequest,
    Load,
    allowed_peers,
    plain_address,
    storage_contexts,
)

SETTINGS = ListenerSettings(maximum_associations=4, maximum_associations_per_peer=2, low_water_bytes=1000)
QUIET = Load(associations=0, associations_of_peer=0, free_bytes=10_000)


def _resolve(host: str) -> list[str]:
    known = {"pacs.hospital.example": ["192.0.2.7", "2001:db8::7"]}
    if host not in known:
        raise OSError("unknown host")
    return known[host]


def _policy(*peers: PeerSettings) -> AssociationPolicy:
    return AssociationPolicy(SETTINGS, allowed_peers(peers, _resolve))


def _peer(ae_title: str, *addresses: str) -> PeerSettings:
    return PeerSettings(name=ae_title.lower(), ae_title=ae_title, addresses=addresses)


def _request(calling: str = "PACS", address: str = "10.1.2.3", called: str = "VESSELQ") -> AssociationRequest:
    return AssociationRequest(calling, called, address)


def _codes(policy: AssociationPolicy, request: AssociationRequest, load: Load = QUIET) -> tuple[int, int, int] | None:
    rejection = policy.verdict(request, load)
    return rejection and (rejection.result, rejection.source, rejection.reason)


def test_nobody_may_connect_without_peers() -> None:
    """With no peer configured even a right called AE title is refused, and the sentence says what to do."""
    rejection = _policy().verdict(_request(), QUIET)
    assert rejection is not None
    assert (rejection.result, rejection.source, rejection.reason) == (1, 1, 3)
    assert "[[peers]]" in rejection.sentence


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.1.2.3", True),
        ("10.1.255.255", True),
        ("10.2.0.1", False),
        ("192.0.2.7", True),
        ("2001:db8::7", True),
        ("2001:db8::8", False),
        ("::ffff:10.1.2.3", True),
        ("203.0.113.9", True),
        ("203.0.113.10", False),
    ],
)
def test_addresses_networks_and_names(address: str, allowed: bool) -> None:
    """An IP address, a CIDR network and a host name resolved at the start all let exactly their addresses in."""
    policy = _policy(_peer("PACS", "10.1.0.0/16", "203.0.113.9", "pacs.hospital.example"))
    assert (_codes(policy, _request(address=address)) is None) is allowed


def test_peer_without_addresses_may_call_from_anywhere() -> None:
    """An empty address list means any address, for that AE title only."""
    policy = _policy(_peer("PACS"), _peer("CT1", "10.0.0.1"))
    assert _codes(policy, _request("PACS", "198.51.100.1")) is None
    assert _codes(policy, _request("CT1", "198.51.100.1")) == (1, 1, 3)


def test_ae_titles_are_compared_exactly() -> None:
    """AE titles are case sensitive and not prefixes (PS3.5 section 6.2)."""
    policy = _policy(_peer("PACS"))
    for calling in ("pacs", "PACS2", "PAC", ""):
        assert _codes(policy, _request(calling)) == (1, 1, 3), calling


def test_wrong_called_ae_title_comes_before_everything_else() -> None:
    """Reason 7 is answered to a known and to an unknown caller."""
    policy = _policy(_peer("PACS"))
    assert _codes(policy, _request(called="ORTHANC")) == (1, 1, 7)
    assert _codes(policy, _request("NOBODY", called="ORTHANC")) == (1, 1, 7)


@pytest.mark.parametrize(
    ("load", "codes"),
    [
        (Load(3, 1, 10_000), None),
        (Load(4, 0, 10_000), (2, 3, 2)),
        (Load(3, 2, 10_000), (2, 3, 2)),
        (Load(0, 0, 1000), None),
        (Load(0, 0, 999), (2, 3, 2)),
        (Load(0, 0, 10_000, closing=True), (2, 3, 1)),
    ],
)
def test_limits_are_transient(load: Load, codes: tuple[int, int, int] | None) -> None:
    """At a limit the answer is transient: local limit exceeded, or temporary congestion while stopping."""
    assert _codes(_policy(_peer("PACS")), _request(), load) == codes


def test_strangers_learn_nothing_about_the_load() -> None:
    """Who is not allowed gets the permanent rejection also when the listener is full."""
    assert _codes(_policy(_peer("PACS")), _request("NOBODY"), Load(4, 2, 0, closing=True)) == (1, 1, 3)


@pytest.mark.parametrize("address", ["no.such.host.example", "no-such-host"])
def test_bad_addresses_are_configuration_errors(address: str) -> None:
    """A host name that cannot be resolved stops the start and is named; wrong syntax never comes so far."""
    with pytest.raises(ConfigurationError, match="peers: pacs") as caught:
        allowed_peers([_peer("PACS", address)], _resolve)
    assert address in str(caught.value)


def test_sentences_hold_nothing_from_the_wire() -> None:
    """Log and audit sentences quote neither AE titles nor addresses of the peer."""
    policy = _policy(_peer("PACS", "10.0.0.1"))
    for request in (_request("EVIL\n[INFO]"), _request(called="EVIL\n[INFO]")):
        rejection = policy.verdict(request, QUIET)
        assert rejection is not None
        assert "EVIL" not in rejection.sentence


def test_transfer_syntaxes_offered() -> None:
    """Explicit little endian is first, implicit last, deflated and video never; every compression named is there."""
    assert TRANSFER_SYNTAXES[0] == uid.ExplicitVRLittleEndian
    assert TRANSFER_SYNTAXES[-1] == uid.ImplicitVRLittleEndian
    offered = set(TRANSFER_SYNTAXES)
    assert len(offered) == len(TRANSFER_SYNTAXES)
    assert not offered & {uid.DeflatedExplicitVRLittleEndian, uid.MPEG2MPML, uid.MPEG4HP41}
    assert offered >= {
        uid.ExplicitVRBigEndian, uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1,
        uid.JPEGLSLossless, uid.JPEGLSNearLossless, uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless,
        uid.HTJ2KLosslessRPCL, uid.HTJ2K, uid.RLELossless,
    }  # fmt: skip


def test_contexts_hold_images_and_verification_only() -> None:
    """Every context is an image storage class or Verification: no Segmentation, no SR, no presentation state."""
    contexts = storage_contexts()
    classes = [context.abstract_syntax_uid for context in contexts]
    assert len(set(classes)) == len(classes) <= 128
    assert classes[0] == "1.2.840.10008.1.1"
    assert set(classes[1:]) == set(STORAGE_CLASSES)
    for sop_class in STORAGE_CLASSES:
        name = uid.UID(sop_class).name
        assert "Storage" in name
        assert uid.UID(sop_class).info == "", name  # not retired
    forbidden = ("Segmentation", "SR ", "Presentation State", "Encapsulated", "Waveform", "RT ", "Raw Data")
    for sop_class in STORAGE_CLASSES:
        assert not any(word in uid.UID(sop_class).name for word in forbidden)


def test_contexts_cover_the_promised_classes() -> None:
    """The classes that the conformance statement names are offered with all transfer syntaxes."""
    offered = {context.abstract_syntax_uid: context.transfer_syntax_uids for context in storage_contexts()}
    for sop_class in (
        uid.CTImageStorage, uid.EnhancedCTImageStorage, uid.MRImageStorage, uid.EnhancedMRImageStorage,
        uid.XRayAngiographicImageStorage, uid.XRayRadiofluoroscopicImageStorage, uid.EnhancedXAImageStorage,
        uid.EnhancedXRFImageStorage, uid.UltrasoundMultiFrameImageStorage, uid.ComputedRadiographyImageStorage,
        uid.DigitalXRayImageStorageForPresentation, uid.SecondaryCaptureImageStorage,
        uid.MultiFrameTrueColorSecondaryCaptureImageStorage, uid.OphthalmicPhotography8BitImageStorage,
        uid.OphthalmicPhotography16BitImageStorage, uid.OphthalmicTomographyImageStorage,
        uid.OphthalmicOpticalCoherenceTomographyEnFaceImageStorage,
        uid.OphthalmicOpticalCoherenceTomographyBscanVolumeAnalysisStorage,
        uid.WideFieldOphthalmicPhotographyStereographicProjectionImageStorage,
        uid.WideFieldOphthalmicPhotography3DCoordinatesImageStorage,
    ):  # fmt: skip
        assert offered[sop_class] == TRANSFER_SYNTAXES


def test_plain_address_drops_zone_and_mapping() -> None:
    """A dual-stack socket's IPv4 and a link-local zone become comparable addresses."""
    assert plain_address("::ffff:192.0.2.1") == "192.0.2.1"
    assert plain_address("fe80::1%eth0") == "fe80::1"


@pytest.mark.parametrize(
    ("certificate_name", "names", "allowed"),
    [
        ("", {"PACS", "pacs.example.org"}, True),
        ("", {"pacs"}, True),
        ("", {"CT1", "ct1.example.org"}, False),
        ("", set(), False),
        ("pacs.example.org", {"PACS.example.org"}, True),
        ("pacs.example.org", {"PACS"}, False),
        ("*", {"anything"}, True),
    ],
)
def test_a_certificate_belongs_to_one_ae_title(certificate_name: str, names: set[str], allowed: bool) -> None:
    """Under mutual TLS a certificate of the right authority opens associations for its own AE title only."""
    tls = ListenerTLSSettings(certificate_file="c.pem", key_file="k.pem", ca_file="ca.pem")
    peer = PeerSettings(name="pacs", ae_title="PACS", certificate_name=certificate_name)
    policy = AssociationPolicy(SETTINGS.model_copy(update={"tls": tls}), allowed_peers([peer], _resolve))
    request = AssociationRequest("PACS", "VESSELQ", "10.1.2.3", frozenset(names))
    assert _codes(policy, request) == (None if allowed else (1, 1, 3))
    plain = AssociationPolicy(SETTINGS, allowed_peers([peer], _resolve))
    assert _codes(plain, request) is None
