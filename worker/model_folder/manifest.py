"""The manifest of a folder of weights: what the model is, who allows its use, and the hash of every file."""

import hashlib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from dicom_core.errors import ConfigurationError
from worker.image_stack import Arrangement, Imaging

MANIFEST_FILE = "vesselq-model.json"
SHA256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
PERMISSIVE = frozenset(
    {"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "CC0-1.0", "CC-BY-4.0", "Unlicense", "0BSD"}
)
"""SPDX identifiers of licences that ask for nothing but attribution; any other must be accepted in the settings."""


class _Words(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ManifestFile(_Words):
    """One file of the folder."""

    sha256: SHA256
    size_bytes: int = Field(ge=0)


class ManifestClass(_Words):
    """One kind of thing that the model finds."""

    key: str = Field(description="Key of the coded type.")
    label: str = Field(min_length=1, max_length=64, description="SegmentLabel.")


class ModelManifest(_Words):
    """What stands in ``vesselq-model.json``.

    Attributes:
        files: By name, in the folder itself; nothing that is not listed is ever read.
        settings: What the system needs to know of this model (input size, normalisation); each system checks its own.
    """

    system: str = Field(min_length=1, description="Entry point that runs it: sa2va, sam, onnx and so on.")
    name: str = Field(min_length=1, max_length=64, description="AlgorithmName of its results.")
    version: str = Field(min_length=1, max_length=64)
    summary: str = ""
    license: str = Field(min_length=1, description="SPDX identifier, or LicenseRef- and a name.")
    license_file: str = Field("", description="A file of the folder with its text.")
    source: str = Field("", description="Where it comes from.")
    revision: str = ""
    imagings: tuple[Imaging, ...] = Field((), description="Kinds of picture it is meant for; empty: any.")
    arrangements: tuple[Arrangement, ...] = Field((), description="Empty: what the system takes.")
    classes: tuple[ManifestClass, ...] = Field((), description="Empty: Vessel.")
    parameters: int = Field(0, ge=0, description="Numbers in the weights.")
    files: dict[str, ManifestFile] = Field(min_length=1)
    settings: dict[str, Any] = Field(default_factory=dict)

    @field_validator("files")
    @classmethod
    def _plain_names(cls, value: dict[str, ManifestFile]) -> dict[str, ManifestFile]:
        for name in value:
            leads_away = name.startswith((".", "/")) or ".." in Path(name).parts or "\\" in name
            if not name or leads_away or not name.isprintable():
                raise ValueError(f"{name!r} is no name of a file in the folder")
        return value

    @property
    def digest(self) -> str:
        """SHA-256 over names and hashes of all files: one value for the weights as a whole."""
        lines = "".join(f"{file.sha256}  {name}\n" for name, file in sorted(self.files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    @property
    def is_permissive(self) -> bool:
        """Whether the licence needs no acceptance."""
        return self.license in PERMISSIVE


def read_manifest(folder: Path) -> ModelManifest:
    """Read the manifest of a folder.

    Raises:
        ConfigurationError: There is no folder, no manifest, or something in it is wrong.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is no folder of a model")
    file = folder / MANIFEST_FILE
    try:
        return ModelManifest.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise ConfigurationError(
            f"{folder} has no {MANIFEST_FILE}; `vesselq models convert {folder} OUT` makes a folder that has one"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise ConfigurationError(f"{file} is wrong at {place or 'its top'}: {first['msg']}") from None


def write_manifest(folder: Path, manifest: ModelManifest) -> None:
    """Write the manifest into a folder."""
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2, exclude_defaults=True) + "\n", "utf-8")
