"""What an engineer names, a segmenter of the settings or a folder, in the form that the registry works with."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_core.chain import names_in
from dicom_core.errors import ConfigurationError
from worker.model_folder.manifest import MANIFEST_FILE, ModelManifest, read_manifest
from worker.model_folder.opening import ModelFolder, open_folder
from worker.model_folder.recognising import looked_at
from worker.segmenters import registry
from worker.segmenters.interface import Segmenter

Models = Mapping[str, Mapping[str, Any]]
_OF_A_FOLDER = "model"


@dataclass(frozen=True, slots=True)
class Chosen:
    """A segmenter that can be made.

    Attributes:
        word: As a rule would name it.
        models: The tables that it is made from.
        place: The folder or file that was named, None for a name.
    """

    word: str
    models: Models
    place: Path | None = None

    def load(self, device: str) -> Segmenter:
        """Make it.

        Raises:
            NotFoundError: No segmenter has this name.
            ConfigurationError: A setting is wrong, or the folder cannot be used.
        """
        try:
            return registry.load(self.word, self.models, device)
        except ConfigurationError as error:
            if self.place is None or (self.place / MANIFEST_FILE).is_file() or "manifest" not in str(error):
                raise
            raise ConfigurationError(
                f"{self.place} has no manifest, and this model needs one ({error}): "
                f"vesselq models convert {self.place} OUT --settings FILE makes it"
            ) from None


def chosen(what: str, models: Models, settings: Mapping[str, Any], accept_license: str = "") -> Chosen:
    """Find out what is meant.

    Args:
        what: A name that a rule could use, or a folder or file. Where both are there, the name wins; ``./NAME`` is the
            folder.
        models: The ``[models]`` tables.
        settings: Arguments for this time, on top of those of the settings.
        accept_license: The licence of a folder that is accepted for this time. A folder without a manifest is for
            looking only and asks for none.

    Raises:
        NotFoundError: There is neither such a name nor such a file.
        ConfigurationError: The folder is no model, or its licence must be accepted.
    """
    known = {*registry.names(), *models}
    if not is_place(what, known):
        table = {**models.get(what, {}), **settings}
        tables = {name: models[name] for name in names_in(what) if name in models}
        return Chosen(what, {**tables, what: table} if table else tables)
    place = Path(what)
    model = opened(place, accept_license)
    table = {"system": model.manifest.system, "folder": model, **settings}
    return Chosen(_OF_A_FOLDER, {_OF_A_FOLDER: table}, place)


def is_place(what: str, known: set[str]) -> bool:
    """Whether a folder or file is meant and not one of the known names."""
    return os.sep in what or what.startswith(".") or (what not in known and Path(what).exists())


def opened(place: Path, accept_license: str = "") -> ModelFolder:
    """Open a folder with a manifest, or one of its files, as the worker would, anything else for a look.

    Raises:
        NotFoundError: Nothing is there.
        ConfigurationError: It is no model, or its licence must be accepted.
    """
    home = place if place.is_dir() else place.parent
    if (home / MANIFEST_FILE).is_file():
        manifest = read_manifest(home)
        if home == place or place.name in manifest.files:
            return open_folder(home, manifest.system, accept_license=accept_license)
    return looked_at(place)


def manifest_of(word: str, models: Models) -> tuple[Path, ModelManifest] | None:
    """The folder that a configured model is made from, and its manifest; None for one without a folder."""
    folder = models.get(word, {}).get("folder")
    if not folder or not (Path(str(folder)) / MANIFEST_FILE).is_file():
        return None
    return Path(str(folder)), read_manifest(Path(str(folder)))
