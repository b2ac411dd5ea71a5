"""Looks at what an engineer has downloaded or exported, and says which system runs it."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dicom_core.errors import ConfigurationError, NotFoundError
from worker.model_folder.allowed_files import PICKLES, FolderContent, content_of, no_pickles
from worker.model_folder.manifest import PERMISSIVE, ManifestFile, ModelManifest
from worker.model_folder.medsam import manifest_settings
from worker.model_folder.opening import ModelFolder

CONFIG_FILE = "config.json"
BUNDLE_FILE = "configs/metadata.json"
UNKNOWN_LICENSE = "LicenseRef-unknown"
_SYSTEMS = {"sa2va_chat": "sa2va", "sam": "sam", "sam2": "sam2", "sam2_video": "sam2"}
"""By ``model_type`` in the ``config.json`` of a Hugging Face folder."""
_SUFFIXES = {".onnx": "onnx", ".ts": "torchscript"}
_MOST_CONFIG_BYTES = 10_000_000
_SPDX = {
    name.lower(): name
    for name in (*sorted(PERMISSIVE), "AGPL-3.0", "GPL-3.0", "CC-BY-NC-4.0", "CC-BY-SA-4.0", "CC-BY-NC-SA-4.0")
}
_LICENCE_OF_CARD = re.compile(r"\A---\r?\n(?:(?!---).*\r?\n)*?license:[ \t]*[\"']?(?P<name>[\w.+-]+)")


@dataclass(frozen=True, slots=True)
class RawModel:
    """A folder or file without a manifest, as far as its looks tell.

    Attributes:
        folder: Where its files are.
        system: The entry point that runs it.
        because: What told so, for a person.
        files: Those that may be read, relative to the folder.
        left_out: Those that are not: pickles, pictures, programs.
        license: SPDX identifier that its model card names, "" if none does.
        license_file: "" if there is none.
        settings: What a manifest would hold for the system.
    """

    folder: Path
    system: str
    because: str
    files: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    license: str = ""
    license_file: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


def recognise(place: Path, system: str = "") -> RawModel:
    """Find out which system runs a model.

    Args:
        place: A folder as Hugging Face has it (``config.json``), a MONAI bundle, a folder with ONNX or TorchScript
            files, or one such file.
        system: The system, where a person knows it already.

    Raises:
        NotFoundError: Nothing is there.
        ConfigurationError: It is no model that any system knows, or its weights are pickles.
    """
    if not place.exists():
        raise NotFoundError(f"{place} is neither a folder nor a file")
    if place.is_file():
        return _of_file(place, system)
    content = content_of(place)
    weights = [name for name in content.taken if Path(name).suffix.lower() in (".safetensors", *_SUFFIXES)]
    if content.pickles and not weights:
        raise no_pickles(place, content.pickles)
    because = "named by you"
    if not system:
        system, because = _system_of(place, content)
    if not weights:
        raise ConfigurationError(f"{place} holds no weights: no .safetensors, .onnx or .ts file")
    left_out = (*content.pickles, *content.others)
    settings = manifest_settings(place) if system == "sam" else {}
    return RawModel(
        place, system, because, content.taken, left_out, _license_of(place), content.licence, dict(settings)
    )


def looked_at(place: Path) -> ModelFolder:
    """Open a model without a manifest for somebody who only wants to look: no hash is checked, no licence is asked.

    Raises:
        NotFoundError: Nothing is there.
        ConfigurationError: It is no model that any system knows.
    """
    raw = recognise(place)
    manifest = ModelManifest(
        system=raw.system,
        name=(place.resolve().name if place.is_dir() else place.stem)[:64],
        version="unchecked",
        license=raw.license or UNKNOWN_LICENSE,
        license_file=raw.license_file,
        files={
            name: ManifestFile(sha256="0" * 64, size_bytes=(raw.folder / name).stat().st_size) for name in raw.files
        },
        settings=raw.settings,
    )
    return ModelFolder(raw.folder, manifest, checked=False)


def _of_file(file: Path, system: str) -> RawModel:
    suffix = file.suffix.lower()
    if suffix in PICKLES:
        raise no_pickles(file.parent, (file.name,))
    if suffix not in _SUFFIXES:
        raise ConfigurationError(
            f"{file} is no model that vesselq knows: name a folder, or a file that ends with {' or '.join(_SUFFIXES)}"
        )
    because = "named by you" if system else f"the name of {file.name}"
    return RawModel(file.parent, system or _SUFFIXES[suffix], because, (file.name,))


def _system_of(folder: Path, content: FolderContent) -> tuple[str, str]:
    if BUNDLE_FILE in content.taken and any(name.endswith(".ts") for name in content.taken):
        return "torchscript", f"{BUNDLE_FILE}, as in a MONAI bundle"
    kind = _model_type(folder) if CONFIG_FILE in content.taken else ""
    if kind in _SYSTEMS:
        return _SYSTEMS[kind], f"model_type {kind} in {CONFIG_FILE}"
    for suffix, system in _SUFFIXES.items():
        for name in content.taken:
            if name.endswith(suffix):
                return system, f"the file {name}"
    told = f"its {CONFIG_FILE} says model_type {kind!r}" if kind else f"it has no {CONFIG_FILE} with a model_type"
    raise ConfigurationError(
        f"{folder} is no model that vesselq knows: {told}, and there is no .onnx or .ts file; "
        f"known are the model types {', '.join(_SYSTEMS)}"
    )


def _model_type(folder: Path) -> str:
    file = folder / CONFIG_FILE
    try:
        if file.stat().st_size > _MOST_CONFIG_BYTES:
            raise ConfigurationError(f"{file} is far too large for a description of a model")
        values = json.loads(file.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ConfigurationError(f"{file} is no JSON") from None
    kind = values.get("model_type", "") if isinstance(values, dict) else ""
    return kind if isinstance(kind, str) else ""


def _license_of(folder: Path) -> str:
    """What the head of a Hugging Face model card says, as SPDX identifier."""
    try:
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as stream:
            head = stream.read(20_000)
    except OSError:
        return ""
    match = _LICENCE_OF_CARD.match(head)
    said = match["name"].lower() if match else ""
    return "" if said in ("", "other", "unknown") else _SPDX.get(said, f"LicenseRef-{said}")
