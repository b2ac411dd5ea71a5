"""One typed Settings object, read once at the edge of every process and handed down.

Sources, later ones win: defaults, the TOML file, ``VESSELQ_*`` environment variables (``__`` between levels), files
named by ``VESSELQ_*_FILE`` (secrets). Unknown keys are errors; all errors are reported at once, each with its line.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import platformdirs
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from dicom_core.default_rules import DEFAULT_RULES
from dicom_core.identifiers import is_ae_title
from dicom_core.result import DEFAULT_RESULTS, ResultKind
from dicom_core.routing import Rule

ENVIRONMENT_PREFIX = "VESSELQ_"
SENDER = "sender"
"""The destination name that stands for the AE which sent the study."""
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
Place = tuple[str | int, ...]
"""Steps from the top of the settings to one of them: names of tables and keys, indices of entries."""
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
AETitle = Annotated[str, StringConstraints(min_length=1, max_length=16)]
Port = Annotated[int, Field(ge=1, le=65535)]
PortOrAny = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]


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


def _all_addresses(value: tuple[str, ...]) -> tuple[str, ...]:
    bad = [address for address in value if not _is_address(address)]
    if bad:
        raise ValueError(
            f"{', '.join(map(repr, bad))}: neither an IP address, a network such as 10.1.0.0/16, nor a host name"
        )
    return value


Addresses = Annotated[tuple[str, ...], AfterValidator(_all_addresses)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("ae_title", "calling_ae_title", mode="after", check_fields=False)
    @classmethod
    def _ae_titles(cls, value: str) -> str:
        return _checked_ae_title(value) if value else value


class ListenerSettings(_Table):
    """The Storage SCP."""

    ae_title: AETitle = Field("VESSELQ", description="AE title that senders must call.")
    host: str = Field("127.0.0.1", description="Address to bind; 0.0.0.0 for all once peers are configured.")
    port: PortOrAny = Field(11112, description="TCP port; 0 takes a free one.")
    maximum_associations: int = Field(20, ge=1, description="Associations at the same time, all peers together.")
    maximum_associations_per_peer: int = Field(8, ge=1, description="Associations at the same time from one address.")
    maximum_pdu_bytes: int = Field(128 * 1024, ge=4096, le=MIB, description="Largest PDU that is offered to senders.")
    maximum_object_bytes: int = Field(2 * GIB, ge=MIB, description="Largest object that is taken; larger: 0xA700.")
    acse_timeout_seconds: Seconds = Field(10, description="Longest wait within association negotiation.")
    network_timeout_seconds: Seconds = Field(60, description="Longest silence on an open association.")
    commit_window_seconds: float = Field(0.002, ge=0, le=1, description="How long a group commit gathers instances.")
    commit_batch: int = Field(64, ge=1, description="Most instances of one group commit.")
    low_water_bytes: int = Field(5 * GIB, ge=0, description="Less free space than this: new associations are refused.")
    critical_water_bytes: int = Field(GIB, ge=0, description="Less free space than this: objects are refused (0xA700).")
    stable_after_seconds: Seconds = Field(
        30, description="A study without new instances and open associations for this long is complete."
    )


class DispatcherSettings(_Table):
    """The process that closes studies, makes jobs and rings workers."""

    interval_seconds: Seconds = Field(0.5, description="Pause between two passes.")
    ring_interval_seconds: Seconds = Field(
        10, description="Work that waits this long since the last ring is rung for again."
    )
    rings_per_pass: int = Field(100, ge=1, description="Most rings of one pass.")


class PeerSettings(_Table):
    """A system that may open associations to the listener."""

    name: Name = Field(description="Word for the record.")
    ae_title: AETitle = Field(description="Its calling AE title.")
    addresses: Addresses = Field((), description="IP addresses or networks it may call from; empty: any.")
    host: str = Field("", description='Where results go when a rule says "sender"; empty: the address it called from.')
    port: Port = Field(104, description="Port of its Storage SCP, for results and C-ECHO.")
    results: Results = Field(DEFAULT_RESULTS, description='What it gets when a rule says "sender".')


class _Destination(_Table):
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


class StowRSSettings(_Destination):
    """Send by STOW-RS (PS3.18 section 10.5)."""

    kind: Literal["stow_rs"]
    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$")] = Field(
        description="Base URL of the DICOMweb service; studies/ is appended."
    )
    username: str = Field("", description="For HTTP basic authentication.")
    password: SecretStr = Field(SecretStr(""), description="For HTTP basic authentication.")
    bearer_token: SecretStr = Field(SecretStr(""), description="Instead of user name and password.")
    ca_file: Path | None = Field(None, description="Certificates to trust, PEM; empty: the system's.")


class FolderSettings(_Destination):
    """Write files."""

    kind: Literal["folder"]
    path: Path = Field(description="Folder; made if missing. Files are named by UID.")


DestinationSettings = Annotated[StorageSCUSettings | StowRSSettings | FolderSettings, Field(discriminator="kind")]


class WorkerSettings(_Table):
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


class SegmentationSettings(_Table):
    """The SEG objects."""

    # the numbers of further kinds, parts and generations are larger and must still be an IS (PS3.5 section 6.2)
    series_number: int = Field(9001, ge=1, le=1_000_000_000, description="SeriesNumber of the first result in a study.")
    omit_empty_frames: bool = Field(True, description="Leave out frames without a vessel.")
    viewer_hints: bool = Field(True, description="Add PixelMeasures and PlaneOrientation that viewers need.")
    send_empty: bool = Field(
        False,
        description="Send an object without vessels too, instead of ending as NO_VESSEL_FOUND without one.",
    )


class RetentionSettings(_Table):
    """How long files are kept. The audit log is kept for ever."""

    purge_sources_after_days: float = Field(
        30, gt=0, description="Source files of finished studies go after this time."
    )
    purge_results_after_days: float = Field(365, gt=0, description="Kept results of finished jobs go after this time.")


class WebSettings(_Table):
    """The web pages and the JSON API."""

    host: str = Field("127.0.0.1", description="Address to bind.")
    port: PortOrAny = Field(8042, description="TCP port; 0 takes a free one.")
    allowed_hosts: tuple[str, ...] = Field(
        ("localhost", "127.0.0.1", "[::1]"), description="Host names under which browsers reach it."
    )
    runs_from: Addresses = Field(
        ("127.0.0.1", "::1"),
        description="Addresses or networks that may have a series segmented again with a prompt. There is no sign-in: "
        "behind a proxy, which lets everybody call from its own address, it must do that.",
    )


def _misfits(values: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    """Names that are used twice or that nothing has, in values that are perhaps wrong otherwise."""
    names: dict[str, list[Any]] = {}
    for table in ("peers", "destinations", "rules"):
        names[table] = [_value(entry, "name") for entry in _entries(values, table)]
        for index, name in enumerate(names[table]):
            if name is not None and names[table].index(name) < index:
                yield (table, index, "name"), f"the name {name} is used twice"
    known = {SENDER, *(name for name in names["destinations"] if isinstance(name, str))}
    for index, rule in enumerate(_entries(values, "rules")):
        wanted = _value(rule, "destinations")
        wanted = wanted if isinstance(wanted, list | tuple) else ()
        unknown = sorted({name for name in wanted if isinstance(name, str)} - known)
        if unknown:
            text = f"there is no destination {', '.join(unknown)}; known are {', '.join(sorted(known))}"
            yield ("rules", index, "destinations"), text


def _entries(values: Mapping[str, Any], table: str) -> Sequence[Any]:
    entries = values.get(table)
    return entries if isinstance(entries, list | tuple) else ()


def _value(entry: Any, key: str) -> Any:
    return entry.get(key) if isinstance(entry, Mapping) else getattr(entry, key, None)


def _again(problem: ErrorDetails) -> InitErrorDetails:
    return InitErrorDetails(
        type=problem["type"], loc=problem["loc"], input=problem["input"], ctx=problem.get("ctx", {})
    )


class _SecretFiles(PydanticBaseSettingsSource):
    """Values from the files that ``VESSELQ_*_FILE`` variables name."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Not used: ``__call__`` reads all at once."""
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for variable, file in os.environ.items():
            if not (variable.startswith(ENVIRONMENT_PREFIX) and variable.endswith("_FILE")):
                continue
            *parents, leaf = variable.removeprefix(ENVIRONMENT_PREFIX).removesuffix("_FILE").lower().split("__")
            table = values
            for parent in parents:
                table = table.setdefault(parent, {})
            table[leaf] = Path(file).read_text().strip()
        return values


class Settings(BaseSettings):
    """Everything that can be set. See ``docs/reference/settings.md`` for the rendered list."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    data_folder: Path = Field(
        Path(platformdirs.user_data_dir("vesselq")), description="Where spool, results and the SQLite database live."
    )
    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite in the data folder.")
    redis_url: str = Field("redis://127.0.0.1:6379/0", description="redis://, rediss:// or unix://.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level that is logged.")
    listener: ListenerSettings = ListenerSettings()
    dispatcher: DispatcherSettings = DispatcherSettings()
    worker: WorkerSettings = WorkerSettings()
    segmentation: SegmentationSettings = SegmentationSettings()
    retention: RetentionSettings = RetentionSettings()
    web: WebSettings = WebSettings()
    peers: tuple[PeerSettings, ...] = Field((), description="Who may send; nobody until one is configured.")
    destinations: tuple[DestinationSettings, ...] = Field((), description="Where results can go.")
    rules: tuple[Rule, ...] = Field(DEFAULT_RULES, description="First match wins.")
    models: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Segmenters by name: system, folder and so on."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  no .env files
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  *_FILE variables instead
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order of the sources, first wins; the TOML file comes in as initial values, below the environment."""
        if isinstance(env_settings, EnvSettingsSource):
            # ..._FILE variables are read by _SecretFiles alone
            env_settings.env_vars = {
                name: value for name, value in env_settings.env_vars.items() if not name.endswith("_file")
            }
        return _SecretFiles(settings_cls), env_settings, init_settings

    @model_validator(mode="wrap")
    @classmethod
    def _names_fit_together(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        problems = [
            InitErrorDetails(type=PydanticCustomError("names", "{text}", {"text": text}), loc=place, input="")
            for place, text in _misfits(values)
        ]
        try:
            settings = handler(values)
        except ValidationError as error:
            # a mistake in one field must not hide that the names do not fit, so both are told together
            raise ValidationError.from_exception_data("Settings", [*map(_again, error.errors()), *problems]) from None
        if problems:
            raise ValidationError.from_exception_data("Settings", problems)
        return settings

    @property
    def spool_folder(self) -> Path:
        """Where received instances live."""
        return self.data_folder / "spool"

    @property
    def results_folder(self) -> Path:
        """Where built results live."""
        return self.data_folder / "results"

    @property
    def effective_database_url(self) -> str:
        """The SQLAlchemy URL in use."""
        return self.database_url or f"sqlite:///{self.data_folder / 'vesselq.sqlite3'}"

    def destination(self, name: str) -> StorageSCUSettings | StowRSSettings | FolderSettings | None:
        """The destination of that name, None if there is none."""
        return next((destination for destination in self.destinations if destination.name == name), None)
