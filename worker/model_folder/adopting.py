"""Makes a folder that the worker may read out of what an engineer has: allowed files, their hashes, and a manifest."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dicom_core.errors import ConfigurationError, NotFoundError, SpoolError
from worker.image_stack import Arrangement, Imaging
from worker.model_folder.manifest import ManifestClass, ManifestFile, ModelManifest, write_manifest
from worker.model_folder.opening import BytesCallback
from worker.model_folder.parameters import parameters_of
from worker.model_folder.recognising import RawModel

_CHUNK = 4 * 1024 * 1024
_LICENSE_FILE = "LICENSE"
CopyFile = Callable[[Path, Path, BytesCallback], ManifestFile]


@dataclass(frozen=True, slots=True)
class Description:
    """What a person says of a model; what is empty is taken from the model itself.

    Attributes:
        name: AlgorithmName of its results.
        version: Changes whenever the same image may give another mask.
        license: SPDX identifier.
        license_file: A text file to bring along.
        settings: What the system needs to know of the model.
    """

    name: str
    version: str = "1"
    summary: str = ""
    license: str = ""
    license_file: Path | None = None
    source: str = ""
    revision: str = ""
    imagings: tuple[Imaging, ...] = ()
    arrangements: tuple[Arrangement, ...] = ()
    classes: tuple[ManifestClass, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


def adopt(
    raw: RawModel,
    out: Path,
    said: Description,
    progress: BytesCallback = lambda _bytes: None,
    copy: CopyFile | None = None,
) -> ModelManifest:
    """Copy the allowed files of a model into a new folder and write its manifest.

    The folder appears under its name when it is whole, or not at all.

    Args:
        raw: What :func:`worker.model_folder.recognising.recognise` found.
        out: The folder to make; it must not exist.
        said: About the model.
        progress: Called with the number of bytes copied since the last call.
        copy: Copies one file, for systems that change some on the way.

    Raises:
        ConfigurationError: Something is there already, the licence is not known, or a value is wrong.
        NotFoundError: The text of the licence is not where it was said to be.
        SpoolError: The files cannot be read or written.
    """
    license_name = said.license or raw.license
    if not license_name:
        raise ConfigurationError(
            f"{raw.folder} does not say under which licence it is; look it up and give it with --license, as SPDX "
            "identifier (Apache-2.0) or LicenseRef- and a name"
        )
    if said.license_file is not None and not said.license_file.is_file():
        raise NotFoundError(f"{said.license_file} is no file with the text of a licence")
    with new_folder(out) as folder:
        files = {name: (copy or copied)(raw.folder / name, folder / name, progress) for name in raw.files}
        license_file = raw.license_file
        if said.license_file is not None:
            license_file = _LICENSE_FILE
            files[license_file] = copied(said.license_file, folder / license_file, progress)
        manifest = _manifest(raw, said, license_name, license_file, files, parameters_of(folder, files))
        write_manifest(folder, manifest)
    return manifest


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that gets its name at the end, and is removed when anything goes wrong before.

    Raises:
        ConfigurationError: ``out`` exists, or the folder that it is to lie in does not.
        SpoolError: The disk does not do what is asked.
    """
    if out.exists() or out.is_symlink():
        raise ConfigurationError(f"{out} exists already; name a folder that is to be made")
    parent = out.absolute().parent
    if not parent.is_dir():
        raise ConfigurationError(f"{parent} is no folder; make it first")
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=parent))
    except OSError as error:
        raise SpoolError(f"{parent} cannot be written to: {error.strerror}") from error
    try:
        yield folder
        folder.chmod(0o755)  # a worker may run as another user than the engineer; there is no patient data in it
        folder.rename(out)
    except OSError as error:
        raise SpoolError(f"{error.filename or out} cannot be copied: {error.strerror}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def copied(source: Path, target: Path, progress: BytesCallback) -> ManifestFile:
    """Copy and hash in one go: a model may be larger than memory and the disk's cache."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as reading, target.open("wb") as writing:
        while chunk := reading.read(_CHUNK):
            writing.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            progress(len(chunk))
    target.chmod(0o644)
    return ManifestFile(sha256=digest.hexdigest(), size_bytes=size)


def _manifest(
    raw: RawModel,
    said: Description,
    license_name: str,
    license_file: str,
    files: dict[str, ManifestFile],
    parameters: int,
) -> ModelManifest:
    try:
        return ModelManifest(
            system=raw.system,
            name=said.name,
            version=said.version,
            summary=said.summary,
            license=license_name,
            license_file=license_file,
            source=said.source or str(raw.folder.resolve().name),
            revision=said.revision,
            imagings=said.imagings,
            arrangements=said.arrangements,
            classes=said.classes,
            parameters=parameters,
            files=files,
            settings={**raw.settings, **said.settings},
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise ConfigurationError(f"the manifest would be wrong at {place}: {first['msg']}") from None
