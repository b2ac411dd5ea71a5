"""Opens a folder of weights: only files that its manifest lists, with the hashes that it names, are ever read."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dicom_core.errors import ConfigurationError
from worker.model_folder.manifest import ManifestFile, ModelManifest, read_manifest

_CHUNK = 4 * 1024 * 1024
BytesCallback = Callable[[int], None]
"""Called with the number of bytes that were read since the last call."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder whose files may be read.

    Attributes:
        folder: Where it is.
        manifest: What it holds. Of a folder that an engineer only looks at it may have been made up on the spot.
        checked: Whether the hashes are checked when a file is asked for.
    """

    folder: Path
    manifest: ModelManifest
    checked: bool = True
    _seen: set[str] = field(default_factory=set)

    def has(self, name: str) -> bool:
        """Whether the manifest lists a file of this name."""
        return name in self.manifest.files

    def names(self, suffix: str) -> tuple[str, ...]:
        """The listed files with this end, in alphabetical order."""
        return tuple(sorted(name for name in self.manifest.files if name.endswith(suffix)))

    def path(self, name: str, progress: BytesCallback = lambda _bytes: None) -> Path:
        """Where a listed file is, after its hash was found right (once).

        Raises:
            ConfigurationError: The manifest does not list it, it is missing, its content is another, or it lies
                outside and is only linked to.
        """
        listed = self.manifest.files.get(name)
        if listed is None:
            raise ConfigurationError(f"{self.folder}: the manifest lists no file {name}")
        file = self.folder / name
        if self.checked and name not in self._seen:
            if not file.is_file():  # a pipe would be waited for without end
                raise ConfigurationError(f"{file} cannot be read: No such file, or no plain one")
            if not file.resolve().is_relative_to(self.folder.resolve()):
                raise ConfigurationError(f"{file} is a link to a place outside the folder; copy the file itself there")
            if hash_of(file, progress) != listed:
                raise ConfigurationError(f"{file} is not the file that the manifest lists: its hash or size is another")
            self._seen.add(name)
        return file


def open_folder(folder: str | Path | ModelFolder, system: str, *, accept_license: str = "") -> ModelFolder:
    """Open a folder of weights for a system.

    Args:
        folder: With a manifest; one that is open already is taken as it is.
        system: The name that the manifest must bear.
        accept_license: The licence that the settings accept; needed for any that is not permissive.

    Raises:
        ConfigurationError: No path, folder or manifest, a manifest of another system, a licence nobody accepted.
    """
    if isinstance(folder, ModelFolder):
        return folder
    if not isinstance(folder, str | Path) or not str(folder).strip():
        raise ConfigurationError("The setting `folder` must be the path of a folder, as a text")
    place = Path(folder)
    manifest = read_manifest(place)
    if manifest.system != system:
        raise ConfigurationError(f"{place} is a model for {manifest.system!r}, not for {system!r}")
    if not manifest.is_permissive and accept_license != manifest.license:
        raise ConfigurationError(
            f"{manifest.name} is licensed under {manifest.license}, which is not permissive; read it with "
            f"`vesselq models show {place}` and, if it fits your use, write accept_license = "
            f'"{manifest.license}" beside its folder in the settings'
        )
    return ModelFolder(place, manifest)


def hash_of(file: Path, progress: BytesCallback = lambda _bytes: None) -> ManifestFile:
    """Hash and size of a file.

    Raises:
        ConfigurationError: It cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                progress(len(chunk))
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from None
    return ManifestFile(sha256=digest.hexdigest(), size_bytes=size)


def files_of(
    folder: Path, names: Iterable[str], progress: BytesCallback = lambda _bytes: None
) -> dict[str, ManifestFile]:
    """The entries of a manifest for some files of a folder."""
    return {name: hash_of(folder / name, progress) for name in names}
