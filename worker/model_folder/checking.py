"""Goes through a folder of weights and says everything that is not as its manifest says, without loading the model."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dicom_core.errors import ConfigurationError
from worker.model_folder.allowed_files import PICKLES, names_below
from worker.model_folder.manifest import ModelManifest, read_manifest
from worker.model_folder.opening import BytesCallback, ModelFolder
from worker.model_folder.parameters import parameters_of

_MOST_NAMED = 5


class Health(StrEnum):
    """How grave a finding is."""

    OK = "ok"
    WARNING = "warning"
    FAILS = "fails"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: In a word or two.
        health: Whether it is as it should be.
        detail: In a sentence.
    """

    what: str
    health: Health
    detail: str


def check_folder(folder: Path, progress: BytesCallback = lambda _bytes: None) -> tuple[Finding, ...]:
    """Check files, licence and number of parameters of a folder with a manifest.

    Args:
        folder: With a manifest.
        progress: Called with the number of bytes read since the last call; ``size_bytes`` of all listed files in all.

    Raises:
        ConfigurationError: There is no manifest, or it is wrong itself.
    """
    return check_model(ModelFolder(folder, read_manifest(folder)), progress)


def check_model(model: ModelFolder, progress: BytesCallback = lambda _bytes: None) -> tuple[Finding, ...]:
    """The same for a folder that is open; what was found right is not read again when the model is loaded from it."""
    bad = _bad_files(model, progress)
    findings = [_files(model, bad), _unlisted(model), _license(model)]
    if not bad:
        findings.append(_parameters(model))
    return tuple(findings)


def total_bytes(manifest: ModelManifest) -> int:
    """How many bytes a check reads."""
    return sum(file.size_bytes for file in manifest.files.values())


def _bad_files(model: ModelFolder, progress: BytesCallback) -> list[str]:
    bad = []
    for name in model.manifest.files:
        try:
            model.path(name, progress)
        except ConfigurationError as error:
            bad.append(str(error))
    return bad


def _files(model: ModelFolder, bad: list[str]) -> Finding:
    count = len(model.manifest.files)
    if bad:
        return Finding("files", Health.FAILS, "; ".join(bad))
    return Finding("files", Health.OK, f"all {count} files have the hashes that the manifest names")


def _unlisted(model: ModelFolder) -> Finding:
    more = [name for name in names_below(model.folder) if name not in model.manifest.files]
    if not more:
        return Finding("other files", Health.OK, "there are none")
    named = ", ".join(more[:_MOST_NAMED]) + (" and others" if len(more) > _MOST_NAMED else "")
    pickled = " (of a kind that can run a program when it is read)" if _any_pickle(more) else ""
    return Finding("other files", Health.WARNING, f"not in the manifest and never read: {named}{pickled}")


def _any_pickle(names: list[str]) -> bool:
    return any(Path(name).suffix.lower() in PICKLES for name in names)


def _license(model: ModelFolder) -> Finding:
    manifest = model.manifest
    file = manifest.license_file
    if not file:
        health = Health.OK if manifest.is_permissive else Health.WARNING
        return Finding("licence", health, f"{manifest.license}; its text is not in the folder")
    if not model.has(file) or not (model.folder / file).is_file():
        return Finding("licence", Health.FAILS, f"{manifest.license}; its text, {file}, is missing or not listed")
    asked = "" if manifest.is_permissive else f'; the settings must say accept_license = "{manifest.license}"'
    return Finding("licence", Health.OK, f"{manifest.license}, its text is in {file}{asked}")


def _parameters(model: ModelFolder) -> Finding:
    try:
        counted = parameters_of(model.folder, model.manifest.files)
    except ConfigurationError as error:
        return Finding("parameters", Health.FAILS, str(error))
    said = model.manifest.parameters
    if not counted:
        return Finding("parameters", Health.OK, f"{said:,}" if said else "not counted in files of this kind")
    if said and counted != said:
        return Finding("parameters", Health.FAILS, f"{counted:,} in the files, {said:,} in the manifest")
    return Finding("parameters", Health.OK, f"{counted:,}")
