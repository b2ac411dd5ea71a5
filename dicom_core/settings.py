"""One typed Settings object, read once at the edge of every process and handed down.

Sources, later ones win: defaults, the TOML file, ``VESSELQ_*`` environment variables (``__`` between levels), files
named by ``VESSELQ_*_FILE`` (secrets). Unknown keys are errors; all errors are reported at once, each with its line.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import platformdirs
from pydantic import Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from dicom_core.default_rules import DEFAULT_RULES
from dicom_core.routing import Rule
from dicom_core.setting_tables import (
    AuditSettings,
    DestinationSettings,
    DispatcherSettings,
    FolderSettings,
    ListenerSettings,
    PeerSettings,
    RetentionSettings,
    SegmentationSettings,
    StorageSCUSettings,
    StowRSSettings,
    WebSettings,
    WorkerSettings,
)

ENVIRONMENT_PREFIX = "VESSELQ_"
SENDER = "sender"
"""The destination name that stands for the AE which sent the study."""
Place = tuple[str | int, ...]
"""Steps from the top of the settings to one of them: names of tables and keys, indices of entries."""


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


def _is_secret_file(variable: str) -> bool:
    """Whether an environment variable names a file to read the value from, and is no setting that is itself a file."""
    if not (variable.startswith(ENVIRONMENT_PREFIX) and variable.endswith("_FILE")):
        return False
    table: Any = Settings
    for name in variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"):
        field = getattr(table, "model_fields", {}).get(name)
        if field is None:
            return True
        table = field.annotation
    return False


class _SecretFiles(PydanticBaseSettingsSource):
    """Values from the files that ``VESSELQ_*_FILE`` variables name."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Not used: ``__call__`` reads all at once."""
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for variable, file in os.environ.items():
            if not _is_secret_file(variable):
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
    audit: AuditSettings = AuditSettings()
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
            # read by _SecretFiles alone
            env_settings.env_vars = {
                name: value for name, value in env_settings.env_vars.items() if not _is_secret_file(name.upper())
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
    def checkpoint_folder(self) -> Path:
        """Where signed checkpoints of the audit log live."""
        return self.audit.checkpoint_folder or self.data_folder / "audit"

    @property
    def signing_key_file(self) -> Path:
        """The private key that signs them."""
        return self.audit.signing_key_file or self.checkpoint_folder / "signing_key.pem"

    @property
    def effective_database_url(self) -> str:
        """The SQLAlchemy URL in use."""
        return self.database_url or f"sqlite:///{self.data_folder / 'vesselq.sqlite3'}"

    def destination(self, name: str) -> StorageSCUSettings | StowRSSettings | FolderSettings | None:
        """The destination of that name, None if there is none."""
        return next((destination for destination in self.destinations if destination.name == name), None)
