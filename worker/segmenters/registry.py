"""Finds model systems by the entry point group ``vesselq.segmenters`` and makes them from their settings."""

import inspect
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from dicom_core.errors import ConfigurationError, NotFoundError
from worker.segmenters.interface import Segmenter, SegmenterInfo

GROUP = "vesselq.segmenters"


def names() -> tuple[str, ...]:
    """Return the known names in alphabetical order, without importing any segmenter."""
    return tuple(sorted(_entry_points()))


def available() -> tuple[SegmenterInfo, ...]:
    """Return what is known of each segmenter, by name, without loading a model or torch.

    Raises:
        ConfigurationError: A plug-in cannot be imported.
    """
    return tuple(info(name) for name in names())


def info(name: str) -> SegmenterInfo:
    """Return what is known of one segmenter without loading it.

    Raises:
        NotFoundError: No segmenter has this name; the text lists those there are.
        ConfigurationError: The plug-in cannot be imported or says nothing of itself.
    """
    said = getattr(_class_of(name), "info", None)
    if not isinstance(said, SegmenterInfo):
        raise ConfigurationError(
            f"The segmenter {name!r} has no SegmenterInfo called `info`; update or remove its plug-in"
        )
    return said


def load(name: str, settings: Mapping[str, object], device: str) -> Segmenter:
    """Make a segmenter.

    Args:
        name: As in ``names()``.
        settings: Keyword arguments from the ``[models.NAME]`` table, without ``device``.
        device: Where it computes: ``"cpu"``, ``"cuda:0"``.

    Raises:
        NotFoundError: No segmenter has this name.
        ConfigurationError: A setting is not one of the segmenter's, is missing or has a wrong value.
    """
    made_by = _class_of(name)
    _check_settings(name, made_by, settings)
    return made_by(device=device, **settings)


def check_settings(name: str, settings: Mapping[str, object]) -> None:
    """Check the names of settings without loading anything.

    Raises:
        NotFoundError: No segmenter has this name.
        ConfigurationError: A setting is not one of the segmenter's, or one that it needs is missing.
    """
    _check_settings(name, _class_of(name), settings)


def _check_settings(name: str, made_by: Callable[..., Segmenter], settings: Mapping[str, object]) -> None:
    parameters = dict(inspect.signature(made_by).parameters)
    parameters.pop("device", None)
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    allowed = {key: p for key, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    listing = ", ".join(sorted(allowed)) or "none"
    for key in settings:
        if key == "device" or (key not in allowed and not takes_any):
            raise ConfigurationError(f"[models.{name}] knows no setting {key!r}; allowed are: {listing}")
    for key, parameter in allowed.items():
        if parameter.default is parameter.empty and key not in settings:
            raise ConfigurationError(f"[models.{name}] needs the setting {key!r}; allowed are: {listing}")


def _class_of(name: str) -> Callable[..., Segmenter]:
    known = _entry_points()
    if name not in known:
        raise NotFoundError(f"There is no segmenter {name!r}; known are: {', '.join(sorted(known)) or 'none'}")
    try:
        return cast("Callable[..., Segmenter]", known[name].load())
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"The segmenter {name!r} ({known[name].value}) cannot be imported; install what it needs ({error})"
        ) from error


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
