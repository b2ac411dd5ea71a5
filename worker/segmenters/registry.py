"""Finds model systems by the entry point group ``vesselq.segmenters`` and makes them from their settings.

A *system* is an entry point. What rules name is a system, or a name of the settings: a ``[models.NAME]`` table whose
key ``system`` names the system (NAME itself where it is left out), so that several models of one system stand side by
side. A word such as ``vesselnet+medsam`` stands for a chain of them (``worker.segmenters.chain``).

``models`` is everywhere the ``[models]`` table of the settings, or as much of it as is needed.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from dicom_core.chain import names_in
from dicom_core.errors import ConfigurationError, NotFoundError
from worker.segmenters.chain import ChainSegmenter, info_of_chain
from worker.segmenters.folder_info import info_of
from worker.segmenters.interface import Segmenter, SegmenterInfo

GROUP = "vesselq.segmenters"
Models = Mapping[str, Mapping[str, Any]]
_NONE: Models = {}


def names() -> tuple[str, ...]:
    """Return the systems in alphabetical order, without importing any."""
    return tuple(sorted(_entry_points()))


def configured(models: Models) -> tuple[str, ...]:
    """Return every name that a rule may use: those of the settings, and systems that need no folder of weights.

    Raises:
        ConfigurationError: A plug-in cannot be imported.
    """
    ready = {name for name in names() if not system_info(name).needs_folder}
    return tuple(sorted(ready.union(name for name in models if len(names_in(name)) == 1)))


def available() -> tuple[SegmenterInfo, ...]:
    """Return what is known of each system, by name, without loading a model or torch.

    Raises:
        ConfigurationError: A plug-in cannot be imported.
    """
    return tuple(system_info(name) for name in names())


def system_info(system: str) -> SegmenterInfo:
    """Return what a system says of itself, whatever model it runs.

    Raises:
        NotFoundError: There is no such system; the text lists those there are.
        ConfigurationError: The plug-in cannot be imported or says nothing of itself.
    """
    return _said_by(_class_of(system), system)


def info(word: str, models: Models = _NONE) -> SegmenterInfo:
    """Return what is known of a segmenter or a chain without loading it or torch.

    Where the settings name a folder of weights, it is what the folder's manifest says.

    Raises:
        NotFoundError: No segmenter has this name; the text lists those there are.
        ConfigurationError: The plug-in cannot be imported, the folder cannot be used, or a chain does not fit together.
    """
    infos = [_info_of_one(name, models) for name in names_in(word)]
    return infos[0] if len(infos) == 1 else info_of_chain(infos)


def load(word: str, models: Models, device: str) -> Segmenter:
    """Make a segmenter, or all those of a chain.

    Args:
        word: As a rule names it.
        models: Keyword arguments by name.
        device: Where it computes: ``"cpu"``, ``"cuda:0"``.

    Raises:
        NotFoundError: No segmenter has this name.
        ConfigurationError: A setting is not one of the segmenter's, is missing or has a wrong value; the folder of
            weights cannot be used; a chain does not fit together.
    """
    return compose(word, [load_one(name, models, device) for name in names_in(word)], models)


def load_one(name: str, models: Models, device: str) -> Segmenter:
    """Make one segmenter; arguments and errors as for :func:`load`."""
    made_by = _class_of(_system_of(name, models))
    arguments = _arguments(name, models)
    _check(name, made_by, arguments)
    return made_by(device=device, **arguments)


def compose(word: str, segmenters: Sequence[Segmenter], models: Models) -> Segmenter:
    """Make a chain of segmenters that are loaded already; a single one is what it is.

    Raises:
        ConfigurationError: A setting of the chain is unknown, or they do not fit together.
    """
    if len(segmenters) == 1:
        return segmenters[0]
    arguments = _arguments(word, models)
    _check(word, ChainSegmenter, arguments)
    return ChainSegmenter(segmenters, **arguments)


def check_settings(word: str, models: Models) -> None:
    """Check a segmenter, or a chain and each of its parts, without loading anything.

    Raises:
        NotFoundError: No segmenter has this name.
        ConfigurationError: A setting is not one of the segmenter's, or one that it needs is missing.
    """
    for name in names_in(word):
        _check(name, _class_of(_system_of(name, models)), _arguments(name, models))
    if len(names_in(word)) > 1:
        _check(word, ChainSegmenter, _arguments(word, models))


def _info_of_one(name: str, models: Models) -> SegmenterInfo:
    from worker.model_folder.opening import open_folder

    system = _system_of(name, models)
    said = system_info(system)
    arguments = _arguments(name, models)
    if not said.needs_folder or not arguments.get("folder"):
        return said
    accepted = str(arguments.get("accept_license", ""))
    return info_of(open_folder(arguments["folder"], system, accept_license=accepted), said)


def _system_of(name: str, models: Models) -> str:
    known = _entry_points()
    system = models[name].get("system", name) if name in models else name
    if not isinstance(system, str):
        raise ConfigurationError(f"[models.{name}] has a system that is no text; there are {_listed(known)}")
    if system in known:
        return system
    if system != name:
        raise ConfigurationError(
            f"[models.{name}] has the system {system!r}, which is not installed; there are {_listed(known)}"
        )
    others = [other for other in models if other != name and len(names_in(other)) == 1]
    hint = "; name its system with the key 'system'" if name in models else ""
    raise NotFoundError(f"There is no segmenter {name!r}; known are: {_listed({*known, *others})}{hint}")


def _listed(found: Mapping[str, object] | set[str]) -> str:
    return ", ".join(sorted(found)) or "none"


def _arguments(name: str, models: Models) -> dict[str, Any]:
    return {key: value for key, value in models.get(name, {}).items() if key != "system"}


def _check(name: str, made_by: Callable[..., Segmenter], arguments: Mapping[str, object]) -> None:
    parameters = dict(inspect.signature(made_by).parameters)
    parameters.pop("device", None)
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    allowed = {key: p for key, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    listing = ", ".join(sorted(allowed)) or "none"
    for key in arguments:
        if key == "device" or (key not in allowed and not takes_any):
            raise ConfigurationError(f"[models.{name}] knows no setting {key!r}; allowed are: {listing}")
    for key, parameter in allowed.items():
        if parameter.default is parameter.empty and key not in arguments:
            raise ConfigurationError(f"[models.{name}] needs the setting {key!r}; allowed are: {listing}")


def _said_by(made_by: object, name: str) -> SegmenterInfo:
    said = getattr(made_by, "info", None)
    if not isinstance(said, SegmenterInfo):
        raise ConfigurationError(
            f"The segmenter {name!r} has no SegmenterInfo called `info`; update or remove its plug-in"
        )
    return said


def _class_of(system: str) -> Callable[..., Segmenter]:
    known = _entry_points()
    if system not in known:
        raise NotFoundError(f"There is no segmenter {system!r}; known are: {_listed(known)}")
    try:
        return cast("Callable[..., Segmenter]", known[system].load())
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"The segmenter {system!r} ({known[system].value}) cannot be imported; install what it needs ({error})"
        ) from error


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
