"""Which files of a model are taken: descriptions, and weights in formats that cannot run a program when read."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dicom_core.errors import ConfigurationError
from worker.model_folder.manifest import MANIFEST_FILE

TAKEN = frozenset({".json", ".txt", ".safetensors", ".onnx", ".ts"})
"""Ends of the names of files that are taken, besides licences."""
PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy"})
"""Formats in which a file can bring a program along that runs when the file is read."""
_LICENCES = ("LICENSE", "LICENCE", "COPYING", "NOTICE")
_MOST_FILES = 10_000


@dataclass(frozen=True, slots=True)
class FolderContent:
    """The files of a folder by what becomes of them; names are relative, with ``/`` between their parts.

    Attributes:
        taken: In alphabetical order.
        pickles: Weights that are never read.
        others: Whatever else lies there: pictures, programs, hidden files, links that lead nowhere.
    """

    taken: tuple[str, ...]
    pickles: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def licence(self) -> str:
        """The file with the text of the licence, "" if there is none."""
        return next((name for name in self.taken if is_licence(name)), "")


def is_licence(name: str) -> bool:
    """Whether a file by this name holds the text of a licence."""
    path = PurePosixPath(name)
    return path.name.upper().startswith(_LICENCES) and path.suffix.lower() in ("", ".txt", ".md")


def content_of(folder: Path) -> FolderContent:
    """List a folder and the folders in it. Folders that are only linked to are not entered.

    Raises:
        ConfigurationError: It is no folder of a model: not there, not readable, or with thousands of files.
    """
    taken: list[str] = []
    pickles: list[str] = []
    others: list[str] = []
    for name in names_below(folder):
        suffix = PurePosixPath(name).suffix.lower()
        hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
        if hidden or "\\" in name or not (folder / name).is_file():
            others.append(name)
        elif suffix in TAKEN or is_licence(name):
            taken.append(name)
        else:
            (pickles if suffix in PICKLES else others).append(name)
    return FolderContent(tuple(taken), tuple(pickles), tuple(others))


def names_below(folder: Path) -> list[str]:
    """The names of all files of a folder but its manifest, in alphabetical order.

    Raises:
        ConfigurationError: As for :func:`content_of`.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is no folder of a model")
    found: list[str] = []

    def complain(error: OSError) -> None:
        raise ConfigurationError(f"{error.filename} cannot be read: {error.strerror}") from None

    for parent, folders, files in os.walk(folder, onerror=complain):
        linked = [name for name in folders if (Path(parent) / name).is_symlink()]
        found += [(Path(parent) / name).relative_to(folder).as_posix() for name in (*files, *linked)]
        if len(found) > _MOST_FILES:
            raise ConfigurationError(f"{folder} holds more than {_MOST_FILES} files; name the folder of one model")
    return sorted(name for name in found if name != MANIFEST_FILE)


def no_pickles(place: Path, pickles: tuple[str, ...]) -> ConfigurationError:
    """What to tell somebody whose weights are pickles."""
    return ConfigurationError(
        f"{place} holds its weights as {', '.join(pickles[:3])}: such a file can run a program when it is read, so "
        "vesselq never reads one. Get the same weights as .safetensors, or convert them on a machine without patient "
        "data (safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'model.safetensors'))"
    )
