"""The tables of the settings, each one a frozen pydantic model. ``dicom_core.settings`` puts them together."""

import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)

from dicom_core.identifiers import is_ae_title
from dicom_core.result import DEFAULT_RESULTS, ResultKind

MIB = 1024**2
GIB = 1024**3


def _checked_ae_title(value: str) -> str:
    if not is_ae_title(value):
        raise ValueError(r"an AE title has 1 to 16 printable ASCII characters without backslash")
    return value.strip()


_HOST_NAME = re.compile(
    r"(?=.{1,253}$)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*"
    r"(?=[^.]*[A-Za-z_-])[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?"
)
"""RFC 1123 section 2.1, and underscores, which are in use. The last label is no number, so 300.1.1.1 is none."""
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
AETitle = Annotated[str, StringConstraints(min_length=1, max_length=16)]
Port = Annotated[int, Field(ge=1, le=65535)]
PortOrAny = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


OptionalPath = Annotated[Path | None, BeforeValidator(_none_if_empty)]
"""TOML has no null: an empty text is no path, and not the current folder either."""


def _each_once(value: tuple[ResultKind, ...]) -> tuple[ResultKind, ...]:
    if not value:
        raise ValueError(f"name at least one of {', '.join(ResultKind)}; leave the setting out for {ResultKind.SEG}")
    repeated = sorted({kind for kind in value if value.count(kind) > 1})
    if repeated:
        raise ValueError(f"{', '.join(repeated)} is named more than once")
    return value


Results = Annotated[tuple[ResultKind, ...], AfterValidator(_each_once)]


def _is_address(text: str) -> bool:
    """Whether the syntax is that of an IP address, a network or a host name; nothing is resolved."""
    try:
        ip_network(text.partition("%")[0], strict=False)
    except ValueError:
        return _HOST_NAME.fullmatch(text) is not None
    return True


def is_loopback(host: str) -> bool:
    """Whether a server bound to this address is reached from its own machine only."""
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _all_addresses(value: tuple[str, ...]) -> tuple[str, ...]:
    bad = [address for address in value if not _is_address(address)]
    if bad:
        raise ValueError(
            f"{', '.join(map(repr, bad))}: neither an IP address, a network such as 10.1.0.0/16, nor a host name"
        )
    return value


Addresses = Annotated[tuple[str, ...], AfterValidator(_all_addresses)]


class Table(BaseModel):
    """One table of the settings: nothing unknown in it, nothing changed after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("ae_title", "calling_ae_title", mode="after", check_fields=False)
    @classmethod
    def _ae_titles(cls, value: str) -> str:
        return _checked_ae_title(value) if value else value

    @model_validator(mode="after")
    def _certificate_with_its_key(self) -> Self:
        certificate, key = getattr(self, "certificate_file", None), getattr(self, "key_file", None)
        if (certificate is None) != (key is None):
            raise ValueError("certificate_file and key_file go together: name both or neither")
        return self


class ListenerTLSSettings(Table):
    """TLS of the Storage SCP (PS3.15 B.12); without a certificate it speaks plain DICOM. ``vesselq tls`` makes them."""

    certificate_file: OptionalPath = Field(
        None, description="Our certificate and the ones between it and its CA, PEM; empty: plain DICOM."
    )
    key_file: OptionalPath = Field(None, description="Its private key, PEM, without passphrase.")
    ca_file: OptionalPath = Field(None, description="Certificates that those of senders must come from, PEM.")
    client_certificates: Literal["required", "off"] = Field(
        "required", description='"off": senders need no certificate, so that anybody may use any AE title.'
    )

    @property
    def mutual(self) -> bool:
        """Whether senders must prove who they are."""
        return self.certificate_file is not None and self.client_certificates == "required"

    @model_validator(mode="after")
    def _senders_can_be_known(self) -> Self:
        if self.mutual and self.ca_file is None:
            raise ValueError(
                "certificates of senders are required, so ca_file must name the ones that they come from; or set "
                'client_certificates = "off"'
            )
        return self


class ListenerSettings(Table):
    """The Storage SCP."""

    ae_title: AETitle = Field("VESSELQ", description="AE title that senders must call.")
    host: str = Field("127.0.0.1", description="Address to bind; 0.0.0.0 for all once peers are configured.")
    port: PortOrAny = Field(11112, description="TCP port; 0 takes a free one.")
    processes: int = Field(
        1, ge=1, le=64, description="Listener processes on the one port; each has the limits below for itself."
    )
    maximum_associations: int = Field(20, ge=1, description="Associations at the same time, all peers together.")
    maximum_associations_per_peer: int = Field(8, ge=1, description="Associations at the same time from one address.")
    maximum_pdu_bytes: int = Field(128 * 1024, ge=4096, le=MIB, description="Largest PDU that is offered to senders.")
    maximum_object_bytes: int = Field(2 * GIB, ge=MIB, description="Largest object that is taken; larger: 0xA700.")
    acse_timeout_seconds: Seconds = Field(10, description="Longest wait within association negotiation.")
    network_timeout_seconds: Seconds = Field(60, description="Longest silence on an open association.")
    pdu_timeout_seconds: Seconds = Field(20, description="Longest time for one PDU, from its first byte to its last.")
    object_timeout_seconds: Seconds = Field(3600, description="Longest time for one object; slower: A-ABORT.")
    data_path: Literal["own", "pynetdicom"] = Field(
        "own", description='How objects are read from the network; "pynetdicom" is slower and there in case of trouble.'
    )
    commit_window_seconds: float = Field(0.002, ge=0, le=1, description="How long a group commit gathers instances.")
    commit_batch: int = Field(64, ge=1, description="Most instances of one group commit.")
    low_water_bytes: int = Field(5 * GIB, ge=0, description="Less free space than this: new associations are refused.")
    critical_water_bytes: int = Field(GIB, ge=0, description="Less free space than this: objects are refused (0xA700).")
    stable_after_seconds: Seconds = Field(
        30, description="A study without new instances and open associations for this long is complete."
    )
    tls: ListenerTLSSettings = Field(ListenerTLSSettings(), description="TLS; a table of its own.")


class DispatcherSettings(Table):
    """The process that closes studies, makes jobs and rings workers."""

    interval_seconds: Seconds = Field(0.5, description="Pause between two passes.")
    ring_interval_seconds: Seconds = Field(
        10, description="Work that waits this long since the last ring is rung for again."
    )
    rings_per_pass: int = Field(100, ge=1, description="Most rings of one pass.")


class PeerSettings(Table):
    """A system that may open associations to the listener."""

    name: Name = Field(description="Word for the record.")
    ae_title: AETitle = Field(description="Its calling AE title.")
    addresses: Addresses = Field((), description="IP addresses or networks it may call from; empty: any.")
    host: str = Field("", description='Where results go when a rule says "sender"; empty: the address it called from.')
    port: Port = Field(104, description="Port of its Storage SCP, for results and C-ECHO.")
    certificate_name: str = Field(
        "",
        max_length=253,
        description="Name that its certificate must have when it calls over TLS, as common name or subject "
        'alternative name; empty: its AE title; "*": any certificate from listener.tls.ca_file.',
    )
    tls: bool = Field(
        False,
        description="Its Storage SCP speaks TLS: we call with the certificate of listener.tls, and it needs one with "
        "the name of its host from the same ca_file.",
    )
    results: Results = Field(DEFAULT_RESULTS, description='What it gets when a rule says "sender".')


class _Destination(Table):
    name: Name = Field(description="Word that rules use.")
    timeout_seconds: Seconds = Field(30, description="Longest wait for an answer.")
    give_up_after_hours: float = Field(72, gt=0, description="Transient failures are tried again for this long.")
    results: Results = Field(DEFAULT_RESULTS, description="What this destination gets.")


class StorageSCUSettings(_Destination):
    """Send by C-STORE."""

    kind: Literal["storage_scu"]
    ae_title: AETitle = Field(description="Called AE title.")
    host: str = Field(description="Address or name.")
    port: Port = Field(104, description="TCP port.")
    calling_ae_title: str = Field("", description="Our AE title towards it; empty: the listener's.")
    tls: bool = Field(False, description="Speak TLS (PS3.15 B.12).")
    ca_file: OptionalPath = Field(None, description="Certificates to trust, PEM; empty: the system's.")
    certificate_file: OptionalPath = Field(None, description="Our certificate, PEM, where it asks for one.")
    key_file: OptionalPath = Field(None, description="Its private key, PEM, without passphrase.")
    server_name: str = Field("", description="Name that its certificate must have; empty: host.")

    @model_validator(mode="after")
    def _certificates_are_used(self) -> Self:
        named = [name for name in ("ca_file", "certificate_file", "server_name") if getattr(self, name)]
        if named and not self.tls:
            raise ValueError(f"{' and '.join(named)} would not be used: set tls = true, or leave it out")
        return self


class StowRSSettings(_Destination):
    """Send by STOW-RS (PS3.18 section 10.5)."""

    kind: Literal["stow_rs"]
    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$")] = Field(
        description="Base URL of the DICOMweb service; studies/ is appended."
    )
    username: str = Field("", description="For HTTP basic authentication.")
    password: SecretStr = Field(SecretStr(""), description="For HTTP basic authentication.")
    bearer_token: SecretStr = Field(SecretStr(""), description="Instead of user name and password.")
    ca_file: OptionalPath = Field(None, description="Certificates to trust, PEM; empty: the system's.")


class FolderSettings(_Destination):
    """Write files."""

    kind: Literal["folder"]
    path: Path = Field(description="Folder; made if missing. Files are named by UID.")


DestinationSettings = Annotated[StorageSCUSettings | StowRSSettings | FolderSettings, Field(discriminator="kind")]


class WorkerSettings(Table):
    """The segmentation workers."""

    device: str = Field("auto", description='"auto", "cpu" or "cuda:N".')
    lease_seconds: Seconds = Field(60, description="A worker that is silent this long loses its job.")
    maximum_attempts: int = Field(3, ge=1, description="Tries before a job is FAILED.")
    retry_after_seconds: float = Field(5, ge=0, description="Pause before the next try; doubles each time.")
    deadline_seconds: Seconds = Field(1800, description="Longest time for one job in the child process.")
    memory_limit_bytes: int = Field(16 * GIB, ge=GIB, description="Address space of the child on CPU.")
    decoded_limit_bytes: int = Field(4 * GIB, ge=MIB, description="Largest decoded series.")
    recycle_after_jobs: int = Field(100, ge=1, description="The child is replaced after this many jobs.")
    recycle_above_bytes: int = Field(8 * GIB, ge=GIB, description="The child is replaced when its memory passes this.")
    model_memory_bytes: int = Field(
        0,
        ge=0,
        description="What loaded models may take together: those used longest ago give way. "
        "0: on a GPU all there is, on the CPU a quarter of memory_limit_bytes.",
    )
    threads: int = Field(0, ge=0, description="CPU threads of the child; 0: all cores.")
    delivery_threads: int = Field(8, ge=1, description="Deliveries at the same time in one worker process.")


class SegmentationSettings(Table):
    """The SEG objects."""

    # the numbers of further kinds, parts and generations are larger and must still be an IS (PS3.5 section 6.2)
    series_number: int = Field(9001, ge=1, le=1_000_000_000, description="SeriesNumber of the first result in a study.")
    omit_empty_frames: bool = Field(True, description="Leave out frames without a vessel.")
    viewer_hints: bool = Field(True, description="Add PixelMeasures and PlaneOrientation that viewers need.")
    send_empty: bool = Field(
        False,
        description="Send an object without vessels too, instead of ending as NO_VESSEL_FOUND without one.",
    )


class RetentionSettings(Table):
    """How long files are kept. The audit log has its own table, ``audit``."""

    purge_sources_after_days: float = Field(
        30, gt=0, description="Source files of finished studies go after this time."
    )
    purge_results_after_days: float = Field(365, gt=0, description="Kept results of finished jobs go after this time.")


class AuditRepositorySettings(Table):
    """A syslog server that gets every audit event as a message of PS3.15 annex A.5."""

    name: Name = Field(description="Word for the record.")
    host: str = Field(description="Address or name.")
    port: Port = Field(6514, description="6514 for TLS (RFC 5425); servers for UDP usually have 514.")
    transport: Literal["tls", "udp"] = Field(
        "tls", description="UDP (RFC 5426) is neither private nor certain to arrive, and cuts long messages."
    )
    ca_file: OptionalPath = Field(None, description="Certificates to trust, PEM; empty: the system's.")
    certificate_file: OptionalPath = Field(None, description="Our certificate, PEM, where the server asks for one.")
    key_file: OptionalPath = Field(None, description="Its private key, PEM, without passphrase.")
    server_name: str = Field("", description="Name that the server's certificate must have; empty: host.")
    timeout_seconds: Seconds = Field(10, description="Longest wait for the server.")

    @model_validator(mode="after")
    def _certificates_are_used(self) -> Self:
        named = [name for name in ("ca_file", "certificate_file", "server_name") if getattr(self, name)]
        if named and self.transport == "udp":
            raise ValueError(f"{' and '.join(named)} would not be used: UDP is sent without TLS")
        return self


class AuditSettings(Table):
    """The audit log: signed checkpoints, how long it is kept, who gets a copy."""

    checkpoint_seconds: Seconds = Field(60, description="A checkpoint is signed at least this often.")
    checkpoint_rows: int = Field(1000, ge=1, description="And after so many new rows.")
    checkpoint_folder: OptionalPath = Field(
        None,
        description="Where signed checkpoints are appended, best on a disk that is written once; "
        "empty: audit in the data folder.",
    )
    signing_key_file: OptionalPath = Field(
        None, description="Ed25519 private key, PEM; drawn when it is missing. Empty: beside the checkpoints."
    )
    keep_days: float = Field(2557, gt=0, description="Rows younger than this cannot be archived: seven years.")
    source_id: str = Field("vesselq", min_length=1, max_length=64, description="AuditSourceID of the messages.")
    enterprise_site_id: str = Field("", max_length=64, description="AuditEnterpriseSiteID of the messages.")
    repositories: tuple[AuditRepositorySettings, ...] = Field((), description="Syslog servers that get every event.")


class OidcSettings(Table):
    """Signing in by OpenID Connect (authorization code flow with PKCE)."""

    issuer: str = Field("", description="URL of the identity provider; empty: no OpenID Connect.")
    client_id: str = Field("", description="What the provider calls us.")
    client_secret: SecretStr = Field(SecretStr(""), description="Empty for a public client.")
    user_claim: str = Field("preferred_username", description="Claim of the ID token that names the person.")
    roles_claim: str = Field("groups", description="Claim that lists the groups of the person.")
    roles: dict[str, Literal["viewer", "operator", "admin", "auditor"]] = Field(
        default_factory=dict, description="Role of each group; other groups give none."
    )
    ca_file: OptionalPath = Field(None, description="Certificates to trust, PEM; empty: the system's.")

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        if not self.issuer:
            return self
        url = urlsplit(self.issuer)
        if url.scheme != "https" and not (url.scheme == "http" and is_loopback(url.hostname or "")):
            raise ValueError("issuer must be an https URL: what it says decides who may do what")
        if not self.client_id:
            raise ValueError("client_id is missing: it is what the provider calls this site")
        return self


class WebSettings(Table):
    """The web pages and the JSON API."""

    host: str = Field("127.0.0.1", description="Address to bind.")
    port: PortOrAny = Field(8042, description="TCP port; 0 takes a free one.")
    allowed_hosts: tuple[str, ...] = Field(
        ("localhost", "127.0.0.1", "[::1]"), description="Host names under which browsers reach it."
    )
    sign_in: Literal["required", "off"] = Field(
        "required", description='"off": whoever reaches the pages may do everything; only on a loopback address.'
    )
    session_hours: float = Field(8, gt=0, le=24, description="Signed out after this long.")
    idle_minutes: float = Field(30, gt=0, description="Signed out after this long without a request.")
    sign_ins_per_minute: int = Field(10, ge=1, description="Tries to sign in from one address.")
    requests_per_minute: int = Field(1200, ge=10, description="Requests from one person, token or address.")
    certificate_file: OptionalPath = Field(None, description="Serve HTTPS with this certificate, PEM.")
    key_file: OptionalPath = Field(None, description="Its private key, PEM.")
    behind_https: bool = Field(False, description="A proxy before it speaks HTTPS: cookies are marked Secure.")
    proxies: Addresses = Field(
        ("127.0.0.1", "::1"),
        description="With behind_https: addresses or networks of that proxy, whose X-Forwarded-For is believed.",
    )
    metrics_from: Addresses = Field(
        ("127.0.0.1", "::1"), description="Addresses or networks that may read /metrics without a token."
    )
    viewer_url: str = Field(
        "",
        description="Opens a study in the hospital's viewer; {study_instance_uid} is replaced, for example "
        "https://viewer.example.org/viewer?StudyInstanceUIDs={study_instance_uid}.",
    )
    language: Literal["auto", "en", "zh"] = Field("auto", description='Of the pages; "auto": what the browser wants.')
    oidc: OidcSettings = Field(OidcSettings(), description="Signing in by OpenID Connect; a table of its own.")

    @property
    def https(self) -> bool:
        """Whether browsers reach the pages over HTTPS."""
        return self.certificate_file is not None or self.behind_https

    @model_validator(mode="after")
    def _open_to_this_machine_only(self) -> Self:
        if self.sign_in == "off" and not is_loopback(self.host):
            raise ValueError(f'sign_in = "off" is for a loopback address, not for {self.host}')
        return self
