"""Everything that is known of a model without loading it, as one table of facts."""

import dataclasses
from pathlib import Path
from typing import Any

from dicom_core.errors import ConfigurationError
from worker.model_folder.manifest import MANIFEST_FILE, ModelManifest, read_manifest
from worker.model_folder.opening import ModelFolder
from worker.model_folder.recognising import recognise
from worker.model_trial.choosing import Models, is_place
from worker.segmenters import registry


def described(what: str, models: Models) -> dict[str, Any]:
    """Gather what is known.

    Args:
        what: A segmenter of the settings, a system, a chain, a folder or a file.
        models: The ``[models]`` tables.

    Returns:
        What its info says and, of a folder of weights, what its manifest says, with ``license_text`` and whether the
        licence ``must_be_accepted``. Of a folder without a manifest: which system would run it, and why.

    Raises:
        NotFoundError: There is neither such a name nor such a file.
        ConfigurationError: The plug-in cannot be imported, or the folder is no model.
    """
    if is_place(what, {*registry.names(), *models}):
        return _of_place(Path(what))
    table = models.get(what, {})
    folder = table.get("folder")
    if not folder:
        return {**_fields(registry.info(what, models)), "settings": dict(table)}
    system = str(table.get("system", what))
    facts = {**_fields(registry.system_info(system)), **_of_place(Path(str(folder)))}
    return {**facts, "settings": {key: value for key, value in table.items() if key not in ("system", "folder")}}


def _fields(info: Any) -> dict[str, Any]:
    return {field.name: getattr(info, field.name) for field in dataclasses.fields(info)}


def _of_place(place: Path) -> dict[str, Any]:
    if (place / MANIFEST_FILE).is_file():
        return _of_manifest(place, read_manifest(place))
    raw = recognise(place)
    return {
        "folder": raw.folder,
        "system": raw.system,
        "because": raw.because,
        "manifest": f"none: vesselq models convert {place} OUT makes a folder that a rule can use",
        "license": raw.license or "not known",
        "files": list(raw.files),
        "left_out": list(raw.left_out),
    }


def _of_manifest(folder: Path, manifest: ModelManifest) -> dict[str, Any]:
    said = manifest.model_dump(mode="json", exclude={"files", "settings"})
    return {
        "folder": folder,
        **{key: value for key, value in said.items() if value},
        "of_the_model": dict(manifest.settings),
        "weights_sha256": manifest.digest,
        "files": list(manifest.files),
        "must_be_accepted": not manifest.is_permissive,
        "license_text": _license_text(folder, manifest),
    }


def _license_text(folder: Path, manifest: ModelManifest) -> str:
    if not manifest.license_file:
        return ""
    try:
        file = ModelFolder(folder, manifest).path(manifest.license_file)
    except ConfigurationError as error:
        return f"The text of the licence cannot be shown: {error}"
    return file.read_text(encoding="utf-8", errors="replace")
