"""Handing settings down to child processes: every setting as one environment variable, nothing else of ours."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from dicom_core.settings import ENVIRONMENT_PREFIX, Settings
from dicom_core.settings_file import CONFIG_VARIABLE, NOT_SETTINGS


def environment_of(settings: Settings) -> dict[str, str]:
    """This process's environment, in which ``load_settings`` gives exactly ``settings``.

    The variables hold secrets in clear; like all of a process's environment they are readable by its owner only.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(ENVIRONMENT_PREFIX) or name in NOT_SETTINGS
    }
    values = {
        f"{ENVIRONMENT_PREFIX}{name.upper()}": _as_text(getattr(settings, name)) for name in Settings.model_fields
    }
    return {**inherited, **values, CONFIG_VARIABLE: os.devnull}


def _as_text(value: Any) -> str:
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {
            field.alias or name: _plain(getattr(value, name))
            for name, field in type(value).model_fields.items()
            if getattr(value, name) is not None
        }
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
